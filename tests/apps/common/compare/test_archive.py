"""What a comparison has measured is not run again where its archive is."""

import shutil

import pytest

from apps.common.compare import compare
from apps.common.compare.cache import read_archive
from apps.common.compare.results import read_results

pytestmark = pytest.mark.slow


def test_a_clone_without_the_working_files_runs_nothing_again(compared):
    before = read_results(compared.results)
    shutil.rmtree(compared.home)
    compared.log.write_text("")
    compare("toy")
    assert compared.notes == []
    after = read_results(compared.results)
    for key in ("rows", "intervals", "choices", "tested", "cpu_hours", "code"):
        assert after[key] == before[key]
    assert len(read_archive(compared.results.with_suffix(".cells.jsonl"))) == 9


def test_only_what_has_changed_is_run(compared):
    shutil.rmtree(compared.home)
    compared.log.write_text("")
    compared.config.write_text(compared.config.read_text().replace("seeds: 2", "seeds: 3", 1))
    compare("toy")
    assert sorted(compared.noted("fit")) == ["coins/dense_active/1/2", "coins/routed/1/2"]
    compared.config.write_text(compared.config.read_text().replace("units: 40", "units: 41", 1))
    compare("toy")
    assert len(read_archive(compared.results.with_suffix(".cells.jsonl"))) == 4 + 6 + 1


def test_fresh_does_not_ask_the_archive(compared):
    shutil.rmtree(compared.home)
    compared.log.write_text("")
    compare("toy", fresh=True)
    assert len(compared.noted("fit")) == 9
