"""Specialisation: its interval covers, its chance is that of random labels, groups are drawn whole."""

import pytest
import torch
from collegium import Routing, inspection
from collegium.inspection.bootstrap import _resamples, relabel


def sent_to(expert: torch.Tensor, num_experts: int, mask: torch.Tensor | None = None) -> Routing:
    return Routing.from_topk(expert[:, None], torch.ones(len(expert), 1), num_experts, mask=mask)


def in_groups(groups: int, size: int) -> tuple[Routing, torch.Tensor, torch.Tensor]:
    """Each group has a label and an expert of its own, that have nothing to do with each other."""
    group = torch.arange(groups).repeat_interleave(size)
    return sent_to(torch.randint(4, (groups,))[group], 4), torch.randint(3, (groups,))[group], group


def test_the_value_is_the_mutual_information() -> None:
    torch.manual_seed(0)
    routing = Routing.from_topk(torch.rand(90, 5).topk(2).indices, torch.full((90, 2), 0.5), 5)
    label = torch.arange(90) % 3
    found = inspection.specialisation(routing, label)
    assert found.value == pytest.approx(inspection.mutual_information(routing, label))
    assert found.low < found.value < found.high


def test_a_label_that_is_told_has_the_interval_1_to_1_and_a_small_chance() -> None:
    label = torch.arange(400) % 4
    found = inspection.specialisation(sent_to(label, 4), label)
    assert found[:3] == pytest.approx((1, 1, 1))
    assert found.chance < 0.05


def test_chance_is_the_mean_over_random_labels() -> None:
    torch.manual_seed(1)
    routing = sent_to(torch.randint(6, (120,)), 6)
    label = torch.randint(5, (120,))
    wanted = [inspection.mutual_information(routing, label[torch.randperm(120)]) for _ in range(400)]
    found = inspection.specialisation(routing, label)
    assert found.chance == pytest.approx(sum(wanted) / 400, rel=0.1)


def test_the_interval_is_that_of_resampled_tokens() -> None:
    """Against a plain bootstrap of routings, moved so that its mean is the value."""
    torch.manual_seed(2)
    expert, label = torch.randint(3, (80,)), torch.randint(2, (80,))
    expert[label == 0] = expert[label == 0].clamp(max=1)
    drawn = []
    for _ in range(2000):
        rows = torch.randint(80, (80,))
        drawn.append(inspection.mutual_information(sent_to(expert[rows], 3), label[rows]))
    found = inspection.specialisation(sent_to(expert, 3), label, draws=2000)
    values = torch.tensor(drawn)
    ends = values.quantile(torch.tensor([0.025, 0.975])) + found.value - values.mean()
    assert (found.low, found.high) == pytest.approx(ends.tolist(), abs=0.015)


def test_the_interval_covers_the_mean_over_samples() -> None:
    torch.manual_seed(3)
    found = []
    for seed in range(60):
        label = torch.randint(4, (200,))
        expert = torch.where(torch.rand(200) < 0.4, label, torch.randint(8, (200,)))
        found.append(inspection.specialisation(sent_to(expert, 8), label, draws=200, seed=seed))
    mean = sum(one.value for one in found) / 60
    assert sum(one.low <= mean <= one.high for one in found) >= 51
    assert sum(one.low > one.chance for one in found) == 60


def test_without_specialisation_the_interval_holds_chance() -> None:
    torch.manual_seed(4)
    found = [inspection.specialisation(*in_groups(60, 10), draws=200) for _ in range(30)]
    assert sum(one.low > one.chance for one in found) <= 3


def test_groups_that_are_left_out_feign_specialisation() -> None:
    torch.manual_seed(5)
    routing, label, group = in_groups(20, 30)
    alone, whole = inspection.specialisation(routing, label), inspection.specialisation(routing, label, group)
    assert alone.value == whole.value
    assert alone.low > alone.chance
    assert whole.low < whole.chance
    assert whole.high - whole.low > 2 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_numbers_and_the_global_generator_is_left_alone() -> None:
    routing, label, group = in_groups(20, 4)
    state = torch.get_rng_state()
    one, same, other = (inspection.specialisation(routing, label, group, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state)


def test_masked_tokens_have_no_share() -> None:
    torch.manual_seed(6)
    mask = torch.arange(100) < 60
    expert, label = torch.randint(4, (100,)), torch.randint(3, (100,))
    masked = inspection.specialisation(sent_to(expert, 4, mask), label, torch.arange(100))
    assert masked == inspection.specialisation(sent_to(expert[:60], 4), label[:60])


def test_one_group_or_none_says_nothing() -> None:
    routing = sent_to(torch.arange(12) % 3, 3)
    one = inspection.specialisation(routing, torch.arange(12) % 3, torch.zeros(12, dtype=torch.int64))
    assert one[:3] == (1, 0, 1)
    nobody = sent_to(torch.arange(4), 4, torch.zeros(4, dtype=torch.bool))
    assert inspection.specialisation(nobody, torch.arange(4)) == (0, 0, 1, 0)


@pytest.mark.parametrize("groups", [torch.zeros(3).long(), torch.zeros(4)])
def test_groups_that_are_no_groups_are_refused(groups: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"groups must be \(4,\) integers"):
        inspection.specialisation(sent_to(torch.arange(4), 4), torch.arange(4), groups)


def test_relabelling_keeps_the_labels_of_a_group_together() -> None:
    group = torch.tensor([0, 1, 0, 1, 2, 2])
    label = torch.tensor([10, 20, 11, 21, 30, 31])
    seen = set()
    for seed in range(40):
        fresh = relabel(label, group, torch.Generator().manual_seed(seed))
        assert sorted(fresh.tolist()) == sorted(label.tolist())
        pairs = [frozenset(fresh[group == g].tolist()) for g in range(3)]
        assert set(pairs) == {frozenset({10, 11}), frozenset({20, 21}), frozenset({30, 31})}
        seen.add(tuple(fresh.tolist()))
    assert len(seen) > 10


def test_samples_are_as_large_as_asked_for_however_they_are_parted() -> None:
    parts = list(_resamples(7, 25, rows=10**5, generator=torch.Generator().manual_seed(0)))
    assert [part.shape[1] for part in parts] == [10, 10, 5]
    assert torch.cat(parts, 1).sum(0).tolist() == [7] * 25
