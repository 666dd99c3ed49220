"""The arms of the comparison and what they measure."""

import numpy as np
import pytest
import torch
import yaml
from collegium.layer import moe_layers

from apps.common.compare.arms import Cost, check_outcome
from apps.common.discovery import project_root
from apps.recsys.bodies import HoME
from apps.recsys.compare import arms
from apps.recsys.comparison.networks import networks, size_of
from apps.recsys.comparison.outcome import outcome
from apps.recsys.comparison.sequences import recommenders
from apps.recsys.data import Data
from apps.recsys.metrics import gauc
from apps.recsys.scored import Scored

PROFILES = yaml.safe_load((project_root() / "configs/recsys/compare.yaml").read_text())["profiles"]
BUDGET = {**PROFILES["quick"]["budget"], "data": {"rows": 3000}, "epochs": 3, "batch_size": 64}


@pytest.mark.parametrize("name", PROFILES["full"]["arms"])
def test_every_arm_gives_an_outcome_that_holds(name: str) -> None:
    arm = arms(BUDGET)[name]
    fitted = arm.fit("simulated", dict(arm.trials[-1]), 0)
    found = fitted.test()
    check_outcome(found)
    values = {(value.slice, value.metric): value.value for value in found.values}
    assert values["all", "auc"] > 0.55
    assert 0 < fitted.validation < 0.45
    assert {("watch_0", "auc"), ("watch_0", "gauc"), ("interact_1", "log_loss")} <= set(values)
    assert (("all", "collapse") in values) == (name in ("routed", "random_router", "ple", "mmoe"))


def test_gates_of_the_random_router_stay_as_they_were_drawn() -> None:
    data = Data(rows=300)
    data.setup()
    network = networks(BUDGET)["random_router"]()
    network.build(data.encoder.sizes, len(data.catalogue), list(data.schema.groups.values()))  # type: ignore[operator]
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    gates = {
        f"{layer}.router.{name}"
        for layer, module in moe_layers(network).items()
        for name, _ in module.router.named_parameters()
    }
    assert still == gates
    assert any("self_gates" in name for name in gates)


def scored(n: int = 4000, users: int = 60) -> Scored:
    random = np.random.default_rng(0)
    chance = random.random((n, 3))
    label = (random.random((n, 3)) < chance * [1.0, 0.5, 0.02]).astype(float)
    label[::7, 0] = np.nan
    user = random.integers(-1, users, n)
    return Scored(["a", "b", "c"], chance, label, user, random.integers(0, 50, n), random.integers(0, 9, n))


def test_rare_labels_are_measured_and_left_out_of_the_mean() -> None:
    found = scored()
    made = outcome(found, Cost(), 300)
    check_outcome(made)
    values = {(value.slice, value.metric): value.value for value in made.values}
    assert values["all", "auc"] == pytest.approx((values["a", "auc"] + values["b", "auc"]) / 2)
    assert ("c", "auc") in values
    assert ("c", "auc") not in made.units
    assert values["a", "gauc"] == pytest.approx(gauc(*found.of_task(0)))
    assert {slice for slice, _ in values} >= {"user, few rows", "item, many rows"}


def test_units_resampled_give_the_spread_of_an_auc_over_resampled_users() -> None:
    """Deviations of the bootstrap over units, and over rows of users drawn with repetition."""
    from sklearn.metrics import roc_auc_score

    found, random = scored(1500, 200), np.random.default_rng(1)
    _, label, _ = found.of_task(1)
    units = outcome(found, Cost(), 300).units["all", "auc"]
    of_units = np.std([random.choice(units, len(units)).mean() for _ in range(800)])
    both = []
    for _ in range(400):
        rows = random.integers(0, len(label), len(label))
        areas = [roc_auc_score(found.label[r, k], found.chance[r, k]) for k in (1,) for r in [rows]]
        known = ~np.isnan(found.label[rows, 0])
        areas.append(roc_auc_score(found.label[rows, 0][known], found.chance[rows, 0][known]))
        both.append(np.mean(areas))
    assert of_units == pytest.approx(np.std(both), rel=0.35)


