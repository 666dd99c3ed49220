"""Balanced assignment: every expert gets equally many tokens, for the greatest sum of scores."""

import torch
from torch import Tensor


@torch.no_grad()
def balanced_assignment(score_TE: Tensor, precision: float = 1e-3, most_rounds: int = 10_000) -> Tensor:
    """(T,) int64, each token's expert: at most ceil(T / E) tokens an expert, exactly T / E where E divides T.

    The auction for similar objects (Bertsekas and Castanon 1989, "The auction algorithm for the
    transportation problem"): every token without a place bids for one at the expert that gives it most at the
    present prices, as much as that is worth to it above its second choice; an expert keeps its ceil(T / E)
    highest bids, and its price is the lowest of them. The sum of scores is within T * ``precision`` * (range
    of the scores) of the greatest.

    Args:
        score_TE: (T, E) finite.
        precision: the least rise of a bid, as a share of the range of the scores. Smaller is slower.
        most_rounds: after so many rounds the tokens without a place take what is left, in order.
    """
    T, E = score_TE.shape
    if T == 0 or E == 1:
        return torch.zeros(T, dtype=torch.int64, device=score_TE.device)
    places = -(-T // E)
    least = precision * (float(score_TE.max() - score_TE.min()) or 1.0)
    owner = torch.full((T,), E, device=score_TE.device)  # E stands for no expert
    bid, price = score_TE.new_zeros(T), score_TE.new_zeros(E)
    for _ in range(most_rounds):
        free = (owner == E).nonzero()[:, 0]
        if not len(free):
            return owner
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
    return _fill(owner, places, E)


def _fill(owner: Tensor, places: int, experts: int) -> Tensor:
    """Give the tokens without a place to the experts with room, in order."""
    free = owner == experts
    room = places - torch.bincount(owner[~free], minlength=experts)
    left = torch.arange(experts, device=owner.device).repeat_interleave(room)
    return owner.masked_scatter(free, left[: int(free.sum())])
