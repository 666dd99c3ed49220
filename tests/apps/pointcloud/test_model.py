"""The point transformer: what its scores hang on, and what they do not."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from collegium import inspection, record, routers
from collegium.layer import moe_layers

from apps.common.controls import KINDS, Control, DenseFFN, MixtureFFN
from apps.pointcloud.model import PointMoE, Points
from apps.pointcloud.task import Task
from tests.apps.pointcloud.test_levels import clouds

F, C, DOMAINS = 5, 4, 2


def made(**options: object) -> PointMoE:
    torch.manual_seed(0)
    network = PointMoE(**{"dims": (16, 32), "patch": 8, **options})  # type: ignore[arg-type]
    network.build(F, C, DOMAINS)
    return network.eval()


def points(seed: int = 0, number: int = 3) -> Points:
    cell, cloud = clouds(seed, number)
    classes = torch.tensor([[True, True, True, False], [True, False, True, True]])
    domain = torch.arange(number) % DOMAINS
    torch.manual_seed(seed)
    return Points(torch.randn(len(cell), F), cell, cloud, domain, classes[domain])


def only(all_of: Points, cloud: int) -> Points:
    own = all_of.cloud == cloud
    one = torch.zeros(int(own.sum()), dtype=torch.int64)
    return Points(
        all_of.features[own], all_of.cell[own], one, all_of.domain[[cloud]], all_of.classes[[cloud]]
    )


def test_scores_are_of_the_classes_of_each_cloud() -> None:
    some = points()
    scores = made()(some)
    assert torch.equal(scores.isneginf(), ~some.classes[some.cloud])
    assert scores[~scores.isneginf()].isfinite().all()


def test_a_cloud_knows_nothing_of_the_others_in_its_batch() -> None:
    network, some = made(), points()
    scores = network(some)
    for cloud in range(3):
        torch.testing.assert_close(network(only(some, cloud)), scores[some.cloud == cloud])


def test_cells_in_another_order_and_place_have_the_same_scores() -> None:
    network, some = made(), only(points(), 1)
    scores = network(some)
    order = torch.randperm(len(some.cell))
    turned = some._replace(features=some.features[order], cell=some.cell[order])
    torch.testing.assert_close(network(turned), scores[order])


def test_what_is_near_matters_and_what_is_told_of_the_domain_does_not() -> None:
    network, some = made(), only(points(), 0)
    changed = some.features.clone()
    changed[0] += 1
    moved = (network(some._replace(features=changed)) - network(some)).abs().nan_to_num(0).sum(1) > 1e-6
    assert moved[0]
    assert moved.sum() > 3
    assert torch.equal(network(some._replace(domain=some.domain + 1)), network(some))


def test_norms_of_domains_are_told_them() -> None:
    network, some = made(told_domain=True), only(points(), 0)
    torch.testing.assert_close(network(some._replace(domain=some.domain + 1)), network(some))  # as drawn
    with torch.no_grad():
        network.norm.norms[1].weight *= 2
    assert not torch.equal(network(some._replace(domain=some.domain + 1)), network(some))


def test_norms_of_domains_do_not_decay() -> None:
    task = Task(made(told_domain=True))
    task._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    [decayed, kept] = task.configure_optimizers()["optimizer"].param_groups  # type: ignore[index, call-overload]
    norms = {id(p) for m in task.modules() if isinstance(m, torch.nn.LayerNorm) for p in m.parameters()}
    assert decayed["weight_decay"] > 0 == kept["weight_decay"]
    assert norms <= {id(p) for p in kept["params"]}


def test_a_step_teaches_every_parameter() -> None:
    network, some = made(project=partial(MixtureFFN, num_experts=2)).train(), points(1)
    network(some)[some.classes[some.cloud]].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_mixture_stands_behind_attention_and_in_the_feed_forward_block_by_configuration() -> None:
    names = list(moe_layers(made()))
    assert names == [f"{part}.blocks.0.attention.project" for part in ("down.0", "down.1", "up.0")]
    moved = made(project=partial(DenseFFN, hidden=8), feed=MixtureFFN)
    assert list(moe_layers(moved)) == [name.replace("attention.project", "feed") for name in names]


def test_two_experts_a_cell_whose_weights_sum_to_one() -> None:
    mixture = partial(MixtureFFN, num_experts=4, router=partial(routers.TopK, k=2, renormalize=True))
    with record(network := made(project=mixture)) as routings:
        network(points())
    for routing, *_ in routings.values():
        assert (routing.experts_per_token() == 2).all()
        weight = torch.zeros(routing.num_tokens).index_add(0, routing.token, routing.weight)
        torch.testing.assert_close(weight, torch.ones_like(weight))


def test_a_router_that_asks_for_the_domain_is_refused() -> None:
    by_domain = partial(MixtureFFN, router=partial(routers.Lookup, by="domain"))
    with pytest.raises(ValueError, match=r"context\.domain, which this model does not give"):
        made(project=by_domain)


@pytest.mark.parametrize("kind", KINDS)
def test_controls_are_of_one_size(kind: str) -> None:
    whole = made(project=Control("routed"))
    other = made(project=Control(kind))  # type: ignore[arg-type]
    active, total = inspection.parameters(whole)
    wanted = active if kind == "dense_active" else total
    assert sum(p.numel() for p in other.parameters()) == pytest.approx(wanted, rel=0.01)


def test_widths_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="must be multiples of 16"):
        PointMoE(dims=(20, 32))
