"""How the experts of a ranker are: the three diseases that HoME names, measured.

Source: Wang et al. 2024, "HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou",
section 1. Collapse: outputs of some experts are mostly zero, or of another size than those of others.
Degradation: an expert that is there for all tasks serves one. Underfitting: a task with few positives leaves
its own experts aside.

Legend: T rows, G gates, E experts, H width of an expert's output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from collegium import MoE, Routing, record
from torch import Tensor

from apps.recsys.bodies import Mixture
from apps.recsys.impressions import Batch
from apps.recsys.levels import Level
from apps.recsys.model import Ranker

SMALLEST = 1e-6
"""A size that others are divided by."""


def health(network: Ranker, batch: Batch) -> list[dict[str, Any]]:
    """A row for each expert of each level; none where the body is no mixture.

    silent: share of its outputs that are zero; size: their root mean square; weight: what the gates that see
    it give it, a mean; serves: how many of these gates it serves, as the exponential of the entropy of its
    weight over them, over their number; own: whether it belongs to one gate.
    """
    body = network.body
    if not isinstance(body, Mixture):
        return []
    rows = []
    for number, (level, (routing, said)) in enumerate(
        zip(body.levels, observed(network, batch), strict=True)
    ):
        weight = weights(routing).mean(0).numpy()
        for e, name in enumerate(level.experts):
            seen = np.array([line[e] for line in level.visible])
            given = weight[seen, e]
            rows.append(
                {
                    "level": number + 1,
                    "expert": name,
                    "silent": float((said[e] == 0).float().mean()) if len(said[e]) else 1.0,
                    "size": float(said[e].square().mean().sqrt()) if len(said[e]) else 0.0,
                    "weight": float(given.mean()),
                    "serves": effective(given) / len(given),
                    "own": bool(seen.sum() == 1),
                }
            )
    return rows


def summary(rows: list[dict[str, Any]], network: Ranker, batch: Batch) -> dict[str, float]:
    """The diseases as a number each.

    collapse: share of zeros among all outputs; sizes: the largest size of an expert over the smallest, on the
    level where that is most; degradation: one less what common experts serve, a mean; underfitting: one less
    the share of its gate's weight that goes to a task's own experts, of the task with the least.
    """
    found = {"collapse": float(np.mean([row["silent"] for row in rows]))}
    levels = {row["level"] for row in rows}
    ratios = []
    for level in levels:
        sizes = [row["size"] for row in rows if row["level"] == level]
        ratios.append(max(sizes) / max(min(sizes), SMALLEST))
    found["sizes"] = max(ratios)
    common = [row["serves"] for row in rows if not row["own"]]
    if common:
        found["degradation"] = 1 - float(np.mean(common))
    shares = own_shares(network, batch)
    if shares:
        found["underfitting"] = 1 - min(shares.values())
    return found


def own_shares(network: Ranker, batch: Batch) -> dict[str, float]:
    """Task -> the share of its weight at the top that goes to experts which it alone sees, if it has any."""
    body = network.body
    if not isinstance(body, Mixture):
        return {}
    level: Level = body.levels[-1]
    weight = weights(observed(network, batch)[-1][0]).mean(0)
    alone = torch.tensor(level.visible).sum(0) == 1
    if not bool(alone.any()):
        return {}
    share = (weight * alone).sum(1) / weight.sum(1)
    return dict(zip(level.gates, share.tolist(), strict=True))


@torch.no_grad()
def observed(network: Ranker, batch: Batch) -> list[tuple[Routing, list[Tensor]]]:
    """Of each level the routing, and what each expert says (rows of e, H)."""
    body = network.body
    assert isinstance(body, Mixture)
    layers = [layer for layer in body.layers if isinstance(layer, MoE)]
    said: list[Tensor] = []
    hooks = [layer.experts.register_forward_hook(lambda *call: said.append(call[2])) for layer in layers]
    try:
        with record(network) as routings:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    calls = [call for own in routings.values() for call in own]
    return [
        (call, list(torch.split(y, [int(n) for n in call.row_counts()])))
        for call, y in zip(calls, said, strict=True)
    ]


def weights(routing: Routing) -> Tensor:
    """(T, G, E)."""
    return routing.dense_weight().transpose(1, 2)


def effective(parts: np.ndarray) -> float:
    """How many of some non-negative parts there really are: the exponential of their entropy.

    >>> effective(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    share = parts / max(parts.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
