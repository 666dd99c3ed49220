"""DenseToSparse: a softmax that cools down, cut at a threshold."""

import math

import pytest
import torch
from collegium import Context
from collegium.routers import DenseToSparse
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E = 5, 8


def softmax_by_hand(z: list[float]) -> list[float]:
    raised = [math.exp(value - max(z)) for value in z]
    return [value / sum(raised) for value in raised]


def by_hand(logits: Tensor, temperature: float, threshold: float) -> Tensor:
    """(T, E): softmax(z / tau), those above the threshold and the best in any case, over their sum."""
    rows = []
    for z in logits.tolist():
        soft = softmax_by_hand([value / temperature for value in z])
        kept = [g if g > threshold or g == max(soft) else 0.0 for g in soft]
        rows.append([g / sum(kept) for g in kept])
    return torch.tensor(rows, dtype=torch.float64)


def router_with(gain: float = 1.0, **options: float) -> DenseToSparse:
    router = DenseToSparse(D, E, **options).double()  # type: ignore[arg-type]
    router.gate.weight.data.mul_(gain)
    return router


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("options", [{}, {"threshold": 0.2}, {"threshold": 0.0}, {"warm": 4.0, "cold": 0.5}])
def test_evaluation_keeps_what_lies_above_the_threshold(progress: float, options: dict[str, float]) -> None:
    router, x = router_with(3.0, **options).eval(), torch.randn(20, D).double()
    router.anneal(progress)
    warm, cold = options.get("warm", 1.0), options.get("cold", 0.1)
    temperature = warm ** (1 - progress) * cold**progress
    wanted = by_hand(x @ router.gate.weight.T, temperature, options.get("threshold", 1e-3))
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), wanted)
    assert torch.equal(routing.selected(), wanted > 0)


def test_masked_tokens_get_nothing() -> None:
    router, x, mask = router_with().eval(), doubles(4, D), torch.tensor([True, False, True, False])
    for progress in (0.0, 1.0):
        router.anneal(progress)
        masked = router(x, Context(mask=mask)).dense_weight()
        torch.testing.assert_close(masked, router(x).dense_weight() * mask[:, None])


def test_the_temperature_falls_from_warm_to_cold() -> None:
    router = router_with(warm=2.0, cold=0.5)
    found = []
    for progress in (0.0, 0.5, 1.0):
        router.anneal(progress)
        found.append(router.temperature)
    assert found == pytest.approx([2.0, 1.0, 0.5])


@pytest.mark.parametrize("gain", [0.3, 1.0, 5.0])
def test_no_token_gains_experts_as_training_goes_on(gain: float) -> None:
    router, x = router_with(gain).eval(), torch.randn(500, D).double()
    numbers = []
    for progress in torch.linspace(0, 1, 21).tolist():
        router.anneal(progress)
        numbers.append(router(x).experts_per_token())
    by_time = torch.stack(numbers)
    assert (by_time.diff(dim=0) <= 0).all()
    assert by_time[0].double().mean() > 2
    assert (by_time[-1] == 1).all()


def test_the_mean_number_of_experts_falls_in_training_too() -> None:
    router, x = router_with(), torch.randn(2000, D).double()
    numbers = []
    for progress in torch.linspace(0, 1, 11).tolist():
        router.anneal(progress)
        numbers.append(float(router(x).experts_per_token().double().mean()))
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 7
    assert numbers[-1] == 1


@pytest.mark.parametrize("training", [True, False])
def test_at_the_end_the_best_expert_is_weighed_by_the_softmax_of_its_score(training: bool) -> None:
    router, x = router_with(3.0).train(training), torch.randn(20, D).double()
    router.anneal(1.0)
    wanted = torch.zeros(20, E, dtype=torch.float64)
    for t, z in enumerate((x @ router.gate.weight.T).tolist()):
        probs = softmax_by_hand(z)
        wanted[t, probs.index(max(probs))] = max(probs)
    torch.testing.assert_close(router(x).dense_weight(), wanted)


def test_without_a_schedule_it_stays_warm() -> None:
    router = router_with().eval()
    assert router.temperature == 1.0
    assert router(torch.randn(50, D).double()).experts_per_token().double().mean() > 7


def test_noise_in_training_picks_the_best_as_often_as_the_softmax_says() -> None:
    """The Gumbel-max trick: argmax of z + noise is a draw from softmax(z), at any temperature."""
    router, token = router_with(3.0), torch.randn(1, D).double()
    router.anneal(0.5)
    best = router(token.expand(40_000, D)).dense_weight().argmax(1)
    found = torch.bincount(best, minlength=E) / 40_000
    torch.testing.assert_close(found.double(), router(token).probs[0], atol=0.01, rtol=0)


def test_training_draws_anew_and_its_weights_sum_to_one() -> None:
    router, x = router_with(), torch.randn(50, D).double()
    one, other = (router(x).dense_weight() for _ in range(2))
    assert not torch.allclose(one, other)
    torch.testing.assert_close(one.sum(1), torch.ones(50).double())


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_differences(progress: float, training: bool) -> None:
    router = DenseToSparse(3, 4).double().train(training)
    router.anneal(progress)
    assert gradients_hold(router, doubles(5, 3), seed=1)


@pytest.mark.parametrize(
    "options",
    [{"cold": 0.0}, {"cold": -1.0}, {"warm": 0.1, "cold": 0.2}, {"threshold": -0.1}, {"threshold": 1.0}],
)
def test_a_schedule_that_does_not_fall_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"wants warm >= cold > 0 and a threshold between 0 and 1$"):
        DenseToSparse(D, E, **options)  # type: ignore[arg-type]
