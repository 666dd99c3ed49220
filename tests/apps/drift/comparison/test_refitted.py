"""Learners that are fitted again as a stream goes on: to what, and when."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from apps.drift.comparison.fair import stream
from apps.drift.comparison.refitted import Logistic, Peer, Perceptron, Reductions, Refitted
from apps.drift.data import Data
from apps.drift.fair.fairness import odds_gap, parity_gap
from apps.drift.streams import FEW_REFERRALS
from tests.apps.drift.fair.test_linear import rows

BLOCK = 100


@pytest.fixture(scope="module")
def hiring() -> Data:
    return stream("hiring", 900)  # the first drift comes at 300


class Noting(Peer):
    """Says how many rows it has learned."""

    def fit(self, z: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
        assert len(z) == len(label) == len(group)
        self.rows = len(z)

    def predict(self, z: np.ndarray) -> dict[str, np.ndarray]:
        return {"predicted": np.full(len(z), self.rows)}

    def parameters(self) -> int:
        return 1


def test_it_is_fitted_after_every_block_to_all_rows_so_far(hiring: Data) -> None:
    learner = Refitted(hiring, Noting, BLOCK)
    assert learner.cost().total_params == 0
    said = [learner.run(250), learner.run(320)]  # a stop within a block changes nothing
    predicted = np.concatenate([part["predicted"] for part in said])
    assert predicted.tolist() == [0] * 100 + [100] * 100 + [200] * 100 + [300] * 20
    assert np.array_equal(np.concatenate([part["label"] for part in said]), hiring.y[:320].numpy())
    assert learner.cost().total_params == 1


def test_it_is_fitted_to_the_last_rows_alone_where_these_are_named(hiring: Data) -> None:
    said = Refitted(hiring, Noting, BLOCK, recent=150).run(400)["predicted"]
    assert said[::BLOCK].tolist() == [0, 100, 150, 150]


def test_zero_is_said_until_both_labels_came(hiring: Data) -> None:
    blind = stream("hiring", 900)
    blind.y = torch.where(torch.arange(900) < 150, 1, hiring.y)
    assert Refitted(blind, Noting, BLOCK).run(300)["predicted"].tolist() == [0] * 200 + [200] * 100


def test_a_logistic_regression_is_that_of_scikit_learn(hiring: Data) -> None:
    said = Refitted(hiring, lambda: Logistic(C=0.1), BLOCK).run(200)
    x, label = hiring.x.double().numpy(), hiring.y.numpy()
    scale = StandardScaler().fit(x[:100])
    model = LogisticRegression(C=0.1).fit(scale.transform(x[:100]), label[:100])
    assert np.array_equal(said["predicted"][100:], model.predict(scale.transform(x[100:200])))


def test_its_distance_ends_on_the_boundary(hiring: Data) -> None:
    z, label = hiring.x.double().numpy(), hiring.y.numpy()
    peer = Logistic()
    peer.fit(z, label, label)
    said, weight = peer.predict(z), peer.model.coef_[0]
    there = z + said["distance"][:, None] * weight / np.linalg.norm(weight)
    unwanted = said["predicted"] == 0
    assert peer.model.decision_function(there)[unwanted] == pytest.approx(0, abs=1e-9)
    assert not said["distance"][~unwanted].any()
    assert peer.parameters() == z.shape[1] + 1


def test_a_perceptron_learns_and_is_a_function_of_its_seed(hiring: Data) -> None:
    z, label = hiring.x.double().numpy()[400:600], hiring.y.numpy()[400:600]
    first, again = (Perceptron(hidden=8, alpha=1e-4, seed=3) for _ in range(2))
    for peer in (first, again):
        peer.fit(z, label, label)
    said = first.predict(z)["predicted"]
    assert np.array_equal(said, again.predict(z)["predicted"])
    assert (said == label).mean() > 0.75
    assert first.parameters() == 8 * (z.shape[1] + 1) + 8 + 1


@pytest.mark.parametrize("measure", ["parity", "odds"])
def test_reductions_lower_the_gap_that_they_bound(measure: str) -> None:
    pytest.importorskip("fairlearn")
    z, label, group = (part.double().numpy() for part in rows(FEW_REFERRALS, 4000))
    plain, fair = Logistic(), Reductions(measure, bound=0.01, seed=0)
    for peer in (plain, fair):
        peer.fit(z, label, group)
    said = [peer.predict(z)["predicted"] for peer in (plain, fair)]
    gap = [parity_gap(one, group) if measure == "parity" else odds_gap(one, label, group) for one in said]
    assert gap[1] < 0.5 * gap[0]
    assert set(said[1]) == {0, 1}
    assert fair.parameters() % (z.shape[1] + 1) == 0
