"""Experts shared out over two and four gloo processes equal one process that holds them all."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import multiprocessing

from tests.core.parallel_workers import E, Net, batches, cases, inputs, loss_of, train, worker

Result = dict[str, Any]
EXPERTS = [f"first.experts.{name}" for name in ("block.down", "block.up", "scale", "shift")]
GROUPED = ["second.experts.blocks.0.down", "second.experts.blocks.0.up"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a checkpoint of a plain model, as one file and as a folder."""
    folder = tmp_path_factory.mktemp("parallel")
    state = Net(seed=9).state_dict()
    torch.save(state, folder / "whole.pt")
    dcp.save({"net": state}, checkpoint_id=folder / "whole", no_dist=True)
    return folder


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, folder: Path) -> list[Result]:
    world: int = request.param
    own = folder / str(world)
    own.mkdir()
    multiprocessing.spawn(worker, args=(world, own), nprocs=world)
    return [torch.load(own / f"rank{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    net = Net()
    train(net, batches(0, 1))
    return net.state_dict()


@pytest.mark.parametrize("name", list(cases(2)))
def test_values_and_gradients_are_those_of_one_process(name: str, ranks: list[Result]) -> None:
    case = cases(len(ranks))[name]
    block = case.block.double()
    losses = []
    for rank, found in enumerate(ranks):
        x, counts, side = inputs(case, rank)
        y = block(x, counts, **side)
        losses.append(loss_of(y, x))
        (grad,) = torch.autograd.grad(losses[-1], x, retain_graph=True)
        torch.testing.assert_close(found["blocks"][name]["y"], y.detach())
        torch.testing.assert_close(found["blocks"][name]["x"], grad)
    torch.stack(losses).mean().backward()
    for key, parameter in block.named_parameters():
        for found in ranks:
            torch.testing.assert_close(found["blocks"][name][key], parameter.grad, msg=f"{key} differs")


def test_the_trial_was_uneven(ranks: list[Result]) -> None:
    table = cases(len(ranks))["a rank without rows"].counts
    assert isinstance(table, torch.Tensor)
    assert table.sum(1)[1] == 0
    assert table.sum(0)[2] == 0
    assert len(table.sum(0).unique()) > 2


def test_trained_weights_equal_those_of_one_process(
    ranks: list[Result], alone: dict[str, torch.Tensor]
) -> None:
    fresh = Net().state_dict()
    state = ranks[0]["state"]
    assert list(state) == list(alone)
    for name, wanted in alone.items():
        assert not torch.equal(wanted, fresh[name]), f"{name} was not trained"
        torch.testing.assert_close(state[name], wanted, msg=f"{name} differs")


def test_each_rank_holds_its_share_of_the_experts_alone(ranks: list[Result]) -> None:
    for rank in ranks:
        assert rank["own"] == EXPERTS + GROUPED
        assert rank["held"] == dict.fromkeys(rank["own"], E // len(ranks))


def test_what_is_shared_out_stays_as_it_is(ranks: list[Result]) -> None:
    assert all(rank["again"] for rank in ranks)


def test_a_sharded_checkpoint_loads_whole(ranks: list[Result], folder: Path) -> None:
    net = Net(seed=5)
    state = net.state_dict()
    dcp.load({"net": state}, checkpoint_id=folder / str(len(ranks)) / "sharded", no_dist=True)
    torch.testing.assert_close(state, ranks[0]["state"], rtol=0, atol=0)
    net.load_state_dict(ranks[0]["state"])


def test_a_whole_checkpoint_loads_sharded(ranks: list[Result]) -> None:
    net = Net(seed=9).eval()
    for way in ("from_folder", "from_file"):
        torch.testing.assert_close(ranks[0][way], dict(net.state_dict()), rtol=0, atol=0)
    for rank in ranks:
        torch.testing.assert_close(rank["y"], net(batches(0, 1)[0]).detach())


def test_what_cannot_be_shared_out_is_refused_in_a_sentence(ranks: list[Result]) -> None:
    for rank in ranks:
        uneven, listed, half = rank["refusals"]
        assert uneven.startswith(f"the 9 experts of MLP cannot be shared out evenly over {len(ranks)} ranks")
        assert listed.startswith("ExpertList cannot be shared out over ranks, as experts.0.weight is not")
        assert half.startswith("Half cannot be shared out over ranks, as scale is not stacked over its 8")