def test_peers_see_the_same_columns() -> None:
    torch.manual_seed(0)
    data = Data(rows=400)
    data.setup()
    from apps.recsys.comparison.peers import Rechub, experts_of, table_of

    network = Rechub("ple", HoME, dim=4)
    groups, prior = [["watch_0"], ["interact_0"]], [0.4, 0.001]
    network.build(data.encoder.sizes, len(data.catalogue), groups, prior)
    wide = (len(data.encoder.sizes.ids) + len(data.encoder.sizes.tags)) * 4 + data.encoder.sizes.values
    assert experts_of(network.model) == pytest.approx(size_of(HoME(wide, groups)), rel=0.02)
    begin = [tower.mlp[-1].bias.sigmoid().item() for tower in network.model.towers]
    assert begin == pytest.approx(prior)
    batch = data.part("train").__getitems__(range(8))
    network.eval()
    assert network(batch).shape == (8, 2)
    changed = batch._replace(rows=batch.rows._replace(tags=torch.zeros_like(batch.rows.tags)))
    assert not torch.equal(network(batch), network(changed))
    sizes, rows = data.encoder.sizes, data.part("train")
    table, words = table_of(rows, data), len(data.encoder.vocabularies)
    assert table.shape[1] == words + sizes.values + sum(size - 1 for size in sizes.tags)
    tags = rows.batch.rows.tags[:, 0]
    for row in (0, 7, 200):
        has = table[row, words + sizes.values :][: sizes.tags[0] - 1].nonzero()[0] + 1
        assert set(has.tolist()) == set(tags[row].tolist()) - {0}


SEQUENCES = {
    **PROFILES["sequences"]["budget"],
    "data": {"rows": 3000},
    "epochs": 2,
    "batch_size": 64,
    "history": 12,
}
SEQUENCES |= {"factor_epochs": 3, "recommenders": {**SEQUENCES["recommenders"]}}
SEQUENCES["recommenders"]["onerec"] = {**SEQUENCES["recommenders"]["onerec"], "words": [8, 8], "places": 4}


@pytest.mark.parametrize(
    ("routed", "name"),
    [("aw_moe", name) for name in PROFILES["sequences"]["arms"]]
    + [("onerec", name) for name in PROFILES["generative"]["arms"][:5]],
)
def test_every_arm_of_the_next_item_gives_an_outcome_that_holds(routed: str, name: str) -> None:
    arm = arms({**SEQUENCES, "routed": routed})[name]
    fitted = arm.fit("simulated", dict(arm.trials[-1]), 0)
    found = fitted.test()
    check_outcome(found)
    values = {(value.slice, value.metric): value.value for value in found.values}
    assert 0 < values["all", "ndcg_10"] <= values["all", "hr_10"] <= 1
    assert ("user, few rows", "ndcg_10") in values
    assert 0 < fitted.validation < 1


def test_neighbours_are_those_with_the_same_users() -> None:
    from apps.recsys.comparison.rules import cosines
    from apps.recsys.sequences import Walk, Walks
    from tests.apps.recsys.test_sequences import NOTHING

    items = torch.tensor([[0, 2, 3], [0, 2, 4], [0, 3, 2]])  # users 0, 1 and 0
    walks = Walks(Walk(NOTHING, items, items.float(), items[:, :0]), np.array([0, 1, 0]), np.array([2, 2, 2]))
    near = cosines(walks, 5)
    assert near[2, 3] == pytest.approx(1 / 2**0.5)
    assert near[2, 4] == pytest.approx(1 / 2**0.5)
    assert near[3, 4] == 0
    assert not near.diagonal().any()


@pytest.mark.parametrize(
    ("routed", "frozen"),
    [
        ("onerec", (".router.",)),
        ("aw_moe", ("of_behaviour", "of_state", "of_both", "gate_unit", "activation_unit")),
    ],
)
def test_what_weighs_experts_stays_as_it_was_drawn_in_the_random_control(
    routed: str, frozen: tuple[str, ...]
) -> None:
    network = recommenders({**SEQUENCES, "routed": routed})["random_router"]()
    data = Data(rows=600, protocol="next_item", history=12)
    data.setup()
    network.build(data.encoder.sizes, len(data.catalogue), data.history)
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in network.named_parameters() if any(part in name for part in frozen)}
    assert still


def test_the_dense_twin_of_aw_moe_is_as_large_as_its_experts() -> None:
    data = Data(rows=600, protocol="next_item", history=12)
    data.setup()
    sizes = {}
    for name, make in recommenders({**SEQUENCES, "routed": "aw_moe"}).items():
        network = make()
        network.build(data.encoder.sizes, len(data.catalogue), data.history)
        sizes[name] = sum(p.numel() for p in network.parameters())
    assert abs(sizes["dense_total"] - sizes["routed"]) < 0.01 * sizes["routed"]
