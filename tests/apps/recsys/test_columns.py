"""Schemas: guessed, written, read, and held against a log."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from apps.common.errors import UserError
from apps.recsys.columns import Schema, Task, separator
from apps.recsys.files import Log

FRAME = pd.DataFrame(
    {
        "user_id": [1, 2, 1, 3],
        "item_id": ["a", "b", "c", "a"],
        "timestamp": [3, 1, 2, 4],
        "price": [1.5, 2.25, 7.0, 3.5],
        "level": [1, 2, 2, 1],
        "tags": ["red shoe", "red", "shoe blue", "blue"],
        "name": ["one of these", "two of these", "three of these", "four of these"],
        "click": [0, 1, 1, 0],
        "like": [0, 0, 1, np.nan],
    }
)


def test_columns_are_told_by_names_and_cells() -> None:
    found = Schema.infer(Log(FRAME, {}), ["click", "like"], "log")
    assert (found.user, found.item, found.time) == ("user_id", "item_id", "timestamp")
    assert found.features == {
        "user_id": "category",
        "item_id": "category",
        "price": "number",
        "level": "category",
        "tags": "tags",
        "name": "category",
    }


def test_what_a_file_says_of_its_kinds_goes_before_a_guess() -> None:
    found = Schema.infer(Log(FRAME, {"level": "number", "name": "tags"}), ["click"], "log")
    assert found.features["level"] == "number"
    assert found.features["name"] == "tags"


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["a|b", "b|c", "c", "a|c"], "|"),
        (["a,b", "b", "a", "b,a"], ","),
        (["New York", "Old Town"], None),
        (["Science Fiction|TV Movie", "TV Movie", "Science Fiction", "Drama|TV Movie"], "|"),
    ],
)
def test_values_of_one_cell_stand_apart_by_a_mark(cells: list[str], mark: str | None) -> None:
    assert separator(pd.Series(cells)) == mark


def test_tasks_of_a_group_come_after_one_another() -> None:
    tasks = {"a": Task(group="x"), "b": Task(group="y"), "c": Task(group="x")}
    found = Schema(tasks, {})
    assert list(found.tasks) == ["a", "c", "b"]
    assert found.groups == {"x": ["a", "c"], "y": ["b"]}


def test_a_schema_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = Schema.infer(Log(FRAME, {}), ["click"], "log")
    found.tasks["good"] = Task("price > 2", "money")
    found.outcomes = ["like"]
    found.save(tmp_path / "s.yaml")
    assert Schema.load(tmp_path / "s.yaml") == found


def test_labels_are_columns_or_conditions_and_may_be_blank() -> None:
    found = Schema({"like": Task(), "dear": Task("price > 2")}, {"level": "category"})
    labels = found.labels(FRAME, "log")
    assert labels[:, 1].tolist() == [0, 1, 1, 1]
    assert labels[:3, 0].tolist() == [0, 0, 1]
    assert np.isnan(labels[3, 0])


def test_a_condition_on_a_blank_cell_is_not_known() -> None:
    frame = pd.DataFrame({"rating": [5, np.nan, 3], "my score": [1, 1, np.nan]})
    schema = Schema({"good": Task("rating >= 4"), "bad": Task("rating < 4 and `my score` > 0")}, {})
    good, bad = schema.labels(frame, "log").T
    assert good[[0, 2]].tolist() == [1, 0]
    assert np.isnan(good).tolist() == [False, True, False]
    assert np.isnan(bad).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (Schema({"level": Task()}, {}), "the label level is 2 in row 2: make it 0 or 1"),
        (Schema({"name": Task()}, {}), "the label name is one of these in row 1"),
        (Schema({"x": Task("price >")}, {}), "the task x cannot be read from 'price >'"),
        (Schema({"x": Task("cost > 2")}, {}), "the task x cannot be read from 'cost > 2'"),
    ],
)
def test_labels_that_are_none_are_one_sentence(schema: Schema, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        schema.labels(FRAME, "log")


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (Schema({"click": Task()}, {"click": "category"}), "has click among features, and it is a label"),
        (Schema({"click": Task()}, {"like": "category"}, outcomes=["like"]), "has like among features"),
        (Schema({"dear": Task("price > 2")}, {"price": "number"}), "has price among features"),
        (Schema({"click": Task()}, {"size": "number"}), "has no column 'size'"),
        (Schema({"buy": Task()}, {"level": "category"}), "has no column 'buy'"),
        (Schema({"click": Task()}, {}, user="who"), "has no column 'who'"),
        (Schema({"click": Task()}, {}, time="when"), "has no column 'when'"),
    ],
)
def test_a_log_that_does_not_fit_is_one_sentence(schema: Schema, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        schema.check(list(FRAME), "log")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"tasks": {"a": None}}, "lacks tasks or features"),
        ({"tasks": {}, "features": {}, "labels": []}, "unknown key 'labels'"),
        ({"tasks": {"a": {"if": "x"}}, "features": {}}, "the task a has other keys"),
        ({"tasks": {}, "features": {"a": "word"}}, "the feature a is of kind 'word'"),
        ({"tasks": "a", "features": {}}, "tasks is 'a': make it a table of names"),
        ({"tasks": {}, "features": ["a", "b"]}, r"features is \['a', 'b'\]: make it a table"),
        ({"tasks": {}, "features": {}, "user": ["u"]}, r"user is \['u'\]: make it one name"),
        ({"tasks": {}, "features": {}, "outcomes": "play"}, "outcomes is 'play': make it a list"),
        ({"tasks": {"a": 3}, "features": {}}, "the task a is 3: give it `when` and `group`"),
        ({"tasks": {"a": {"when": 5}}, "features": {}}, "the task a is 1 when 5: write a condition"),
    ],
)
def test_what_is_no_schema_is_one_sentence(tmp_path: Path, content: object, fault: str) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=fault):
        Schema.load(tmp_path / "s.yaml")


def test_tasks_may_be_a_plain_list() -> None:
    assert Schema.of({"tasks": ["a"], "features": {}}, "s").tasks == {"a": Task()}
