"""Room for experts that do not exist yet."""

import torch
from collegium import Context, Routing
from collegium.gates import Gate
from collegium.routers import Router
from collegium.routers.base import GatedRouter
from torch import Tensor, nn

ABSENT = -1e4
"""The score of an expert that does not exist: its share is 0 to the last bit, by softmax and by sigmoid."""


class Roomy(Gate):
    """The scores of another gate and a bias of each expert; experts that do not exist get no share.

    All tensors have the size of the full capacity from the beginning, so that an optimiser and a checkpoint
    see nothing of the growth. The bias lets a newcomer take over everywhere at once; it learns if the other
    gate does.

    Args:
        gate: scores E experts.
        present: how many exist at first.
    """

    present: Tensor

    def __init__(self, gate: Gate, present: int) -> None:
        super().__init__(gate.dim, gate.num_experts)
        self.gate = gate
        self.needs, self.causal, self.blind = gate.needs, gate.causal, gate.blind
        learns = any(parameter.requires_grad for parameter in gate.parameters())
        self.bias = nn.Parameter(torch.zeros(gate.num_experts), requires_grad=learns)
        self.register_buffer("present", torch.arange(gate.num_experts) < present)

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Tokens (T, D) to logits (T, E)."""
        scores: Tensor = self.gate(x, context, previous) + self.bias.to(x.dtype)
        return scores.masked_fill(~self.present, ABSENT)

    @torch.no_grad()
    def admit(self, expert: int, bias: float) -> None:
        """Let an expert exist, with that bias."""
        self.bias[expert] = bias
        self.present[expert] = True


def make_room(router: Router, present: int) -> Roomy:
    """Put a `Roomy` gate in the place of a router's gate, and return it.

    Raises:
        ValueError: the router does not score each of its experts by one gate.
    """
    gated = [module for module in router.modules() if isinstance(module, GatedRouter)]
    if len(gated) != 1 or gated[0].gate.num_experts != router.num_experts:
        raise ValueError(
            f"{type(router).__name__} has no gate that scores each expert, so none can wait until it is "
            "needed: choose one that has, such as AllExperts"
        )
    gated[0].gate = roomy = Roomy(gated[0].gate, present)
    return roomy
