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
    assert (0.9 < values.get("share_sampled_well", 0) <= 1) == (name == "posterior_mean")
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
    assert first.batch_seed != other.batch_seed


def test_what_is_trained_at_random_stays_as_it_was_drawn() -> None:
    torch.manual_seed(0)
    network = compare.frozen({"bins": 256, "hidden": 16, "depth": 1})
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert still == {
        name for name, _ in network.named_parameters() if name.startswith(("experts.router.", "mixture."))
    }
    assert any(name.startswith("mixture.") for name in still)
    before = {name: p.clone() for name, p in network.named_parameters()}
    module = compare.data_for("diffusion", {**BUDGET, "scenes": 600})
    compare.fit_best(compare.Task(network, learning_rate=1e-2), module, 1, 0)
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert not moved & still
    assert any(name.startswith("experts.") for name in moved)


def test_arms_are_told_how_they_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stages one alone, and one on diffusion theory whatever it is measured on."""
    told: dict[str, tuple[tuple[float, ...], str]] = {}

    def note(task: compare.Task, module: compare.Data, *_: object) -> None:
        told[name] = task.stages, module.light

    monkeypatch.setattr(compare, "fit_best", note)
    arms = compare.arms({**BUDGET, "scenes": 64})
    for name in ("routed", "staged", "random_router", "routed_on_diffusion"):
        arms[name].fit("monte_carlo", {"learning_rate": 1e-3}, 0)
    together, light = (0, 0, 0), "monte_carlo"
    assert told["routed"] == told["random_router"] == (together, light)
    assert told["staged"] == ((0.4, 0.5, 0.6), light)
    assert told["routed_on_diffusion"] == (together, "diffusion")
    trial = {"learning_rate": 1e-3}
    assert arms["routed_on_diffusion"].same_as("diffusion_unknown", trial) == ("routed", trial)
    assert arms["routed_on_diffusion"].same_as("monte_carlo", trial) is None
    assert arms["routed"].same_as("diffusion", trial) is None
