"""A mixture of distributions for each point, and forecasts by sampling from it.

Shapes as in heads.py; P points a token.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, StudentT
from torch.nn import functional as F

from apps.timeseries.networks.heads import Head

NARROW = 1e-3
"""Deviation of the narrow normal, in deviations of the window (Moirai, section 3.1)."""
Point = Literal["mean", "median"]


class Mixture(NamedTuple):
    """A Student-t, a normal and a narrow normal distribution for each point.

    log_weight, loc, scale (..., 3) in this order, freedom (...) of the first.
    """

    log_weight: Tensor
    loc: Tensor
    scale: Tensor
    freedom: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Mixture:
        """From nine unconstrained numbers (..., 9). The t has more than 2 degrees of freedom: a variance."""
        weight, loc, scale, freedom = parameters.tensor_split((3, 6, 8), -1)
        widths = F.pad(F.softplus(scale), (0, 1)) + NARROW
        return cls(weight.log_softmax(-1), loc, widths, 2 + F.softplus(freedom[..., 0]))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (...) at x (...)."""
        student: Distribution = StudentT(
            self.freedom, self.loc[..., 0], self.scale[..., 0], validate_args=False
        )
        normals: Distribution = Normal(self.loc[..., 1:], self.scale[..., 1:], validate_args=False)
        each = torch.cat([student.log_prob(x)[..., None], normals.log_prob(x[..., None])], -1)
        return (self.log_weight + each).logsumexp(-1)

    def mean(self) -> Tensor:
        """Mean (...)."""
        return (self.log_weight.exp() * self.loc).sum(-1)

    def sample(self, uniform: Tensor) -> Tensor:
        """A value (...) from three uniform numbers (..., 3): which component, how far out, at which angle.

        The normal by Box and Muller's method, the t by Bailey's (1994): the same with another radius.
        """
        which, out, angle = uniform.clamp(min=2.0**-24).unbind(-1)
        chosen = (which[..., None] > self.log_weight.exp().cumsum(-1)[..., :2]).sum(-1, keepdim=True)
        distance = -2 * out.log()
        student = (self.freedom * torch.expm1(distance / self.freedom)).sqrt()
        radius = torch.where(chosen[..., 0] == 0, student, distance.sqrt())
        loc, scale = (part.gather(-1, chosen)[..., 0] for part in (self.loc, self.scale))
        return loc + scale * radius * (2 * torch.pi * angle).cos()


class MixtureHead(Head):
    """The mixture of each point of the next token, by its negative log-likelihood (Moirai, section 3.1).

    Forecasts are sampled token by token. Of the paper's components the negative binomial and the log-normal
    are left out, and a normal of any width is there instead: values less their mean, over their deviation,
    are neither counts nor positive.

    The random numbers are a function of ``seed`` and of a window's place in its group: no other generator is
    touched, and a forecast does not depend on the batch around its group. For each point they are spread
    evenly over the paths (Latin hypercube, McKay et al. 1979), so that few do.

    Args:
        dim, patch: D and P.
        samples: S, paths that are drawn.
        point: what of the samples is the point forecast: their "mean", which the squared error asks for, or
            their "median", for the absolute one.
        seed: of the random numbers.

    Raises:
        ValueError: fewer than two samples, or an unknown point.
    """

    def __init__(
        self, dim: int, patch: int, samples: int = 100, point: Point = "mean", seed: int = 0
    ) -> None:
        if samples < 2:
            raise ValueError(f"samples={samples} must be at least 2")
        if point not in get_args(Point):
            raise ValueError(f"unknown point {point!r}: choose one of {', '.join(get_args(Point))}")
        super().__init__(dim, patch, 9, [(i + 0.5) / samples for i in range(samples)])
        self.samples, self.by_mean, self.seed = samples, point == "mean", seed

    def loss(self, parameters: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-likelihood."""
        log_prob = Mixture.of(parameters).log_prob(target.masked_fill(~mask, 0.0))
        return -(log_prob * mask).sum() / mask.sum().clamp(min=1)

    def centre(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return Mixture.of(parameters).mean()

    def noise(self, series: int, steps: int) -> Tensor:
        """Uniform numbers (V, S, steps, P, 3)."""
        return torch.stack([self._uniform(place, steps) for place in range(series)]).to(self.places)

    def draw(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample of each path is both a value of the cloud and what the path goes on with."""
        sample = Mixture.of(parameters).sample(noise)
        return sample, sample

    def point(self, cloud: Tensor) -> Tensor:
        """Mean or median of the samples."""
        return cloud.mean(1) if self.by_mean else super().point(cloud)

    def _uniform(self, place: int, steps: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + place)
        order, inside = torch.rand(steps, 2, self.ahead, 3, self.samples, generator=generator).unbind(1)
        return ((order.argsort(-1) + inside) / self.samples).movedim(-1, 0)
