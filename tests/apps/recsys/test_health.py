"""The diseases of experts, told where they are and only there."""

from functools import partial

import numpy as np
import pytest
import torch

from apps.recsys.bodies import PLE, HoME, MMoE, SharedBottom
from apps.recsys.data import Data
from apps.recsys.health import effective, health, observed, own_shares, summary
from apps.recsys.impressions import Batch
from apps.recsys.model import Ranker


def made(body: object, rows: int = 200) -> tuple[Ranker, Batch]:
    torch.manual_seed(0)
    data = Data(rows=500)
    data.setup()
    network = Ranker(body, dim=4)  # type: ignore[arg-type]
    network.build(data.encoder.sizes, len(data.catalogue), list(data.schema.groups.values()))
    return network.eval(), data.part("train").__getitems__(range(rows))


def test_parts_are_counted_by_their_entropy() -> None:
    assert effective(np.array([1.0, 1.0, 0.0])) == pytest.approx(2.0)
    assert effective(np.array([1.0, 0.0])) == pytest.approx(1.0)


def test_a_dead_expert_is_told_and_no_other() -> None:
    network, batch = made(partial(MMoE, experts=3))
    assert all(row["dead"] < 1 for row in health(network, batch))
    block = network.body.layers[0].experts.block
    with torch.no_grad():
        block.down[1] = -block.down[1].abs()
    rows = health(network, batch)
    assert [row["dead"] == 1.0 for row in rows] == [False, True, False]
    assert rows[1]["size"] == 0.0
    assert summary(rows, network, batch)["collapse"] == pytest.approx(np.mean([row["dead"] for row in rows]))


def test_an_output_that_is_often_zero_is_not_dead() -> None:
    network, batch = made(partial(MMoE, experts=3))
    (_, said), *_ = observed(network, batch)
    zeros = torch.cat(said) == 0
    assert zeros.float().mean() > 0.3  # half of all ReLUs are silent at birth
    still = torch.stack([own.std(0) for own in said]) < 0.01 * torch.cat(said).square().mean().sqrt()
    dead = [row["dead"] for row in health(network, batch)]
    assert dead == pytest.approx(still.float().mean(1).tolist())
    assert max(dead) < 0.2


def test_experts_of_unlike_size_are_told() -> None:
    network, batch = made(partial(MMoE, experts=3))
    rows = health(network, batch)
    with torch.no_grad():
        network.body.layers[0].experts.block.down[2] *= 100
    found = health(network, batch)
    assert found[2]["size"] == pytest.approx(100 * rows[2]["size"], rel=1e-4)
    assert found[0]["size"] == pytest.approx(rows[0]["size"])
    assert summary(found, network, batch)["sizes"] > 20 > summary(rows, network, batch)["sizes"]


def test_a_common_expert_that_serves_one_task_has_degraded() -> None:
    network, batch = made(
        partial(PLE, own=1, shared=1, depth=1), rows=20
    )  # fewer than features: any sign can be had
    before = {row["expert"]: row["serves"] for row in health(network, batch)}
    assert before["shared 0"] > 0.8  # as they are drawn, all gates weigh it about equally
    gates = network.body.layers[0].router.gates
    with torch.no_grad():
        for task, gate in enumerate(gates):  # each sees its own expert and the common one
            x = network.embedder(batch.rows, batch.history)
            direction = x.T @ torch.linalg.solve(x @ x.T, torch.ones(len(x)))
            gate.gate.weight.zero_()
            gate.gate.weight[0] = (-20 if task == 0 else 20) * direction
    rows = {row["expert"]: row for row in health(network, batch)}
    assert rows["shared 0"]["serves"] == pytest.approx(1 / 4, abs=0.05)
    assert summary(list(rows.values()), network, batch)["degradation"] == pytest.approx(3 / 4, abs=0.05)


def test_an_expert_of_one_task_is_its_own_whoever_sees_it() -> None:
    network, batch = made(partial(PLE, own=1, shared=1, depth=2))
    rows = {(row["level"], row["expert"]): row for row in health(network, batch)}
    assert rows[1, "watch_0 0"]["own"]
    assert rows[1, "watch_0 0"]["seen"] == 2  # the shared gate of the lower level sees it, too
    assert not rows[1, "shared 0"]["own"]
    network, batch = made(HoME)
    own = {row["expert"] for row in health(network, batch) if row["own"]}
    assert own == {f"{task} 0" for task in network.tasks}


def test_what_a_task_hears_of_its_own_experts_is_told_by_hand() -> None:
    network, batch = made(partial(PLE, own=1, shared=1, depth=1), rows=30)
    with torch.no_grad():
        for gate in network.body.layers[0].router.gates:
            gate.gate.weight.zero_()  # both experts that a gate sees have half of the weight
    (_, said), *_ = observed(network, batch)
    length = [float(own.norm(dim=1).sum()) for own in said]
    shares = own_shares(network, batch)
    for place, task in enumerate(network.tasks):
        part = length[place] / (length[place] + length[-1])
        assert shares[task] == pytest.approx(part / 0.5, rel=1e-4)  # one of two is its own


def test_weights_on_own_experts_are_told_by_task() -> None:
    network, batch = made(HoME)
    shares = own_shares(network, batch)
    assert set(shares) == {"watch_0", "watch_1", "interact_0", "interact_1"}
    assert all(0.5 < share < 5 for share in shares.values())
    network.body.layers[1].router.self_gates = None
    lower = own_shares(network, batch)
    assert all(lower[task] < share for task, share in shares.items())
    ill = summary(health(network, batch), network, batch)
    assert ill["underfitting"] == pytest.approx(max(0.0, 1 - min(lower.values())))


def test_bodies_without_experts_have_none_to_be_ill() -> None:
    network, batch = made(SharedBottom)
    assert health(network, batch) == []
    assert own_shares(network, batch) == {}


def test_mmoe_has_no_own_experts() -> None:
    network, batch = made(partial(MMoE, experts=3))
    assert own_shares(network, batch) == {}
    assert "underfitting" not in summary(health(network, batch), network, batch)
