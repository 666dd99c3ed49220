"""The experts' part of a report: figures of the best checkpoint, tables, pictures."""

from typing import Any

import numpy as np
import pytest
from collegium.inspection import Specialisation

from apps.common.expert_plots import company, load_over_time, over_chance
from apps.common.experts import experts_section, tells
from apps.common.plots import ExpertMap, expert_maps, shares_of

USED = {"routing/a/load_0": "0.75", "routing/a/load_1": "0.25", "routing/a/entropy": "0.9"}
FIGURES = {"routing/a/max_violation": "0.5", "routing/a/dead_experts": "0.0"}
TABLES: dict[str, Any] = {
    "a": {
        "co_selection": [[0.6, 0.3, 0.3], [0.3, 0.4, 0.1], [0.3, 0.1, 0.4]],
        "labels": {
            "domain": {
                "table": [[3.0, 0.0], [1.0, 0.0]],
                "value": 0.5,
                "low": 0.4,
                "high": 0.6,
                "chance": 0.1,
            }
        },
    }
}


def shown(axes: Any) -> Any:
    return axes.images[0].get_array()


def test_the_load_shown_is_that_of_the_best_checkpoint() -> None:
    later = {**USED, "routing/a/load_0": "0.1", "routing/a/load_1": "0.9"}
    rows = [{"step": "4", **USED}, {"step": "9", **later}]
    for step, wanted in ((5, [[1.5, 0.5]]), (10, [[0.2, 1.8]])):
        section = experts_section(rows, step)
        assert section is not None
        assert shown(section.figures[0].axes[0]).tolist() == wanted


def test_where_every_token_has_all_experts_no_load_is_drawn() -> None:
    even = {**USED, "routing/a/load_0": "0.5", "routing/a/load_1": "0.5", "routing/a/max_violation": "0.0"}
    rows = [{"step": "4", **even}, {"step": "9", **even}]
    section = experts_section(rows, 10)
    assert section is not None
    (figure,) = section.figures
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["entropy"]
    assert "each token has all experts" in section.text


def test_without_figures_there_is_no_section() -> None:
    assert experts_section([{"step": "1", "val/loss": "4.0", "routing/a/load_0": ""}], 10) is None


def test_load_over_time_has_a_column_for_each_validation() -> None:
    later = {**USED, "routing/a/load_0": "0.1", "routing/a/load_1": "0.9"}
    rows = [{"step": "4", **USED}, {"step": "5", "train/loss": "1"}, {"step": "9", **later}]
    section = experts_section(rows, 5)
    assert section is not None
    (cells,) = section.figures[1].axes[0].collections
    assert cells.get_array().tolist() == [[1.5, 0.2], [0.5, 1.8]]
    assert cells.get_datalim(section.figures[1].axes[0].transData).intervalx.tolist() == [0, 10]


def test_the_table_tells_each_layer_and_leaves_out_what_a_layer_does_not_have() -> None:
    other = {"routing/b/load_0": "1.0", "routing/b/max_violation": "0.0"}
    section = experts_section([{"step": "4", **USED, **FIGURES, **other}], 5, TABLES)
    assert section is not None
    assert section.table == [
        {
            "layer": "a",
            "max violation": 0.5,
            "entropy": 0.9,
            "dead experts": 0,
            "tells domain": "0.500 [0.400, 0.600]",
            "chance, domain": "0.100",
        },
        {
            "layer": "b",
            "max violation": 0.0,
            "entropy": None,
            "dead experts": None,
            "tells domain": None,
            "chance, domain": None,
        },
    ]
    assert len(section.figures) == 5
    labels, together = section.figures[3].axes[0], section.figures[4].axes[0]
    assert (labels.get_xlabel(), labels.get_title()) == ("domain", "a: expert by domain")
    assert shown(labels)[:, 0].tolist() == [1.5, 0.5]
    assert shown(labels).mask[:, 1].all()  # nobody had that label
    assert shown(together).shape == (3, 3)


@pytest.mark.parametrize(
    "together",
    [
        [[0.5, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.2]],  # one expert a token
        [[1.0] * 3] * 3,  # all experts
        [[0.5, 0.2], [0.2, 0.7]],  # no other partner to choose
    ],
)
def test_where_there_is_no_choice_of_partners_none_is_drawn(together: list[list[float]]) -> None:
    tables = {"a": {"co_selection": together, "labels": {}}}
    section = experts_section([{"step": "4", **USED}], 5, tables)
    assert section is not None
    assert len(section.figures) == 3
    assert "together" not in section.text


def test_partners_in_proportion_to_popularity_are_chance() -> None:
    popularity = np.array([0.5, 0.3, 0.2, 0.1])
    table = np.outer(popularity, popularity)
    ratio = over_chance(table)
    assert np.isnan(ratio.diagonal()).all()
    assert ratio[~np.eye(4, dtype=bool)] == pytest.approx(1, abs=1e-6)


def test_partners_by_hand() -> None:
    """Four experts, only 0 with 1 and 2 with 3: each pair three times as often as among three partners."""
    table = np.kron(np.eye(2), np.full((2, 2), 0.5))
    ratio = over_chance(table)
    assert (ratio[0, 1], ratio[2, 3]) == pytest.approx((3, 3), abs=1e-6)
    assert ratio[0, 2] == 0
    unused = np.zeros((5, 5))
    unused[:4, :4] = table
    ratio = over_chance(unused)
    assert np.isnan(ratio[4]).all()
    assert ratio[0, 1] == pytest.approx(3, abs=1e-6)


def test_shares_of_a_column_without_anything_are_unknown() -> None:
    shares = shares_of(np.array([[3.0, 0.0], [1.0, 0.0]]))
    assert shares[:, 0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[:, 1]).all()


def test_layers_with_unequal_labels_are_drawn_together() -> None:
    one = ExpertMap("t", "task", ["0"], np.array([[0.5], [0.5]]))
    assert len(expert_maps([[one, one], [one]]).axes) == 4  # three panels and the bar


def test_every_picture_says_what_its_axes_and_colours_are() -> None:
    ratio = np.array([[np.nan, 1.0], [1.0, np.nan]])
    for figure, label in (
        (load_over_time({"a": ([5], np.array([[0.5], [0.5]]))}), "load / even"),
        (company({"a": ratio, "b": ratio}), "together / by chance"),
    ):
        *panels, bar = figure.axes
        assert bar.get_ylabel() == label
        assert all(axes.get_xlabel() and axes.get_ylabel() and axes.get_title(loc="left") for axes in panels)


def test_cells_of_a_specialisation() -> None:
    cells = tells("hour", Specialisation(0.12345, 0.1, 0.15, 0.01))
    assert cells == {"tells hour": "0.123 [0.100, 0.150]", "chance, hour": "0.010"}
