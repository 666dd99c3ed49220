"""What else could read a histogram: one network alone, and a mixture without critics.

Legend as in `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from collegium import MoE, check_causal, check_needs, routers
from collegium.experts import ExpertList
from collegium.routers import Router, share_cells
from torch import Tensor, nn

from apps.common.controls import of_one_output
from apps.lidar.experts import WINDOWS, Window, WindowExpert
from apps.lidar.model import OUTPUTS, Encoder, Reading


class Single(nn.Module):
    """One expert that sees the whole histogram: the dense twin.

    Args:
        bins: T.
        hidden, depth: of the expert.
    """

    def __init__(self, bins: int = 256, hidden: int = 256, depth: int = 2) -> None:
        super().__init__()
        self.bins, self.encoder = bins, Encoder(bins)
        self.expert = WindowExpert("global", bins, self.encoder.beside, hidden, depth, len(OUTPUTS), 0)

    def forward(self, reading: Reading) -> Tensor:
        """Outputs (B, O)."""
        outputs: Tensor = self.expert(self.encoder(reading))
        return outputs

    @classmethod
    def of_size(cls, parameters: int, bins: int, depth: int) -> Single:
        """The widest one with no more parameters than so many."""
        hidden = 8
        while sum(p.numel() for p in cls(bins, hidden + 8, depth).parameters()) <= parameters:
            hidden += 8
        return cls(bins, hidden, depth)


class SoftmaxMixture(nn.Module):
    """The same experts, mixed by a router alone: nobody judges what they say.

    Args:
        bins: T.
        windows: of the experts.
        hidden, depth: of an expert.
        router: (D, E) -> the router.
    """

    def __init__(
        self,
        bins: int = 256,
        windows: Sequence[Window] = WINDOWS,
        hidden: int = 128,
        depth: int = 2,
        router: Callable[[int, int], Router] = routers.AllExperts,
    ) -> None:
        super().__init__()
        self.bins, self.encoder = bins, Encoder(bins)
        beside = self.encoder.beside
        experts = ExpertList(WindowExpert(w, bins, beside, hidden, depth, len(OUTPUTS), 0) for w in windows)
        self.experts = MoE(of_one_output(router(bins + beside, len(windows))), experts)
        check_needs(self, ())
        check_causal(self)
        share_cells(self)

    def forward(self, reading: Reading) -> Tensor:
        """Outputs (B, O)."""
        outputs: Tensor = self.experts(self.encoder(reading))
        return outputs


class Convolutional(nn.Module):
    """Convolutions over the bins of signal and response, each of which halves their number.

    Args:
        bins: T.
        channels: of each layer.
        hidden: width of the head.

    Raises:
        ValueError: bins that cannot be halved by each layer.
    """

    def __init__(
        self, bins: int = 256, channels: Sequence[int] = (32, 64, 96, 128), hidden: int = 128
    ) -> None:
        super().__init__()
        if bins % 2 ** len(channels):
            raise ValueError(f"bins={bins} cannot be halved {len(channels)} times")
        self.bins = bins
        layers: list[nn.Module] = []
        for before, after in zip((2, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv1d(before, after, 7, stride=2, padding=3), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        width = channels[-1] * (bins // 2 ** len(channels)) + 4
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, len(OUTPUTS)))

    def forward(self, reading: Reading) -> Tensor:
        """Outputs (B, O)."""
        inside = self.body(torch.stack([reading.signal, reading.response], dim=1))
        outputs: Tensor = self.head(torch.cat([inside, reading.known], dim=1))
        return outputs


class Recurrent(nn.Module):
    """A GRU over tokens of a few bins of signal and response.

    Args:
        bins: T.
        patch: bins of a token.
        hidden: width of the state.

    Raises:
        ValueError: bins that do not make whole tokens.
    """

    def __init__(self, bins: int = 256, patch: int = 16, hidden: int = 128) -> None:
        super().__init__()
        if bins % patch:
            raise ValueError(f"bins={bins} are no multiple of patch={patch}")
        self.bins, self.patch = bins, patch
        self.body = nn.GRU(2 * patch, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden + 4, hidden), nn.SiLU(), nn.Linear(hidden, len(OUTPUTS)))

    def forward(self, reading: Reading) -> Tensor:
        """Outputs (B, O)."""
        tokens = torch.cat(
            [x.view(len(x), -1, self.patch) for x in (reading.signal, reading.response)], dim=2
        )
        last = self.body(tokens)[0][:, -1]
        outputs: Tensor = self.head(torch.cat([last, reading.known], dim=1))
        return outputs
