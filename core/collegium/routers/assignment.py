"""Balanced assignment: every expert gets equally many tokens, for the greatest sum of scores."""

import torch
from torch import Tensor, library


def balanced_assignment(score_TE: Tensor, precision: float = 1e-3) -> Tensor:
    """(T,) int64, each token's expert: at most ceil(T / E) tokens an expert, exactly T / E where E divides T.

    One operation to torch.compile, for which the auction's length would break the graph. It runs on the CPU,
    in float64, which not every device knows.

    The auction for similar objects (Bertsekas and Castanon 1989, "The auction algorithm for the
    transportation problem"), in rounds of ever finer bids, each of which begins at the prices of the last: so
    tokens that want the same experts alike do not outbid one another by tiny steps. The sum of scores is
    within T * ``precision`` * (range of the scores) of the greatest.

    Args:
        score_TE: (T, E); what is not finite counts as the least score that is, so that a training that has
            gone wrong goes on to show it.
        precision: the least rise of a bid in the last round, as a share of the range of the scores; not under
            1e-9. Smaller is slower.
    """
    owner: Tensor = torch.ops.collegium.balanced_assignment(score_TE.detach(), precision)
    return owner


@library.custom_op("collegium::balanced_assignment", mutates_args=())
def _assign(score_TE: Tensor, precision: float) -> Tensor:
    T, E = score_TE.shape
    if T == 0 or E == 1:
        return torch.zeros(T, dtype=torch.int64, device=score_TE.device)
    places = -(-T // E)
    score = score_TE.cpu().double()
    finite = score.isfinite()
    low, high = (bound(score[finite]) if finite.any() else 0.0 for bound in (torch.min, torch.max))
    score = (score.where(finite, low) - low) / max(float(high - low), torch.finfo(score.dtype).tiny)
    # tokens without a wish take the places that are left over: prices of such places could not fall
    score = torch.cat([score, score.new_zeros(places * E - T, E)])
    price = score.new_zeros(E)
    least = max(COARSE, precision)
    while True:
        owner, price = _auction(score, price, places, least)
        if least <= precision:
            return owner[:T].to(score_TE.device)
        least = max(least / FINER, precision)


@_assign.register_fake
def _(score_TE: Tensor, precision: float) -> Tensor:
    return score_TE.new_empty(len(score_TE), dtype=torch.int64)


COARSE, FINER = 0.1, 10.0
"""The least rise of a bid in the first round, and how many times finer the next one is."""


def _auction(score_TE: Tensor, price: Tensor, places: int, least: float) -> tuple[Tensor, Tensor]:
    """(T,) each token's expert, and (E,) what a place there costs.

    Every token without a place bids for one at the expert that gives it most at the present prices, as much
    as that is worth to it above its second choice; an expert keeps its highest bids, and its price is the
    lowest of them.
    """
    T, E = score_TE.shape
    owner = torch.full((T,), E, device=score_TE.device)  # E stands for no expert
    bid = score_TE.new_zeros(T)
    while len(free := (owner == E).nonzero()[:, 0]):
        best = (score_TE[free] - price).topk(2, dim=1)
        owner[free] = best.indices[:, 0]
        bid[free] = price[owner[free]] + best.values[:, 0] - best.values[:, 1] + least
        order = bid.sort(descending=True).indices
        order = order[owner[order].sort(stable=True).indices]
        held = torch.bincount(owner, minlength=E)
        rank = torch.arange(T, device=order.device) - (held.cumsum(0) - held)[owner[order]]
        lowest = order[rank == places - 1]
        price = price.scatter(0, owner[lowest], bid[lowest])
        owner[order[rank >= places]] = E
    return owner, price
