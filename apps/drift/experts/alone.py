"""Online experts that learn apart from one another."""

from abc import abstractmethod

import torch
from collegium.experts import OnlineExperts
from collegium.experts.base import rows_of
from collegium.routing import Routing
from torch import Tensor


class Alone(OnlineExperts):
    """Experts each of which keeps to its own rows; a subclass says what one of them does.

    Args:
        num_experts: E.
        classes: C, the columns of every answer: probabilities of the classes.
    """

    def __init__(self, num_experts: int, classes: int) -> None:
        super().__init__(num_experts)
        self.classes = classes

    def predict(self, x: Tensor, counts: Tensor | int) -> Tensor:
        """Rows (A, D) sorted by expert to probabilities (A, C)."""
        parts = x.split(rows_of(counts, self.num_experts))
        return torch.cat([self.answer(expert, part) for expert, part in enumerate(parts)])

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, routing: Routing) -> Tensor:
        """Probabilities (A, C) before each row's label y (T,) int64 was seen."""
        rows = rows_of(routing.counts, self.num_experts)
        parts = zip(routing.token.split(rows), routing.weight.detach().split(rows), strict=True)
        said = [self.lesson(e, x[token], y[token], weight) for e, (token, weight) in enumerate(parts)]
        return torch.cat(said)

    @abstractmethod
    def answer(self, expert: int, x: Tensor) -> Tensor:
        """What one expert says of rows (n, D) now: (n, C)."""

    @abstractmethod
    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Show one expert rows (n, D) with labels (n,) and weights (n,) in order; what it said: (n, C).

        Of each row it says what the rows before taught it. A row of weight zero teaches nothing.
        """


def before(weight: Tensor, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """How much the rows of a stretch count for one another and afterwards, where each row fades.

    Args:
        weight: (n,) of the rows.
        decay: what is left of a row's weight when the next has come.

    Returns:
        start (n,), what is left at each row of what was known before the stretch; rows (n, n), the weight of
        row j for row i, zero unless j < i; end (n,), the weight of each row after the stretch. What was known
        is left by decay ** n then.
    """
    step = torch.arange(len(weight), device=weight.device, dtype=torch.float64)
    age = step[:, None] - 1 - step
    rows = torch.where(age >= 0, decay ** age.clamp(min=0), 0.0) * weight
    return decay**step, rows, decay ** step.flip(0) * weight
