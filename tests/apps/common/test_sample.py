"""Samples are of whole sequences, and the same ones each time."""

import torch
from torch import Tensor

from apps.common.sample import Sample, evenly


def filled(most: int, batches: int = 50) -> Sample:
    sample = Sample(most)
    for batch in range(batches):
        sequence = (batch << 32) + torch.arange(20).repeat_interleave(4)
        sample.add(sequence, batch=torch.full((80,), batch), place=torch.arange(4).repeat(20))
    return sample


def test_a_sample_is_of_whole_sequences_from_everywhere() -> None:
    sample = filled(400)
    assert len(sample.sequence) == len(sample.columns["batch"]) == 400
    assert (sample.sequence >> 32).equal(sample.columns["batch"])
    assert sample.columns["place"].view(-1, 4).tolist() == [[0, 1, 2, 3]] * 100
    assert abs(sample.columns["batch"].double().mean() - 24.5) < 6


def test_the_same_sequences_give_the_same_sample() -> None:
    assert filled(100).sequence.equal(filled(100).sequence)
    assert set(filled(40).sequence.tolist()) < set(filled(100).sequence.tolist())


def test_few_rows_are_all_kept() -> None:
    assert len(filled(400, batches=2).sequence) == 160


def lengths(sample: Sample) -> Tensor:
    return sample.sequence.unique(return_counts=True)[1]


def test_of_a_long_sequence_some_tokens_are_taken_evenly() -> None:
    sequence = torch.tensor([7] * 10 + [3] * 3 + [7] * 5)
    kept = evenly(sequence, 5)
    assert kept[10:13].all()
    places = torch.cat([torch.arange(10), torch.arange(13, 18)])  # of the sequence 7: each third of 15
    assert places[kept[places]].tolist() == places[::3].tolist()
    assert evenly(sequence, 15).all()


def test_one_sequence_is_kept_however_long_it_is() -> None:
    sample = Sample(10)
    for number in range(8):
        sample.add(torch.full((30,), number))
        assert lengths(sample).tolist() == [30]
