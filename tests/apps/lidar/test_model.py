"""The network, its experts' windows, and its training in stages."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from collegium import record, routers
from collegium.evidence import Evidence

from apps.common.errors import UserError
from apps.lidar.data import Batch, Data
from apps.lidar.experts import opened, peak
from apps.lidar.model import GRADES, EvidenceMoE, Reading, grade
from apps.lidar.networks import Convolutional, Recurrent, Single, SoftmaxMixture
from apps.lidar.readings import Scale, reading
from apps.lidar.scenes import Ranges
from apps.lidar.task import Task

BINS = 64


def small(**options: object) -> EvidenceMoE:
    torch.manual_seed(0)
    return EvidenceMoE(BINS, hidden=16, depth=1, embedding=4, critic=8, **options)


def batch(number: int = 12) -> Batch:
    torch.manual_seed(1)
    counts = torch.poisson(torch.rand(number, BINS) * 9)
    return Batch(reading(counts, torch.rand(number, BINS), torch.rand(number, 2)), torch.rand(number, 2))


def test_windows_open_around_the_peak() -> None:
    signal = torch.zeros(2, BINS)
    signal[0, 20:24], signal[1, 40:44] = 5.0, 5.0
    signal[:, 5] = 7.0  # a single loud bin is no peak
    assert peak(signal).tolist() == pytest.approx([21, 41], abs=3)
    early, late = opened("early", signal), opened("late", signal)
    assert (early[:, :15] > 0.95).all()
    assert (late[0, :10] < 0.05).all()
    assert early[1, 60] < 0.01 < 0.99 < late[1, 60]
    assert (opened("global", signal) == 1).all()


def test_grades_part_errors() -> None:
    errors = torch.tensor([0.5, -0.15, 0.07, -0.03, 0.02, 0.01])
    assert grade(errors).tolist() == list(range(len(GRADES) + 1))


def test_an_estimate_sums_its_experts_up() -> None:
    found = small()(batch().reading)
    assert found.value.shape == (12, 2)
    torch.testing.assert_close(found.weight.sum(1), torch.ones(12, 2))
    torch.testing.assert_close(found.value, (found.weight * (found.said + found.correction)).sum(1))
    assert ((found.quality > 0) & (found.quality < 1)).all()


def test_of_sure_grades_the_expected_error_is_theirs() -> None:
    network = small()
    strength = torch.full((1, 2, len(GRADES) + 1), 1e-3)
    strength[0, 0, -1], strength[0, 1, 1] = 1e4, 1e4
    found = network(batch(1).reading)._replace(judged=Evidence(strength))
    assert 0 < found.error[0, 0] < GRADES[-1]
    assert GRADES[1] < found.error[0, 1] < GRADES[0]
    assert found.quality[0].tolist() == pytest.approx([1.0, 0.2], abs=1e-3)


def test_errors_of_a_grade_are_followed() -> None:
    network = small()
    before = network.squares.clone()
    for _ in range(400):
        network.note(torch.tensor([[0.15, 0.03], [0.11, -0.03]]))
    assert network.squares[0, 1] == pytest.approx((0.15**2 + 0.11**2) / 2, rel=1e-2)
    assert network.squares[1, 3] == pytest.approx(0.03**2, rel=1e-2)
    seen = torch.zeros_like(before, dtype=torch.bool)
    seen[0, 1] = seen[1, 3] = True
    torch.testing.assert_close(network.squares[~seen], before[~seen])


def test_an_expert_that_is_not_asked_has_no_say() -> None:
    network = small(router=partial(routers.TopK, k=1))
    with record(network) as routings:
        found = network(batch().reading)
    (routing,) = next(iter(routings.values()))
    assert (found.weight[~routing.selected()] == 0).all()
    assert torch.isfinite(found.value).all()
    found.value.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_router_that_looks_at_other_histograms_is_refused() -> None:
    with pytest.raises(ValueError, match="ExpertChoice"):
        small(router=routers.ExpertChoice)


def staged(step: int) -> tuple[Task, set[str]]:
    """A task after so many of 100 steps, and the parts of the network that a step there teaches."""
    task = Task(small(), stages=(0.4, 0.5, 0.6), balance={})
    task._trainer = SimpleNamespace(estimated_stepping_batches=100, global_step=step, training=True)
    task._loss(batch()).backward()
    parts = {
        name.split(".")[0]
        for name, p in task.network.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    return task, parts


def test_stages_teach_their_own_parts_alone() -> None:
    assert staged(0)[1] == {"encoder", "experts"}
    assert staged(45)[1] == {"critics", "grader"}
    assert staged(55)[1] == {"critics", "grader", "mixture"}
    assert staged(80)[1] == {"encoder", "experts", "critics", "grader", "mixture"}
    assert [staged(step)[0].stage for step in (39, 40, 50, 99)] == ["experts", "critics", "mixture", "joint"]


def test_all_parts_learn_from_the_beginning_by_default() -> None:
    task = Task(small(), balance={})
    task._trainer = SimpleNamespace(estimated_stepping_batches=100, global_step=0, training=True)
    assert task.stage == "joint"
    task._loss(batch()).backward()
    taught = {name.split(".")[0] for name, p in task.network.named_parameters() if p.grad.abs().sum() > 0}
    assert taught == {"encoder", "experts", "critics", "grader", "mixture"}


def test_critics_do_not_steer_the_experts() -> None:
    """In the joint stage the critics' own loss stops at what experts said."""
    task, target = Task(small(), balance={}), batch().target
    task._trainer = SimpleNamespace(estimated_stepping_batches=100, global_step=90, training=True)
    heard = task.network.listen(batch().reading).detached()
    task._critics(task.network.judge(heard), target).backward()
    assert all(p.grad is None for p in task.network.experts.parameters())


