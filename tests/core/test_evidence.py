"""Evidence: Dirichlet distributions, their loss, and mixtures by reliability."""

import pytest
import torch
from collegium.evidence import (
    Evidence,
    EvidentialCritic,
    ReliabilityMixture,
    divergence_from_ignorance,
    evidential_loss,
)
from torch.distributions import Dirichlet, kl_divergence


def strengths(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return 1 + 5 * torch.rand(*shape, dtype=torch.float64)


def test_evidence_by_hand() -> None:
    evidence = Evidence(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 8.0]]))
    assert evidence.vacuity.tolist() == pytest.approx([1.0, 0.3])
    assert evidence.quality.tolist() == pytest.approx([0.5, 0.85])
    torch.testing.assert_close(evidence.probs[1], torch.tensor([0.1, 0.1, 0.8]))


def test_the_divergence_is_that_of_torch() -> None:
    strength = strengths(6, 4)
    wanted = kl_divergence(Dirichlet(strength), Dirichlet(torch.ones_like(strength)))
    torch.testing.assert_close(divergence_from_ignorance(strength), wanted)


def test_the_error_is_the_expected_squared_error_under_the_distribution() -> None:
    """Sensoy et al., eq. 5: E |y - p|^2 for p of the Dirichlet, against samples."""
    strength, grade = strengths(3, 4), torch.tensor([0, 2, 3])
    torch.manual_seed(1)
    drawn = Dirichlet(strength).sample((200_000,))
    target = torch.nn.functional.one_hot(grade, 4)
    wanted = (target - drawn).square().sum(-1).mean()
    found = evidential_loss(Evidence(strength), grade, regulariser=0.0)
    assert found.item() == pytest.approx(wanted.item(), rel=0.01)


def test_evidence_for_the_true_grade_is_not_held_against_it() -> None:
    right = Evidence(torch.tensor([[30.0, 1.0, 1.0]]))
    assert evidential_loss(right, torch.tensor([0])) < 0.01
    wrong = [evidential_loss(right, torch.tensor([1]), r).item() for r in (0.0, 1.0)]
    assert wrong[1] - wrong[0] == pytest.approx(divergence_from_ignorance(right.strength).item())


def test_a_critic_learns_to_tell_good_from_bad_and_to_correct() -> None:
    """An expert that is right where x > 0, and elsewhere too low by 2."""
    torch.manual_seed(0)
    critic = EvidentialCritic(1, 1, grades=2, hidden=16)
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.02)
    x = torch.rand(512, 1) * 2 - 1
    off = 2.0 * (x <= 0)
    for _ in range(300):
        evidence, correction = critic(x)
        loss = evidential_loss(evidence, (x > 0).long(), 0.1) + (correction - off).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    evidence, correction = critic(torch.tensor([[-0.7], [0.7]]))
    assert evidence.quality[0] < 0.3
    assert evidence.quality[1] > 0.7
    assert correction.flatten().tolist() == pytest.approx([2.0, 0.0], abs=0.3)


def test_a_fresh_critic_corrects_nothing_and_a_single_grade_is_refused() -> None:
    evidence, correction = EvidentialCritic(3, 2)(torch.randn(4, 5, 3))
    assert evidence.strength.shape == (4, 5, 2, 5)
    assert (evidence.strength > 1).all()
    assert (correction == 0).all()
    with pytest.raises(ValueError, match="give 2 or more"):
        EvidentialCritic(3, 2, grades=1)


def mixed(**changes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    mixture = ReliabilityMixture(dim=3, signal=4, outputs=2)
    given = {
        "said": torch.randn(5, 6, 2),
        "correction": torch.randn(5, 6, 2),
        "evidence": Evidence(1 + torch.rand(5, 6, 2, 4)),
        "embedding": torch.randn(5, 6, 3),
        "signal": torch.randn(5, 4),
    }
    return (*mixture(**{**given, **changes}), given)


def test_a_mixture_is_the_weighted_sum_of_corrected_words() -> None:
    found, weight, given = mixed()
    torch.testing.assert_close(weight.sum(1), torch.ones(5, 2))
    by_hand = sum(weight[:, e] * (given["said"][:, e] + given["correction"][:, e]) for e in range(6))
    torch.testing.assert_close(found, by_hand)


def test_a_router_s_weights_are_a_prior() -> None:
    _, even, _ = mixed()
    prior = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4, 0.0]).expand(5, 6)
    _, weight, _ = mixed(prior=prior)
    wanted = even * prior[..., None]
    torch.testing.assert_close(weight, wanted / wanted.sum(1, keepdim=True))
    _, same, _ = mixed(prior=torch.full((5, 6), 1 / 6))
    torch.testing.assert_close(same, even)


def test_where_no_expert_was_asked_nothing_is_said() -> None:
    prior = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4, 0.0]).repeat(5, 1)
    alone, kept, _ = mixed(prior=prior)
    prior[2] = 0
    said = torch.randn(5, 6, 2, requires_grad=True)
    found, weight, _ = mixed(prior=prior, said=said)
    assert not found[2].any()
    assert not weight[2].any()
    found.sum().backward()
    assert bool(said.grad.isfinite().all())
    others = [0, 1, 3, 4]
    found, weight, _ = mixed(prior=prior)
    torch.testing.assert_close((found[others], weight[others]), (alone[others], kept[others]))


def test_trust_follows_the_evidence_and_not_the_order_of_experts() -> None:
    found, weight, given = mixed()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = {name: value[:, order] for name, value in given.items() if name not in ("signal", "evidence")}
    again, shuffled, _ = mixed(**turned, evidence=Evidence(given["evidence"].strength[:, order]))
    torch.testing.assert_close(again, found)
    torch.testing.assert_close(shuffled, weight[:, order])
    better = given["evidence"].strength.clone()
    better[:, 2, :, -1] += 20
    _, moved, _ = mixed(evidence=Evidence(better))
    assert not torch.allclose(moved, weight)
