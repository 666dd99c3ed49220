"""How the experts of one layer were used, over many batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from collegium import Routing, inspection
from collegium.segments import segment_ids
from torch import Tensor

from apps.common.sample import Sample, evenly

LABELS = ("task", "domain", "label")
"""Fields of a Context that are read as labels."""
MOST = 64
"""Experts and labels of a table that a picture can show; none is kept of more."""
TOKENS = 2**13
"""How many tokens at most the intervals are measured on."""
OF_ONE = TOKENS // 64
"""How many of them at most are of one sequence, so that there are some sequences to draw from."""


class Usage:
    """Counts of the routings of one layer."""

    def __init__(self) -> None:
        self.demand: Tensor | None = None
        self.together: Tensor | None = None
        self.entropy = 0.0
        self.decided = self.tokens = self.fixed = 0
        self.labels: dict[str, LabelUsage] = {}

    def add(self, calls: Sequence[Routing], batch: int = 0) -> None:
        """Count the routings of one layer in one batch; `batch` tells the sequences of batches apart."""
        for routing in calls:
            self.fixed = routing.fixed
            demand = routing.demand.cpu().double()
            self.demand = demand if self.demand is None else self.demand + demand
            tokens = routing.num_tokens if routing.mask is None else int(routing.mask.sum())
            self.tokens += tokens
            if tokens and routing.probs is not None:
                self.entropy += inspection.entropy(routing) * tokens
                self.decided += tokens
            if routing.num_experts <= MOST:
                together = inspection.co_selection(routing) * tokens
                self.together = together if self.together is None else self.together + together
                for name, label in labels_of(routing):
                    usage = self.labels.setdefault(name, LabelUsage(routing.num_experts))
                    usage.add(routing, label, (batch << 32) + sequence_of(routing))

    def figures(self, total: Callable[[Tensor], Tensor] = lambda own: own) -> dict[str, float]:
        """Return the figures that are logged, by name; `total` adds up what several processes counted."""
        demand = torch.zeros(1) if self.demand is None else self.demand
        decided = demand.new_tensor([self.entropy, self.decided], dtype=torch.float64)
        *_, entropy, tokens = counted = total(torch.cat([demand.double(), decided]))
        load = counted[:-2] / counted[:-2].sum().clamp(min=1)
        return {
            **{f"load_{expert}": float(share) for expert, share in enumerate(load)},
            "max_violation": inspection.max_violation(load, self.fixed),
            "dead_experts": float(len(inspection.dead_experts(load, fixed=self.fixed))),
            **({"entropy": float(entropy / tokens)} if tokens else {}),
        }

    def tables(self) -> dict[str, Any]:
        """Return the tables as plain lists: co-selection, and for each label expert by label."""
        tables: dict[str, Any] = {}
        if self.together is not None:
            tables["co_selection"] = _plain(self.together / max(self.tokens, 1))
        labels = {name: usage.tables() for name, usage in self.labels.items() if usage.kept}
        return {**tables, "labels": labels}


class LabelUsage:
    """Which expert of a layer served which label."""

    def __init__(self, experts: int) -> None:
        self.table = torch.zeros(experts, MOST + 1, dtype=torch.float64)
        self.sample = Sample(TOKENS)
        self.too_many = False

    @property
    def kept(self) -> bool:
        """Whether there are labels, and not too many."""
        return not self.too_many and bool(self.table.any())

    def add(self, routing: Routing, label: Tensor, sequence: Tensor) -> None:
        """Count tokens (T,) with their labels and sequences; labels below zero are unknown."""
        label = label.cpu()
        self.too_many = self.too_many or bool((label >= MOST).any())
        if self.too_many:
            return
        known = label.where(label >= 0, MOST)
        self.table += inspection.expert_by_label(routing, known, MOST + 1)
        real = known < MOST if routing.mask is None else (known < MOST) & routing.mask.cpu()
        rows = real.nonzero().flatten()
        rows = rows[evenly(sequence[rows], OF_ONE)]
        self.sample.add(sequence[rows], served=inspection.served(routing)[rows], label=known[rows])

    def tables(self) -> dict[str, Any]:
        """Return the table, (experts, labels), and how far experts tell the label."""
        table = self.table[:, :MOST]
        labels = int(table.any(0).nonzero().max()) + 1
        return {"table": _plain(table[:, :labels]), **self._specialisation()._asdict()}

    def _specialisation(self) -> inspection.Specialisation:
        served, label = self.sample.columns["served"], self.sample.columns["label"]
        counted = bool(((served == 0) | (served == 1)).all())
        routing = Routing.from_selection(served > 0, served) if counted else Routing.dense(served)
        return inspection.specialisation(routing, label, self.sample.sequence, draws=200)


def labels_of(routing: Routing) -> Iterator[tuple[str, Tensor]]:
    """Name and ids (T,) of every label that a routing carries."""
    for name in LABELS:
        label = getattr(routing.context, name, None)
        if isinstance(label, Tensor) and label.ndim == 1 and not label.is_floating_point():
            yield name, label


def sequence_of(routing: Routing) -> Tensor:
    """(T,) which sequence, image or row of the call's input each token belongs to."""
    context = routing.context
    if context is not None and context.segment is not None:
        return segment_ids(context).cpu()
    tokens = torch.arange(routing.num_tokens)
    shape = context.shape if context else None
    return tokens // max(routing.num_tokens // shape[0], 1) if shape and shape[0] else tokens


def _plain(table: Tensor) -> list[list[float]]:
    return [[float(f"{value:.6g}") for value in row] for row in table.tolist()]
