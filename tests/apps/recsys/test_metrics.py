"""Metrics by hand and against libraries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from apps.recsys.metrics import (
    auc,
    auc_by_user,
    auc_units,
    calibration,
    calibration_error,
    counted,
    coverage,
    gauc,
    hits,
    log_loss,
    mean_auc,
    ndcg,
    placements,
)
from tests.core.blocks import examples

SEEDS = st.integers(0, 2**16)


def rows(seed: int, n: int = 60, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    score = random.normal(size=n).round(1 if ties else 9)
    return score, np.append(random.integers(0, 2, n - 2), [0, 1])


@examples(20)
@given(seed=SEEDS, ties=st.booleans())
def test_auc_and_placements_are_those_of_pairs(seed: int, ties: bool) -> None:
    score, label = rows(seed, 30, ties)
    pairs = score[label == 1][:, None] - score[label == 0][None]
    won = (pairs > 0) + 0.5 * (pairs == 0)
    below, above = placements(score, label)
    np.testing.assert_allclose(below, won.mean(1))
    np.testing.assert_allclose(above, won.mean(0))
    assert auc(score, label) == pytest.approx(roc_auc_score(label, score))


def test_auc_of_one_label_is_not_a_number() -> None:
    assert math.isnan(auc(np.arange(3.0), np.ones(3)))
    assert math.isnan(auc(np.arange(3.0), np.zeros(3)))


@examples(20)
@given(seed=SEEDS)
def test_units_of_an_auc_have_it_for_a_mean_and_tell_what_a_unit_weighs(seed: int) -> None:
    """Against the change of the AUC as a unit's rows are given a little more weight."""
    score, label = rows(seed)
    unit = np.random.default_rng(seed).integers(0, 5, len(score))
    found = auc_units(score, label, unit, 5)
    assert found.mean() == pytest.approx(auc(score, label))
    for one in range(5):
        step = 1e-5
        weight = np.where(unit == one, 1 + step, 1.0)
        slope = (roc_auc_score(label, score, sample_weight=weight) - auc(score, label)) / step
        assert found[one] - auc(score, label) == pytest.approx(5 * slope, abs=1e-3)


def test_gauc_weighs_users_by_their_rows_and_leaves_out_those_of_one_label() -> None:
    score = np.array([0.1, 0.9, 0.3, 0.2, 0.8, 0.5, 0.4])
    label = np.array([0, 1, 1, 0, 1, 0, 0])
    user = np.array([7, 7, 7, 3, 3, 5, -1])  # 7: both above; 3: above; 5 and nobody: left out
    who, values, count = auc_by_user(score, label, user)
    assert who.tolist() == [3, 7]
    assert values.tolist() == [1.0, 1.0]
    assert count.tolist() == [2, 3]
    score[2] = 0.05
    assert gauc(score, label, user) == pytest.approx((2 * 1.0 + 3 * 0.5) / 5)
    assert math.isnan(gauc(score[5:], label[5:], user[5:]))


def test_a_mean_auc_counts_tasks_with_enough_positives() -> None:
    score = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.4], [0.2, 0.3]])
    label = np.array([[0, 1], [1, 0], [1, 0], [np.nan, 0]])
    assert counted(label, 2) == [0]
    assert counted(label, 3) == [0, 1]
    assert mean_auc(score, label, 2) == 1.0
    label[1, 1], label[0, 1] = 1, 0
    assert mean_auc(score, label, 1) == 0.5
    assert mean_auc(score, np.zeros((4, 2))) == 0.5


def test_log_loss_and_calibration_by_hand() -> None:
    chance, label = np.array([0.8, 0.25, 0.5, 0.05]), np.array([1, 0, 1, 0])
    wanted = -(math.log(0.8) + math.log(0.75) + math.log(0.5) + math.log(0.95)) / 4
    assert log_loss(chance, label) == pytest.approx(wanted)
    assert calibration(chance, label) == pytest.approx(1.6 / 2)
    assert calibration_error(chance, label, bins=2) == pytest.approx(abs(0.15 - 0) / 2 + abs(0.65 - 1) / 2)
    assert math.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1, 0])))


def test_hits_and_ndcg_by_hand() -> None:
    rank = np.array([1.0, 3.0, 11.0])
    assert hits(rank, 10).tolist() == [1.0, 1.0, 0.0]
    assert ndcg(rank, 10).tolist() == [1.0, 0.5, 0.0]
    assert coverage(np.array([[3, 1], [1, 2], [1, 0]]), 6) == 0.5
