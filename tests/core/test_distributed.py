"""Two gloo processes on halves of each batch equal one process on the whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from tests.core.workers import Net, batches, train, worker

Result = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(worker, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> Result:
    return train(Net().double(), batches(0, 1))


def test_trained_weights_equal_those_of_one_process(ranks: list[Result], alone: Result) -> None:
    fresh = Net().double().state_dict()
    for name, wanted in alone["state"].items():
        assert not torch.equal(wanted, fresh[name]), f"{name} was not trained"
        for rank in ranks:
            torch.testing.assert_close(rank["state"][name], wanted, msg=f"{name} differs")


def test_biases_are_equal_to_the_last_bit(ranks: list[Result], alone: Result) -> None:
    for layer in ("first", "second"):
        biases = [run["state"][f"{layer}.router.bias"] for run in (*ranks, alone)]
        assert biases[0].any()
        assert torch.equal(biases[0], biases[1])
        assert torch.equal(biases[0], biases[2])


def test_counts_are_those_of_all_ranks(ranks: list[Result], alone: Result) -> None:
    for name, wanted in alone["observed"].items():
        for rank in ranks:
            assert torch.equal(rank["observed"][name], wanted)


def test_layers_have_the_same_names_under_ddp(ranks: list[Result], alone: Result) -> None:
    assert [rank["names"] for rank in ranks] == [alone["names"]] * 2 == [["first", "second"]] * 2


def test_the_trial_had_experts_without_rows_on_a_rank(ranks: list[Result]) -> None:
    assert all(rank["idle"] > 0 for rank in ranks)
