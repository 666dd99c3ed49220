"""How unlike a model treats groups of people: gaps of its predictions, and penalties of its probabilities.

Each measure is a mean for each group, and the largest difference of these means between any two groups:

- parity, demographic parity: the share that gets the wanted outcome, E[p | a];
- odds, equalised odds: the same among those of one label, E[p | a, y], and the larger difference of the two
  labels. The mean of both would let one make good for the other; fairlearn takes the larger one as well, and
  offers the mean. Source: Hardt, Price and Srebro 2016, "Equality of Opportunity in Supervised Learning";
- burden: the distance that those who did not get it are from the boundary where they would. Source: Sharma,
  Henderson and Ghosh 2020, "CERTIFAI", where it is the distance of the nearest counterfactual, which is
  searched for. The third measure of FEAMOE, a gap of recourse, is this one; of linear experts it has a
  closed form (see `distance_to_boundary`).

The gaps are those of decisions, the penalties of probabilities, and both are equal where every probability
is 0 or 1. Of groups that cannot be compared, as only one is there, a gap is NaN and a penalty 0.

Legend: N rows, E experts; class 1 is the wanted outcome; groups are whole numbers, and a row of group -1 is
of none and does not count.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Measure = Literal["parity", "odds", "burden"]
LABELS = (0, 1)
SHORTEST = 1e-6
"""The least length of an expert's weights that a distance is divided by."""


def parity(chance: Tensor, group: Tensor) -> Tensor:
    """Demographic parity of probabilities (N,) of the wanted outcome in groups (N,): a scalar from 0 to 1."""
    return _or_zero(_gap(chance, torch.ones_like(chance), group))


def odds(chance: Tensor, label: Tensor, group: Tensor) -> Tensor:
    """Equalised odds of probabilities (N,), labels (N,) and groups (N,): a scalar from 0 to 1."""
    return torch.stack([_or_zero(gap) for gap in _gaps_by_label(chance, label, group)]).max()


def burden(chance: Tensor, group: Tensor, distance: Tensor) -> Tensor:
    """Burden, where each row counts by its chance (N,) not to get the wanted outcome.

    distance: (N,) from the boundary, in deviations of the features; so is what is returned.
    """
    return _or_zero(_gap(distance, 1 - chance, group))


def penalty(measure: Measure, chance: Tensor, label: Tensor, group: Tensor, distance: Tensor) -> Tensor:
    """The penalty of that name: a scalar with a gradient to probabilities and distances (N,)."""
    if measure == "parity":
        return parity(chance, group)
    return odds(chance, label, group) if measure == "odds" else burden(chance, group, distance)


def parity_gap(predicted: np.ndarray, group: np.ndarray) -> float:
    """Demographic parity of predictions (N,), 0 or 1."""
    outcome = torch.as_tensor(predicted).double()
    return float(_gap(outcome, torch.ones_like(outcome), torch.as_tensor(group)))


def odds_gap(predicted: np.ndarray, label: np.ndarray, group: np.ndarray) -> float:
    """Equalised odds of predictions (N,); NaN where for one label groups cannot be compared."""
    outcome = torch.as_tensor(predicted).double()
    gaps = _gaps_by_label(outcome, torch.as_tensor(label), torch.as_tensor(group))
    return float(torch.stack(gaps).amax())


def burden_gap(predicted: np.ndarray, group: np.ndarray, distance: np.ndarray) -> float:
    """Burden of predictions (N,), from distances (N,) in deviations of the features."""
    unwanted = (torch.as_tensor(predicted) == 0).double()
    return float(_gap(torch.as_tensor(distance).double(), unwanted, torch.as_tensor(group)))


def gaps(table: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The gap of a history by each measure; burden only where the history tells distances."""
    predicted, label, group = table["predicted"], table["label"], table["group"]
    found = {
        "parity": parity_gap(predicted, group),
        "odds": odds_gap(predicted, label, group),
    }
    if "distance" in table:
        found["burden"] = burden_gap(predicted, group, table["distance"])
    return found


def distance_to_boundary(logit: Tensor, length: Tensor, trust: Tensor) -> Tensor:
    """How far rows are from the wanted outcome of linear experts: sum_k g_k max(0, -l_k) / |w_k|.

    The boundary of one expert is a plane, and -l / |w| the exact Euclidean distance of a row on its unwanted
    side; a row on the other side has nothing left to do. The boundary of a mixture is curved: its distance is
    replaced by what the experts ask, weighted by the gate. Of a single expert that is the distance itself.

    Args:
        logit: (N, E) l_k = w_k x + b_k.
        length: (E,) |w_k|.
        trust: (N, E) g_k, which sum to 1.

    Returns:
        (N,) in the units of x.
    """
    return (trust * (-logit).clamp(min=0) / length.clamp(min=SHORTEST)).sum(1)


def _gap(value: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """The largest difference between weighted means of groups; NaN where fewer than two have a weight."""
    means = []
    for one in group[group >= 0].unique():
        own = group == one
        total = weight[own].sum()
        if total > 0:
            means.append((weight[own] * value[own]).sum() / total)
    if len(means) < 2:
        return value.new_full((), torch.nan)
    return torch.stack(means).max() - torch.stack(means).min()


def _gaps_by_label(value: Tensor, label: Tensor, group: Tensor) -> list[Tensor]:
    return [_gap(value, (label == one).to(value.dtype), group) for one in LABELS]


def _or_zero(gap: Tensor) -> Tensor:
    return torch.zeros_like(gap) if gap.isnan() else gap
