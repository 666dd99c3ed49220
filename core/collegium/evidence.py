"""Evidence: how far an expert's word is to be trusted, judged by a critic, and a mixture weighted by that
trust.

Shapes: K grades of quality, D width of what a critic reads, E experts, O outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST = 10.0
"""Logarithm of the most evidence for a grade. As an exponential it grows within few steps of training."""


class Evidence(NamedTuple):
    """A Dirichlet distribution over K grades of quality, the worst first.

    strength: (..., K), its parameters, 1 or more.
    """

    strength: Tensor

    @property
    def probs(self) -> Tensor:
        """Expected probability of each grade, (..., K)."""
        return self.strength / self.strength.sum(-1, keepdim=True)

    @property
    def quality(self) -> Tensor:
        """Expected grade, (...), between 0 for the worst and 1 for the best."""
        grades = torch.linspace(0, 1, self.strength.shape[-1]).to(self.strength)
        return self.probs @ grades

    @property
    def vacuity(self) -> Tensor:
        """K / sum of the parameters, (...): 1 where nothing is known, towards 0 with evidence."""
        return self.strength.shape[-1] / self.strength.sum(-1)


class EvidentialGrader(nn.Module):
    """Judges outputs: evidence of their quality.

    Source: the Dirichlet of evidence e >= 0 has the parameters e + 1 (Sensoy et al. 2018, Evidential Deep
    Learning to Quantify Classification Uncertainty, eq. 1-2).

    Args:
        dim: D, of what it reads: what the expert made of the input, and said of it.
        outputs: O.
        grades: K, 2 or more.
        hidden: width inside.
    """

    def __init__(self, dim: int, outputs: int, grades: int = 5, hidden: int = 64) -> None:
        super().__init__()
        if grades < 2:
            raise ValueError(f"grades={grades}: a critic tells at least good from bad, give 2 or more")
        self.outputs, self.grades = outputs, grades
        self.body = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU())
        self.evidence = nn.Linear(hidden, outputs * grades)

    def forward(self, x: Tensor) -> Evidence:
        """Read (..., D); return the evidence of (..., O) outputs."""
        return self.graded(self.body(x))

    def graded(self, inside: Tensor) -> Evidence:
        """The evidence of what the body made of the input, (..., hidden)."""
        evidence = self.evidence(inside).clamp(max=MOST).exp()
        return Evidence(evidence.unflatten(-1, (self.outputs, self.grades)) + 1)


class EvidentialCritic(nn.Module):
    """Judges an expert's outputs, and corrects each of them, as EvidenceMoE's critics do.

    The arguments are those of `EvidentialGrader`.
    """

    def __init__(self, dim: int, outputs: int, grades: int = 5, hidden: int = 64) -> None:
        super().__init__()
        self.grader = EvidentialGrader(dim, outputs, grades, hidden)
        self.correction = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, x: Tensor) -> tuple[Evidence, Tensor]:
        """Read (..., D); return the evidence of (..., O) outputs, and what to add to them, (..., O)."""
        inside = self.grader.body(x)
        return self.grader.graded(inside), self.correction(inside)


def evidential_loss(evidence: Evidence, grade: Tensor, regulariser: float | Tensor = 1.0) -> Tensor:
    """Mean loss of evidence (..., K) where the true grades are (...) int64.

    Squared error of the expected probabilities, their variance, and the divergence from a Dirichlet that
    knows nothing, of the evidence for wrong grades, times the regulariser, which the source raises from 0 to
    1 in the first ten epochs. Source: Sensoy et al. (2018), eq. 5 and section 3.
    """
    target = F.one_hot(grade, evidence.strength.shape[-1]).to(evidence.strength)
    total = evidence.strength.sum(-1, keepdim=True)
    error = (target - evidence.probs).square() + evidence.probs * (1 - evidence.probs) / (total + 1)
    wrong = target + (1 - target) * evidence.strength
    return (error.sum(-1) + regulariser * divergence_from_ignorance(wrong)).mean()


def divergence_from_ignorance(strength: Tensor) -> Tensor:
    """KL divergence (...) of the Dirichlet with parameters (..., K) from the even one, all of them 1."""
    total = strength.sum(-1, keepdim=True)
    number = torch.tensor(float(strength.shape[-1])).to(strength)
    digamma = strength.digamma() - total.digamma()
    known = torch.lgamma(total.squeeze(-1)) - torch.lgamma(number) - torch.lgamma(strength).sum(-1)
    return known + ((strength - 1) * digamma).sum(-1)


class ReliabilityMixture(nn.Module):
    """y = sum over experts of w_e (y_e + correction_e), each output with weights of its own.

    The weights are a softmax over experts of what a small network makes of each expert's quality, vacuity and
    correction, its embedding, and the signal: EvidenceMoE's decider, as its abstract tells of it.

    Args:
        dim: D of an expert's embedding.
        signal: width of what is known of the input itself.
        outputs: O.
        hidden: width inside.
    """

    def __init__(self, dim: int, signal: int, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.trust = nn.Sequential(
            nn.Linear(dim + signal + 4 * outputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(
        self,
        said: Tensor,
        correction: Tensor,
        evidence: Evidence,
        embedding: Tensor,
        signal: Tensor,
        prior: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mix what experts said.

        Args:
            said: (..., E, O), their outputs.
            correction: (..., E, O), by their critics.
            evidence: of each output, with parameters (..., E, O, K).
            embedding: (..., E, D).
            signal: (..., S).
            prior: (..., E), what a router thinks of each expert; its logarithm is added before the softmax,
                and an expert of weight 0 has no say. Even by default.

        Returns:
            The mixture (..., O), and the weights (..., E, O), which sum to 1 over experts. Both are 0 where
            the prior of all experts is 0, as of a masked token.
        """
        beside = signal.unsqueeze(-2).expand(*said.shape[:-1], signal.shape[-1])
        judged = torch.cat([embedding, beside, said, correction, evidence.quality, evidence.vacuity], dim=-1)
        trust = self.trust(judged)
        if prior is None:
            weight = trust.softmax(dim=-2)
        else:
            known = prior.clamp(min=torch.finfo(prior.dtype).tiny).log()
            asked = (prior != 0).unsqueeze(-1)
            # a softmax over nobody is NaN, and so would be its gradient
            heard = asked | ~asked.any(dim=-2, keepdim=True)
            trust = (trust + known.unsqueeze(-1)).masked_fill(~heard, -torch.inf)
            weight = trust.softmax(dim=-2) * asked
        return (weight * (said + correction)).sum(-2), weight
