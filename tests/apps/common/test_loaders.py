"""Batches are a function of (seed, epoch, batch number)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

from apps.common import loaders
from apps.common.loaders import ResumableLoader, derive_seed


class Rows(Dataset[Tensor]):
    """Row numbers, with noise drawn while they are read."""

    def __init__(self, size: int, noise: float = 0.0) -> None:
        self.size, self.noise = size, noise

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: int) -> Tensor:
        return row + self.noise * torch.rand(1)


class WholeBatches(Rows):
    """Fetches all rows of a batch at once."""

    def __getitems__(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows)


def read(loader: ResumableLoader, epoch: int = 0) -> list[Tensor]:
    loader.sampler.set_epoch(epoch)
    return list(loader)


def numbers(batches: list[Tensor]) -> list[int]:
    return torch.cat([batch.flatten() for batch in batches]).int().tolist() if batches else []


def test_each_epoch_reads_every_row_once_in_its_own_order() -> None:
    loader = ResumableLoader(Rows(23), 4, seed=3)
    first, second = numbers(read(loader, 0)), numbers(read(loader, 1))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert numbers(read(loader, 0)) == first
    assert numbers(read(ResumableLoader(Rows(23), 4, seed=4), 0)) != first


def test_without_shuffling_rows_come_in_order() -> None:
    assert numbers(read(ResumableLoader(Rows(7), 3, shuffle=False))) == list(range(7))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 40), batch_size=st.integers(1, 9), epoch=st.integers(0, 3), data=st.data())
def test_a_restored_loader_goes_on_at_its_batch(size: int, batch_size: int, epoch: int, data: Any) -> None:
    loader = ResumableLoader(Rows(size, noise=0.5), batch_size, seed=1)
    whole = read(loader, epoch)
    done = data.draw(st.integers(0, len(whole)))
    interrupted = ResumableLoader(Rows(size, noise=0.5), batch_size, seed=1)
    interrupted.sampler.set_epoch(epoch)
    batches = iter(interrupted)
    for _ in range(done):
        next(batches)
    restored = ResumableLoader(Rows(size, noise=0.5), batch_size, seed=1)
    restored.load_state_dict(interrupted.state_dict())
    rest = read(restored, epoch)
    assert len(rest) == len(whole) - done
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[done:], strict=True))
    assert numbers(read(restored, epoch + 1)) == numbers(read(loader, epoch + 1))


def test_the_state_of_a_finished_epoch_does_not_shorten_the_next() -> None:
    loader = ResumableLoader(Rows(10), 4)
    read(loader, 0)
    restored = ResumableLoader(Rows(10), 4)
    restored.load_state_dict(loader.state_dict())
    assert len(read(restored, 1)) == 3


def test_the_state_counts_what_was_given_out_not_what_workers_have_read_ahead() -> None:
    loader = ResumableLoader(Rows(40), 4, num_workers=1)
    batches = iter(loader)
    next(batches)
    assert loader.state_dict() == {"epoch": 0, "batch": 1}


def test_workers_draw_the_same_augmentations() -> None:
    alone = read(ResumableLoader(Rows(12, noise=0.5), 4))
    shared = read(ResumableLoader(Rows(12, noise=0.5), 4, num_workers=2))
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_batches_are_fetched_whole_where_the_data_set_can() -> None:
    loader = ResumableLoader(WholeBatches(6), 4, shuffle=False, collate_fn=lambda batch: batch)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize(("drop_last", "batches"), [(False, 3), (True, 2)])
def test_the_last_batch_is_kept_unless_dropped(drop_last: bool, batches: int) -> None:
    loader = ResumableLoader(Rows(10), 4, drop_last=drop_last)
    assert len(loader) == len(list(loader)) == batches


def test_a_sample_of_rows_an_epoch_is_another_one_each_time() -> None:
    loader = ResumableLoader(Rows(1000), 10, rows_per_epoch=30)
    first, second = numbers(read(loader, 0)), numbers(read(loader, 1))
    assert len(loader) == 3
    assert len(set(first)) == len(set(second)) == 30
    assert set(first) != set(second)


def test_processes_share_the_rows_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for rank in range(3):
        monkeypatch.setattr(loaders, "_world", lambda rank=rank: (rank, 3))
        loader = ResumableLoader(Rows(20), 4)
        parts.append(numbers(read(loader)))
        assert len(loader) == 2
    assert [len(part) for part in parts] == [7, 7, 7]
    assert {row for part in parts for row in part} == set(range(20))


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_a_derived_seed_fits_every_generator(parts: list[int]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63


@pytest.mark.parametrize("draw", [torch.rand, lambda n: torch.tensor(__import__("numpy").random.rand(n))])
def test_seed_all_repeats_every_generator(draw: Callable[[int], Tensor]) -> None:
    loaders.seed_all(5)
    first = draw(3)
    loaders.seed_all(5)
    assert torch.equal(first, draw(3))
