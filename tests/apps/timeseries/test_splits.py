"""Borders of the literature, and windows that stay inside them."""

import numpy as np
import pandas as pd
import pytest

from apps.common.errors import UserError
from apps.timeseries.splits import Borders, ett_borders, ratio_borders, rows_needed, split_tables
from apps.timeseries.tables import Table

SHARES = (0.7, 0.1, 0.2)


def table(rows: int, frequency: str | None = "h", name: str = "a") -> Table:
    index = pd.date_range("2024-01-01", periods=rows, freq=frequency) if frequency else pd.RangeIndex(rows)
    return Table(np.arange(float(rows))[:, None], index, (name,), frequency)


def test_ett_borders():
    assert ett_borders("h") == (8640, 11520, 14400)
    assert ett_borders("15min") == (34560, 46080, 57600)


@pytest.mark.parametrize(
    ("rows", "borders"), [(966, (676, 773, 966)), (7588, (5311, 6071, 7588)), (10, (7, 8, 10))]
)
def test_ratio_borders_round_down_training_and_test(rows: int, borders: tuple[int, int, int]):
    assert ratio_borders(rows) == borders


def test_context_reaches_back_over_the_border_and_targets_do_not():
    borders = Borders(100, 130, 160)
    assert borders.span("train", 24) == (0, 100)
    assert borders.span("validation", 24) == (76, 130)
    assert borders.span("test", 24) == (106, 160)
    assert borders.span("validation", 1000) == (0, 130)


@pytest.mark.parametrize(("context", "horizon"), [(512, 96), (36, 24), (1, 1), (96, 720)])
def test_rows_needed_is_the_least_number_that_is_enough(context: int, horizon: int):
    needed = rows_needed(context, horizon, SHARES)
    assert ratio_borders(needed).hold(context, horizon)
    assert not any(ratio_borders(rows).hold(context, horizon) for rows in range(needed))


def test_a_table_with_just_enough_rows_passes_and_one_row_less_is_refused():
    needed = rows_needed(48, 24, SHARES)
    assert len(split_tables([table(needed)], "ratio", SHARES, 48, 24)) == 1
    with pytest.raises(
        UserError, match=f"has {needed - 1} rows, .* context 48 and horizon 24 need {needed} "
    ):
        split_tables([table(needed - 1)], "ratio", SHARES, 48, 24)


def test_short_series_are_left_out_with_a_warning():
    tables = [table(500, name="long"), table(20, name="short")]
    with pytest.warns(UserWarning, match="1 of 2 series are too short"):
        kept = split_tables(tables, "ratio", SHARES, 48, 24)
    assert [pair[0].names for pair in kept] == [("long",)]


@pytest.mark.parametrize(
    ("rows", "frequency", "context", "sentence"),
    [
        (14399, "h", 96, "has 14399 rows and the ETT borders need 14400: split by ratio"),
        (14400, None, 96, "the ETT borders count days"),
        (14400, "W", 96, "the ETT borders count days"),
        (14400, "h", 8600, "do not fit the ETT borders"),
    ],
)
def test_what_the_ett_borders_refuse(rows: int, frequency: str | None, context: int, sentence: str):
    with pytest.raises(UserError, match=sentence):
        split_tables([table(rows, frequency)], "ett", SHARES, context, 96)


@pytest.mark.parametrize("ratios", [(0.7, 0.1, 0.1), (0.8, 0.0, 0.2), (1.2, -0.4, 0.2)])
def test_ratios_must_share_out_the_rows(ratios: tuple[float, float, float]):
    with pytest.raises(UserError, match="three positive numbers with sum 1"):
        split_tables([table(500)], "ratio", ratios, 48, 24)


def test_the_last_horizon_validates_and_nothing_is_left_to_test():
    tables = [table(100, name="long"), table(72, name="enough"), table(71, name="short")]
    with pytest.warns(UserWarning, match="1 of 3 series are too short"):
        kept = split_tables(tables, "last", SHARES, 24, 24)
    assert [pair[1] for pair in kept] == [(76, 100, 100), (48, 72, 72)]
    assert not kept[0][1].tests
    with pytest.raises(UserError, match="has 71 rows and context 24 and horizon 24 need 72"):
        split_tables(tables[2:], "last", SHARES, 24, 24)
