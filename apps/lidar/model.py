"""EvidenceMoE: experts on windows of a histogram, critics that judge them, and a mixture by their
reliability.

Legend: B histograms, T bins, S numbers known beside them, E experts, O = 2 outputs (depth, lifetime), Z width
of an embedding, K grades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from collegium import MoE, Routing, check_causal, check_needs, routers
from collegium.evidence import Evidence, EvidentialCritic, EvidentialGrader, ReliabilityMixture
from collegium.experts import ExpertList
from collegium.layer import Stack
from collegium.routers import Router, share_cells
from torch import Tensor, nn

from apps.common.controls import of_one_output
from apps.lidar.experts import WINDOWS, Window, WindowExpert

OUTPUTS = ("depth", "lifetime")
GRADES = (0.2, 0.1, 0.05, 0.025, 0.0125)
"""Errors, as shares of the range, that part one grade from the next better one."""
FOLLOWED = 0.02
"""Share of the newest batch in what is known of a grade's errors."""


class Reading(NamedTuple):
    """What was measured, ready for a network.

    signal: (B, T) log(1 + counts as shares of all, times T), as a tail tells of the lifetime by its slope;
    response: (B, T) light by bin, times T; known: (B, S) other numbers: the logarithm of the number of
    photons, scattering and absorption in units of their ranges, whether they are given.
    """

    signal: Tensor
    response: Tensor
    known: Tensor


class Heard(NamedTuple):
    """What experts say of B readings: outputs (B, E, O), embeddings (B, E, Z), what is known beside the
    signal
    (B, S), and the router's weights (B, E), 0 for an expert that was not asked."""

    said: Tensor
    embedding: Tensor
    beside: Tensor
    prior: Tensor

    def detached(self) -> Heard:
        """The same, for those who judge and do not teach."""
        return Heard(*(part.detach() for part in self))


class Estimate(NamedTuple):
    """What a network makes of B readings, outputs in units of their ranges.

    value: (B, O), the mixture. said: (B, E, O), each expert's word, before it is corrected; correction: (B,
    E, O); evidence: of each word, (B, E, O, K); weight: (B, E, O). judged: evidence of the mixture, (B, O,
    K); squares: (O, K) mean squared errors of its grades.
    """

    value: Tensor
    said: Tensor
    correction: Tensor
    evidence: Evidence
    weight: Tensor
    judged: Evidence
    squares: Tensor

    @property
    def quality(self) -> Tensor:
        """Expected grade of each output, (B, O), between 0 and 1."""
        return self.judged.quality

    @property
    def error(self) -> Tensor:
        """Root of the squared error that is expected of each output, (B, O), as a share of the range."""
        return (self.judged.probs * self.squares).sum(-1).sqrt()


class Encoder(nn.Module):
    """Readings as vectors: the signal, then what is known beside it, the response in few numbers.

    Args:
        bins: T.
        known: S of a reading.
        response: numbers that tell the response.
    """

    def __init__(self, bins: int, known: int = 4, response: int = 8) -> None:
        super().__init__()
        self.bins, self.beside = bins, known + response
        self.response = nn.Linear(bins, response)

    def forward(self, reading: Reading) -> Tensor:
        """(B, T + known + response)."""
        return torch.cat([reading.signal, reading.known, self.response(reading.response)], dim=1)


class EvidenceMoE(nn.Module):
    """Every expert estimates both outputs from its window; critics grade and correct them; a mixture is
    formed, and graded in its turn.

    Source: Erbas et al. 2025, EvidenceMoE (arXiv 2505.21532), of which the abstract alone was read; all
    sizes, grades and losses are ours.

    Args:
        bins: T.
        windows: of the experts.
        hidden, depth: of an expert.
        embedding: Z.
        critic: width inside critics and the mixture.
        router: (D, E) -> which experts are asked, and what is thought of them before they are heard.

    Raises:
        ValueError: a router whose choice hangs on other histograms, or on more than one histogram tells.
    """

    squares: Tensor

    def __init__(
        self,
        bins: int = 256,
        windows: Sequence[Window] = WINDOWS,
        hidden: int = 128,
        depth: int = 2,
        embedding: int = 16,
        critic: int = 64,
        router: Callable[[int, int], Router] = routers.AllExperts,
    ) -> None:
        super().__init__()
        self.bins, self.windows, self.encoder = bins, tuple(windows), Encoder(bins)
        width, outputs = bins + self.encoder.beside, len(OUTPUTS)
        experts = ExpertList(
            WindowExpert(window, bins, self.encoder.beside, hidden, depth, outputs, embedding)
            for window in windows
        )
        choice = of_one_output(router(width, len(windows)))
        self.experts = MoE(choice, experts, combiner=Stack())
        signal = self.encoder.beside
        self.critics = nn.ModuleList(
            EvidentialCritic(embedding + outputs + signal, outputs, len(GRADES) + 1, critic) for _ in windows
        )
        self.mixture = ReliabilityMixture(embedding, signal, outputs, critic)
        heard = len(windows) * (embedding + outputs) + outputs + signal
        self.grader = EvidentialGrader(heard, outputs, len(GRADES) + 1, critic)
        ends = torch.tensor([2 * GRADES[0], *GRADES, GRADES[-1] / 2])
        self.register_buffer("squares", (ends[1:] * ends[:-1]).expand(outputs, -1).clone())
        check_needs(self, ())
        check_causal(self)
        share_cells(self)

    def forward(self, reading: Reading) -> Estimate:
        """Estimate from readings of B histograms."""
        return self.judge(self.listen(reading))

    def listen(self, reading: Reading) -> Heard:
        """What experts say."""
        x = self.encoder(reading)
        found, routing = self.experts(x, return_routing=True)
        assert isinstance(routing, Routing)
        said, embedding = found.split([len(OUTPUTS), found.shape[-1] - len(OUTPUTS)], dim=-1)
        return Heard(said, embedding, x[:, self.encoder.bins :], routing.dense_weight())

    def judge(self, heard: Heard) -> Estimate:
        """Grade, correct and mix what experts said."""
        said, embedding, beside, prior = heard
        each = torch.cat([embedding, said, beside.unsqueeze(1).expand(-1, said.shape[1], -1)], dim=-1)
        judged = [critic(each[:, e]) for e, critic in enumerate(self.critics)]
        evidence = Evidence(torch.stack([found.strength for found, _ in judged], dim=1))
        correction = torch.stack([added for _, added in judged], dim=1)
        value, weight = self.mixture(said, correction, evidence, embedding, beside, prior)
        apart = said - value.unsqueeze(1)
        whole = torch.cat([embedding.flatten(1), apart.flatten(1), value, beside], dim=1)
        judged = self.grader(whole.detach())
        return Estimate(value, said, correction, evidence, weight, judged, self.squares)

    @torch.no_grad()
    def note(self, error: Tensor) -> None:
        """Follow the mean squared errors of each grade, by errors (B, O) of the mixture."""
        here = nn.functional.one_hot(grade(error), self.squares.shape[1]).to(error)
        number = here.sum(0)
        mean = (here * error.square().unsqueeze(-1)).sum(0) / number.clamp(min=1)
        self.squares.lerp_(mean, FOLLOWED * (number > 0).to(error))


def grade(error: Tensor) -> Tensor:
    """Grade (...) int64 of errors (...), as shares of the range: 0 for the worst."""
    ends = torch.tensor(GRADES).to(error)
    return (error.abs().unsqueeze(-1) < ends).sum(-1)
