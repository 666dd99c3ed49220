"""The generated log."""

import numpy as np
import pytest

from apps.recsys.metrics import auc
from apps.recsys.simulate import simulate


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_it_has_the_rows_and_labels_that_were_asked_for(tasks: int) -> None:
    table = simulate(3000, tasks=tasks)
    labels = [name for name in table if name.startswith(("watch", "interact"))]
    assert len(labels) == 2 * tasks
    assert table["watch_0"].mean() == pytest.approx(0.4, abs=0.01)
    assert table["interact_0"].mean() == pytest.approx(0.1, abs=0.01)
    assert simulate(50, seed=1).equals(simulate(50, seed=1))
    assert not simulate(50, seed=1).equals(simulate(50, seed=2))


def agreement(correlation: float) -> float:
    """Phi coefficient of the first labels of both groups, a mean over seeds."""
    found = []
    for seed in range(8):
        table = simulate(4000, correlation, seed=seed)
        found.append(np.corrcoef(table["watch_0"], table["interact_0"])[0, 1])
    return float(np.mean(found))


def test_groups_agree_as_far_as_one_likes() -> None:
    apart, half, alike = agreement(0.0), agreement(0.6), agreement(1.0)
    assert abs(apart) < 0.12
    assert apart < half < alike


def test_labels_hang_on_user_and_item_together() -> None:
    table = simulate(20_000)
    item = table.groupby("item_id")["watch_0"].transform("mean")
    user = table.groupby("user_id")["watch_0"].transform("mean")
    assert auc((item + user).to_numpy(), table["watch_0"].to_numpy()) < 0.85  # in sample, which flatters
