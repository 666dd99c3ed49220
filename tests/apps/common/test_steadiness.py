"""The report's part on drift and local consistency."""

from typing import Any

from apps.common.steadiness import steadiness_section

ROWS = [
    {"step": "4", "routing/a/load_0": "1.0", "routing/a/drift_experts": "", "routing/a/srp": "0.9"},
    {"step": "9", "routing/a/drift_experts": "0.25", "routing/a/drift_probs": "0.1", "routing/a/srp": "0.9"},
]
NEAR = {"m": 4, "srp": 0.75, "srp_chance": 0.5, "cache": 2, "sch": 0.875, "sch_chance": 0.625}
TABLES: dict[str, Any] = {
    "a": {"labels": {}, "drift": {"experts": 0.25, "probs": 0.1}, "locality": NEAR},
    "b": {"labels": {}, "locality": {"left_out": "every token runs every expert"}},
    "older": {"labels": {}},
}


def test_the_table_tells_each_layer_and_why_a_figure_is_left_out() -> None:
    section = steadiness_section(ROWS, TABLES)
    assert section is not None
    assert section.table
    first, second = section.table
    assert first == {
        "layer": "a",
        "drift of experts": 0.25,
        "drift of probabilities": 0.1,
        "SRP": 0.75,
        "SRP, chance": 0.5,
        "cache": 2,
        "SCH": 0.875,
        "SCH, chance": 0.625,
        "left out": None,
    }
    assert {key: value for key, value in second.items() if value is not None} == {
        "layer": "b",
        "left out": "every token runs every expert",
    }
    assert "segments of 4 neighbours" in section.text


def test_drift_is_drawn_over_the_training() -> None:
    section = steadiness_section(ROWS, TABLES)
    assert section is not None
    chosen, probs = section.figures[0].axes
    assert chosen.get_title(loc="left") == "drift of experts"
    assert [line.get_xydata().tolist() for line in (*chosen.lines, *probs.lines)] == [
        [[10, 0.25]],
        [[10, 0.1]],
    ]


def test_after_one_validation_nothing_is_drawn_and_the_text_says_why() -> None:
    section = steadiness_section(ROWS[:1], {"b": TABLES["b"]})
    assert section is not None
    assert section.figures == []
    assert "Drift needs two validations" in section.text
    assert section.table == [{"layer": "b", "left out": "every token runs every expert"}]


def test_after_two_validations_drift_may_be_left_out_for_another_reason() -> None:
    section = steadiness_section([ROWS[0], ROWS[0] | {"step": "9"}], {"b": TABLES["b"]})
    assert section is not None
    assert section.text == ""


def test_without_routings_there_is_no_section() -> None:
    assert steadiness_section([], {}) is None
    assert steadiness_section(ROWS[:1], {"older": TABLES["older"]}) is None
