"""The table of configs keeps what was measured before, in order, and takes new rows."""

import pytest

from apps.common.errors import UserError
from apps.common.measure import HEAD, measure, with_rows

OLD = ("one", "1 / 2", "0.5", "3.0", "400 MB", "2")
NEW = ("two", "3 / 4", "0.25", "1.5", "300 MB", "2")


def test_rows_are_added_replaced_and_put_in_order() -> None:
    page = with_rows("# Configs\n\ntext\n", {"b/x": OLD}, ["a/x", "b/x"])
    assert page.startswith("# Configs\n\ntext\n")
    assert page.count("\n|") == 3

    both = with_rows(page, {"a/x": NEW}, ["a/x", "b/x"])
    assert [line.split("|")[1].strip() for line in both.splitlines() if line.startswith("|")] == [
        HEAD[0],
        "---",
        "`a/x`",
        "`b/x`",
    ]
    assert f"| `b/x` | {' | '.join(OLD)} |" in both

    replaced = with_rows(both, {"b/x": NEW}, ["a/x", "b/x"])
    assert "0.5" not in replaced
    assert with_rows(replaced, {}, ["a/x", "b/x"]) == replaced


def test_a_config_that_is_gone_loses_its_row_and_text_below_stays() -> None:
    page = with_rows("above\n", {"a/x": OLD, "a/y": NEW}, ["a/x", "a/y"]) + "\nbelow\n"
    left = with_rows(page, {}, ["a/y"])
    assert "a/x" not in left
    assert left.endswith("\nbelow\n")


def test_an_unknown_config_is_one_sentence() -> None:
    with pytest.raises(UserError, match="there is no config nothing/here"):
        measure(["nothing/here"])
