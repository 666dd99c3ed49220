"""AW-MoE: a mixture whose gate is read off the behaviours one by one.

Source: Gong et al. 2023, "Attention Weighted Mixture of Experts with Contrastive Learning for Personalized
Ranking in E-commerce" (ICDE), of which the abstract is public: one gate unit and one activation unit on each
behaviour, experts weighed by their sum, and contrast between the gate of a history and that of the same one
masked at random, which stands for a user with few behaviours. The rest is ours. As every item is a candidate
here, behaviours are held against what self-attention knows of the user and not against one candidate; the sum
is a mean, so that it does not grow with the history; experts add to that state, at first nothing; and items
are told from masked histories as well, as of users with few behaviours they are to be told.

Legend: B users, L behaviours, N the last of them, D width, K experts, I ids of items.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from collegium import Context, MoE, Routing, check_causal, check_needs
from collegium.experts import MLP
from collegium.routers import Router
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import of_one_output
from apps.recsys.encoding import Sizes
from apps.recsys.recommender import SelfAttention, known_only
from apps.recsys.sequences import Walk


class Told(Router):
    """Every expert, by weights that a token brings as its last E numbers; they need not sum to one.

    Args:
        dim, num_experts: width of a token, weights included, and E.
    """

    @property
    def experts_a_token(self) -> int:
        """All."""
        return self.num_experts

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Take them."""
        return Routing.dense(x[:, -self.num_experts :], mask=context.mask)


class AWMoE(SelfAttention):
    """Attention weighted mixture of experts, upon self-attention.

    Args:
        dim, depth, heads, dropout: see SelfAttention.
        experts: K.
        hidden: width inside an expert.
        unit: width inside the units.
        last: N, behaviours that the units look at.
        masked, few: see SelfAttention; the contrast hides as many.
        contrast: weight of its loss.
        temperature: of it.
        router: (width of a token, K) -> how experts are weighed; a token is a state with its gate behind.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 2,
        dropout: float = 0.3,
        experts: int = 4,
        hidden: int = 64,
        unit: int = 16,
        last: int = 20,
        masked: float = 0.5,
        contrast: float = 0.1,
        few: float = 0.5,
        temperature: float = 0.2,
        router: Callable[[int, int], Router] = Told,
    ) -> None:
        super().__init__(dim, depth, heads, dropout, few, masked)
        self.experts, self.hidden, self.unit, self.last = experts, hidden, unit, last
        self.contrast, self.temperature = contrast, temperature
        self.router = router

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        self.of_behaviour = nn.Linear(self.dim, 2 * self.unit)
        self.of_state = nn.Linear(self.dim, 2 * self.unit, bias=False)
        self.of_both = nn.Linear(self.dim, self.unit, bias=False)
        self.gate_unit, self.activation_unit = nn.Linear(self.unit, self.experts), nn.Linear(self.unit, 1)
        width = self.dim + self.experts
        self.mixture = MoE(
            of_one_output(self.router(width, self.experts)),
            block := MLP(width, self.experts, self.hidden, "relu", self.dim),
        )
        nn.init.zeros_(block.down)
        check_needs(self, [])
        check_causal(self)

    def loss(self, walk: Walk) -> Tensor:
        """Each item of a window is told from those before it, and from some of these; and the contrast of the
        gates at the end."""
        history, coming = walk.items[:, :-1], walk.items[:, 1:]
        mixed, gate = self.mix(history)
        told = self._told(mixed, coming)
        if not self.contrast and not self.few:
            return told
        hidden = self._hidden(history)
        mixed, less = self.mix(history.masked_fill(hidden, 0))
        told_less = self._told(mixed, coming.masked_fill(hidden, 0))
        apart = contrast(gate[:, -1], less[:, -1], self.temperature)
        return (1 - self.few) * told + self.few * told_less + self.contrast * apart

    def scores(self, walk: Walk) -> Tensor:
        """By the mixed state behind the last item."""
        return known_only(self.mix(walk.history)[0][:, -1] @ self.items.weight.T)

    def mix(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """States behind each item with what the experts add, (B, L, D), and the gates there, (B, L, K)."""
        states = self._read(history)
        gate = self.gate(states, self.items(history) * self.dim**0.5, history > 0)
        return states + self.mixture(torch.cat([states, gate], -1)), gate

    def gate(self, states: Tensor, behaviours: Tensor, there: Tensor) -> Tensor:
        """(B, L, K) behind each place, of the last behaviours up to it.

        Args:
            states: (B, L, D) what is known of the user there.
            behaviours: (B, L, D).
            there: (B, L) whether there is one.
        """
        of_behaviour, behaviours, near = map(
            self._last, (self.of_behaviour(behaviours), behaviours, there[..., None])
        )
        gate, active = (self.of_state(states)[:, :, None] + of_behaviour).chunk(2, -1)  # (B, L, N, U)
        both = torch.einsum("bid,ud,bijd->biju", states, self.of_both.weight, behaviours)
        share = near[..., 0] / near[..., 0].sum(-1, keepdim=True).clamp(min=1)
        weight = self.activation_unit(F.relu(active + both))[..., 0] * share
        return torch.einsum("bij,bijk->bik", weight, self.gate_unit(F.relu(gate)))

    def _last(self, x: Tensor) -> Tensor:
        """(B, L, n) to (B, L, N, n): at each place the last N up to it."""
        return F.pad(x, (0, 0, self.last - 1, 0)).unfold(1, self.last, 1).transpose(2, 3)


def contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """InfoNCE of gates (B, K) of the same users: each is to be nearer to its own than to those of others.

    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", eq. 4, the
    cosine being the likeness.
    """
    likeness = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T / temperature
    return F.cross_entropy(likeness, torch.arange(len(one), device=one.device))
