"""Networks of the field, taken from neuralforecast and trained like our own.

The package comes with the extra `peers`, which `make peers` installs; nothing else here needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from apps.common.errors import UserError
from apps.timeseries.baselines import fill_forward
from apps.timeseries.model import WholeWindow, squares
from apps.timeseries.windows import Batch

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Forecast, target, weight of each point, each (B, H) -> scalar."""


class Peer(WholeWindow):
    """A network of neuralforecast, which reads one series and forecasts all of its horizon at once.

    Gaps are bridged by the last value before them; a shorter forecast is the beginning of the longest.

    Args:
        name: class in `neuralforecast.models`.
        context: rows read, L.
        horizon: rows forecast, H.
        loss: what is minimised, on the scale of the data module.
        options: of that class.
        horizons: as of WholeWindow.

    Raises:
        UserError: neuralforecast is not installed.
    """

    def __init__(
        self,
        name: str,
        context: int,
        horizon: int,
        loss: Loss,
        options: dict[str, Any],
        horizons: Sequence[int] | None = None,
    ) -> None:
        super().__init__(context, horizon, horizons)
        self.name, self.objective = name, loss
        seed = int(torch.randint(2**31, ()))  # neuralforecast seeds all generators, with 1 unless told
        self.model: nn.Module = _models()[name](h=horizon, input_size=context, random_seed=seed, **options)

    def forward(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """Forecast context (B, L), observed where context_mask (B, L) is True. Returns (B, H)."""
        filled = fill_forward(context, context_mask).unsqueeze(-1)
        given = {"insample_y": filled, "insample_mask": torch.ones_like(filled)}
        forecast: Tensor = self.model(given | dict.fromkeys(("hist_exog", "futr_exog", "stat_exog")))
        return forecast.squeeze(-1)

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The published objective of the network, on the whole forecast; all horizons count alike."""
        forecast = self.forecast(batch["context"], batch["context_mask"], batch["target"].shape[1])
        return self.objective(forecast, batch["target"], self.weigh(batch["target_mask"])), [forecast]


def patchtst(
    context: int,
    horizon: int,
    dim: int = 16,
    heads: int = 4,
    hidden: int = 128,
    depth: int = 3,
    dropout: float = 0.3,
    patch: int = 16,
    stride: int = 8,
    horizons: Sequence[int] | None = None,
) -> Peer:
    """PatchTST, channel-independent, supervised, with reversible instance normalisation.

    The defaults are those published for the small sets, ETTh1, ETTh2 and illness; for the large ones dim is
    128, heads 16, hidden 256 and dropout 0.2. There the rate is 1e-4, for illness 2.5e-3, and the loss the
    squared error.
    Source: Nie et al. 2023, "A Time Series is Worth 64 Words", section 3.1 and appendix A.1.4.

    Args:
        context: rows read, L.
        horizon: rows forecast, H.
        dim: width of a token.
        heads: of attention.
        hidden: width of the feed-forward block.
        depth: layers.
        dropout: after embedding, attention and feed-forward block.
        patch: rows of a token.
        stride: rows between tokens.
        horizons: as of WholeWindow.
    """
    options = {
        "hidden_size": dim,
        "n_heads": heads,
        "linear_hidden_size": hidden,
        "encoder_layers": depth,
        "dropout": dropout,
        "patch_len": patch,
        "stride": stride,
        "revin_subtract_last": False,  # neuralforecast's default is not the published normalisation
    }
    return Peer("PatchTST", context, horizon, squares, options, horizons)


def nhits(
    context: int,
    horizon: int,
    hidden: int = 512,
    pooling: Sequence[int] = (16, 8, 1),
    downsampling: Sequence[int] = (168, 24, 1),
    dropout: float = 0.0,
    horizons: Sequence[int] | None = None,
) -> Peer:
    """N-HiTS with one block a stack, max pooling and linear interpolation.

    The defaults are of its published search space for long horizons, with a rate of 1e-3 and the absolute
    error as loss. Source: Challu et al. 2023, "N-HiTS", section 3 and appendix on hyperparameters.

    Args:
        context: rows read, L; published as five times the horizon.
        horizon: rows forecast, H.
        hidden: width of the two layers of each block.
        pooling: width of the pooling in front of each stack, in rows.
        downsampling: rows of the horizon to each coefficient of a stack.
        dropout: inside the blocks.
        horizons: as of WholeWindow.

    Raises:
        ValueError: pooling and downsampling of different numbers of stacks.
    """
    stacks = len(pooling)
    if len(downsampling) != stacks:
        raise ValueError(f"pooling has {stacks} stacks and downsampling {len(downsampling)}: give each both")
    options = {
        "stack_types": ["identity"] * stacks,
        "n_blocks": [1] * stacks,
        "mlp_units": [[hidden, hidden]] * stacks,
        "n_pool_kernel_size": list(pooling),
        "n_freq_downsample": list(downsampling),
        "dropout_prob_theta": dropout,
    }
    return Peer("NHITS", context, horizon, absolutes, options, horizons)


def absolutes(forecast: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error over points by their weight (B, H), or bools; zero where all have none."""
    error = (forecast - target.masked_fill(weight == 0, 0.0)).abs()
    return (error * weight).sum() / weight.sum().clamp(min=torch.finfo(error.dtype).tiny)


def _models() -> dict[str, Any]:
    try:
        return vars(import_module("neuralforecast.models"))
    except ModuleNotFoundError as error:
        raise UserError("PatchTST and N-HiTS need neuralforecast: run `make peers` first.") from error
