"""Top-k within groups of experts."""

from collections.abc import Callable

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.topk import Score, TopK, largest


class GroupLimited(TopK):
    """Top-k among the experts of the best groups alone (DeepSeek-V2, section 2.1.2; DeepSeek-V3).

    Where each group sits on a device of its own, a token is sent to few devices. A group is worth its best
    score, or, with a selection bias, the sum of its two best. The papers' routed scaling factor and their
    losses by device (V2) and by sequence (V3) are left out. Costs what TopK costs.

    Args:
        dim, num_experts: D and E.
        k: experts a token.
        groups: number of groups of E / groups neighbouring experts.
        top_groups: how many groups a token may reach.
        renormalize, noise, bias, score, gate: see TopK.

    Raises:
        ValueError: groups that do not divide the experts, or that hold fewer than k experts together.

    >>> routing = GroupLimited(16, 8, k=2, groups=4, top_groups=1)(torch.randn(10, 16))
    >>> bool((routing.expert[routing.position] // 2).diff(dim=1).any())  # both experts from one pair
    False
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        groups: int = 2,
        top_groups: int = 1,
        renormalize: bool = False,
        noise: float = 0.0,
        bias: bool = False,
        score: Score = "softmax",
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        super().__init__(dim, num_experts, k, renormalize, noise, bias, score=score, gate=gate)
        size = check_groups("GroupLimited", groups, num_experts)
        if not 1 <= top_groups <= groups or top_groups * size < k:
            raise ValueError(
                f"GroupLimited: top_groups={top_groups} of {groups}, {size} experts each, cannot give k={k}"
            )
        self.groups, self.top_groups = groups, top_groups

    def select(self, wish_TE: Tensor, logits_TE: Tensor, context: Context) -> Tensor:
        """(T, K) by group, then by expert."""
        by_group = wish_TE.unflatten(1, (self.groups, -1))
        best = min(2 if self.bias is not None else 1, by_group.shape[2])
        worth = by_group.topk(best, dim=2).values.sum(2)
        open_ = torch.zeros_like(worth, dtype=torch.bool).scatter(1, largest(worth, self.top_groups), True)
        return largest(by_group.masked_fill(~open_[:, :, None], -torch.inf).flatten(1), self.k)


class EqualPerGroup(TopK):
    """The k / M best experts of each of M groups (Tang et al. 2025, MoGE, section 2.2).

    Probabilities are over all experts. Groups are equally loaded by construction, whatever the router learns.
    Costs what TopK costs.

    Args:
        dim, num_experts: D and E.
        k: experts a token, a multiple of ``groups``.
        groups: M, the number of groups of E / M neighbouring experts.
        renormalize, noise, bias, score, gate: see TopK.

    Raises:
        ValueError: groups that divide neither the experts nor k.

    >>> routing = EqualPerGroup(16, 8, k=2, groups=2)(torch.randn(10, 16))
    >>> routing.counts.view(2, 4).sum(1).tolist()
    [10, 10]
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        groups: int = 2,
        renormalize: bool = False,
        noise: float = 0.0,
        bias: bool = False,
        score: Score = "softmax",
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        super().__init__(dim, num_experts, k, renormalize, noise, bias, score=score, gate=gate)
        check_groups("EqualPerGroup", groups, num_experts)
        if k % groups:
            raise ValueError(f"EqualPerGroup: k={k} must be a multiple of groups={groups}")
        self.groups = groups

    def select(self, wish_TE: Tensor, logits_TE: Tensor, context: Context) -> Tensor:
        """(T, K) the same number in each group."""
        by_group = wish_TE.unflatten(1, (self.groups, -1))
        T, M, size = by_group.shape
        best = largest(by_group.flatten(0, 1), self.k // M).unflatten(0, (T, M))
        start = size * torch.arange(M, device=best.device)
        index: Tensor = (best + start[:, None]).flatten(1)
        return index


def check_groups(name: str, groups: int, num_experts: int) -> int:
    """The size of a group. Raises a ValueError unless the groups divide the experts."""
    if groups < 1 or num_experts % groups:
        raise ValueError(f"{name}: groups={groups} must divide num_experts={num_experts}")
    return num_experts // groups
