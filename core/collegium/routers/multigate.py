"""Several gates over the same experts, each with experts that it may see."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.base import Router
from collegium.routing import Routing


class MultiGate(Router):
    """G gates, each a softmax over the experts visible to it: an output for each (Ma et al. 2018, MMoE).

    A mask makes it what its successors are: with private and common experts the gates of CGC and PLE (Tang et
    al. 2020), with a hierarchy of task groups those of HoME (Wang et al. 2024). Every expert runs once for
    each token, however many gates read it; an expert that a gate cannot see gets exactly no gradient from it.
    The layer's output has a dim of G in front of the expert's.

    Above the first level of PLE or HoME each gate has an input of its own: items are (rows, D), ``rows`` says
    which row each gate reads, and ``experts.RowExperts`` does the same for the experts.

    Costs G gates and all E experts a token.

    Args:
        dim, num_experts: width of an item and E; with ``rows`` the width of all rows together.
        gates: G.
        visible: G lists of E truth values; all by default.
        rows: G numbers, the row of the item that each gate reads; the whole item by default.
        gate: (D, E) -> one gate.
        height: how many rows an item has; up to the last one that a gate reads, by default. At the top of PLE
            the common row is read by experts alone.

    Raises:
        ValueError: a mask of another shape, a gate without experts, an expert that nobody sees, rows that do
            not divide the item, or not one of them for each gate.

    >>> from collegium import MoE, experts
    >>> tasks = MultiGate(16, 4, gates=2, visible=[[True, True, True, False], [False, True, True, True]])
    >>> MoE(tasks, experts.MLP(16, 4, hidden=8))(torch.randn(10, 16)).shape
    torch.Size([10, 2, 16])
    """

    visible: Tensor

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gates: int = 2,
        visible: Sequence[Sequence[bool]] | None = None,
        rows: Sequence[int] | None = None,
        gate: Callable[[int, int], Gate] = Linear,
        height: int | None = None,
    ) -> None:
        super().__init__(dim, num_experts)
        if gates < 1:
            raise ValueError("MultiGate wants at least one gate")
        table = torch.ones(gates, num_experts, dtype=torch.bool)
        if visible is not None:
            if [len(line) for line in visible] != [num_experts] * gates:
                raise ValueError(f"MultiGate: visible must be {gates} lists of {num_experts} truth values")
            table = torch.tensor(visible, dtype=torch.bool)
        for what, seen in (("gate", table.any(1)), ("expert", table.any(0))):
            if not bool(seen.all()):
                raise ValueError(
                    f"MultiGate: {what} {int((~seen).nonzero()[0])} has nothing to do in `visible`"
                )
        self.outputs = gates
        self.rows = None if rows is None else list(rows)
        if self.rows is not None and (len(self.rows) != gates or min(self.rows) < 0):
            raise ValueError(f"MultiGate: rows must name one of the item's rows for each of {gates} gates")
        last = max(self.rows or [0])
        self.height = last + 1 if height is None else height
        if self.height <= last or dim % self.height or (rows is None and self.height > 1):
            raise ValueError(f"MultiGate: an item of width {dim} does not have {self.height} rows to read")
        self.gates = nn.ModuleList(gate(dim // self.height, num_experts) for _ in range(gates))
        self.needs = tuple(dict.fromkeys(name for each in self._each() for name in each.needs))
        self.causal = all(each.causal for each in self._each())
        self.register_buffer("visible", table, persistent=False)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Weigh the experts for each gate."""
        item = x.unflatten(1, (self.height, -1))
        rows = [0] * len(self.gates) if self.rows is None else self.rows
        scores = [
            each(item[:, row], context, _of_gate(previous, gate, len(rows)))
            for gate, (each, row) in enumerate(zip(self._each(), rows, strict=True))
        ]
        logits = torch.stack(scores, 1).masked_fill(~self.visible, -torch.inf)
        probs = logits.softmax(-1)
        return Routing.dense(probs.transpose(1, 2), mask=context.mask, logits=logits, probs=probs)

    def _each(self) -> list[Gate]:
        return list(self.gates)  # type: ignore[arg-type]


def _of_gate(previous: Routing | None, gate: int, gates: int) -> Routing | None:
    """The layer before as one gate knows it, where that had as many."""
    if previous is None or previous.logits is None or previous.logits.shape[1:-1] != (gates,):
        return previous
    return replace(previous, logits=previous.logits[:, gate])
