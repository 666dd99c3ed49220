"""Light to a target and back from tables of wandering photons, for any scattering and absorption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.lidar.instrument import Clock
from apps.lidar.montecarlo import Table, lambert, pencil, simulate
from apps.lidar.optics import SURFACES, Surface, speed

FILE = Path(__file__).with_name("white.npz")
"""The tables that ship with the app, made by `make_tables`."""
FINE = 4
"""Steps of the light's time in a bin of the histogram."""
TAIL = 8000.0
"""Path up to which the tables are continued by the law of late light on the axis, path to the power -5/2."""


class WhiteMonteCarlo:
    """Light to the target and back, as `simulate.Transport`.

    Args:
        clock: of the histograms; the frequencies that it is asked for must be the clock's.
        surface: whether tissue has the index of air, or reflects from inside.
        file: of the tables.

    Attributes:
        deepest: how deep a target may lie, in transport lengths; a call for a deeper one raises ValueError.
    """

    def __init__(self, clock: Clock, surface: Surface = "mismatched", file: Path = FILE) -> None:
        with np.load(file) as kept:
            names = ("depth", "edges", f"pencil_{surface}", f"lambert_{surface}")
            self.depth, edges, *tables = (torch.from_numpy(kept[name]).double() for name in names)
        self.clock, self.deepest = clock, float(self.depth[-1])
        self.edges, self.tables = _continued(edges, tables)

    def __call__(self, depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor) -> Tensor:
        """The spectrum (B, F) at the clock's frequencies."""
        there, back = (self.spectrum(table, depth, scattering, absorption) for table in self.tables)
        return there * back

    def spectrum(self, table: Tensor, depth: Tensor, scattering: Tensor, absorption: Tensor) -> Tensor:
        """Spectrum (B, F) of the light of one table (Z, J), for scenes whose fields are (B,)."""
        if bool((depth * scattering > self.deepest).any()):
            raise ValueError(
                f"a target lies deeper than {self.deepest} transport lengths, where the tables end"
            )
        place = (depth * scattering - self.depth[0]) / (self.depth[1] - self.depth[0])
        place = place.clamp(0, len(table) - 1.001)
        row = place.long()
        light = torch.lerp(table[row], table[row + 1], (place - row).unsqueeze(-1))
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        light = light * torch.exp(-(absorption / scattering).unsqueeze(-1) * middle)
        so_far = torch.nn.functional.pad(light.cumsum(-1), (1, 0))
        steps = self.clock.period * FINE
        time = torch.arange(steps + 1, dtype=torch.float64) * self.clock.width / FINE
        by_time = torch.diff(_interpolated(so_far, self.edges, scattering.unsqueeze(-1) * speed() * time))
        found = torch.fft.rfft(by_time)[:, : self.clock.period // 2 + 1]
        spectrum: Tensor = found * torch.exp(-1j * self.clock.omega * self.clock.width / FINE / 2)
        return spectrum


def make_tables(photons: int, seed: int = 0, file: Path = FILE) -> None:
    """Run the photons of both sources under both surfaces, and write the tables."""
    found: dict[str, np.ndarray] = {}
    for surface, index in SURFACES.items():
        for source in (pencil, lambert):
            table: Table = simulate(source, photons, index, seed)
            found[f"{source.__name__}_{surface}"] = table.fluence.numpy()
    found |= {"depth": table.depth.numpy(), "edges": table.edges.numpy()}
    np.savez_compressed(file, **found)  # type: ignore[arg-type]


def _continued(edges: Tensor, tables: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Add bins up to TAIL, by the law of late light and the level of the last tenth of the table's paths."""
    more = torch.logspace(0, 1, 60, dtype=torch.float64)[1:] ** torch.log10(TAIL / edges[-1]) * edges[-1]
    longer = torch.cat([edges, more])
    late = edges[:-1] >= 0.5 * edges[-1]

    def integral(of: Tensor) -> Tensor:
        return torch.diff(of.clamp(min=1e-9) ** -1.5).abs()

    before, after = integral(edges)[late].sum(), integral(longer)[len(edges) - 1 :]
    return longer, [torch.cat([t, t[:, late].sum(1, keepdim=True) * after / before], 1) for t in tables]


def _interpolated(values: Tensor, at: Tensor, wanted: Tensor) -> Tensor:
    """Values (B, J) known at ascending places (J,), at others (B, M); beyond the last, the last."""
    right = torch.searchsorted(at, wanted.contiguous()).clamp(1, len(at) - 1)
    share = ((wanted - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)
    return torch.lerp(values.gather(1, right - 1), values.gather(1, right), share)
