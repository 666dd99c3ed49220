"""How the experts of a ranker are: the three diseases that HoME names, measured.

Source: Wang et al. 2024, "HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou",
section 1. Collapse: outputs of some experts are dead, or of another size than those of others.
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
from apps.recsys.impressions import Batch, Impressions
from apps.recsys.levels import Level
from apps.recsys.model import Ranker

SMALLEST = 1e-6
"""A size that others are divided by."""
LOOKED_AT = 4096
SAME = 0.01
"""Spread of an output, beside the usual size, below which it says the same of every row."""


def looked_at(rows: Impressions) -> Impressions:
    """Those of some rows on which experts are looked at, spread over all."""
    return rows.only(np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int))


def health(network: Ranker, batch: Batch) -> list[dict[str, Any]]:
    """A row for each expert of each level; none where the body is no mixture.

    dead: share of its outputs that are the same for every row, within a hundredth of the usual size; size:
    the root mean square of all; weight: what the gates that see it give it, a mean; serves: how many of these
    gates it serves, as the exponential of the entropy of its weight over them, over their number; own:
    whether it is there for one task; seen: by how many gates.
    """
    body = mixture_of(network)
    if body is None:
        return []
    rows = []
    for number, (level, (routing, said)) in enumerate(
        zip(body.levels, observed(network, batch), strict=True)
    ):
        weight = weights(routing).mean(0).numpy()
        usual = float(torch.cat(said).square().mean().sqrt())
        for e, name in enumerate(level.experts):
            seen = np.array([line[e] for line in level.visible])
            given, there = weight[seen, e], len(said[e]) > 1
            still = said[e].std(0) < SAME * max(usual, SMALLEST) if there else torch.ones(1)
            rows.append(
                {
                    "level": number + 1,
                    "expert": name,
                    "dead": float(still.float().mean()),
                    "size": float(said[e].square().mean().sqrt()) if there else 0.0,
                    "weight": float(given.mean()),
                    "serves": effective(given) / len(given),
                    "own": level.alone[e],
                    "seen": int(seen.sum()),
                }
            )
    return rows


def summary(rows: list[dict[str, Any]], network: Ranker, batch: Batch) -> dict[str, float]:
    """The diseases as a number each.

    collapse: share of dead outputs among all; sizes: the largest size of an expert over the smallest, on the
    level where that is most; degradation: one less what common experts serve, a mean over those that several
    gates see; underfitting: by how much a task's own experts are heard less than if all that it sees were
    heard alike, of the task where that is most; 0 where none is.
    """
    found = {"collapse": float(np.mean([row["dead"] for row in rows]))}
    levels = {row["level"] for row in rows}
    ratios = []
    for level in levels:
        sizes = [row["size"] for row in rows if row["level"] == level]
        ratios.append(max(sizes) / max(min(sizes), SMALLEST))
    found["sizes"] = max(ratios)
    common = [row["serves"] for row in rows if not row["own"] and row["seen"] > 1]
    if common:
        found["degradation"] = 1 - float(np.mean(common))
    shares = own_shares(network, batch)
    if shares:
        found["underfitting"] = max(0.0, 1 - min(shares.values()))
    return found


def own_shares(network: Ranker, batch: Batch) -> dict[str, float]:
    """Task -> the share that its own experts have in what it hears at the top, over an even share, if any.

    What it hears of an expert is the length of its output times the weight of the gate, a mean over rows. An
    even share is that of its own experts in the number of all that it sees.
    """
    body = mixture_of(network)
    if body is None or not any(body.levels[-1].alone):
        return {}
    level: Level = body.levels[-1]
    routing, said = observed(network, batch)[-1]
    weight = weights(routing)
    heard = torch.zeros(weight.shape[1:])
    for e, own in enumerate(said):
        tokens = routing.token[routing.expert == e]
        heard[:, e] = (weight[tokens, :, e].abs() * own.norm(dim=1)[:, None]).sum(0)
    alone, visible = torch.tensor(level.alone), torch.tensor(level.visible)
    share = (heard * alone).sum(1) / heard.sum(1).clamp(min=SMALLEST)
    even = (visible & alone).sum(1) / visible.sum(1)
    return dict(zip(level.gates, (share / even.clamp(min=SMALLEST)).tolist(), strict=True))


def mixture_of(network: Ranker) -> Mixture | None:
    """The mixture of a ranker, None where it has none, or one for each task."""
    body = getattr(network, "body", None)
    return body if isinstance(body, Mixture) else None


@torch.no_grad()
def observed(network: Ranker, batch: Batch) -> list[tuple[Routing, list[Tensor]]]:
    """Of each level the routing, and what each expert says (rows of e, H)."""
    body = mixture_of(network)
    assert body is not None
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
