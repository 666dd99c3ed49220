"""Mixtures that learn from a stream: predict a stretch of rows, then see their labels.

Legend: B rows, D features, E experts, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from collegium import MoE, check_causal, check_needs, routers
from collegium.experts import ExpertGroups, Experts, OnlineExperts
from river.drift import ADWIN
from torch import Tensor, nn

from apps.drift.experts import Bayes, Neighbours, Perceptrons, Recent
from apps.drift.experts.scale import update_scales
from apps.drift.experts.unpickle import from_bytes, to_bytes
from apps.drift.gate import Trust
from apps.drift.memory import Memory
from apps.drift.router import Watching

SMALLEST = 1e-6
"""The least probability in a logarithm."""
FEWEST = 300
"""Rows that are shown again at least, however new the errors are."""

Block = Callable[[int, int], Experts]
"""(D, C) -> some experts."""


class Found(NamedTuple):
    """What a model said of some rows before it saw their labels, and the loss that it learns by.

    probs (B, C); said (B, E, C), each expert's word; trust (B, E), the router's weights; loss, a scalar;
    notes, what else the history is to keep of the rows, name -> (B, *).
    """

    probs: Tensor
    said: Tensor
    trust: Tensor
    loss: Tensor
    notes: Mapping[str, Tensor] = {}


class StreamModel(nn.Module, ABC):
    """A model of streams. It has its size from the stream: `build` comes before anything else.

    Attributes:
        expert_names: of each expert, for tables and pictures; after `build`.
    """

    expert_names: list[str]

    def build(self, features: int, classes: int) -> None:
        """Make everything for D features and C classes. A model that has been built stays as it is.

        Raises:
            ValueError: a router or experts that do not fit.
        """
        if not hasattr(self, "features"):
            self.features, self.classes = features, classes
            self.assemble(features, classes)
            check_causal(self)
            check_needs(self, ())

    @abstractmethod
    def assemble(self, features: int, classes: int) -> None:
        """Make layers, buffers and `expert_names`."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Rows (B, D) to probabilities (B, C), by what is known now."""

    @abstractmethod
    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """Predict rows (B, D), the earliest first, then learn from their labels y (B,) int64.

        What learns by gradient does so by the loss that is returned; everything else has learned. Models that
        keep to fairness read the groups (B,) int64 of the rows, -1 where it is not known.
        """

    def changes(self) -> list[tuple[int, str]]:
        """(row, why) of each change that the model has made to its own structure."""
        return []

    def since(self) -> list[int]:
        """The row from which on each expert has been there."""
        return [0] * len(self.expert_names)


class StreamMoE(StreamModel):
    """Experts of unlike kinds, mixed by a router that watches them.

    The probabilities of all experts are mixed with the weights of the router, which is trained by the
    log-loss of the mixture. Experts that learn by gradient are trained on rows of late, each by its own
    log-loss: by the mixture's alone, one that nobody trusts would never learn. Of late is what came since the
    mixture's errors last changed, as ADWIN (Bifet and Gavalda 2007) tells, and no more than is remembered.

    Args:
        experts: blocks of experts; neighbours, naive Bayes, recent labels and a perceptron by default.
        router: (D', E) -> the router, whose tokens are rows and records (see `Watching`).
        memory: rows of which some are shown again to experts that learn by gradient.
        replay: how many of them at each step.
        seed: of the rows that are shown again; by default one that torch's generator gives.
    """

    def __init__(
        self,
        experts: Sequence[Block] = (Neighbours, Bayes, Recent, Perceptrons),
        router: Callable[[int, int], routers.Router] | None = None,
        memory: int = 4000,
        replay: int = 240,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.blocks, self.router = list(experts), router or trusting
        self.memory_size, self.replay, self.seed = memory, replay, seed

    def assemble(self, features: int, classes: int) -> None:
        """One layer."""
        blocks = [block(features, classes) for block in self.blocks]
        group = ExpertGroups(blocks)
        self.expert_names = unlike([name for block in blocks for name in names_of(block)])
        self.watching = Watching(features, group.num_experts, self.router)
        self.mixture = MoE(self.watching, group)
        self.memory = Memory(features, self.memory_size, self.seed)
        self.errors = ADWIN()

    def forward(self, x: Tensor) -> Tensor:
        """The mixture's word."""
        return normalised(self.mixture(x))

    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """One stretch."""
        said_now = self.mixture.learn(x, y)
        loss = log_loss(said_now.mixed, y)
        self.memory.keep(x, y)
        for block in cast(ExpertGroups, self.mixture.experts):
            if not isinstance(block, OnlineExperts):
                loss = loss + self._own_loss(block, x, y)
        self.watching.watch(said_now.said.detach(), y)
        update_scales(self, x)
        probs = normalised(said_now.mixed.detach())
        for wrong in (probs.argmax(1) != y).tolist():
            self.errors.update(wrong)
        return Found(probs, said_now.said.detach(), said_now.routing.dense_weight().detach(), loss)

    def _own_loss(self, block: Experts, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the log-losses of a block's experts on new rows and on some of late."""
        old_x, old_y = self.memory.draw(self.replay, max(int(self.errors.width), FEWEST))
        x, y = torch.cat([x, old_x]), torch.cat([y, old_y])
        experts = block.num_experts
        said = block(x.repeat(experts, 1), len(x))
        return log_loss(said, y.repeat(experts)) * experts

    def get_extra_state(self) -> Tensor:
        """What the detector knows, as bytes."""
        return to_bytes(self.errors)

    def set_extra_state(self, state: Tensor) -> None:
        """Take it up. Raises `UserError` where it is no such state."""
        self.errors = from_bytes(state)


def trusting(dim: int, num_experts: int) -> routers.Router:
    """All experts, weighted by trust in their records."""
    return routers.AllExperts(dim, num_experts, gate=Trust)


def normalised(shares: Tensor) -> Tensor:
    """Rows (n, C) that sum to 1, but for those of zeros."""
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-12)


def step(
    model: StreamModel,
    optimizer: torch.optim.Optimizer | None,
    x: Tensor,
    y: Tensor,
    group: Tensor | None = None,
) -> Found:
    """Predict rows, then learn them, with a step of the gradient where anything learns by it."""
    found = model.learn(x, y, group)
    if optimizer is not None and found.loss.requires_grad:
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    return found


def log_loss(probs: Tensor, y: Tensor) -> Tensor:
    """Mean of -log p(y) over rows."""
    return -probs.gather(1, y[:, None]).clamp(min=SMALLEST).log().mean()


def names_of(block: Experts) -> list[str]:
    """Names of the experts of a block: its own, or numbers."""
    kind = type(block).__name__.lower()
    names: list[str] = getattr(block, "names", [f"{kind} {n + 1}" for n in range(block.num_experts)])
    return names


def unlike(names: Sequence[str]) -> list[str]:
    """Names with a number behind each that has come before.

    >>> unlike(["tree 1", "recent", "tree 1"])
    ['tree 1', 'recent', 'tree 1 (2)']
    """
    found: list[str] = []
    for place, name in enumerate(names):
        again = names[:place].count(name)
        found.append(f"{name} ({again + 1})" if again else name)
    return found
