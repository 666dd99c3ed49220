"""Top-k routing: the k experts with the highest score."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.base import GatedRouter, check_share, softmax
from collegium.routing import Routing

Score = Literal["softmax", "sigmoid"]


class TopK(GatedRouter):
    r"""The k experts of highest score (Shazeer et al. 2017; Time-MoE, eq. 5-8).

    p = softmax(z); token t goes to the k largest p_e, weighted by p_e itself. The softmax comes before the
    cut, so the router gets gradient at k = 1 as well. Costs the gate's multiply-adds and k experts a token.

    Args:
        dim, num_experts: D and E.
        k: experts a token.
        renormalize: divide the k weights by their sum. Refused at k = 1, where it would make the weight a
            constant and cut the router off from the loss.
        noise: standard deviation of Gaussian noise on the logits, in training only.
        bias: keep a selection bias (E,) for auxiliary-loss-free balancing (Wang et al. 2024): it moves the
            choice, never the weights. Stepped by ``balance.BiasBalance``.
        capacity_factor: at most ceil(factor * k * T / E) rows an expert, least weight dropped. Who is dropped
            depends on the batch, in evaluation too: so do predictions, and the router is not causal.
        capacity_weights: with a capacity factor, E numbers by which the experts share the capacity; equal by
            default. MoE++ (eq. 8) gives tau to the experts that compute and 1 to those that cost nothing.
        score: "softmax", or "sigmoid" of each logit alone (DeepSeek-V3, without its routed scaling factor and
            its sequence-wise loss); ``probs``, which balance terms read, are then sigmoids over their sum.
        gate: (D, E) -> where the logits come from.

    Raises:
        ValueError: k outside 1 to E, renormalisation at k = 1, a negative noise, a capacity of nothing, an
            unknown score.

    >>> routing = TopK(16, 8, k=2)(torch.randn(10, 16))
    >>> routing.experts_per_token().tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    bias: Tensor | None

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        renormalize: bool = False,
        noise: float = 0.0,
        bias: bool = False,
        capacity_factor: float | None = None,
        score: Score = "softmax",
        gate: Callable[[int, int], Gate] = Linear,
        capacity_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(dim, num_experts, gate)
        check_share(type(self).__name__, k, num_experts)
        if renormalize and k == 1:
            raise ValueError("renormalize at k=1 makes every weight 1: the router would never learn")
        if noise < 0 or (capacity_factor is not None and capacity_factor <= 0):
            raise ValueError("noise must not be negative, capacity_factor must be positive")
        if score not in get_args(Score):
            raise ValueError(f"unknown score {score!r}: choose 'softmax' or 'sigmoid'")
        weights = [1.0] * num_experts if capacity_weights is None else list(capacity_weights)
        if len(weights) != num_experts or min(weights) <= 0:
            raise ValueError(f"capacity_weights must be {num_experts} positive numbers")
        self.k = k
        self.capacity_weights = weights
        self.renormalize = renormalize
        self.noise = noise
        self.capacity_factor = capacity_factor
        self.score = score
        self.causal = self.causal and capacity_factor is None
        self.register_buffer("bias", None)
        if bias:
            self.keep_bias()

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Choose by score, weigh by score."""
        clean = self.gate(x, context, previous)
        std = self.noise_std(x)
        logits = clean if std is None else clean + std * torch.randn_like(clean)
        scores, probs = self._scores(logits)
        wish = scores.detach() if self.bias is None else scores.detach() + self.bias
        index = self.select(wish, logits.detach(), context)
        weight = scores.gather(1, index)
        if self.renormalize:
            weight = weight / weight.sum(1, keepdim=True)
        routing = Routing.from_topk(
            index, weight, self.num_experts, mask=context.mask, logits=logits, probs=probs
        )
        # the formula is that of the k largest scores and of no other choice
        plain = self.bias is None and type(self).select is TopK.select
        if std is not None and plain and self.k < self.num_experts:
            load = chance_of_selection(clean, logits, self.k, std)
            routing = replace(routing, extras={"load": load})
        return routing if self.capacity_factor is None else self._limit(routing, context)

    def select(self, wish_TE: Tensor, logits_TE: Tensor, context: Context) -> Tensor:
        """(T, K) the experts of each token, by how much it wishes for each, score plus bias, or by logits."""
        return largest(wish_TE, self.k)

    def keep_bias(self) -> None:
        """Keep a selection bias from now on, at first of zeros."""
        if self.bias is None:
            known = next(self.parameters(), torch.empty(0))
            self.bias = torch.zeros(self.num_experts, dtype=torch.float32, device=known.device)

    def noise_std(self, x: Tensor) -> Tensor | None:
        """Deviation of the noise on the logits, a scalar or (T, E); None for no noise."""
        return x.new_tensor(self.noise) if self.noise and self.training else None

    def _scores(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.score == "softmax":
            probs = softmax(logits)
            return probs, probs
        scores = logits.sigmoid()
        return scores, scores / scores.sum(1, keepdim=True)

    def _limit(self, routing: Routing, context: Context) -> Routing:
        tokens = routing.num_tokens if context.mask is None else int(context.mask.sum())
        rows = (self.capacity_factor or 0.0) * self.k * tokens
        limits = [math.ceil(rows * weight / sum(self.capacity_weights)) for weight in self.capacity_weights]
        return routing.with_capacity(torch.tensor(limits, device=routing.token.device))

    def extra_repr(self) -> str:
        """Sizes and k."""
        return f"{super().extra_repr()}, k={self.k}"


class NoisyTopK(TopK):
    """Top-k with noise of a size that the router learns (Shazeer et al. 2017, eq. 3-5).

    z~ = z + n * (softplus(V x) + 0.01) with n ~ N(0, 1), in training alone; evaluation is deterministic. The
    weights are a softmax over the k scores that are kept, and sum to 1; at k = 1, where the router would get
    no gradient, they are those of TopK. The 0.01 is the released code's. Pair it with
    ``balance.importance_cv`` and ``balance.load_cv``, which see a smooth load. Costs twice the gate.

    Args:
        dim, num_experts, k, bias, gate: see TopK.
        renormalize: False leaves the weights as the softmax over all experts gives them.

    Raises:
        ValueError: see TopK.

    >>> routing = NoisyTopK(16, 8, k=2)(torch.randn(10, 16))
    >>> routing.extras["load"].shape  # the chance of each expert to be chosen
    torch.Size([10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        renormalize: bool | None = None,
        bias: bool = False,
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        renormalize = k > 1 if renormalize is None else renormalize
        super().__init__(dim, num_experts, k, renormalize, bias=bias, gate=gate)
        self.spread = nn.Parameter(torch.zeros(num_experts, dim))

    def noise_std(self, x: Tensor) -> Tensor | None:
        """(T, E) softplus(V x) + 0.01 in training."""
        return F.softplus(F.linear(x, self.spread.to(x.dtype))) + 0.01 if self.training else None


class Switch(TopK):
    """One expert a token, with capacity and multiplicative input jitter (Fedus et al. 2022, section 2).

    Costs the gate and one expert a token at most.

    Args:
        dim, num_experts: D and E.
        capacity_factor: see TopK; None for no limit (and a causal router).
        jitter: in training the router sees x * U(1 - jitter, 1 + jitter).
        bias, gate: see TopK.

    Raises:
        ValueError: a jitter outside [0, 1), or a capacity of nothing.

    >>> routing = Switch(16, 8, capacity_factor=1.0)(torch.randn(80, 16))
    >>> int(routing.counts.max()) <= 10, int(routing.demand.sum())
    (True, 80)
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        capacity_factor: float | None = 1.25,
        jitter: float = 0.0,
        bias: bool = False,
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        super().__init__(dim, num_experts, k=1, bias=bias, capacity_factor=capacity_factor, gate=gate)
        if not 0 <= jitter < 1:
            raise ValueError("jitter must lie in [0, 1)")
        self.jitter = jitter

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Top-1 of the jittered token."""
        if self.training and self.jitter:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        return super().route(x, context, previous)


def largest(scores_TE: Tensor, k: int) -> Tensor:
    """(T, k) indices of the k largest scores.

    For k of 1 and 2 passes of max beat topk on a CPU (8,192 tokens, 64 experts: 1.3 ms instead of 4.8), and
    argmax is slow where experts are not the last dim in memory.
    """
    if k > 2:
        return scores_TE.topk(k, dim=1).indices
    first = scores_TE.max(1, keepdim=True).indices
    if k == 1:
        return first
    second = scores_TE.scatter(1, first, -torch.inf).max(1, keepdim=True).indices
    return torch.cat([first, second], 1)


def chance_of_selection(clean_TE: Tensor, noisy_TE: Tensor, k: int, std: Tensor) -> Tensor:
    """(T, E) probability that expert e stays among the top k if its own noise is drawn again.

    P = Phi((clean_e - threshold_e) / std), the threshold being the k-th largest noisy score of the other
    experts (Shazeer et al. 2017, appendix A, eq. 8-9).
    """
    top = noisy_TE.topk(k + 1, dim=1).values
    kth, next_best = top[:, k - 1 : k], top[:, k : k + 1]
    threshold = torch.where(noisy_TE >= kth, next_best, kth)
    chance: Tensor = torch.special.ndtr((clean_TE - threshold) / std)
    return chance
