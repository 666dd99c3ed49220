"""Centroid: the nearest fixed point wins."""

import math
from functools import partial

import pytest
import torch
from collegium import Context
from collegium.gates import Centroid
from collegium.routers import TopK

from tests.core.blocks import doubles, gradients_hold

CENTRES = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
"""Four clusters; each lies straight across from one other, which is the farthest."""


def four_clusters(metric: str = "neg_l2") -> TopK:
    router = TopK(2, 4, k=1, gate=partial(Centroid, metric=metric))
    router.gate.centroids.copy_(CENTRES)
    return router


@pytest.mark.parametrize(("metric", "sign"), [("neg_l2", -1), ("l2_as_released", 1)])
def test_scores_are_distances(metric: str, sign: int) -> None:
    gate, x = Centroid(3, 4, metric).double(), torch.randn(40, 3).double()  # type: ignore[arg-type]
    wanted = [[sign * math.dist(token, centre) for centre in gate.centroids.tolist()] for token in x.tolist()]
    torch.testing.assert_close(gate(x, Context(), None), torch.tensor(wanted, dtype=torch.float64))


def test_each_cluster_has_an_expert_of_its_own() -> None:
    label = torch.arange(400) % 4
    x = CENTRES[label] + torch.randn(400, 2)
    assert torch.equal(four_clusters()(x).dense_weight().argmax(1), label)  # purity 1


def test_as_released_the_farthest_centroid_wins() -> None:
    label = torch.arange(400) % 4
    x = CENTRES[label] + torch.randn(400, 2)
    chosen = four_clusters("l2_as_released")(x).dense_weight().argmax(1)
    assert torch.equal(chosen, torch.tensor([1, 0, 3, 2])[label])


def test_where_the_clusters_lie_in_space_does_not_matter() -> None:
    gate, label = Centroid(2, 4), torch.arange(400) % 4
    gate.centroids.copy_(1000 + CENTRES / 100)
    x = gate.centroids[label] + torch.randn(400, 2) / 100
    assert torch.equal(gate(x, Context(), None).argmax(1), label)


def test_centroids_are_kept_and_not_learned() -> None:
    gate = Centroid(2, 4)
    assert not list(gate.parameters())
    assert gate.state_dict().keys() == {"centroids"}


@pytest.mark.parametrize("metric", ["neg_l2", "l2_as_released"])
def test_gradients_are_those_of_differences(metric: str) -> None:
    gate = Centroid(3, 4, metric).double()  # type: ignore[arg-type]
    assert gradients_hold(gate, doubles(5, 3), Context(), read=lambda logits: logits)


def test_another_metric_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'cosine': choose 'neg_l2' or 'l2_as_released'$"):
        Centroid(2, 4, "cosine")  # type: ignore[arg-type]
