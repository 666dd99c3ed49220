"""Result files: the schema is kept on writing and on reading, and by the committed files."""

import copy
import json
from pathlib import Path

import pandas as pd
import pytest

from apps.common.compare.refresh import stale_pages
from apps.common.compare.results import read_results, validate, write_results
from apps.common.errors import UserError

COMMITTED = sorted((Path(__file__).parents[4] / "docs" / "results").glob("*.json"))
DESIGNED = {
    "data", "slice", "arm", "seed", "metric", "value", "higher_is_better",
    "active_params", "total_params", "active_flops", "train_seconds", "peak_memory_mb",
}  # fmt: skip


def _replaced(results: dict, path: tuple, value: object) -> dict:
    changed = copy.deepcopy(results)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@pytest.fixture
def results(uninterrupted):
    return read_results(uninterrupted.results)


def test_a_written_comparison_keeps_the_schema(results):
    assert validate(results, "x.json") == results
    assert {frozenset(row) for row in results["rows"]} == {frozenset(DESIGNED)}
    assert set(results) >= {"app", "created", "commit", "command", "environment", "data", "rows"}


def test_a_benchmark_needs_the_common_fields_alone(results):
    common = ("app", "created", "commit", "command", "environment", "data", "rows")
    validate({key: results[key] for key in common}, "moe_layer.json")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("rows", 0, "value"), "0.5", r"rows\[0\].value has '0.5' where a finite number belongs"),
        (("rows", 1, "value"), None, r"rows\[1\].value"),
        (("rows", 0, "value"), float("nan"), r"rows\[0\].value"),
        (("rows", 0, "seed"), 1.5, r"rows\[0\].seed has 1.5 where a whole number belongs"),
        (("rows", 0, "seed"), True, r"rows\[0\].seed has True"),
        (("rows", 0, "higher_is_better"), 1, r"rows\[0\].higher_is_better has 1 where true or false belongs"),
        (("rows", 0, "active_params"), "many", r"rows\[0\].active_params"),
        (("rows", 0, "colour"), "red", r"rows\[0\] has the unknown key colour"),
        (("rows",), {}, r"rows has {} where a list belongs"),
        (("data", "coins"), 3, r"data.coins has 3 where text belongs"),
        (("intervals", 0, "beyond"), None, r"intervals\[0\].beyond"),
        (("tested", 0, "openings", 0, "at"), 7, r"openings\[0\].at"),
        (("note",), "x", "the file has the unknown key note"),
    ],
)
def test_what_does_not_keep_the_schema_is_named(results, path, value, sentence):
    with pytest.raises(UserError, match=rf"x.json: .*{sentence}"):
        validate(_replaced(results, path, value), "x.json")


@pytest.mark.parametrize("key", ["app", "commit", "data", "rows"])
def test_a_missing_field_is_named(results, key):
    del results[key]
    with pytest.raises(UserError, match=f"x.json: the file lacks the key {key}"):
        validate(results, "x.json")


def test_a_measurement_given_twice_is_refused(results):
    results["rows"].append(results["rows"][0])
    with pytest.raises(UserError, match="a measurement is there twice"):
        validate(results, "x.json")


def test_a_file_that_would_break_the_schema_is_not_written(results, tmp_path):
    path = tmp_path / "x.json"
    write_results(path, results)
    assert read_results(path) == results
    with pytest.raises(UserError):
        write_results(path, _replaced(results, ("rows", 0, "value"), None))
    assert read_results(path) == results
    assert list(tmp_path.iterdir()) == [path]


def test_rows_stand_as_pandas_splits_a_frame(results, tmp_path):
    path = tmp_path / "x.json"
    write_results(path, results)
    for name in ("rows", "intervals"):
        frame = pd.DataFrame(**json.loads(path.read_text())[name])
        assert frame.to_dict("records") == pd.DataFrame(results[name]).to_dict("records")
    write_results(path, {**results, "rows": [], "intervals": []})
    assert read_results(path)["rows"] == []


@pytest.mark.parametrize(
    "table", [[{"data": "coins"}], {"columns": ["a"]}, {"columns": ["a"], "data": [[1, 2]]}]
)
def test_rows_that_are_no_table_are_named(results, tmp_path, table):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**results, "rows": table, "intervals": {"columns": [], "data": []}}))
    with pytest.raises(UserError, match=r"x\.json: rows or intervals is no table"):
        read_results(path)


@pytest.mark.parametrize("text", ["", '{"app": ', '{"app": NaN}'])
def test_a_file_that_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        read_results(path)


@pytest.mark.parametrize("path", sorted(COMMITTED[0].parent.iterdir()), ids=lambda path: path.name)
def test_committed_results_are_small(path):
    assert path.stat().st_size < 2**20


def test_every_committed_file_keeps_the_schema():
    assert [path.name for path in COMMITTED if not read_results(path)["rows"]] == []


def test_every_committed_page_says_what_the_result_files_say():
    assert sorted(stale_pages()) == [], "write them again with `python -m apps results`"


def test_every_committed_comparison_has_its_picture():
    compared = [path for path in COMMITTED if "intervals" in read_results(path)]
    assert [path.name for path in compared if not path.with_suffix(".svg").exists()] == []
