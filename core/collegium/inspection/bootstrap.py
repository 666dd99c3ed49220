"""Whether experts follow a label, with an interval and the level of chance."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from collegium.inspection.given import single
from collegium.inspection.joint import check_label, mass, told
from collegium.routing import Routing

SHUFFLES = 50
CELLS = 10**6  # of a table of samples held at once


class Specialisation(NamedTuple):
    """Share of a label's entropy that the expert tells, its 95% interval, and its level by chance."""

    value: float
    low: float
    high: float
    chance: float


def specialisation(
    routing: Routing, label: Tensor, groups: Tensor | None = None, draws: int = 500, seed: int = 0
) -> Specialisation:
    """``mutual_information`` with a 95% bootstrap interval and its mean under random relabelling.

    A label is told above chance where ``low`` exceeds ``chance``. Counted information is biased upwards, the
    more so the fewer the tokens: ``value``, its interval and ``chance`` share that bias, so compare them with
    each other. Resampling adds the bias once more, which is taken off again: the interval is that of the
    bootstrap (Efron 1979) moved so that its mean is ``value``. With one group it is [0, 1].

    Args:
        routing: of T tokens.
        label: (T,) int64, at least 0.
        groups: (T,) int64, the sequence or image of each token. Tokens inside one are not independent: whole
            groups are drawn, and chance gives each group the labels of another one, turned by a random number
            of places. Without it, every token is its own group.
        draws: of the bootstrap.
        seed: of draws and relabelling.

    Raises:
        ValueError: label is not (T,) of non-negative integers, or groups not (T,) of integers.
        TypeError: not one routing, as all that ``record`` collects.
    """
    routing = single(routing, "specialisation")
    L = check_label(routing, label)
    if groups is not None and (groups.shape != (routing.num_tokens,) or groups.is_floating_point()):
        raise ValueError(f"groups must be ({routing.num_tokens},) integers")
    generator = torch.Generator().manual_seed(seed)
    tokens, token = routing.token.cpu().unique(return_inverse=True)  # those that take part
    own, group = (tokens if groups is None else groups.cpu()[tokens]).unique(return_inverse=True)
    label, first = label.cpu()[tokens], routing.expert.cpu() * L

    def told_by(label: Tensor, weight: Tensor) -> Tensor:
        return _told(first + label[token], weight, routing.num_experts, L)

    once = mass(routing).cpu()[:, None]
    value = float(told_by(label, once))
    chances = [told_by(relabel(label, group, generator), once) for _ in range(SHUFFLES)]
    drawn = torch.cat(
        [
            told_by(label, once * times[group[token]])
            for times in _resamples(len(own), draws, max(len(once), routing.num_experts * L), generator)
        ]
    )
    low, high = _ends(drawn, value) if len(own) > 1 else (0.0, 1.0)
    return Specialisation(value, low, high, float(torch.cat(chances).mean()))


def _told(cell: Tensor, mass: Tensor, experts: int, labels: int) -> Tensor:
    """(n,) what the expert tells where assignments (A,) of n samples have masses (A, n)."""
    table = mass.new_zeros(experts * labels, mass.shape[1]).index_add_(0, cell, mass)
    return told(table.T.unflatten(1, (experts, labels)))


def _resamples(count: int, draws: int, rows: int, generator: Generator) -> Iterator[Tensor]:
    """(count, n) how often each of ``count`` groups is drawn, for n samples at a time, ``draws`` in all."""
    most = max(1, CELLS // max(count, rows))
    for start in range(0, draws, most):
        ones = torch.ones(count, min(most, draws - start), dtype=torch.float64)
        drawn = torch.randint(max(count, 1), ones.shape, generator=generator)
        yield torch.zeros_like(ones).scatter_add_(0, drawn, ones)


def _ends(drawn: Tensor, value: float) -> tuple[float, float]:
    low, high = (drawn.quantile(drawn.new_tensor([0.025, 0.975])) + value - drawn.mean()).clamp(0, 1).tolist()
    return low, high


def relabel(label: Tensor, group: Tensor, generator: Generator) -> Tensor:
    """(T,) labels, each group with those of another one in their order, turned by a random number of places.

    What labels of neighbours have in common is kept, what they have to do with the tokens is lost.
    """
    order = group.sort(stable=True).indices
    of, sizes = group[order], group.bincount()
    first = sizes.cumsum(0) - sizes
    other = torch.randperm(len(sizes), generator=generator)[of]
    turn = torch.randint(2**31, sizes.shape, generator=generator)[of]
    place = torch.arange(len(group)) - first[of]
    taken = label[order][first[other] + (place + turn) % sizes[other]]
    return torch.empty_like(label).scatter_(0, order, taken)
