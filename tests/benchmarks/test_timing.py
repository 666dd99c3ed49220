"""Rounds, repeats and the least of all, on a clock that the test winds."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.timing import Contestant, least, race


class Costly(nn.Module):
    """Moves the clock at each call: by ``costs`` in turn, then by the last of them."""

    def __init__(self, clock: list[float], *costs: float) -> None:
        super().__init__()
        self.clock, self.costs, self.calls = clock, costs, 0
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += self.costs[min(self.calls, len(self.costs) - 1)]
        self.calls += 1
        return x * self.weight


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(timing.time, "process_time", lambda: now[0])
    return now


def test_the_least_of_all_rounds_counts_and_the_slow_stop_early(clock: list[float]) -> None:
    layers = {"dense": Costly(clock, 4.0, 2.0, 3.0), "peer": Costly(clock, 5.0), "slow": Costly(clock, 90.0)}
    ticks: list[int] = []
    best = race(
        {name: Contestant(layer, (2, 3)) for name, layer in layers.items()}, 5, lambda: ticks.append(1)
    )
    assert best["forward"] == {"dense": 3.0, "peer": 5.0, "slow": 90.0}
    assert best["forward_backward"] == {"dense": 2.0, "peer": 5.0, "slow": 90.0}
    assert (layers["peer"].calls, layers["slow"].calls, len(ticks)) == (10, 6, 5)


def test_small_layers_are_run_several_times_in_a_row(clock: list[float]) -> None:
    layer = Costly(clock, timing.SAMPLE / 4)
    best = race({"dense": Contestant(layer, (2, 3))}, 2)
    assert best["forward"]["dense"] == pytest.approx(timing.SAMPLE / 4)
    assert layer.calls == 2 * (1 + 4)


def test_backward_reaches_input_and_weights() -> None:
    contestant = Contestant(nn.Linear(3, 3), (2, 3))
    contestant.forward_backward()
    assert [tuple(tensor.shape) for tensor in contestant.wanted] == [(2, 3), (3, 3), (3,)]
    assert all(tensor.grad is None for tensor in contestant.wanted)


def test_every_call_runs_once_a_round() -> None:
    ran: list[str] = []
    stubs = {name: {metric: lambda n=name + metric: ran.append(n) for metric in "xy"} for name in "abc"}
    found = least(stubs, 3)
    assert sorted(ran) == sorted(name + metric for name in "abc" for metric in "xy" for _ in range(3))
    assert all(0 <= found[name][metric] < 1 for name in "abc" for metric in "xy")
