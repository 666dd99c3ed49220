"""What holds of every Routing."""

import torch
from torch import Tensor

from collegium.routing import Routing, count
from collegium.testing.inputs import expect


def check_routing(routing: Routing) -> None:
    """Check that the fields of a routing agree with one another.

    >>> import torch
    >>> from collegium import Routing
    >>> check_routing(Routing.from_topk(torch.tensor([[2, 0]]), torch.tensor([[0.7, 0.3]]), num_experts=3))

    Raises:
        AssertionError: naming the field that does not fit.
    """
    _check_assignments(routing)
    _check_counts(routing)
    _check_position(routing)
    for name in ("logits", "probs"):
        _check_scores(routing, name)


def _check_assignments(routing: Routing) -> None:
    T, E, A = routing.num_tokens, routing.num_experts, routing.token.numel()
    for name, size in (("token", T), ("expert", E)):
        index: Tensor = getattr(routing, name)
        expect(index.shape == (A,) and index.dtype == torch.int64, f"{name} must be (A,) int64")
        expect(bool(((index >= 0) & (index < size)).all()), f"{name} must lie in [0, {size})")
    expect(bool((routing.expert.diff() >= 0).all()), "expert must ascend")
    pairs = routing.token * E + routing.expert
    expect(pairs.unique().numel() == A, "a token must not go to the same expert twice")
    ordered = (routing.expert * T + routing.token).diff() > 0
    expect(bool(ordered.all()), "the tokens of an expert must ascend")
    weight = routing.weight
    expect(weight.shape[:1] == (A,) and weight.is_floating_point(), "weight must be (A, ...) of floats")
    expect(bool(weight.isfinite().all()), "weight must be finite")
    if routing.mask is not None:
        expect(routing.mask.shape == (T,) and routing.mask.dtype == torch.bool, "mask must be (T,) bool")
        expect(bool(routing.mask[routing.token].all()), "a masked token must have no assignment")


def _check_counts(routing: Routing) -> None:
    E, rows = routing.num_experts, count(routing.expert, routing.num_experts)
    counts, demand = routing.counts, routing.demand
    if isinstance(counts, Tensor):
        expect(counts.shape == (E,) and counts.dtype == torch.int64, "counts must be (E,) int64, or one int")
    expect(torch.equal(routing.row_counts(), rows), "counts must be the number of rows of each expert")
    expect(demand.shape == (E,) and demand.dtype == torch.int64, "demand must be (E,) int64")
    real = routing.num_tokens if routing.mask is None else int(routing.mask.sum())
    expect(bool(((demand >= 0) & (demand <= real)).all()), "demand must count tokens that take part")


def _check_position(routing: Routing) -> None:
    if routing.position is None:
        return
    T, A = routing.num_tokens, routing.token.numel()
    expect(routing.position.shape[0] == T and routing.position.numel() == A, "position must be (T, A / T)")
    flat = routing.position.reshape(-1)
    expect(torch.equal(flat.sort().values, torch.arange(A)), "position must name each row once")
    owner = routing.token[flat].view(routing.position.shape)
    expect(bool((owner == torch.arange(T)[:, None]).all()), "position must name the token's own rows")


def _check_scores(routing: Routing, name: str) -> None:
    scores: Tensor | None = getattr(routing, name)
    if scores is None:
        return
    T, E = routing.num_tokens, routing.num_experts
    expect(scores.shape[0] == T and scores.shape[-1] >= E, f"{name} must be (T, E), null experts behind")
    expect(scores.dtype in (torch.float32, torch.float64), f"{name} must be float32 or wider")
    if name == "probs":
        real = scores if routing.mask is None else scores[routing.mask]
        sums = real.sum(-1)
        expect(bool((real >= 0).all()), "probs must not be negative")
        expect(torch.allclose(sums, torch.ones_like(sums), atol=1e-4), "probs must sum to 1")
