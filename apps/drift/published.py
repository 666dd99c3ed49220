"""DriftMoE as published: trees of river, and a router that is shown which of them were right.

Source: Aspis et al. 2025, "DriftMoE: A Mixture of Experts Approach to Handle Concept Drifts"
(arXiv 2507.18464), and its released code.

Legend: B rows, D features, E experts, C classes.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from collegium import Context, MoE, Routing, routers
from collegium.gates import Gate
from torch import Tensor, nn
from torch.nn import functional as F

from apps.drift.experts import Trees
from apps.drift.experts.scale import RunningScale, update_scales
from apps.drift.model import Found, StreamModel, names_of, normalised


class Deep(Gate):
    """Scores by a perceptron of a row's features in their deviations.

    The published one has dropout behind its first layer, but the released code predicts, and takes what it
    learns from, in evaluation mode: nothing is ever dropped there, nor here.

    Args:
        dim, num_experts: D and E.
        hidden: widths.
    """

    def __init__(self, dim: int, num_experts: int, hidden: Sequence[int] = (256, 128)) -> None:
        super().__init__(dim, num_experts)
        self.scale = RunningScale(dim)
        widths = [dim, *hidden, num_experts]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layer = nn.Linear(narrow, wide)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Rows (T, D) to logits (T, E)."""
        logits: Tensor = self.layers(self.scale(x).to(x.dtype))
        return logits


class Published(StreamModel):
    """What both forms share: an online router over trees, trained on a table of which experts were right.

    Args:
        router: (D, E) -> the router; it must tell its logits. The first choice predicts.
        seed: of the trees.
    """

    mixture: MoE

    def __init__(
        self, router: Callable[[int, int], routers.Router] | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        self.router, self.seed = router or first_choice, seed

    def logits(self, x: Tensor) -> Tensor:
        """The router's scores (B, E). Raises ValueError for a router that has none."""
        routing = self.mixture.router(x)
        found = getattr(routing, "logits", None)
        if found is None:
            raise ValueError(f"{type(self.mixture.router).__name__} tells no logits: choose another router")
        logits: Tensor = found
        return logits


class DriftMoEData(Published):
    """MoE-Data: the first choice of the router predicts, and the first three learn the row.

    The router learns which experts were right by binary cross-entropy, a step a batch; where none was, the
    one that gave the label the highest probability counts as right.

    Args:
        num_experts: E.
        k: experts that learn a row.
        router, seed: see Published.
    """

    def __init__(
        self,
        num_experts: int = 12,
        k: int = 3,
        router: Callable[[int, int], routers.Router] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(router, seed)
        self.num_experts, self.k = num_experts, k

    def assemble(self, features: int, classes: int) -> None:
        """One layer of trees."""
        trees = Trees(features, classes, self.num_experts, seed=self.seed)
        self.expert_names = names_of(trees)
        self.mixture = MoE(self.router(features, self.num_experts), trees)

    def forward(self, x: Tensor) -> Tensor:
        """The first choice's word."""
        return normalised(self.mixture(x))

    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """One batch."""
        logits = self.logits(x)
        lessons = torch.zeros_like(logits).scatter(1, logits.topk(self.k).indices, 1.0)
        lesson = self.mixture.learn(x, y, lessons=lessons)
        loss = F.binary_cross_entropy_with_logits(logits, right_ones(lesson.said, y))
        update_scales(self, x)
        trust = lesson.routing.dense_weight().detach()
        return Found(normalised(lesson.mixed.detach()), lesson.said, trust, loss)


class DriftMoETask(Published):
    """MoE-Task: a tree for each class, one against the rest, and a router that learns which was right.

    A tree is right where it says yes and its class is the label, and where none is, that of the label counts.
    Either way the table is the label itself: the router is an online classifier of its own, and its first
    choice is the prediction. The trees learn every row and never vote.

    Args:
        router, seed: see Published.
    """

    def assemble(self, features: int, classes: int) -> None:
        """One layer of trees."""
        trees = OneAgainstRest(features, classes, seed=self.seed)
        self.expert_names = [f"class {label}" for label in range(classes)]
        self.mixture = MoE(self.router(features, classes), trees)

    def forward(self, x: Tensor) -> Tensor:
        """The router's probabilities."""
        return self.logits(x).softmax(1)

    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """One batch."""
        logits = self.logits(x)
        probs = logits.detach().softmax(1)
        said = self.mixture.learn(x, y).said
        loss = F.binary_cross_entropy_with_logits(logits, F.one_hot(y, self.classes).to(logits.dtype))
        update_scales(self, x)
        return Found(probs, said, probs, loss)


class OneAgainstRest(Trees):
    """A tree for each class, which tells that class from the others."""

    def __init__(self, features: int, classes: int, seed: int | None = None) -> None:
        super().__init__(features, 2, num_trees=classes, seed=seed)

    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Whether it is the class or not."""
        return self._as_votes(expert, super().lesson(expert, x, (y == expert).long(), weight))

    def answer(self, expert: int, x: Tensor) -> Tensor:
        """As a vote for the class alone."""
        return self._as_votes(expert, super().answer(expert, x))

    def _as_votes(self, expert: int, said: Tensor) -> Tensor:
        """(n, 2) to (n, C): what the tree gives its class, and the rest to the others alike."""
        others = said[:, :1] / max(1, self.num_experts - 1)
        votes = others.repeat(1, self.num_experts)
        votes[:, expert] = said[:, 1]
        return votes


def first_choice(dim: int, num_experts: int) -> routers.Router:
    """One expert a row, by the published perceptron."""
    return routers.TopK(dim, num_experts, k=1, gate=Deep)


def right_ones(said: Tensor, y: Tensor) -> Tensor:
    """Which experts were right, (B, E) of 0 and 1, of what they said, (B, E, C), and the labels (B,).

    Where none was, the one that gave the label the highest probability.
    """
    right = said.argmax(2) == y[:, None]
    given = said.gather(2, y.view(-1, 1, 1).expand(-1, said.shape[1], 1)).squeeze(2)
    nearest = F.one_hot(given.argmax(1), said.shape[1]).bool()
    return (right | (nearest & ~right.any(1, keepdim=True))).to(said.dtype)
