"""The mean of the posterior: of all estimates the one of least mean squared error.

A bound tells what no estimator can reach; this tells what one can, which knows the forward model and from
what scenes are drawn. The posterior is sampled by importance from multivariate t distributions that adapt to
the draws so far, at first with a tempered likelihood, as without knowledge of the tissue a posterior is long
and bent. Draws are logits of shares of the prior, so that none falls outside. Source: Oh and Berger (1992),
Adaptive importance sampling in Monte Carlo integration; van Trees (1968), section 2.4, for the estimate.

Shapes: B scenes, T bins, P parameters, N draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.lidar.bound import PARAMETERS, TARGETS, Prior, information
from apps.lidar.fit import likeliest
from apps.lidar.rig import Rig
from apps.lidar.simulate import expected

WARMTH = (0.03, 0.1, 0.3, 1.0)
"""Powers of the likelihood by which the proposal is adapted before draws count."""
DRAWS, ENOUGH, ROUNDS = 400, 100.0, 12
"""Draws of a round; how many independent ones all of them must be worth; and the most rounds."""
FREEDOM, WIDENING = 5.0, 1.2
"""Degrees of freedom of the proposal, and by how much it is wider than what it is adapted to."""
NEAR = 0.02
"""How near to the ends of the prior the first proposal may stand, as a share of it."""


class Posterior(NamedTuple):
    """What is known of depth (mm) and lifetime (ns): mean (B, 2), deviation (B, 2), and how many independent
    draws the sample is worth, (B,)."""

    mean: Tensor
    deviation: Tensor
    worth: Tensor


@dataclass(frozen=True)
class Proposal:
    """Multivariate t of logits: centre (B, P), and covariance (B, P, P) but for its tails."""

    centre: Tensor
    spread: Tensor

    def __getitem__(self, rows: Tensor) -> Proposal:
        """That of some scenes."""
        return Proposal(self.centre[rows], self.spread[rows])

    @classmethod
    def around(cls, unit: Tensor, prior: Prior, rig: Rig, power: float) -> Proposal:
        """Around the likeliest parameters, as wide as information and prior say there."""
        near = unit.clamp(NEAR, 1 - NEAR)
        slope = near * (1 - near)
        told = information(lambda at: expected(prior.at(at), rig), near)
        told = told * slope.unsqueeze(1) * slope.unsqueeze(2)
        of_prior = 3 / torch.pi**2 * torch.eye(unit.shape[1], dtype=unit.dtype)
        return cls(near.logit(), torch.linalg.inv(power * told + of_prior))

    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws (N, B, P), and the logarithm of their density (N, B), but for a constant."""
        shape = (number, *self.centre.shape)
        root = torch.linalg.cholesky(self.spread * WIDENING**2)
        normal = torch.randn(shape, generator=generator, dtype=root.dtype)
        freedom = torch.full(shape[:2], FREEDOM / 2, dtype=root.dtype)
        gamma = torch._standard_gamma(freedom, generator=generator) / (FREEDOM / 2)
        z = normal / gamma.sqrt().unsqueeze(-1)
        size = root.diagonal(dim1=1, dim2=2).log().sum(1)
        density = -(FREEDOM + shape[2]) / 2 * torch.log1p(z.square().sum(-1) / FREEDOM) - size
        return self.centre + torch.einsum("bpq,nbq->nbp", root, z), density

    def adapted(self, draws: Tensor, weight: Tensor) -> Proposal:
        """Moved to weighed draws (N, B, P), as far as they can be trusted."""
        centre = torch.einsum("nb,nbp->bp", weight, draws)
        off = draws - centre
        seen = torch.einsum("nb,nbp,nbq->bpq", weight, off, off)
        worth = _worth(weight)[:, None, None]
        trust = worth / (worth + 2 * len(PARAMETERS))
        return Proposal(centre, trust * seen + (1 - trust) * self.spread)


def posterior(counts: Tensor, prior: Prior, rig: Rig, generator: torch.Generator) -> Posterior:
    """Sample what counts (B, T) tell of their scenes, whose response is known; priors are even."""
    proposal = Proposal.around(likeliest(counts, prior, rig), prior, rig, WARMTH[0])
    for power in WARMTH:
        draws, weight = _weighed(proposal, counts, prior, rig, generator, power)
        proposal = proposal.adapted(draws, weight)
    worth = torch.zeros(len(counts), 1, dtype=torch.float64)
    first, second = (worth.new_zeros(len(counts), len(TARGETS)) for _ in range(2))
    left = torch.arange(len(counts))
    for _ in range(ROUNDS):
        here = prior[left]
        draws, weight = _weighed(proposal, counts[left], here, rig, generator)
        outputs = here.outputs(draws.sigmoid())
        gained = _worth(weight).unsqueeze(-1)
        worth[left] += gained
        first[left] += gained * torch.einsum("nb,nbo->bo", weight, outputs)
        second[left] += gained * torch.einsum("nb,nbo->bo", weight, outputs.square())
        again = worth[left, 0] < ENOUGH
        if not again.any():
            break
        proposal, left = proposal.adapted(draws, weight)[again], left[again]
    mean = first / worth
    return Posterior(mean, (second / worth - mean.square()).clamp(min=0).sqrt(), worth.squeeze(1))


def _weighed(
    proposal: Proposal,
    counts: Tensor,
    prior: Prior,
    rig: Rig,
    generator: torch.Generator,
    power: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Draws (N, B, P) of logits, and their weights (N, B) where counts (B, T) were seen."""
    draws, proposed = proposal.draw(DRAWS, generator)
    chance = []
    for unit in draws.sigmoid():
        light = expected(prior.at(unit), rig).float().clamp(min=1e-6)
        chance.append((counts * light.log() - light).sum(1).double())
    of_prior = (F.logsigmoid(draws) + F.logsigmoid(-draws)).sum(-1)
    return draws, (power * torch.stack(chance) + of_prior - proposed).softmax(0)


def _worth(weight: Tensor) -> Tensor:
    """How many independent draws weighed ones (N, B) are worth, (B,)."""
    return 1 / weight.square().sum(0)
