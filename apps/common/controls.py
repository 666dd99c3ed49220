"""Feed-forward blocks of a model, routed or dense, and the controls that show what routing buys."""

from collections.abc import Callable
from typing import Literal, get_args

from collegium import Context, MoE, experts, inspection, routers
from collegium.layer import AnyRouting, moe_layers
from torch import Tensor, nn

Kind = Literal["routed", "dense_active", "dense_total", "random_router"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class MixtureFFN(MoE):
    """A routed feed-forward block: the MoE layer with perceptrons as experts.

    Args:
        dim: width D of a token.
        num_experts: E.
        hidden: width inside one expert; D by default. Many narrow experts make a fine-grained mixture.
        router: (D, E) -> router.
        activation: "gelu", "relu", "silu" or "swiglu".
        shared_hidden: width of an expert that every token visits; none by default.
        shared_gate: scale the shared expert by a sigmoid of the token (Time-MoE, eq. 6-8).

    Raises:
        ValueError: a router that gives a token several outputs.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int = 8,
        hidden: int | None = None,
        router: Callable[[int, int], routers.Router] = routers.TopK,
        activation: str = "swiglu",
        shared_hidden: int | None = None,
        shared_gate: bool = True,
    ) -> None:
        shared = None
        if shared_hidden is not None:
            shared = experts.Shared(DenseFFN(dim, shared_hidden, activation), dim, gate=shared_gate)
        block = experts.MLP(dim, num_experts, dim if hidden is None else hidden, activation)
        choice = of_one_output(router(dim, num_experts))
        super().__init__(choice, block, shared)
        self.dim, self.activation = dim, activation


def of_one_output(router: routers.Router) -> routers.Router:
    """Return the router of a block that gives a token one output. Raises ValueError for one of several."""
    if router.outputs is not None:
        raise ValueError(
            f"{type(router).__name__} gives a token an output for each of its gates, and this block has "
            "one: choose another router"
        )
    return router


class DenseFFN(nn.Module):
    """The same perceptron for every token.

    Args:
        dim: width D of a token.
        hidden: width inside; 4 D by default.
        activation: as in MixtureFFN.
    """

    def __init__(self, dim: int, hidden: int | None = None, activation: str = "swiglu") -> None:
        super().__init__()
        self.expert = experts.MLP(dim, 1, 4 * dim if hidden is None else hidden, activation)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(..., D) to (..., D); the context is there to fit the place of a MixtureFFN."""
        tokens = x.reshape(-1, x.shape[-1])
        y: Tensor = self.expert(tokens, len(tokens))
        return y.view(x.shape)


def feed_forward(
    block: nn.Module, x: Tensor, context: Context | None = None, previous: AnyRouting | None = None
) -> tuple[Tensor, AnyRouting | None]:
    """Run a block, routed or dense, and return (its output, the routing that the next layer looks back to).

    Args:
        block: (..., D) -> (..., D).
        x: (..., D).
        context: what is known of the tokens.
        previous: what the block before returned here.
    """
    if not isinstance(block, MoE):
        return block(x, context), previous
    y, routing = block(x, context, previous, return_routing=True)
    return y, routing


def freeze_routers(network: nn.Module) -> None:
    """Let the routers of a network, or of one layer, stay as they were drawn."""
    for layer in moe_layers(network).values():
        layer.router.requires_grad_(False)


class Control:
    """Builds the feed-forward blocks of one arm of a comparison from those of the routed one.

    - "routed": the mixture as it is.
    - "dense_active": a dense block with the parameters, and so the compute, that one token uses in
      evaluation; of a router whose number of experts varies with the token, nobody knows before training, so
      it is refused.
    - "dense_total": a dense block with all the parameters of the mixture.
    - "random_router": the mixture with its router frozen as it was drawn: what did routing learn?

    A dense block has the mixture's activation, or SwiGLU where that has none.

    Args:
        kind: which arm.
        mixture: D -> the routed block.
    """

    def __init__(self, kind: Kind, mixture: Callable[[int], MoE] = MixtureFFN) -> None:
        if kind not in KINDS:
            raise ValueError(f"unknown control {kind!r}: choose one of {', '.join(KINDS)}")
        self.kind, self.mixture = kind, mixture

    def __call__(self, dim: int) -> nn.Module:
        """The block of one layer."""
        block = self.mixture(dim)
        if self.kind == "random_router":
            freeze_routers(block)
        if self.kind in ("routed", "random_router"):
            return block
        block.eval()  # as it will be measured: some routers run fewer experts in training
        if self.kind == "dense_active" and block.router.experts_a_token is None:
            raise ValueError(
                f"dense_active: {type(block.router).__name__} has no fixed number of experts a token: "
                "compare with dense_total, or choose a router with k"
            )
        active, total = inspection.parameters(block)
        activation = getattr(block, "activation", "swiglu")
        one = sum(p.numel() for p in DenseFFN(dim, 1, activation).parameters())
        return DenseFFN(dim, round((active if self.kind == "dense_active" else total) / one), activation)
