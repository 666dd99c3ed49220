"""A decoder-only probabilistic forecaster of any number of series (Moirai-MoE, Liu et al. 2024).

Shapes as in model.py and heads.py; V series see one another, M tokens came before.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from collegium import Context, check_causal, check_needs
from collegium.layer import AnyRouting
from collegium.routers import share_cells
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import MixtureFFN, feed_forward
from apps.timeseries.model import Probabilistic, moves, window_scale
from apps.timeseries.networks.any_variate import AnyVariateAttention, Memory, Neighbours, Sight
from apps.timeseries.networks.dense_twin import WINDOWS, place_centroids, wants_twin
from apps.timeseries.networks.heads import Head
from apps.timeseries.networks.mixture_head import MixtureHead
from apps.timeseries.windows import Batch, Windows

ROWS = 4096
"""Paths of windows that are followed at once: bounds the memory of sampling."""


class MoiraiMoE(Probabilistic):
    """Causal transformer over patches with one projection for every frequency (Moirai-MoE, section 3).

    A token is ``patch`` points, and learns what comes after it. The windows of a group see one another's
    tokens up to the same time; of other windows nothing. Each window is normalised by its own context.

    Gates of centroids get theirs before training from a dense twin, the same network with dense feed-forward
    blocks (see `prepare`).

    Args:
        dim: D, a multiple of four times ``heads``.
        depth: layers.
        heads: attention heads.
        patch: P.
        feed_forward: D -> the feed-forward block of a layer; called once a layer.
        head: (D, P) -> what a token forecasts: a MixtureHead, or a QuantileHead.
        dropout: on the output of attention and feed-forward block, in training.
        dense_twin: a checkpoint of this network with ``apps.common.controls.DenseFFN`` blocks, of the same
            sizes and head; without it a twin is trained.
        twin_steps: optimiser steps of the twin that is trained.
        placed: fill the gates of centroids from the twin; else they stay as they were drawn, for a control.
        warm_start: begin with the twin's weights outside the feed-forward blocks, so that from the first step
            on tokens lie where the twin's do, and the centroids among them.
        seed: of that training and of the clusters; by default that of torch's generator.

    Raises:
        ValueError: sizes that do not fit, or a router that is not causal.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        patch: int = 16,
        feed_forward: Callable[[int], nn.Module] = MixtureFFN,
        head: Callable[[int, int], Head] = MixtureHead,
        dropout: float = 0.0,
        dense_twin: Path | None = None,
        twin_steps: int = 400,
        placed: bool = True,
        warm_start: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if dim % (4 * heads):
            raise ValueError(f"dim={dim} must be a multiple of four times heads={heads}")
        self.patch, self.seed = patch, seed
        self.dense_twin, self.twin_steps = dense_twin, twin_steps
        self.placed, self.warm_start = placed, warm_start
        self.embed = Projection(patch, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, feed_forward(dim), dropout) for _ in range(depth))
        self.norm = nn.RMSNorm(dim)
        self.head = head(dim, patch)
        check_causal(self)
        check_needs(self, ("mask", "position"))
        share_cells(self)

    @property
    def layers(self) -> list["Block"]:
        """The blocks from first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def prepared_on(self) -> int:
        """Windows on which the dense twin is trained."""
        trains = self.dense_twin is None and wants_twin(self)
        return WINDOWS * self.twin_steps if trains else 0

    def prepare(self, train: Windows, validation: Windows) -> None:
        """Fill the gates of centroids with the clusters of a dense twin's tokens (section 3.2.2).

        Raises:
            UserError: a checkpoint that does not fit, or fewer tokens than centroids.
        """
        place_centroids(self, train)

    def forward(
        self,
        values: Tensor,
        observed: Tensor,
        group: Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Memory]:
        """The head's parameters (B, N, A, K) at every token, and the memory of all tokens so far.

        Args:
            values: (B, L) normalised values; what stands at missing points does not matter.
            observed: (B, L) bool. L is filled up on the left to a multiple of P.
            group: (B,) int64, the same for windows that see one another; each for itself by default.
            memory: of the tokens that these follow.
        """
        short = -values.shape[1] % self.patch
        values = F.pad(values.masked_fill(~observed, 0.0), (short, 0)).view(len(values), -1, self.patch)
        observed = F.pad(observed, (short, 0)).view(len(values), -1, self.patch)
        real = observed.any(-1)
        before = real[:, :0] if memory is None else memory.real
        known = torch.cat([before, real], 1)
        rows = torch.arange(len(values), device=values.device) if group is None else group
        sight = Sight(Neighbours(rows), known, real.shape[1])
        position = torch.arange(before.shape[1], known.shape[1], device=values.device).expand(real.shape)
        context = Context(mask=None if bool(real.all()) else real, position=position)
        x, routing = self.embed(values, observed), None
        layers = []
        for i, block in enumerate(self.blocks):
            x, kept, routing = block(x, sight, context, memory.layers[i] if memory else None, routing)
            layers.append(kept)
        return self.head(self.norm(x)), Memory(layers, known)

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The head's loss at the tokens behind a random prefix of the context, and what passes differ by.

        The prefix alone sets the window's scale, as in use: no target has a share in its own scale. The
        tokens of the target follow those of the context, each forecasting from the true ones before it.
        """
        patch, length = self.patch, batch["context"].shape[1]
        tokens = -(-length // patch)
        prefix = int(torch.randint(max(1, tokens // 2), tokens + 1, ()))
        seen = length - (tokens - prefix) * patch
        mean, scale = window_scale(batch["context"][:, :seen], batch["context_mask"][:, :seen])
        ends = tokens * patch - length, -batch["target"].shape[1] % patch
        values = F.pad((torch.cat([batch["context"], batch["target"]], 1) - mean) / scale, ends)
        observed = F.pad(torch.cat([batch["context_mask"], batch["target_mask"]], 1), ends)
        parameters, _ = self(values[:, :-patch], observed[:, :-patch], batch["group"])
        parameters = parameters[:, prefix - 1 :]
        target, mask = (
            F.pad(part[:, prefix * patch :], (0, self.head.ahead - patch)).unfold(1, self.head.ahead, patch)
            for part in (values, observed)
        )
        return self.head.loss(parameters, target, mask), [self.head.compared(parameters)]

    def forecast(
        self, context: Tensor, observed: Tensor, horizon: int, group: Tensor | None = None
    ) -> Tensor:
        """The head's point forecast (B, H) of raw windows (B, L): of samples their mean, unless it says else.

        group as in `forward`.
        """
        return self.head.point(self._cloud(context, observed, horizon, group))

    def quantiles(
        self, context: Tensor, observed: Tensor, horizon: int, levels: Tensor, group: Tensor | None = None
    ) -> Tensor:
        """Quantiles (B, H, Q) of the same samples; group as in `forward`."""
        return self.head.quantiles(self._cloud(context, observed, horizon, group), levels)

    def forecast_batch(self, batch: Batch, horizon: int) -> Tensor:
        """`forecast` with the batch's groups."""
        return self.forecast(batch["context"], batch["context_mask"], horizon, batch["group"])

    def quantiles_batch(self, batch: Batch, horizon: int, levels: Tensor) -> Tensor:
        """`quantiles` with the batch's groups."""
        return self.quantiles(batch["context"], batch["context_mask"], horizon, levels, batch["group"])

    def _cloud(self, context: Tensor, observed: Tensor, horizon: int, group: Tensor | None) -> Tensor:
        """The predictive distribution (B, C, H) of raw windows (B, L)."""
        mean, scale = window_scale(context, observed)
        rows = torch.arange(len(context), device=context.device) if group is None else group
        neighbours = Neighbours(rows)
        parameters, memory = self((context - mean) / scale, observed, rows)
        noise = self.head.noise(neighbours.width, -(-horizon // self.head.ahead))
        parts = torch.split(noise, max(1, ROWS // len(context)), 1)
        told = [self._follow(parameters[:, -1], memory, neighbours, part[neighbours.slot]) for part in parts]
        scale = scale * moves(context, observed)
        return torch.cat(told, 1)[..., :horizon] * scale[:, None] + mean[:, None]

    def _follow(self, parameters: Tensor, memory: Memory, neighbours: Neighbours, noise: Tensor) -> Tensor:
        """Go on from the last tokens (B, A, K) with noise (B, S, steps, ...), path by path: (B, C, H)."""
        paths, steps = noise.shape[1:3]
        group = neighbours.group[:, None] * paths + torch.arange(paths, device=noise.device)
        memory = memory.repeat(paths)
        parameters, told = parameters[:, None].expand(-1, paths, -1, -1), []
        for step in range(steps):
            values, on = self.head.draw(parameters, noise[:, :, step])
            told.append(values)
            if step + 1 < steps:
                on = on.flatten(0, 1)
                given = memory.real.any(1, keepdim=True).expand_as(on)  # of nothing, nothing is to be told
                parameters, memory = self(on, given, group.flatten(), memory)
                parameters = torch.unflatten(parameters[:, -1], 0, (-1, paths))
        return torch.cat(told, -1)


class Projection(nn.Module):
    """Patches to tokens: one hidden layer of SiLU beside a linear way (Moirai-MoE, section 3)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.hidden, self.direct = nn.Linear(2 * patch, dim), nn.Linear(2 * patch, dim)
        self.out = nn.Linear(dim, dim)
        for layer in (self.hidden, self.direct):
            nn.init.zeros_(layer.weight[:, patch:])  # a gap that training never meets is to add no noise

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """(B, N, P) values and bools to (B, N, D)."""
        points = torch.cat([values, (~observed).to(values.dtype)], -1)
        token: Tensor = self.out(F.silu(self.hidden(points))) + self.direct(points)
        return token


class Block(nn.Module):
    """Pre-norm attention and feed-forward block."""

    def __init__(self, dim: int, heads: int, feed_forward: nn.Module, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim)
        self.attention = AnyVariateAttention(dim, heads)
        self.feed_forward_norm = nn.RMSNorm(dim)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        sight: Sight,
        context: Context,
        past: tuple[Tensor, Tensor] | None,
        previous: AnyRouting | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor], AnyRouting | None]:
        """(B, N, D) to (B, N, D), the keys and values to keep, and the block's routing."""
        attended, kept = self.attention(self.attention_norm(x), sight, past)
        x = x + self.dropout(attended)
        update, routing = feed_forward(self.feed_forward, self.feed_forward_norm(x), context, previous)
        return x + self.dropout(update), kept, routing
