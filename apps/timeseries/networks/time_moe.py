"""A decoder-only forecaster with mixture-of-experts layers (Time-MoE, Shi et al. 2025).

Shapes as in model.py.
"""

from collections.abc import Callable, Sequence

import torch
from collegium import Context, check_causal, check_needs
from collegium.layer import AnyRouting
from collegium.routers import share_cells
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import MixtureFFN, feed_forward
from apps.timeseries.networks.rotary import frequencies, turned
from apps.timeseries.networks.tokens import LossOn, TokenForecaster


class TimeMoE(TokenForecaster):
    """Causal transformer over points or patches, one head a horizon (Time-MoE, section 3.2).

    Every series is read by itself (channel-independent). A window is normalised by the mean and deviation of
    its own context, a token is ``patch`` points, and at each token head j forecasts the next ``horizons[j]``
    points. Longer horizons are put together greedily from the heads.

    Args:
        dim: D, a multiple of twice ``heads``.
        depth: layers.
        heads: attention heads.
        patch: P; 1 gives the paper's point-wise tokens.
        horizons: points that each head forecasts, multiples of ``patch``.
        feed_forward: D -> the feed-forward block of a layer; called once a layer.
        dropout: on the output of attention and feed-forward block, in training.
        loss_on, delta: see TokenForecaster; the paper learns on "every" token.

    Raises:
        ValueError: sizes that do not fit, a router that is not causal, or an unknown loss_on.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        patch: int = 16,
        horizons: Sequence[int] = (16, 96),
        feed_forward: Callable[[int], nn.Module] = MixtureFFN,
        dropout: float = 0.0,
        loss_on: LossOn = "suffix",
        delta: float = 2.0,
    ) -> None:
        super().__init__(patch, horizons, loss_on, delta)
        if dim % (2 * heads):
            raise ValueError(f"dim={dim} must be a multiple of twice heads={heads}")
        self.embed = Embedding(patch, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, feed_forward(dim), dropout) for _ in range(depth))
        self.norm = nn.RMSNorm(dim)
        self.heads = nn.ModuleList(nn.Linear(dim, horizon, bias=False) for horizon in self.horizons)
        check_causal(self)
        check_needs(self, ("mask", "position", "affinity"))
        share_cells(self)

    def forward(self, values: Tensor, observed: Tensor, last: bool = False) -> list[Tensor]:
        """Forecast from every token, in the scale of the input; see TokenForecaster."""
        values, observed, mask = self._tokens(values, observed)
        x = self.embed(values, observed)
        routing = None
        for block in self.blocks:
            x, routing = block(x, mask, routing)
        x = self.norm(x[:, -1:] if last else x)
        return [head(x) for head in self.heads]


class Embedding(nn.Module):
    """silu(W x) * (V x) of a token's points (Time-MoE, eq. 1), plus U m for its missing points m.

    With nothing missing this is the paper's embedding.
    """

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(patch, dim, bias=False)
        self.value = nn.Linear(patch, dim, bias=False)
        self.missing = nn.Linear(patch, dim, bias=False)
        nn.init.zeros_(self.missing.weight)  # where training never meets a gap, one adds no noise later

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """(B, N, P) values and bools to (B, N, D)."""
        product: Tensor = F.silu(self.gate(values)) * self.value(values)
        missing: Tensor = self.missing((~observed).to(values.dtype))
        return product + missing


class Block(nn.Module):
    """Pre-norm attention and feed-forward block (Time-MoE, eq. 2-4)."""

    def __init__(self, dim: int, heads: int, feed_forward: nn.Module, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim)
        self.attention = Attention(dim, heads)
        self.feed_forward_norm = nn.RMSNorm(dim)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)
        self.routes_by_attention = any("affinity" in getattr(m, "needs", ()) for m in feed_forward.modules())

    def forward(
        self, x: Tensor, mask: Tensor | None, previous: AnyRouting | None = None
    ) -> tuple[Tensor, AnyRouting | None]:
        """(B, N, D) to (B, N, D), and the block's routing; ``previous`` is that of the block before.

        mask (B, N) is False at tokens without a single observed point.
        """
        attended, affinity = self.attention(self.attention_norm(x), mask, self.routes_by_attention)
        x = x + self.dropout(attended)
        position = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        context = Context(mask=mask, position=position, affinity=affinity)
        update, routing = feed_forward(self.feed_forward, self.feed_forward_norm(x), context, previous)
        return x + self.dropout(update), routing


class Attention(nn.Module):
    """Causal self-attention with rotary positions and biases in the query, key and value maps only."""

    frequency: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.register_buffer("frequency", frequencies(dim // heads // 2), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) to (B, N, D), and if wanted the weights averaged over heads (B, N, N).

        Masked tokens are not attended to.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (turned(part, self.frequency) for part in (q, k))
        N = x.shape[1]
        seen = torch.ones(N, N, dtype=torch.bool, device=x.device).tril()
        if mask is not None:
            # a masked token attends to itself, as a softmax over nothing is NaN
            seen = (seen & mask[:, None, None, :]) | torch.eye(N, dtype=torch.bool, device=x.device)
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        mixed: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return mixed, _mean_weights(q, k, seen) if weights else None


def _mean_weights(q: Tensor, k: Tensor, seen: Tensor) -> Tensor:
    """(B, N, N) attention weights of queries and keys (B, heads, N, d), averaged over heads."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    mean: Tensor = scores.masked_fill(~seen, -torch.inf).softmax(-1).mean(1)
    return mean