def test_data_of_other_bins_is_refused() -> None:
    task = Task(small())
    task._trainer = SimpleNamespace(datamodule=Data(bins=32, bin_width=0.1))
    with pytest.raises(UserError, match=r"reads 64 bins and data\.bins is 32"):
        task.setup("fit")
    with pytest.raises(ValueError, match="must rise"):
        Task(small(), stages=(0.5, 0.4, 0.6))


@pytest.mark.parametrize(
    "network",
    [
        Single(BINS, 16),
        SoftmaxMixture(BINS, hidden=16),
        Convolutional(BINS, (4, 8)),
        Recurrent(BINS, hidden=8),
    ],
)
def test_other_networks_read_the_same(network: torch.nn.Module) -> None:
    data = batch()
    found = network(data.reading)
    assert found.shape == (12, 2)
    twice = Reading(*(torch.cat([part, part]) for part in data.reading))
    torch.testing.assert_close(network(twice)[12:], found, rtol=1e-4, atol=1e-5)


def test_the_dense_twin_is_as_large_as_it_may_be() -> None:
    size = sum(p.numel() for p in small().parameters())
    twin = Single.of_size(size, BINS, 1)
    assert 0.8 * size < sum(p.numel() for p in twin.parameters()) <= size


def test_readings_keep_shares_and_level() -> None:
    counts = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    made = reading(counts, torch.rand(2, 2), None)
    torch.testing.assert_close(made.signal, torch.tensor([[0.5, 1.5], [0.0, 0.0]]).log1p())
    assert torch.isfinite(made.known).all()
    assert (made.known[:, 1:] == 0).all()


def test_a_scale_goes_there_and_back() -> None:
    scale = Scale.of(Ranges())
    depth, lifetime = torch.tensor([1.0, 4.0]), torch.tensor([0.2, 1.5])
    back = scale.physical(scale.target(depth, lifetime))
    torch.testing.assert_close(back["depth"], depth)
    torch.testing.assert_close(back["lifetime"], lifetime)
