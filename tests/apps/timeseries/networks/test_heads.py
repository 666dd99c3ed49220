"""The heads: likelihoods, samples and quantiles against known distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from apps.timeseries.networks.heads import QuantileHead
from apps.timeseries.networks.mixture_head import NARROW, Mixture, MixtureHead

ONLY = {"student": 0, "normal": 1, "narrow": 2}


def inverse_softplus(x: float) -> float:
    return math.log(math.expm1(x))


def parameters(which: str, loc: float, scale: float = 1.0, freedom: float = 3.0) -> torch.Tensor:
    """Nine numbers that give one component all the weight."""
    raw = torch.zeros(9)
    raw[:3] = -1e8
    raw[ONLY[which]] = 0.0
    raw[3:6] = loc
    raw[6:8] = inverse_softplus(scale - NARROW)
    raw[8] = inverse_softplus(freedom - 2)
    return raw


KNOWN = {
    "student": stats.t(3.0, 1.0, 0.5),
    "normal": stats.norm(1.0, 0.5),
    "narrow": stats.norm(1.0, NARROW),
}


@pytest.mark.parametrize("which", ONLY)
@pytest.mark.parametrize("x", [-2.0, 0.9995, 1.3])
def test_the_likelihood_of_each_component_alone(which: str, x: float):
    found = Mixture.of(parameters(which, 1.0, 0.5).double()).log_prob(torch.tensor(x, dtype=torch.float64))
    assert float(found) == pytest.approx(KNOWN[which].logpdf(x), rel=1e-4)


def test_the_likelihood_of_a_mixture_by_hand():
    raw = torch.tensor([0.2, -0.3, 0.1, 0.5, -1.0, 0.3, 0.4, -0.2, 1.0], dtype=torch.float64)
    weight = np.exp(raw[:3]) / np.exp(raw[:3]).sum()
    t_scale, n_scale = (np.log1p(np.exp(raw[i])) + NARROW for i in (6, 7))
    density = [
        stats.t(2 + np.log1p(np.exp(1.0)), 0.5, t_scale).pdf(0.301),
        stats.norm(-1.0, n_scale).pdf(0.301),
        stats.norm(0.3, NARROW).pdf(0.301),
    ]
    expected = math.log(float(np.dot(weight, density)))
    found = Mixture.of(raw).log_prob(torch.tensor(0.301, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(Mixture.of(raw).mean()) == pytest.approx(float((weight * raw[3:6]).sum()))


def test_the_density_integrates_to_one():
    raw = torch.tensor([0.0, 0.0, -1.0, 0.5, -1.0, 0.3, 0.4, -0.2, 2.0]).double()
    x = torch.linspace(-400, 400, 4_000_001).double()
    total = torch.trapezoid(Mixture.of(raw.expand(len(x), 9)).log_prob(x).exp(), x)
    assert float(total) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("which", ONLY)
def test_samples_have_the_distribution_that_is_trained(which: str):
    uniform = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    sample = Mixture.of(parameters(which, 1.0, 0.5).expand(20_000, 9)).sample(uniform)
    assert stats.kstest(sample.numpy(), KNOWN[which].cdf).pvalue > 0.01


def test_components_are_drawn_as_often_as_they_weigh():
    raw = torch.cat([torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([-100.0, 0.0, 100.0]), torch.zeros(3)])
    uniform = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    uniform[:, 1] = 0.5  # near the middle
    sample = Mixture.of(raw.expand(20_000, 9)).sample(uniform)
    shares = [float(((sample - at).abs() < 50).float().mean()) for at in (-100, 0, 100)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_quantiles_and_mean_of_the_samples_are_those_of_the_distribution():
    head = MixtureHead(4, 1, samples=4000)
    raw = parameters("normal", 1.0, 0.5).expand(1, 4000, 1, 9)
    cloud, on = head.draw(raw, head.noise(1, 1)[:, :, 0])
    levels = torch.tensor([0.05, 0.3, 0.5, 0.95])
    assert torch.equal(cloud, on)
    expected = torch.from_numpy(stats.norm(1.0, 0.5).ppf(levels)).float()
    torch.testing.assert_close(head.quantiles(cloud, levels)[0, 0], expected, atol=0.03, rtol=0)
    assert float(head.point(cloud)[0, 0]) == pytest.approx(1.0, abs=0.01)


def test_quantiles_of_a_cloud_by_hand():
    """Three samples stand at 1/6, 1/2 and 5/6; the end ones are all that is known beyond."""
    head = MixtureHead(4, 1, samples=3)
    cloud = torch.tensor([[[30.0], [10.0], [14.0]]])
    found = head.quantiles(cloud, torch.tensor([0.0, 1 / 3, 0.5, 2 / 3, 0.99]))
    torch.testing.assert_close(found, torch.tensor([[[10.0, 12.0, 14.0, 22.0, 30.0]]]))


def test_the_point_forecast_is_the_mean_or_the_median():
    cloud = torch.tensor([[[30.0], [10.0], [14.0]]])
    assert float(MixtureHead(4, 1, samples=3).point(cloud)) == 18.0
    assert float(MixtureHead(4, 1, samples=3, point="median").point(cloud)) == 14.0


def test_noise_is_even_over_the_paths_and_independent_between_points():
    noise = MixtureHead(4, 2, samples=50).noise(2, 3)
    assert noise.shape == (2, 50, 3, 2, 3)
    cells = (noise * 50).long().sort(1).values
    assert torch.equal(cells, torch.arange(50).view(1, 50, 1, 1, 1).expand_as(cells))
    columns = noise.permute(1, 0, 2, 3, 4).flatten(1)
    correlation = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert correlation.abs().max() < 0.6


def test_noise_depends_on_the_seed_and_begins_alike_for_any_horizon_and_group():
    head = MixtureHead(4, 2, samples=10)
    torch.testing.assert_close(head.noise(3, 5)[:1, :, :2], head.noise(1, 2), rtol=0, atol=0)
    assert not torch.equal(head.noise(1, 1), MixtureHead(4, 2, samples=10, seed=1).noise(1, 1))


def test_targets_that_are_missing_have_no_share():
    head = MixtureHead(4, 2)
    raw = torch.randn(3, 2, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    target = torch.tensor([[0.5, torch.nan], [1.0, 2.0], [torch.inf, 3.0]])
    loss = head.loss(raw, target, mask)
    loss.backward()
    expected = -Mixture.of(raw.detach()[mask]).log_prob(target[mask]).mean()
    torch.testing.assert_close(loss.detach(), expected)
    assert torch.equal(raw.grad.ne(0).any(-1), mask)
    assert float(head.loss(raw.detach(), target, torch.zeros_like(mask))) == 0.0


def test_far_targets_give_finite_gradients():
    raw = torch.zeros(1, 1, 9, requires_grad=True)
    MixtureHead(4, 1).loss(raw, torch.tensor([[1e6]]), torch.ones(1, 1, dtype=torch.bool)).backward()
    assert raw.grad.isfinite().all()


def test_pinball_loss_by_hand():
    """Errors 3 and -2 at levels 0.1 and 0.9: 2 * (0.3 + 1.8) / 2 = 2.1 where the target lies above both."""
    head = QuantileHead(4, 1, patches=1, levels=[0.1, 0.9])
    guess = torch.tensor([[[1.0, 3.0]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    above, between = torch.tensor([[4.0]]), torch.tensor([[2.0]])
    assert float(head.loss(guess, above, mask)) == pytest.approx(0.1 * 3 + 0.9 * 1)
    assert float(head.loss(guess, between, mask)) == pytest.approx(0.1 * 1 + 0.1 * 1)
    assert float(head.loss(guess, above, ~mask)) == 0.0


def test_the_pinball_loss_finds_the_quantiles_of_its_data():
    head = QuantileHead(1, 1, patches=1, levels=[0.1, 0.5, 0.8])
    data = torch.from_numpy(stats.norm(2.0, 3.0).ppf((np.arange(2000) + 0.5) / 2000)).float()
    guess = torch.zeros(1, 1, 3, requires_grad=True)
    optimiser = torch.optim.Adam([guess], lr=0.1)
    for _ in range(400):
        optimiser.zero_grad()
        head.loss(guess.expand(2000, 1, 3), data[:, None], torch.ones(2000, 1, dtype=torch.bool)).backward()
        optimiser.step()
    expected = torch.from_numpy(stats.norm(2.0, 3.0).ppf([0.1, 0.5, 0.8])).float()
    torch.testing.assert_close(guess.detach()[0, 0], expected, atol=0.15, rtol=0)


def test_crossing_quantiles_are_sorted():
    head = QuantileHead(4, 1, patches=1, levels=[0.1, 0.5, 0.9])
    cloud, on = head.draw(torch.tensor([[[[5.0, 1.0, 3.0]]]]), head.noise(1, 1)[:, :, 0])
    assert head.quantiles(cloud, torch.tensor([0.1, 0.5, 0.7, 0.9])).flatten().tolist() == [1, 3, 4, 5]
    assert float(on) == float(head.point(cloud)) == 3.0


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="must be two or more that ascend"):
        QuantileHead(4, 1, levels=[0.5, 0.1])
    with pytest.raises(ValueError, match="must be two or more that ascend"):
        QuantileHead(4, 1, levels=[0.5, 1.0])
    with pytest.raises(ValueError, match="samples=1 must be at least 2"):
        MixtureHead(4, 1, samples=1)
    with pytest.raises(ValueError, match="unknown point 'mode'"):
        MixtureHead(4, 1, point="mode")
