"""The bound: below what the best estimator does, and near it."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from apps.lidar.bound import OUTER, PARAMETERS, SHARES, WIDTHS, Prior, _candidates, bound, information
from apps.lidar.estimates import parts
from apps.lidar.instrument import Clock
from apps.lidar.limits import bounds, computed
from apps.lidar.model import OUTPUTS
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import expected, histograms
from tests.apps.lidar.test_simulate import seeded

RIG = Rig(Clock(bins=128, width=0.064))
ALONE = Ranges(
    depth=(2.0, 8.0),
    lifetime=(0.5, 0.5001),
    scattering=(1.0, 1.0001),
    absorption=(0.01, 0.010001),
    photons=(400.0, 400.01),
    response=(0.2, 0.2),
    background=(0.02, 0.020001),
)
"""Scenes of which depth alone is unknown."""


def posterior_mean_error(ranges: Ranges, number: int) -> float:
    """Mean squared error of the best estimator of depth, by the likelihood on a fine grid."""
    generator = seeded(5)
    truth = ranges.draw(number, generator)
    counts = histograms(truth, RIG, generator).double()
    grid = torch.linspace(*ranges.depth, 401, dtype=torch.float64)
    usual = ranges.draw(len(grid), generator).having(depth=grid)
    level = expected(usual, RIG).clamp(min=1e-12)
    likelihood = counts @ level.log().T - level.sum(1)
    mean = torch.softmax(likelihood, 1) @ grid
    return float((mean - truth.depth).square().mean())


def test_no_estimator_is_better_and_the_best_is_near() -> None:
    found = bound(Prior.draw(ALONE, 400, False, seeded()), RIG)["depth"]
    best = posterior_mean_error(ALONE, 2000)
    assert 0.75 * best < found < 1.08 * best  # the error of the best is itself known within some per cent


def test_the_divergence_is_exact_also_in_narrow_windows() -> None:
    """Against automatic differentiation, for counts that expect a + b u: E[h_a]^2 and the cost of a field."""
    generator = seeded(7)
    level, slope = (
        5 * torch.rand(9, generator=generator).double(),
        torch.randn(9, 6, generator=generator).double(),
    )
    level = level + slope.clamp(max=0).sum(1).abs() + 1

    def told(u: torch.Tensor) -> torch.Tensor:
        return 40 * torch.einsum("ti,tj,t->ij", slope, slope, 1 / (level + slope @ u))

    unit = torch.rand(40, 6, generator=generator).double()
    unit[:8, 0] = torch.linspace(0.001, 0.009, 8)  # on the flank of the narrowest window
    beside = []
    for place in range(6):
        step = OUTER * torch.eye(6).double()[place]
        below, above = (unit - step).clamp(0, 1), (unit + step).clamp(0, 1)
        some = [torch.stack([told(u) for u in at]) for at in (below, above)]
        beside.append(((above - below)[:, place], *some))
    here = torch.stack([told(u) for u in unit])
    gain, cost = _candidates(unit, here, beside)
    for number, (share, width) in enumerate(product(SHARES, WIDTHS)):
        if share not in (0.1, 3.0):
            continue

        def field(u: torch.Tensor, share: float = share, width: float = width) -> torch.Tensor:
            window = torch.sin(torch.pi / 2 * (torch.minimum(u, 1 - u) / width).clamp(max=1)).square()
            return torch.linalg.inv(told(u) + 12 * share * torch.eye(6))[:, 0] * window

        for i in range(0, 40, 5):
            h, rise = field(unit[i]), torch.autograd.functional.jacobian(field, unit[i])
            exact = h @ here[i] @ h + rise.diagonal().sum().square()
            torch.testing.assert_close(gain[0, number, i], h[0])
            torch.testing.assert_close(cost[0, number, i], exact, rtol=1e-3, atol=1e-9)


def test_the_limits_that_ship_are_those_of_the_usual_scenes() -> None:
    usual = Ranges(), Rig()
    known, unknown = (bounds(*usual, known_tissue=told) for told in (True, False))
    assert set(known) == set(unknown) == {"all", *parts(Ranges())}
    again = computed(*usual, known_tissue=True, number=400, seed=100, names=("photons",))
    assert set(again) == {"all", *parts(Ranges(), ["photons"])}
    for name in OUTPUTS:
        some = [known[part][name] for part in parts(Ranges(), ["photons"])]
        assert (
            0.4 < again["all"][name] / known["all"][name] < 1.3
        )  # squares, from few scenes: outliers make it less
        assert known["all"][name] == pytest.approx(sum(some) / len(some))
        assert some == sorted(some, reverse=True)
        assert all(known[part][name] <= unknown[part][name] for part in known)


def test_who_knows_the_part_can_tell_more() -> None:
    """Scenes of a part are less apart: the parts' limits are no more, on the mean, than that of all."""
    for limits in (bounds(Ranges(), Rig(), known_tissue=told) for told in (True, False)):
        for name in ("depth", "scattering"):
            some = [limits[part]["depth"] for part in parts(Ranges(), [name])]
            assert len(some) == 3
            assert 0.3 < sum(some) / len(some) / limits["all"]["depth"] < 1.1


def test_the_limit_of_one_part_is_that_of_its_scenes() -> None:
    """Of depth: the mean over parts of the photons, each with scenes of its own."""
    ranges = Ranges(photons=(300.0, 600.0))
    found = computed(ranges, RIG, True, 80, ("depth",), seed=5)
    shallow = next(part for part in found if part.startswith("depth"))
    _, low, high = parts(ranges, ["depth"])[shallow]
    alone = computed(replace(ranges, depth=(low, high)), RIG, True, 80 // 4, (), seed=5 + 4)
    assert found[shallow] == alone["all"]


def test_information_of_counts_by_hand() -> None:
    """Counts that expect a + b u have information b^2 / (a + b u) a bin."""

    def light(unit: torch.Tensor) -> torch.Tensor:
        return torch.stack([3 + 2 * unit[:, 0], 5 + unit[:, 1]], dim=1)

    found = information(light, torch.tensor([[0.5, 0.25]], dtype=torch.float64))
    wanted = torch.diag(torch.tensor([4 / 4.0, 1 / 5.25], dtype=torch.float64))
    torch.testing.assert_close(found[0], wanted)


def test_more_light_and_knowing_the_tissue_help() -> None:
    found = {
        (photons, known): bound(Prior.draw(Ranges(photons=photons), 150, known, seeded()), RIG)["depth"]
        for photons, known in (((300.0, 600.0), True), ((300.0, 600.0), False), ((6000.0, 12_000.0), True))
    }
    assert found[(300.0, 600.0), True] < found[(300.0, 600.0), False] < 9**2 / 12
    assert found[(6000.0, 12_000.0), True] < found[(300.0, 600.0), True] / 3


@pytest.mark.parametrize("known", [True, False])
def test_a_prior_holds_its_scenes(known: bool) -> None:
    prior = Prior.draw(Ranges(), 500, known, seeded())
    assert ((prior.unit >= 0) & (prior.unit <= 1)).all()
    again = prior.at(prior.unit)
    for name in PARAMETERS:
        torch.testing.assert_close(getattr(again, name), getattr(prior.scenes, name))
    width = (prior.high / prior.low)[:, PARAMETERS.index("scattering")]
    assert (width.max() < 1.25) == known
