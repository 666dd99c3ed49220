"""Columns and labels as numbers."""

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.drift.labels import Labels
from apps.drift.schema import SLOTS, Schema

ROWS = [
    {"size": 2.0, "sky": "sun", "when": "2024-03-05 06:00", "label": "a"},
    {"size": 4.0, "sky": "rain", "when": "2024-03-06 18:00", "label": "b"},
]


def schema() -> Schema:
    return Schema.of(ROWS, but=["label"])


def test_kinds_are_told_from_rows() -> None:
    kinds = {column.name: column.kind for column in schema().columns}
    assert kinds == {"size": "number", "sky": "category", "when": "time"}
    told = Schema.of([{"a": pd.Timestamp("2024-01-01"), "b": None, "c": True, "d": "3"}])
    assert [column.kind for column in told.columns] == ["time", "number", "number", "number"]


def test_codes_are_categories_where_it_is_said() -> None:
    found = Schema.of([{"job": 3, "age": 30}, {"job": 1, "age": 40}], categories=["job"])
    assert {column.name: column.kind for column in found.columns} == {"age": "number", "job": "category"}
    x = found.take_in([{"job": 3, "age": 30}, {"job": 1, "age": 40}, {"job": 3.0, "age": 50}])
    assert x[:, 0].tolist() == [30, 40, 50]
    assert x[:, 1:].argmax(1).tolist() == [0, 1, 0]
    assert torch.equal(x[:, 1:].sum(1), torch.ones(3))


def test_a_missing_number_is_the_mean_of_the_rows_before() -> None:
    found = schema()
    rows = [*ROWS, {"size": None}, {"size": math.nan}, {"size": 9}, {}]
    x = found.take_in(rows)
    assert x[:, 0].tolist() == [2, 4, 3, 3, 9, 5]
    assert not found.notes()
    found.check(rows)
    assert found.notes() == [
        "column size: 2 cells hold nothing; they count as missing",
        "column size: 1 rows do not have it; they count as missing",
        "column sky: 4 rows do not have it; they count as missing",
        "column when: 4 rows do not have it; they count as missing",
    ]


def test_what_is_encoded_to_predict_is_not_learned() -> None:
    found = schema()
    found.take_in(ROWS)
    before = found.state()
    found.encode([{"size": 100.0, "sky": "snow", "when": "x"}])
    assert found.state() == before


def test_categories_have_a_slot_each_and_share_them_beyond() -> None:
    found = schema()
    x = found.take_in([{**ROWS[0], "sky": f"sky {i}"} for i in range(SLOTS + 1)])
    places = x[:, 1 : 1 + SLOTS].argmax(1).tolist()
    assert places == [*range(SLOTS), 0]
    assert x[:, 1 : 1 + SLOTS].sum(1).tolist() == [1.0] * (SLOTS + 1)
    unseen = found.encode([{**ROWS[0], "sky": "never"}])
    assert unseen[:, 1 : 1 + SLOTS].sum() == 1


def test_a_time_is_its_place_in_day_week_and_year() -> None:
    x = schema().encode(ROWS)
    day = x[:, -6:-4]
    torch.testing.assert_close(day, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), atol=1e-6, rtol=0)
    assert x[0, -4] == pytest.approx(math.sin(2 * math.pi * (1 + 0.25) / 7), abs=1e-6)
    assert datetime(2024, 3, 5).weekday() == 1


def test_a_column_that_changes_its_type_counts_as_missing_there() -> None:
    found = schema()
    rows = [*ROWS, {**ROWS[0], "size": "big", "when": "soon"}]
    x = found.take_in(rows)
    found.check(rows)
    assert x[2, 0] == 3
    assert x[2, -6:].tolist() == [0.0] * 6
    assert found.notes() == [
        "column size: 1 cells hold no number; they count as missing",
        "column when: 1 cells hold no time; they count as missing",
    ]


