"""Whether light by the forward model, near an estimate, can make a histogram at all.

Shapes: B histograms, T bins, G groups of bins, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from scipy.stats import chi2
from torch import Tensor

from apps.lidar.bound import INNER, PARAMETERS, Prior
from apps.lidar.fit import as_bright
from apps.lidar.rig import Rig
from apps.lidar.simulate import expected

GROUPS = 32
"""Groups of bins that expect as many photons each (Mann and Wald 1942): single bins are nearly dark."""
TISSUES = (0.2, 0.5, 0.8)
"""Where in its range unknown tissue may lie; the likeliest of these is gone from."""


def chance(
    counts: Tensor, value: Tensor, prior: Prior, rig: Rig, known: bool, covered: Tensor | None = None
) -> Tensor:
    """How probable it is that histograms of the forward model fit it no better, (B,), by a chi-squared test.

    Near an estimate, expected light follows all parameters about linearly. What remains of the counts after
    the best such step is compared with what chance leaves. So it also tells estimates that are far off.

    Args:
        counts: (B, T).
        value: estimates of depth in mm and lifetime in ns, (B, 2).
        prior: what is known of the scenes.
        rig: what the histograms were measured with; light is that of diffusion theory.
        known: whether the tissue is.
        covered: (T,) bool, which bins were looked at; all by default.
    """
    seen = torch.ones(rig.clock.bins, dtype=torch.float64) if covered is None else covered.double()
    counts = counts.double() * seen

    def light(unit: Tensor) -> Tensor:
        return expected(prior.at(unit), rig) * seen

    unit = as_bright(counts, prior, rig)
    ends = prior.low[:, :2], prior.high[:, :2]
    unit[:, :2] = ((value.double() - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
    if not known:
        unit = _likeliest_tissue(counts, unit, light)
    level = light(unit)
    share = level.cumsum(1) / level.sum(1, keepdim=True)
    group = (share * GROUPS).ceil().long().clamp(1, GROUPS) - 1

    def pooled(bins: Tensor) -> Tensor:
        return bins.new_zeros(len(bins), GROUPS).scatter_add_(1, group, bins)

    want = pooled(level)
    root = want.sqrt().clamp(min=1e-6)
    steps = INNER * torch.eye(len(PARAMETERS), dtype=torch.float64)
    slope = torch.stack([pooled((light(unit + step) - level) / INNER) for step in steps], dim=2)
    slope, rest = slope / root.unsqueeze(2), ((pooled(counts) - want) / root).unsqueeze(2)
    pull = slope.mT @ rest
    told = slope.mT @ slope + torch.eye(len(PARAMETERS), dtype=torch.float64)
    left = rest.square().sum(1) - (pull * torch.linalg.solve(told, pull)).sum(1)
    freedom = ((want > 0).sum(1) - len(PARAMETERS)).clamp(min=1)
    return torch.from_numpy(chi2.sf(left.squeeze(1).numpy(), freedom.numpy()))


def _likeliest_tissue(counts: Tensor, unit: Tensor, light: Callable[[Tensor], Tensor]) -> Tensor:
    """Parameters (B, P) with the likeliest of TISSUES."""
    best, least = unit, torch.full((len(counts),), torch.inf, dtype=torch.float64)
    for tissue in product(TISSUES, repeat=2):
        here = unit.clone()
        here[:, 2:4] = torch.tensor(tissue, dtype=torch.float64)
        level = light(here).clamp(min=1e-9)
        lost = (level - counts * level.log()).sum(1)
        best = torch.where((lost < least).unsqueeze(1), here, best)
        least = torch.minimum(lost, least)
    return best
