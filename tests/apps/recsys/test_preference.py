"""Alignment by preferences: pairs, their loss, and what it does to what is written."""

import math

import pytest
import torch

from apps.recsys.data import Data
from apps.recsys.preference import AlignedOneRec, dpo


@pytest.fixture(scope="module")
def data() -> Data:
    found = Data(rows=1200, protocol="next_item", history=6)
    found.setup()
    return found


def built(data: Data, **options: object) -> AlignedOneRec:
    torch.manual_seed(0)
    sizes = {"dim": 8, "depth": 1, "words": (6, 6), "session": 1, "places": 3, "dropout": 0.0}
    network = AlignedOneRec(**{**sizes, **options})  # type: ignore[arg-type]
    network.build(data.encoder.sizes, len(data.catalogue), data.history)
    assert data.contents is not None
    network.study(data.walks("train").walk, data.contents)
    return network


def test_dpo_by_hand() -> None:
    found = dpo(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]), beta=0.5)
    assert found == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)


def test_the_pair_is_what_the_reward_ranks_first_and_last(data: Data) -> None:
    network, walk = built(data, candidates=12), data.walks("train").__getitems__(range(20))
    with torch.no_grad():
        network.reward.items.weight.zero_()
        network.reward.bias.weight[:, 0] = torch.arange(len(data.catalogue)) / 1000
    best, worst = network.pair(walk)
    sessions, _ = network.eval().write(walk, 1, 12)
    assert torch.equal(best[:, 0], sessions[..., 0].max(1).values)
    assert torch.equal(worst[:, 0], sessions[..., 0].min(1).values)


def test_before_alignment_it_is_next_token_prediction(data: Data) -> None:
    network, walk = built(data), data.walks("train").__getitems__(range(16))
    network.loss(walk)
    assert not bool(network.aligning)
    network.progress = 0.9
    network.loss(walk)
    assert bool(network.aligning)
    own = network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in network.reference.state_dict().items())


def test_the_reference_stays_where_alignment_began(data: Data) -> None:
    network, walk = built(data), data.walks("train").__getitems__(range(16))
    network.progress = 0.9
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
    network.loss(walk)
    before = {name: value.clone() for name, value in network.reference.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        network.loss(walk).backward()
        optimizer.step()
    after = network.reference.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(network.spoken.weight, network.reference.spoken.weight)


def test_preferences_raise_what_is_liked_over_what_is_not(data: Data) -> None:
    network, walk = built(data, beta=1.0), data.walks("train").__getitems__(range(32))
    network.progress = 1.0
    network.loss(walk)
    best, worst = network.pair(walk)
    sessions = torch.stack([best, worst], 1)
    start = network.chances(walk, sessions).detach()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    for _ in range(30):
        gain = network.chances(walk, sessions) - start
        optimizer.zero_grad()
        dpo(gain[:, 0], gain[:, 1], 1.0).backward()
        optimizer.step()
    gain = network.chances(walk, sessions) - start
    assert (gain[:, 0] > gain[:, 1]).float().mean() > 0.9


def test_the_reward_learns_what_is_liked_without_teaching_the_writer(data: Data) -> None:
    network, walk = built(data), data.walks("train").__getitems__(range(64))
    liked = (walk.items % 2).float()  # items of odd numbers
    walk = walk._replace(liked=liked)
    optimizer = torch.optim.Adam(network.reward.parameters(), 0.05)
    first = float(network.reward_loss(walk))
    for _ in range(60):
        optimizer.zero_grad()
        loss = network.reward_loss(walk)
        loss.backward()
        optimizer.step()
    assert float(loss) < first / 2
    assert network.spoken.weight.grad is None
