"""Markdown that programs write."""

import pytest

from apps.common.markdown import between, table


def test_a_table_with_a_bar_in_a_cell() -> None:
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_what_is_between_the_markers_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nafter\n"
    new = between("speed", r"a \1 b", page)
    assert new == "before\n<!-- speed:begin -->\n\na \\1 b\n\n<!-- speed:end -->\nafter\n"
    assert between("speed", r"a \1 b", new) == new


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers speed:begin and speed:end"):
        between("speed", "new", "<!-- speed:begin -->\nold\n")
