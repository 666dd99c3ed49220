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


def test_a_cell_of_the_archive_was_tested_once_at_least_and_its_set_is_kept(toy):
    """Where neither ledger nor result file is at hand, as when cells were archived on another machine."""
    path = toy.results.with_name("toy.json")
    compare("toy", "full")
    first = read_results(path)
    shutil.rmtree(toy.home)
    path.unlink()
    toy.log.write_text("")
    compare("toy", "full", data="dice")
    known = read_results(path)["tested"]
    assert {(entry["arm"], entry["times"], entry["last"]) for entry in known} == {
        ("routed", 1, "unknown"),
        ("constant", 1, "unknown"),
    }
    compare("toy", "full", data="coins")
    both = read_results(path)
    assert toy.notes == []
    assert "unmeasured" not in both
    assert both["rows"] == first["rows"]
