"""Several gates over the same experts, each with experts that it may see."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from collegium.context import Context
from collegium.gates import Linear
from collegium.routers.base import Router
from collegium.routers.dense import AllExperts
from collegium.routing import Routing

Table = Sequence[Sequence[bool]]


class MultiGate(Router):
    """G gates over the same experts, and an output for each (Ma et al. 2018, MMoE).

    A gate is a router over the experts visible to it: a softmax over all of them by default. A mask makes it
    what its successors are: with private and common experts the gates of CGC and PLE (Tang et al. 2020), with
    a hierarchy of task groups those of HoME (Wang et al. 2024). An expert runs once for each token, however
    many gates read it; one that a gate cannot see gets exactly no gradient from it. The layer's output has a
    dim of G in front of the expert's. What gates hand on comes along: states as (T, G, R), selectors of all
    gates together, and the load that they expect in sum.

    Above the first level of PLE or HoME each gate has an input of its own: items are (rows, D), ``rows`` says
    which row each gate reads, and ``experts.RowExperts`` does the same for the experts.

    Costs G gates, and all experts that any of them chooses: by default all E a token.

    Args:
        dim, num_experts: width of an item and E; with ``rows`` the width of all rows together.
        gates: G.
        visible: G lists of E truth values; all by default.
        rows: G numbers, the row of the item that each gate reads; the whole item by default.
        router: (D, experts that the gate sees) -> the router of one gate.
        height: how many rows an item has; up to the last one that a gate reads, by default. At the top of PLE
            the common row is read by experts alone.
        own: G lists of E truth values, the experts that a gate also weighs by a second, linear gate that
            knows them alone, a sigmoid of one or a softmax of several. The weights add up, so that a gate's
            own experts learn of it even where the first gate left them (HoME's self-gate); none by default.

    Raises:
        ValueError: a mask of another shape, a gate without experts, an expert that nobody sees, own experts
            that their gate does not see, rows that do not divide the item, or not one of them for each gate;
            a router of several outputs, or at a call one of slots or null experts.

    >>> from collegium import MoE, experts
    >>> tasks = MultiGate(16, 4, gates=2, visible=[[True, True, True, False], [False, True, True, True]])
    >>> MoE(tasks, experts.MLP(16, 4, hidden=8))(torch.randn(10, 16)).shape
    torch.Size([10, 2, 16])
    """

    visible: Tensor
    own: Tensor

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gates: int = 2,
        visible: Table | None = None,
        rows: Sequence[int] | None = None,
        router: Callable[[int, int], Router] = AllExperts,
        height: int | None = None,
        own: Table | None = None,
    ) -> None:
        super().__init__(dim, num_experts)
        if gates < 1:
            raise ValueError("MultiGate wants at least one gate")
        seen = _table(
            "visible", [[True] * num_experts] * gates if visible is None else visible, gates, num_experts
        )
        mine = torch.zeros_like(seen) if own is None else _table("own", own, gates, num_experts)
        for what, something in (("gate", seen.any(1)), ("expert", seen.any(0))):
            if not bool(something.all()):
                raise ValueError(
                    f"MultiGate: {what} {int((~something).nonzero()[0])} has nothing to do in `visible`"
                )
        if own is not None and not (bool(mine.any(1).all()) and bool((seen | ~mine).all())):
            raise ValueError(
                "MultiGate: in `own` every gate must have experts, and all of them visible to it"
            )
        self.outputs = gates
        self.rows = None if rows is None else list(rows)
        if self.rows is not None and (len(self.rows) != gates or min(self.rows) < 0):
            raise ValueError(f"MultiGate: rows must name one of the item's rows for each of {gates} gates")
        last = max(self.rows or [0])
        self.height = last + 1 if height is None else height
        if self.height <= last or dim % self.height or (rows is None and self.height > 1):
            raise ValueError(f"MultiGate: an item of width {dim} does not have {self.height} rows to read")
        width = dim // self.height
        self.gates = nn.ModuleList(router(width, int(line.sum())) for line in seen)
        self.self_gates = None if own is None else nn.ModuleList(Linear(width, int(n)) for n in mine.sum(1))
        for gate in self._each():
            if gate.outputs is not None:
                raise ValueError(f"MultiGate: {type(gate).__name__} has several outputs, a gate has one")
        self.needs = tuple(dict.fromkeys(name for gate in self._each() for name in gate.needs))
        self.causal = all(gate.causal for gate in self._each())
        self.blind = all(gate.blind for gate in self._each()) and own is None
        self.register_buffer("visible", seen, persistent=False)
        self.register_buffer("own", mine, persistent=False)

    @property
    def experts_a_token(self) -> int | None:
        """All, where each gate weighs all that it sees."""
        whole = all(gate.experts_a_token == gate.num_experts for gate in self._each())
        return self.num_experts if whole else None

    def anneal(self, progress: float) -> None:
        """Pass on to every gate."""
        for gate in self._each():
            gate.anneal(progress)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Weigh the experts for each gate."""
        item = x.unflatten(1, (self.height, -1))
        read = [item[:, row] for row in self.rows or [0] * len(self.gates)]
        found = [self._ask(g, tokens, context, previous) for g, tokens in enumerate(read)]
        weight = self._together([each.dense_weight() for each in found], 0.0)
        logits = self._together([each.logits for each in found], -torch.inf)
        probs = self._together([each.probs for each in found], 0.0)
        chosen = self._together([each.selected() for each in found], False)
        assert weight is not None
        assert chosen is not None
        if self.self_gates is not None:
            weight, chosen = weight + self._by_themselves(read).to(weight.dtype), chosen | self.own
        weight = weight.transpose(1, 2)
        if all(isinstance(each.counts, int) for each in found):
            routing = Routing.dense(weight, mask=context.mask, logits=logits, probs=probs)
        else:
            anyone = chosen.any(1)
            routing = Routing.from_selection(anyone, weight, mask=context.mask, logits=logits, probs=probs)
        states = [each.state for each in found if each.state is not None]
        return replace(routing, extras=self._extras(found), state=torch.stack(states, 1) if states else None)

    def _ask(self, gate: int, tokens: Tensor, context: Context, previous: Routing | None) -> Routing:
        """The decision of one gate among the experts that it sees."""
        previous = None if previous is None else self._of_gate(gate, previous)
        router = self._each()[gate]
        found = router(tokens, context, previous)
        if not isinstance(found, Routing):
            raise ValueError(
                f"MultiGate: {type(router).__name__} mixes tokens into slots: use one that assigns them"
            )
        if found.probs is not None and found.probs.shape[1] != found.num_experts:
            raise ValueError(f"MultiGate: {type(router).__name__} has null experts: leave them out")
        return found

    def _of_gate(self, gate: int, previous: Routing) -> Routing:
        """What one gate hears of the layer before: its own scores and its own state."""
        scores, state = previous.logits, previous.state
        if scores is not None and scores.ndim > 2:
            self._check_gates(scores.shape[1:] == self.visible.shape)
            scores = scores[:, gate, self.visible[gate]]
        if state is not None and state.ndim > 2:
            self._check_gates(state.shape[1] == len(self.gates))
            state = state[:, gate]
        return replace(previous, logits=scores, state=state)

    def _check_gates(self, alike: bool) -> None:
        if not alike:
            raise ValueError("MultiGate looks back to a layer: use as many experts and gates in both")

    def _extras(self, found: Sequence[Routing]) -> dict[str, Tensor]:
        """The load expected by all gates together, (T, E), and the selectors of all, (T, k * G, E)."""
        extras = {}
        if any("load" in each.extras for each in found):
            loads = [each.extras.get("load", each.selected().to(each.weight.dtype)) for each in found]
            extras["load"] = _spread(loads, self.visible, 0.0).masked_fill(self.own, 1.0).sum(1)
        if all("selectors" in each.extras for each in found):
            T, k, _ = found[0].extras["selectors"].shape
            parts = [each.extras["selectors"].flatten(0, 1) for each in found]
            extras["selectors"] = _spread(parts, self.visible, 0.0).unflatten(0, (T, k)).flatten(1, 2)
        return extras

    def _by_themselves(self, read: Sequence[Tensor]) -> Tensor:
        """(T, G, E) what the gates add for their own experts."""
        assert self.self_gates is not None
        shares = []
        for tokens, gate in zip(read, self.self_gates, strict=True):
            scores = gate(tokens, Context(), None)
            shares.append(scores.softmax(1) if scores.shape[1] > 1 else scores.sigmoid())
        return _spread(shares, self.own, 0.0)

    def _together(self, parts: Sequence[Tensor | None], rest: float) -> Tensor | None:
        """(T, G, E) of what each gate tells of the experts that it sees, or None where one does not."""
        told = [part for part in parts if part is not None]
        return _spread(told, self.visible, rest) if len(told) == len(parts) else None

    def _each(self) -> list[Router]:
        return cast(list[Router], list(self.gates))


def _spread(parts: Sequence[Tensor], where: Tensor, rest: float) -> Tensor:
    """G tensors (T, experts of a gate) as (T, G, E), ``rest`` elsewhere; ``where`` (G, E) tells of which."""
    columns = (where.cumsum(1) - 1).clamp(min=0)
    whole = [part.index_select(1, column) for part, column in zip(parts, columns, strict=True)]
    return torch.stack(whole, 1).masked_fill(~where, rest)


def _table(name: str, table: Table, gates: int, num_experts: int) -> Tensor:
    """(G, E) bool."""
    if [len(line) for line in table] != [num_experts] * gates:
        raise ValueError(f"MultiGate: {name} must be {gates} lists of {num_experts} truth values")
    return torch.tensor([list(line) for line in table], dtype=torch.bool)
