"""The routings of some validation sequences: how they move between validations, and along a sequence."""

from dataclasses import replace
from typing import Any

import torch
from collegium import Context, Routing, inspection
from torch import Tensor

from apps.common.sample import Sample
from apps.common.usage import sequence_of

M = 4
"""Neighbours of a segment, in which local consistency is measured."""
CELLS = 2**15
"""Tokens times experts that are kept of a layer."""

Rows = dict[str, Tensor]
"""sequence (n,) int64, chosen (n, E) bool, real (n,) bool, and probs (n, ...) where the router has them."""


class Probe:
    """Keeps the routings of one layer for a sample of whole sequences, of the first call in each batch.

    Later calls may be fed with what the network itself has put out, so that their tokens are other ones in
    each validation.
    """

    def __init__(self) -> None:
        self._sample: Sample | None = None

    def add(self, routing: Routing, batch: int) -> None:
        """Take in the first call of a batch; `batch` tells the sequences of batches apart."""
        if self._sample is None:
            self._sample = Sample(max(1, CELLS // routing.num_experts))
        real = torch.ones(routing.num_tokens, dtype=torch.bool) if routing.mask is None else routing.mask
        columns = {"chosen": routing.selected(), "real": real}
        if routing.probs is not None:
            columns["probs"] = routing.probs.float()
        self._sample.add((batch << 32) + sequence_of(routing), **columns)

    def rows(self) -> Rows:
        """Return what is kept; of a sequence that is too long, its beginning."""
        if self._sample is None:
            return {}
        rows = {"sequence": self._sample.sequence, **self._sample.columns}
        return {name: column[: self._sample.most].clone() for name, column in rows.items()}


def drift(before: Rows, after: Rows) -> dict[str, float]:
    """Return how far the `experts` and `probs` of the same tokens moved; nothing where they are not the same.

    Where every token runs every expert, only the probabilities can move.
    """
    if any(not torch.equal(before[key], after[key]) for key in ("sequence", "real")):
        return {}
    if before["chosen"].shape != after["chosen"].shape or not after["real"].any():
        return {}
    moved = inspection.drift(_routing(before), _routing(after))._asdict()
    if _all_run(after):
        del moved["experts"]
    return {name: value for name, value in moved.items() if value is not None}


def locality(rows: Rows) -> dict[str, Any]:
    """Return SRP and SCH of segments of M neighbours, and both by chance: with the tokens in any order.

    The cache of SCH holds twice the experts of a token, as Liang et al. (2025) advise. `left_out` says why a
    figure is missing: it would be the same for any routing.
    """
    if not rows["real"].any():
        return {}
    if _all_run(rows):
        return {"left_out": "every token runs every expert"}
    kept, mixed = _routing(rows), _routing(_mixed(rows))
    srp = inspection.segment_routing_best_performance
    try:
        found: dict[str, Any] = {"m": M, "srp": srp(kept, M), "srp_chance": srp(mixed, M)}
    except ValueError:
        return {"left_out": f"no sequence has {M} tokens in a row"}
    cache = max(1, round(2 * float(rows["chosen"][rows["real"]].sum(1).double().mean())))
    if cache >= kept.num_experts:
        return {**found, "left_out": "SCH: a cache for the experts of two tokens holds all"}
    sch = inspection.segment_cache_hit_rate
    return {**found, "cache": cache, "sch": sch(kept, cache, M), "sch_chance": sch(mixed, cache, M)}


def _routing(rows: Rows) -> Routing:
    chosen = rows["chosen"]
    routing = Routing.from_selection(chosen, chosen.float(), mask=rows["real"], probs=rows.get("probs"))
    return replace(routing, context=Context(segment=rows["sequence"]))


def _mixed(rows: Rows) -> Rows:
    """Exchange the choices of all tokens at random."""
    real = rows["real"].nonzero()[:, 0]
    order = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
    chosen = rows["chosen"].clone()
    chosen[real] = rows["chosen"][order]
    return {**rows, "chosen": chosen}


def _all_run(rows: Rows) -> bool:
    return bool(rows["chosen"][rows["real"]].all())
