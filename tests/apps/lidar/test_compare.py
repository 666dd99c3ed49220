"""The arms of the comparison and their sets."""

import numpy as np
import pytest
import torch
import yaml

from apps.common.compare.arms import check_outcome
from apps.common.discovery import project_root
from apps.lidar import compare
from apps.lidar.estimates import parts
from apps.lidar.model import OUTPUTS
from apps.lidar.scenes import Ranges

PROFILES = yaml.safe_load((project_root() / "configs/lidar/compare.yaml").read_text())["profiles"]
BUDGET = {**PROFILES["quick"]["budget"], "scenes": 3000, "held_out": 60, "epochs": 6}


@pytest.mark.parametrize("name", PROFILES["full"]["arms"])
def test_every_arm_gives_an_outcome_that_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {part: {"depth": 0.36, "lifetime": 0.0036} for part in ("all", *parts(Ranges()))}
    limits["photons 200-632"]["depth"] = 0.09
    monkeypatch.setattr(compare, "bounds", lambda *usual: limits)
    arm = compare.arms(BUDGET)[name]
    fitted = arm.fit(
        "monte_carlo_unknown" if name == "routed_on_diffusion" else "diffusion", dict(arm.trials[-1]), 0
    )
    outcome = fitted.test()
    check_outcome(outcome)
    values = {value.metric: value.value for value in outcome.values if value.slice == "all"}
    assert {f"{metric}_{output}" for metric in ("nrmse", "ratio_to_bound") for output in OUTPUTS} <= set(
        values
    )
    assert np.isfinite(fitted.validation)
    assert values["nrmse_depth"] < 0.35  # to say the middle would be 0.289, and few steps do little more
    assert values["ratio_to_bound_depth"] == pytest.approx(values["nrmse_depth"] * 9 / 0.6)
    ratio = {value.slice: value.value for value in outcome.values if value.metric == "ratio_to_bound_depth"}
    assert set(ratio) == set(limits)
    for name, weight in (("depth", 1.0), ("photons", 0.25)):  # of photons one limit is a fourth of the others
        some = {part: each**2 for part, each in ratio.items() if part.startswith(name)}
        some = {part: each * (weight if part == "photons 200-632" else 1.0) for part, each in some.items()}
        assert min(some.values()) < ratio["all"] ** 2 < max(some.values())


def test_sets_differ_by_light_and_seeds_by_order_alone() -> None:
    assert len({compare.data_sha256(name) for name in compare.SETS}) == 2
    first, other = (compare.data_for("diffusion", BUDGET, seed) for seed in (0, 1))
    assert torch.equal(first.part("train").light, other.part("train").light)
    assert first.order != other.order
