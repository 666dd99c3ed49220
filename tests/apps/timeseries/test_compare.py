"""The arms: one budget for all, figures that agree with a plain calculation."""

import hashlib
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from collegium import record
from collegium.gates import Centroid

from apps.common.compare.arms import Arm, Trial, check_outcome
from apps.common.compare.places import results_file
from apps.common.compare.results import read_results
from apps.common.compare.trials import check_trials
from apps.common.controls import KINDS
from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.timeseries import compare
from apps.timeseries.blocks import block_count, blocks
from apps.timeseries.comparison.budgets import budget_for, module_for
from apps.timeseries.comparison.contenders import ROUTED, build
from apps.timeseries.comparison.measured import Measured
from apps.timeseries.comparison.trained import windows_left
from apps.timeseries.data import Data
from apps.timeseries.simulate import simulate

TOKENS = {"dim": 16, "depth": 1, "heads": 2, "patch": 8}
EXPERTS = {"num_experts": 4, "hidden": 16}
TOLD = {"batch_size": 32, "balance": {}}
RIDGES = ("ridge_moe", "linear_experts", "band_experts", "unlike_experts")
MOIRAI = ("moirai_mixture", "moirai_learned", "moirai_shared", "moirai_ridge")
BUDGET = {
    "context": 48,
    "horizons": [8, 16],
    "routed": {"default": "ridge_moe"},
    "networks": {
        "ridge_moe": {**TOLD, "mixture": EXPERTS, "options": {"dim": 16}},
        "linear_experts": {**TOLD, "mixture": {"num_experts": 4}, "options": {"dim": 16}},
        "band_experts": {**TOLD, "mixture": EXPERTS, "options": {"dim": 16}},
        "unlike_experts": {**TOLD, "mixture": {**EXPERTS, "num_experts": 6}, "options": {"dim": 16}},
        "time_moe": {**TOLD, "mixture": {**EXPERTS, "shared_hidden": 16}, "options": TOKENS},
        "moirai_moe": {
            **TOLD,
            "mixture": EXPERTS,
            "options": {**TOKENS, "dim": 16, "patches": 2, "twin_steps": 2},
        },
        **{name: {"like": "moirai_moe"} for name in MOIRAI},
        "moirai_joint": {"like": "moirai_moe", "joint": True},
        "smetimes": {**TOLD, "mixture": {"num_experts": 2}, "options": TOKENS},
        "zero_shot": {"network": "time_moe", "pretraining": {"series": 10, "rows": 64, "sets": {}}},
        "gaussian_ridge": TOLD,
        "dlinear": TOLD,
        "patchtst": {**TOLD, "options": {"depth": 1}},
        "nhits": {**TOLD, "options": {"hidden": 16, "downsampling": [8, 4, 1]}},
    },
    "epochs": 1,
    "windows_per_epoch": 256,
    "warmup_steps": 0,
    "validation_stride": 20,
    "trials": {
        **{
            name: [{"learning_rate": 1e-3, "dropout": 0.0}]
            for name in (*RIDGES, "time_moe", "moirai_moe", "smetimes")
        },
        **{
            name: [{"learning_rate": 1e-3}]
            for name in (*MOIRAI, "moirai_joint", "gaussian_ridge", "dlinear", "patchtst", "nhits")
        },
        "ridge": [{"powers": [0.0, 0.5]}],
    },
}


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set is the simulated one, shortened."""

    def build(name: str | None = None, **options: object) -> Data:
        return Data(rows=800, **options)

    monkeypatch.setattr("apps.timeseries.comparison.budgets.Data", build)


def test_every_arm_of_the_profiles_exists() -> None:
    profiles = yaml.safe_load((project_root() / "configs/timeseries/compare.yaml").read_text())["profiles"]
    for name, profile in profiles.items():
        offered = {arm for arm in compare.arms(profile["budget"]) if "_of_" not in arm}
        arms = {*profile["arms"], *profile.get("tried", [])}
        assert arms == offered if name in ("full", "m4") else arms <= offered
        check_trials({arm: compare.arms(profile["budget"])[arm] for arm in arms}, name)


@pytest.mark.parametrize("profile", ["quick", "full", "published", "m4"])
def test_every_setting_that_is_tried_makes_its_network_and_its_controls(profile: str) -> None:
    told = yaml.safe_load((project_root() / "configs/timeseries/compare.yaml").read_text())["profiles"][
        profile
    ]
    for data in told["data"]:
        budget = budget_for(data, told["budget"])
        names = [name for name in budget["networks"] if name != "zero_shot" and name in budget["trials"]]
        for name in names:
            for trial in budget["trials"][name]:
                options = {key: value for key, value in trial.items() if key != "learning_rate"}
                for kind in KINDS if name in budget["routed"].values() else KINDS[:1]:
                    network = build(name, budget, kind, options)
                    if name == "moirai_ridge":
                        assert network.settles == ("share" not in trial)


MEASURED = [
    file
    for profile in ("quick", "full", "published", "m4")
    if (file := results_file("timeseries", profile)).exists()
]


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_what_is_called_routed_validated_best_of_the_networks_with_experts(file: Path) -> None:
    results = read_results(file)
    profiles = yaml.safe_load((project_root() / "configs/timeseries/compare.yaml").read_text())["profiles"]
    routed = profiles[results["profile"]]["budget"]["routed"]
    scores: dict[str, dict[str, float]] = {data: {} for data in results["data"]}
    for choice in results["choices"]:
        name = routed.get(choice["data"], routed["default"]) if choice["arm"] == "routed" else choice["arm"]
        if name in ROUTED:
            scores[choice["data"]][name] = min(trial["validation"] for trial in choice["trials"])
    for data, found in scores.items():
        assert routed.get(data, routed["default"]) == min(found, key=found.__getitem__)


def test_zero_shot_sees_no_series_of_its_set() -> None:
    profiles = yaml.safe_load((project_root() / "configs/timeseries/compare.yaml").read_text())["profiles"]
    for profile in (profiles["quick"], profiles["full"]):
        sets = profile["budget"]["networks"]["zero_shot"]["pretraining"]["sets"]
        for name in profile["data"]:
            same = {"ETTh1", "ETTm1"} if name in ("ETTh1", "ETTm1") else {name}
            assert sets[name]
            assert not same & set(sets[name])


def test_zero_shot_trains_on_priors_and_is_tested_on_the_set() -> None:
    arm = compare.arms(BUDGET)["zero_shot"]
    data = arm.training_data("any", budget_for("any", BUDGET), 0, 32)
    assert data.names == ("gaussian_processes", "compositions", "regimes")
    fitted = arm.fit("any", arm.trials[0], 0)
    assert fitted.data == "any"
    other = compare.arms(BUDGET)["time_moe"].fit("any", arm.trials[0], 0)
    assert fitted.cost == other.cost
    assert fitted.validation != other.validation


@pytest.mark.parametrize("name", [arm for arm in compare.arms(BUDGET) if "_of_" not in arm])
def test_an_arm_gives_a_consistent_outcome(name: str) -> None:
    arm = compare.arms(BUDGET)[name]
    outcome = arm.fit("any", arm.trials[0], seed=0).test()
    check_outcome(outcome)
    values = {(v.slice, v.metric): v.value for v in outcome.values}
    spread = {("all", "crps"), ("all", "off_90")} if name.startswith(("moirai", "gaussian")) else set()
    assert set(values) == {(s, m) for s in ("8", "16", "all") for m in ("mse", "mae")} | spread
    assert values["all", "mse"] == pytest.approx((values["8", "mse"] + values["16", "mse"]) / 2, rel=1e-4)


@pytest.mark.parametrize("name", ["ridge_moe", "dlinear", "nhits"])
def test_one_forecast_of_the_longest_horizon_serves_all(name: str) -> None:
    arm = compare.arms(BUDGET)[name]
    fitted = arm.fit("any", arm.trials[0], 0)
    assert isinstance(fitted, Measured)
    assert fitted.nested
    once = fitted.test()
    fitted.nested = False
    each = fitted.test()
    np.testing.assert_allclose([v.value for v in once.values], [v.value for v in each.values], rtol=1e-5)
    for place, units in each.units.items():
        np.testing.assert_allclose(once.units[place], units, rtol=1e-4)


def test_a_distribution_by_a_plain_calculation() -> None:
    arm = compare.arms(BUDGET)["gaussian_ridge"]
    fitted = arm.fit("any", arm.trials[0], 0)
    measured = {(v.slice, v.metric): v.value for v in fitted.test().values}
    windows = module_for("any", BUDGET, 0).windows("test")
    scores, inside = [], []
    for horizon in (8, 16):
        batch = windows.of_horizon(horizon).__getitems__(range(len(windows.of_horizon(horizon))))
        levels = torch.tensor([0.05, 0.95])
        low, high = fitted.distribution.quantiles_batch(batch, horizon, levels).unbind(-1)
        mask, target = batch["target_mask"], batch["target"]
        mean, deviation = (low + high) / 2, (high - low) / (2 * 1.6448536)
        z = (target - mean) / deviation
        normal = torch.distributions.Normal(0, 1)
        density = normal.log_prob(z).exp()
        score = deviation * (z * (2 * normal.cdf(z) - 1) + 2 * density - torch.pi**-0.5)
        by_window = [
            (part.where(mask, 0).sum(1) / mask.sum(1)).mean()
            for part in (score, (z.abs() < 1.6448536).float())
        ]
        scores.append(by_window[0])
        inside.append(by_window[1])
    assert measured["all", "crps"] == pytest.approx(float(sum(scores)) / 2, rel=0.02)
    assert measured["all", "off_90"] == pytest.approx(abs(float(sum(inside)) / 2 - 0.9), abs=1e-5)


def test_quantiles_of_a_shorter_horizon_are_the_beginning_of_those_of_a_longer_one() -> None:
    windows, budget = module_for("any", BUDGET, 0).windows("test").of_horizon(0), budget_for("any", BUDGET)
    batch = windows.__getitems__([0, 1, 2])
    for name in ("moirai_moe", "moirai_mixture", "moirai_ridge", "gaussian_ridge"):
        network = build(name, budget, "routed", {}).eval()
        short, long = (network.quantiles_batch(batch, h, torch.tensor([0.1, 0.9])) for h in (8, 16))
        torch.testing.assert_close(long[:, :8], short)


def test_the_windows_of_preparation_are_a_part_of_the_budget() -> None:
    data, budget = module_for("any", BUDGET, 0), budget_for("any", BUDGET)
    everything = len(data.windows("train"))
    moirai = build("moirai_moe", budget, "routed", {})
    assert moirai.prepared_on == 2 * 64
    assert build("moirai_ridge", budget, "routed", {}).prepared_on == 2 * 64
    assert build("moirai_moe", budget, "random_router", {}).prepared_on == 0
    assert build("moirai_moe", budget, "random_router", {"warm_start": True}).prepared_on == 2 * 64
    assert build("moirai_learned", budget, "routed", {}).prepared_on == 0
    assert windows_left(build("dlinear", budget, "routed", {}), data, 4) == 256
    assert windows_left(moirai, data, 4) == 256 - 32
    data.max_windows_per_epoch = None
    assert windows_left(moirai, data, 4) == everything - 32
    data.max_windows_per_epoch = 100
    with pytest.raises(UserError, match="lower twin_steps"):
        windows_left(moirai, data, 1)


def test_a_seed_is_that_of_the_dense_twin_and_of_the_priors_too() -> None:
    budget, centroids, series = budget_for("any", BUDGET), [], []
    arm, network = compare.arms(BUDGET)["zero_shot"], build("moirai_moe", budget, "routed", {})
    data = module_for("any", BUDGET, 0)
    for seed in (1, 1, 2):
        series.append(arm.training_data("any", budget, seed, 32).tables[0].values)
        torch.manual_seed(seed)
        alike = deepcopy(network)
        alike.prepare(data.windows("train"), data.windows("validation"))
        centroids.append(alike.layers[0].feed_forward.router.gate.centroids)
    assert torch.equal(centroids[0], centroids[1])
    assert not torch.allclose(centroids[0], centroids[2], atol=1e-3)
    assert np.array_equal(series[0], series[1])
    assert not np.array_equal(series[0], series[2])


def test_repeat_last_by_a_plain_calculation() -> None:
    fitted = compare.arms(BUDGET)["repeat_last"].fit("any", {}, 0)
    measured = {(v.slice, v.metric): v.value for v in fitted.test().values}
    windows = module_for("any", BUDGET, 0).windows("test").of_horizon(16)
    errors = []
    for i in range(len(windows)):
        w = windows[i]
        seen = w["context"][0][w["context_mask"][0]]
        error = (w["target"][0] - seen[-1])[w["target_mask"][0]]
        errors.append(float(error.square().mean()))
    assert measured["16", "mse"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_controls_have_the_sizes_they_claim() -> None:
    found = {}
    for kind in ("routed", "dense_active", "dense_total", "random_router"):
        arm = compare.arms(BUDGET)[kind]
        found[kind] = arm.fit("any", arm.trials[0], 0).cost
    routed, active, total = found["routed"], found["dense_active"], found["dense_total"]
    assert active.total_params == pytest.approx(routed.active_params, rel=0.01)
    assert total.total_params == pytest.approx(routed.total_params, rel=0.01)
    assert active.active_flops == pytest.approx(routed.active_flops, rel=0.05)
    assert found["random_router"].total_params == routed.total_params
    assert routed.active_params < routed.total_params


def test_what_is_random_about_moirais_random_router_are_its_centroids() -> None:
    for kind, placed in (("routed", True), ("random_router", False)):
        network = build("moirai_moe", BUDGET, kind, {})
        assert network.placed == placed
        assert isinstance(network.layers[0].feed_forward.router.gate, Centroid)


def test_a_band_has_an_expert() -> None:
    network = build("band_experts", BUDGET, "routed", {})
    time = torch.arange(48.0)
    phases = [(period, 0.1 * i) for period in (4, 12) for i in range(3)]
    waves = torch.stack([torch.sin(2 * np.pi * time / period + phase) for period, phase in phases])
    with record(network) as routings:
        network(waves, torch.ones_like(waves, dtype=torch.bool))
    chosen = routings["mixture"][0].dense_weight().argmax(1).tolist()
    assert chosen == [chosen[0]] * 3 + [chosen[3]] * 3
    assert chosen[0] != chosen[3]


def test_a_fit_is_a_function_of_its_seed() -> None:
    arm = compare.arms(BUDGET)["routed"]
    one, two, other = (arm.fit("any", arm.trials[0], seed).validation for seed in (1, 1, 2))
    assert one == two != other


def test_blocks_are_weighted_means_in_order_of_time() -> None:
    start = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7] * 2)
    error = torch.cat([torch.arange(8.0), torch.full((8,), torch.nan)])
    means, sizes = blocks(error, start, 4)
    assert means.tolist() == [0.5, 2.5, 4.5, 6.5]
    assert sizes.tolist() == [2, 2, 2, 2]


def test_a_block_is_at_least_a_horizon_long() -> None:
    start = torch.arange(100).repeat(2)
    assert block_count(start, 24) == 4
    assert block_count(start, 96) == 2


def test_a_set_may_change_the_budget() -> None:
    budget = {**BUDGET, "sets": {"illness": {"context": 24}}}
    assert budget_for("illness", budget)["context"] == 24
    assert budget_for("ETTh1", budget)["context"] == 48


def test_a_set_may_change_one_network_and_which_is_called_routed() -> None:
    dim = {**TOLD, "mixture": EXPERTS, "options": {"dim": 24}}
    routed = {"default": "ridge_moe", "illness": "time_moe"}
    budget = {**BUDGET, "routed": routed, "sets": {"illness": {"networks": {"ridge_moe": dim}}}}
    usual = budget_for("ETTh1", budget)["networks"]
    assert budget_for("illness", budget)["networks"] == {**usual, "ridge_moe": dim}
    arms = compare.arms(budget)
    chosen = [arms["routed"].fit(data, arms["routed"].trials[0], 0).cost for data in ("ETTh1", "illness")]
    named = [arms[name].fit("ETTh1", arms[name].trials[0], 0).cost for name in ("ridge_moe", "time_moe")]
    assert chosen == named
    for name, told in (("ETTh1", "ridge_moe"), ("illness", "time_moe")):
        for kind in ("routed", "dense_active"):
            arm, trial = arms[kind].same_as(name, arms[kind].trials[0])
            assert arm == (told if kind == "routed" else f"{kind}_of_{told}")
            costs = [
                arms[each].fit(name, own, 0).cost
                for each, own in ((kind, arms[kind].trials[0]), (arm, trial))
            ]
            assert costs[0] == costs[1]


def test_a_network_that_is_like_another_has_its_options_but_for_its_own_also_on_a_set() -> None:
    networks = {"a": {"batch_size": 1, "options": {"patch": 8}}, "b": {"like": "a", "batch_size": 2}}
    sets = {"illness": {"networks": {"a": {"batch_size": 1, "options": {"patch": 4}}}}}
    budget = {"networks": networks, "sets": sets}
    assert budget_for("ETTh1", budget)["networks"]["b"] == {
        "like": "a",
        "batch_size": 2,
        "options": {"patch": 8},
    }
    assert budget_for("illness", budget)["networks"]["b"]["options"] == {"patch": 4}
    assert budget_for("illness", budget)["networks"]["a"] == sets["illness"]["networks"]["a"]


def test_a_trial_may_be_scored_by_several_stretches_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = {**BUDGET, "folds": {"short": 3}}
    seen = []

    def fit(self: Arm, data: str, trial: Trial, seed: int) -> SimpleNamespace:
        seen.append(self.budget.get("earlier", 0))
        return SimpleNamespace(validation=float(10 + seen[-1]))

    for name, times in (("ridge_moe", 3), ("ridge", 3), ("routed", 3), ("zero_shot", 1)):
        arm = compare.arms(budget)[name]
        monkeypatch.setattr(type(arm), "fit", fit)
        seen.clear()
        assert arm.score("short", {}, 0) == 10 + (times - 1) / 2
        assert seen == list(range(times))
        assert arm.score("long", {}, 0) == 10
        assert "earlier" not in arm.budget


def test_an_earlier_stretch_knows_no_later_row() -> None:
    parts = [Data(rows=2000, context=48, horizon=16, earlier=earlier) for earlier in (0, 1)]
    for data in parts:
        data.setup()
    now, before = (data.borders[0] for data in parts)
    assert before.validation == now.train
    assert now.validation - now.train == before.validation - before.train
    assert int(parts[1].windows("validation").start.max()) + 64 == now.train
    assert not torch.equal(parts[0].scaler.mean, parts[1].scaler.mean)
    with pytest.raises(UserError, match="leaves no row to test"):
        parts[1].windows("test")
    with pytest.raises(UserError, match="no row is left to train on"):
        Data(rows=2000, context=48, horizon=16, earlier=8).setup()


def test_the_simulated_set_is_told_by_its_content() -> None:
    told = compare.data_sha256("simulated")
    assert told == hashlib.sha256(simulate().values.tobytes()).hexdigest()
    assert told != hashlib.sha256(simulate(seed=1).values.tobytes()).hexdigest()
    assert compare.data_sha256("ETTh1") is None
