"""A small decoder that reads statistics beside the points, and a mixture of linear experts (SMETimes).

Shapes as in model.py; S statistics, E experts.
"""

from collections.abc import Callable, Sequence

import torch
from collegium import Context, MoE, check_causal, check_needs, experts, routers
from torch import Tensor, nn

from apps.common.controls import DenseFFN, feed_forward, of_one_output
from apps.timeseries.networks.time_moe import Block
from apps.timeseries.networks.tokens import LossOn, TokenForecaster
from apps.timeseries.statistics import DESCRIPTIVE, statistics


class LinearMixture(MoE):
    """A base expert for every token, and domain experts by weight: y = B x + sum_k w_k(x) A_k x.

    All maps are D x D without biases, w is the softmax of a linear gate over all experts with the default
    router. Several base experts would add up to one linear map, so there is one.

    A linear map cannot be widened to the size of the mixture, as two linear maps in a row are one: what
    ``apps.common.controls`` puts beside it is a perceptron of equal size, a product of gate and value as the
    mixture is. With ``AllExperts`` every expert runs for every token, and its two dense twins are one.

    Source: SMETimes (Fan et al. 2025), which combines base and domain experts; its released code has the
    latter alone.

    Args:
        dim: D.
        num_experts: E domain experts; 1 with ``base=False`` is the single map that the released code starts.
        router: (D, E) -> router.
        base: have a base expert.

    Raises:
        ValueError: a router that gives a token several outputs.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int = 8,
        router: Callable[[int, int], routers.Router] = routers.AllExperts,
        base: bool = True,
    ) -> None:
        choice = of_one_output(router(dim, num_experts))
        domain = experts.ExpertList(nn.Linear(dim, dim, bias=False) for _ in range(num_experts))
        super().__init__(choice, domain, nn.Linear(dim, dim, bias=False) if base else None)


class SMETimes(TokenForecaster):
    """Points and their statistics, fused by a gate, through a causal transformer and a mixture of maps.

    Where the paper has a frozen language model, a small transformer is trained; where it embeds a prompt that
    tells the statistics, a learned map embeds the numbers themselves. Forecasts are fed back token by token.

    Source: Fan et al. 2025, "Small but Mighty: Enhancing Time Series Forecasting with Lightweight LLMs"
    (arXiv 2503.03594), fusion embedding and mixture of experts; the order of the parts after its code.

    Args:
        dim: D, a multiple of twice ``heads``.
        depth: layers of the transformer.
        heads: attention heads.
        patch: P points a token; 96 in the paper.
        feed_forward: D -> the mixture between transformer and decoder.
        hidden: width inside the transformer's own perceptrons; 2 D by default.
        horizons: points that each head forecasts from a token, multiples of ``patch``; by default the paper's
            one head for the next token.
        lags: peaks of the autocorrelation among the statistics.
        dropout: on the output of attention and perceptron, in training.
        loss_on: see TokenForecaster; the paper learns on "every" token.
        delta: where the loss turns from squares to absolute values; never by default, as in the paper.

    Raises:
        ValueError: sizes that do not fit, a router that is not causal, or an unknown loss_on.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        patch: int = 24,
        feed_forward: Callable[[int], nn.Module] = LinearMixture,
        hidden: int | None = None,
        horizons: Sequence[int] | None = None,
        lags: int = 3,
        dropout: float = 0.0,
        loss_on: LossOn = "every",
        delta: float = float("inf"),
    ) -> None:
        super().__init__(patch, horizons or [patch], loss_on, delta)
        if dim % (2 * heads):
            raise ValueError(f"dim={dim} must be a multiple of twice heads={heads}")
        self.embed = FusedEmbedding(patch, dim, lags)
        width = 2 * dim if hidden is None else hidden
        self.blocks = nn.ModuleList(Block(dim, heads, DenseFFN(dim, width), dropout) for _ in range(depth))
        self.norm = nn.RMSNorm(dim)
        self.mixture = feed_forward(dim)
        self.heads = nn.ModuleList(nn.Linear(dim, horizon) for horizon in self.horizons)
        check_causal(self)
        check_needs(self, ("mask", "position"))

    def forward(self, values: Tensor, observed: Tensor, last: bool = False) -> list[Tensor]:
        """Forecast from every token, in the scale of the input; see TokenForecaster."""
        values, observed, mask = self._tokens(values, observed)
        x = self.embed(values, observed)
        for block in self.blocks:
            x, _ = block(x, mask)
        position = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        if last:
            x, position, mask = x[:, -1:], position[:, -1:], None if mask is None else mask[:, -1:]
        y, _ = feed_forward(self.mixture, self.norm(x), Context(mask=mask, position=position))
        return [head(y) for head in self.heads]


class FusedEmbedding(nn.Module):
    """sigmoid(g) * Enc(x) + (1 - sigmoid(g)) * Stat(s) of a token x and the statistics s of all up to it.

    g is one number, which starts at 0: an even mean. Enc is linear, plus U m for its missing points m; Stat
    is a small perceptron.
    """

    def __init__(self, patch: int, dim: int, lags: int) -> None:
        super().__init__()
        self.lags = lags
        self.points = nn.Linear(patch, dim)
        self.missing = nn.Linear(patch, dim, bias=False)
        self.numbers = nn.Sequential(nn.Linear(DESCRIPTIVE + 2 * lags, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.gate = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.missing.weight)  # where training never meets a gap, one adds no noise later

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """(B, N, P) values and bools to (B, N, D)."""
        points = self.points(values) + self.missing((~observed).to(values.dtype))
        numbers: Tensor = self.numbers(statistics(values, observed, self.lags))
        share = torch.sigmoid(self.gate)
        fused: Tensor = share * points + (1 - share) * numbers
        return fused