@pytest.mark.parametrize(
    ("odd", "kind"),
    [(["?"], "number"), (["?"] * 5, "number"), (["?"] * 6, "category"), ([None] * 60, "number")],
)
def test_a_few_cells_of_another_kind_do_not_make_a_column_one_of_words(odd: list[Any], kind: str) -> None:
    cells = [*range(100 - len(odd)), *odd]
    found = Schema.of([{"size": cell} for cell in cells])
    assert found.columns[0].kind == kind
    days = [f"2024-01-{day:02}" for day in range(1, 21)]
    assert Schema.of([{"when": day} for day in [*days, "soon"]]).columns[0].kind == "time"


def test_cells_that_are_lists_are_words() -> None:
    rows = [{"tags": np.array(["a", "b"])}, {"tags": np.array([])}]
    assert Schema.of(rows).take_in(rows).shape == (2, SLOTS)


def test_a_schema_goes_on_after_its_state_was_kept() -> None:
    one = schema()
    one.take_in(ROWS)
    two = Schema.from_state(one.state())
    rows = [{"sky": "snow"}, {"size": 1.0, "sky": "sun", "when": "2024-05-05"}]
    torch.testing.assert_close(one.take_in(rows), two.take_in(rows))


def test_labels_are_numbered_as_they_come() -> None:
    labels = Labels(3)
    assert labels.encode(["up", 1.0, None, 1, "up", float("nan")]).tolist() == [0, 1, -1, 1, 0, -1]
    assert labels.names == ["up", "1"]
    labels.encode([True])
    with pytest.raises(UserError, match="'down' is one more than the 3 there is room for: raise classes"):
        labels.encode(["down"])
    with pytest.raises(UserError, match="at least 2"):
        Labels(1)


def test_a_wild_number_is_cut_and_told_and_a_new_level_is_reached() -> None:
    random = np.random.default_rng(0)
    schema = Schema.of([{"a": float(v)} for v in random.normal(size=50)])
    usual = schema.take_in([{"a": float(v)} for v in random.normal(size=500)])
    wild = schema.take_in([{"a": 1e12}])
    assert 40 < wild.item() < 60
    assert schema.notes() == ["column a: 1 numbers lie over 50 deviations off; they count as that far"]
    calm = schema.encode([{"a": None}])
    assert abs(calm.item() - usual.mean().item()) < 0.5
    level = schema.take_in([{"a": 1e4 + float(v)} for v in random.normal(size=400)])
    assert level[-1].item() == pytest.approx(1e4, rel=0.01)


def test_a_constant_column_may_begin_to_change() -> None:
    schema = Schema.of([{"a": 3.0}])
    schema.take_in([{"a": 3.0}] * 300)
    assert schema.take_in([{"a": 400.0}]).item() == 400.0


def test_what_is_rare_is_not_wild() -> None:
    schema = Schema.of([{"a": 0.0}])
    schema.take_in([{"a": 0.0}] * 5000 + [{"a": 1.0}] + [{"a": 0.0}] * 5000)
    assert schema.take_in([{"a": 1.0}]).item() == 1.0


def test_dates_of_a_table_are_times() -> None:
    schema = Schema.of([{"when": date(2024, 1, day)} for day in (1, 2, 3)])
    assert schema.columns[0].kind == "time"
    text = Schema.of([{"when": "2024-01-01"}])
    assert torch.equal(schema.encode([{"when": date(2024, 1, 5)}]), text.encode([{"when": "2024-01-05"}]))


def test_numbers_that_come_round_are_places_in_their_cycle() -> None:
    rows = [{"hour": hour, "size": 1.0} for hour in (0, 6, 23, 24)]
    schema = Schema.of(rows, cycles={"hour": 24})
    assert schema.features == ["hour: sine", "hour: cosine", "size"]
    x = schema.take_in(rows)[:, :2]
    torch.testing.assert_close(x[:2], torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(x[3], x[0], atol=1e-6, rtol=0)
    assert (x[2] - x[0]).norm() < 0.3
    assert schema.encode([{"hour": None}])[0, :2].tolist() == [0, 0]
    again = Schema.from_state(schema.state())
    assert torch.equal(again.encode(rows), schema.encode(rows))


def test_columns_of_another_version_are_one_sentence() -> None:
    state = schema().state()
    former = [{"title": column["name"]} for column in state["columns"]]
    for old in ({"columns": former}, {"rows": state["columns"]}):
        with pytest.raises(UserError, match="kept by another version"):
            Schema.from_state(old)
