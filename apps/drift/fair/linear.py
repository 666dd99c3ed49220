"""FEAMOE: a mixture of linear experts whose loss counts unfairness, and which grows when a stream drifts.

Source: Sharma, Henderson and Ghosh 2022, "FEAMOE: Fair, Explainable and Adaptive Mixture of Experts"
(arXiv 2210.04995). How the gap is taken from a stream, what a newcomer begins with and how much it is trusted
are this project's.

Legend: B rows, D features, E experts, of which some may not exist yet.
"""

from collections.abc import Callable
from math import log

import torch
from collegium import Context, MoE, routers
from torch import Tensor

from apps.drift.experts.scale import RunningScale
from apps.drift.experts.unpickle import from_bytes, to_bytes
from apps.drift.fair.fairness import Measure, distance_to_boundary
from apps.drift.fair.growth import Watch, newcomer
from apps.drift.fair.logistic import Logistic
from apps.drift.fair.objective import Objective
from apps.drift.fair.room import make_room
from apps.drift.fair.shapley import Attribution, shapley
from apps.drift.memory import Memory
from apps.drift.model import Found, StreamModel, normalised


class FEAMOE(StreamModel):
    """p(y = 1 | x) = sum_k g_k(x) sigmoid(w_k x + b_k), trained by log-loss + weight * unfairness.

    Features are read in their running deviations. A chunk is too short to tell a gap from noise, so the loss
    is that of the chunk and of rows drawn from those before it, whose groups are remembered with them.

    When errors or the gap have risen (see `Watch`), a newcomer joins before the next chunk. It begins with
    the weights of the expert that does best on the last rows, and is fitted to these by the same loss. It
    gets a share of the trust at once, and from then on rows are drawn from those that it was made for and
    what came later. The others keep their weights at that moment; all go on learning by the mixture's loss,
    each by as much as the gate trusts it. A mixture that is full grows no more.

    Args:
        router: (D, E) -> the router, which must score each expert by a gate; all experts by default.
        measure: of unfairness: "parity", "odds" or "burden".
        weight, sharpness: of its penalty in the loss, see `Objective`.
        begin, most: experts at first, and in the end.
        memory: rows that are remembered.
        replay: how many of them count at each step.
        recent: the last rows, to which a newcomer is fitted.
        share: of the trust, which a newcomer has on them.
        confidence: of the detectors; lower is surer.
        seed: of the draws.
    """

    mixture: MoE

    def __init__(
        self,
        router: Callable[[int, int], routers.Router] = routers.AllExperts,
        measure: Measure = "parity",
        weight: float = 1.0,
        sharpness: float = 1.0,
        begin: int = 2,
        most: int = 8,
        memory: int = 2000,
        replay: int = 496,
        recent: int = 300,
        share: float = 0.5,
        confidence: float = 0.002,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= begin <= most:
            raise ValueError(f"begin={begin} must lie between 1 and most={most}")
        if not 0 < share < 1:
            raise ValueError(f"share={share} must lie between 0 and 1")
        self.router, self.objective = router, Objective(measure, weight, sharpness)
        self.begin, self.most, self.recent, self.share = begin, most, recent, share
        self.memory_size, self.replay, self.seed = memory, replay, seed
        self.watch = Watch(measure, confidence)
        self.marks: list[tuple[int, str]] = []
        self.due: str | None = None

    def assemble(self, features: int, classes: int) -> None:
        """One layer, with room for all experts.

        Raises:
            ValueError: there are not two classes, or the router has no gate that scores each expert.
        """
        if classes != 2:
            raise ValueError(f"FEAMOE tells two classes apart, and this stream has {classes}")
        router = self.router(features, self.most)
        self.room = make_room(router, self.begin)
        self.experts = Logistic(features, self.most)
        self.mixture = MoE(router, self.experts)
        self.scale = RunningScale(features)
        self.memory = Memory(features + 1, self.memory_size, self.seed)
        self._name()

    def forward(self, x: Tensor) -> Tensor:
        """The mixture's word."""
        return normalised(self.mixture(self.scale(x)))

    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """One chunk; without groups there is no penalty."""
        group = torch.full_like(y, -1) if group is None else group
        if self.due is not None:
            self._grow(self.due)
        old, old_y = self.memory.draw(self.replay, self._since_growth())
        z = self.scale(torch.cat([x, old[:, :-1]]))
        labels, groups = torch.cat([y, old_y]), torch.cat([group, old[:, -1].long()])
        lesson = self.mixture.learn(z, labels)
        trust = normalised(lesson.routing.dense_weight())
        logits, length = self.experts.logits(z), self.experts.weight.norm(dim=1)
        loss = self.objective(logits, length, trust, labels, groups)
        new = slice(0, len(x))
        probs = normalised(lesson.mixed[new].detach())
        distance = distance_to_boundary(logits[new], length, trust[new]).detach()
        notes = {"distance": distance, "attribution": self._explain(z[new], trust[new]).values.detach()}
        self.memory.keep(torch.cat([x, group[:, None].to(x.dtype)], 1), y)
        worse = self.watch.look(y, probs.argmax(1), group, distance)
        self.due = None if bool(self.room.present.all()) else worse
        self.scale.update(x)
        return Found(probs, lesson.said[new].detach(), trust[new].detach(), loss, notes)

    @torch.no_grad()
    def explain(self, x: Tensor) -> Attribution:
        """What each feature of rows (N, D) adds to the gate-weighted logit, over the running mean."""
        z = self.scale(x)
        return self._explain(z, self.trust(z))

    def trust(self, z: Tensor) -> Tensor:
        """The gate (N, E) of features in their deviations (N, D)."""
        routing = self.mixture.router(z)
        return normalised(routing.dense_weight().to(z.dtype))

    def changes(self) -> list[tuple[int, str]]:
        """When an expert joined, and whether for errors or for fairness."""
        return self.marks

    def since(self) -> list[int]:
        """The row at which it joined; 0 of the first ones."""
        return [0] * self.begin + [row for row, _ in self.marks]

    def get_extra_state(self) -> Tensor:
        """What the detectors know, and how it has grown, as bytes."""
        watch = self.watch
        return to_bytes((watch.error, watch.gaps, watch.waiting, self.marks, self.due))

    def set_extra_state(self, state: Tensor) -> None:
        """Take it up. Raises `UserError` where it is no such state."""
        watch = self.watch
        watch.error, watch.gaps, watch.waiting, self.marks, self.due = from_bytes(state)
        self._name()

    def _name(self) -> None:
        self.expert_names = [f"linear {k + 1}" for k in range(self.begin + len(self.marks))]

    def _since_growth(self) -> int | None:
        """How many of the last rows the mixture is for; None for all that are remembered."""
        return int(self.memory.seen) - self.marks[-1][0] + self.recent if self.marks else None

    def _explain(self, z: Tensor, trust: Tensor) -> Attribution:
        mean = torch.zeros_like(z[0])  # of deviations from the running mean
        return shapley(z, self.experts.weight, self.experts.bias, trust, mean)

    def _grow(self, why: str) -> None:
        """Let the next expert join."""
        place = int(self.room.present.sum())
        rows, y = self.memory.last(self.recent)
        z, group = self.scale(rows[:, :-1]), rows[:, -1].long()
        present = self.room.present
        there = self.experts.weight[present], self.experts.bias[present]
        weight, bias = newcomer(self.objective, *there, z, y, group)
        with torch.no_grad():
            self.experts.weight[place], self.experts.bias[place] = weight, bias
            others = self.room(z, Context(), None).logsumexp(1).mean()
        self.room.admit(place, float(others) + log(self.share / (1 - self.share)))
        self.marks.append((int(self.memory.seen), why))
        self.watch.forget()
        self._name()
