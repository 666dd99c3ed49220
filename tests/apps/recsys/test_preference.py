"""Alignment by preferences: pairs, their loss, and what it does to what is written."""

import math

import pytest
import torch
from collegium import record
from collegium.balance import BiasBalance
from collegium.inspection import parameters

from apps.recsys.data import Data
from apps.recsys.preference import AlignedOneRec, dpo
from apps.recsys.sequences import FIRST, Walk


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
    best, worst, there = network.pair(walk)
    sessions, _ = network.eval().write(walk, 1, 12)
    assert there.tolist() == list(range(20))
    assert torch.equal(best[:, 0], sessions[..., 0].max(1).values)
    assert torch.equal(worst[:, 0], sessions[..., 0].min(1).values)


def test_a_pair_is_of_sessions_that_can_be_written(data: Data) -> None:
    """The less is left to a user, the fewer sessions a beam ends with; of one alone there is no pair."""
    network, walk = built(data, candidates=12), data.walks("train").__getitems__(range(6))
    items = torch.arange(FIRST, len(data.catalogue)).expand(6, -1).clone()
    left = [0, 1, 2, 3, 7, 30]
    for user, many in enumerate(left):
        items[user, :many] = 0
    best, worst, there = network.pair(walk._replace(seen=items, items=torch.zeros_like(walk.items)))
    assert there.tolist() == [2, 3, 4, 5]
    for row, user in enumerate(there.tolist()):
        can = set(range(FIRST, FIRST + left[user]))
        assert {int(best[row]), int(worst[row])} <= can
        assert best[row] != worst[row]


def test_before_alignment_it_is_next_token_prediction(data: Data) -> None:
    network, walk = built(data), data.walks("train").__getitems__(range(16))
    network.loss(walk)
    assert not bool(network.aligning)
    network.progress = 0.9
    network.loss(walk)
    assert bool(network.aligning)
    own = network.state_dict()
    before = network.reference.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in before.items())
    assert not network.reference.training


def test_the_reference_stays_and_only_training_moves_biases(data: Data) -> None:
    """With dropout and balancing by biases: the reference neither drops nor moves, and what is written for
    pairs is nobody's load."""
    network = built(data, dropout=0.5, align_from=0.0)
    walk = data.walks("train").__getitems__(range(16))
    balancing = BiasBalance(network, rate=0.1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    network.progress = 0.9
    network.loss(walk)
    sessions = torch.stack(network.pair(walk)[:2], 1)
    first = network.reference.chances(walk, sessions)
    assert torch.equal(first, network.reference.chances(walk, sessions))
    for _ in range(3):
        optimizer.zero_grad()
        with record(network) as routings:
            network.loss(walk).backward()
        assert all(len(calls) == 2 for calls in routings.values())  # words, and chances of pairs
        balancing.observe(routings)
        balancing.step()
        optimizer.step()
    assert torch.equal(first, network.reference.chances(walk, sessions))
    assert not torch.equal(network.writer.chances(walk, sessions), first)


def test_weights_are_counted_once(data: Data) -> None:
    network = built(data)
    own, _ = parameters(network.writer)
    active, _ = parameters(network)
    assert active - own == sum(p.numel() for p in network.reward.parameters())


def test_a_restored_network_has_its_reference(data: Data) -> None:
    network, walk = built(data), data.walks("train").__getitems__(range(16))
    network.progress = 0.9
    network.loss(walk)
    with torch.no_grad():
        network.spoken.weight += 1
    again = built(data)
    again.load_state_dict(network.state_dict())
    assert again.ready
    sessions = torch.stack(network.pair(walk)[:2], 1)
    assert torch.equal(again.reference.chances(walk, sessions), network.reference.chances(walk, sessions))
    assert torch.equal(again.writer.chances(walk, sessions), network.writer.chances(walk, sessions))


def test_preferences_raise_what_is_liked_over_what_is_not(data: Data) -> None:
    network, walk = built(data, beta=1.0, dropout=0.5), data.walks("train").__getitems__(range(32))
    network.progress = 1.0
    network.loss(walk)
    first = network.preference_loss(walk)
    assert float(first.detach()) == pytest.approx(math.log(2))  # no policy has moved, and nothing is dropped
    assert network.training
    best, worst, _ = network.pair(walk)
    sessions = torch.stack([best, worst], 1)
    network.zero_grad()
    first.backward()
    before = dict(network.named_parameters())
    rise = torch.func.functional_call  # a step against the gradient raises the best over the worst
    with torch.no_grad():
        network.eval()
        moved = {n: p - 1e-2 * (p.grad if p.grad is not None else 0) for n, p in before.items()}
        gain = rise(Chances(network), {f"network.{n}": p for n, p in moved.items()}, (walk, sessions))
        gain = gain - network.chances(walk, sessions)
    assert gain[:, 0].mean() > gain[:, 1].mean()
    start = network.chances(walk, sessions).detach()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    for _ in range(30):
        gain = network.chances(walk, sessions) - start
        optimizer.zero_grad()
        dpo(gain[:, 0], gain[:, 1], 1.0).backward()
        optimizer.step()
    gain = network.chances(walk, sessions) - start
    assert (gain[:, 0] > gain[:, 1]).float().mean() > 0.9


class Chances(torch.nn.Module):
    """A network as a module whose forward is what it gives sessions."""

    def __init__(self, network: AlignedOneRec) -> None:
        super().__init__()
        self.network = network

    def forward(self, walk: Walk, sessions: torch.Tensor) -> torch.Tensor:
        return self.network.chances(walk, sessions)


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
