"""Generated streams: concepts, where they change, and how suddenly."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from apps.drift.streams import ABRUPT, RECIPES, generate


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_stream_is_a_function_of_its_seed(name: str) -> None:
    one, middles = generate(name, 400, 1)
    assert len(one) == 400
    assert one.equals(generate(name, 400, 1)[0])
    assert not one.equals(generate(name, 400, 2)[0])
    assert middles == sorted(middles)
    assert one.notna().all().all()


def test_the_concepts_of_sea_are_its_thresholds() -> None:
    frame, middles = generate("sea_a", 8000, 0)
    assert middles == [2000, 4000, 6000]
    total = frame["x0"] + frame["x1"]
    concept = np.searchsorted(middles, np.arange(8000), side="right")
    calm = np.min([np.abs(np.arange(8000) - middle) for middle in middles], 0) > 3 * ABRUPT
    for number, threshold in enumerate((8.0, 9.0, 9.5, 8.0)):
        own = calm & (concept == number)
        right = (frame["label"] == (total > threshold))[own].mean()
        assert max(right, 1 - right) == pytest.approx(0.9, abs=0.025)


def test_a_gradual_drift_mixes_two_concepts_for_longer() -> None:
    spans = {}
    for name in ("sea_a", "sea_g"):
        frame, (middle, *_) = generate(name, 20_000, 3)
        total = frame["x0"] + frame["x1"]
        between = (total > 8) & (total <= 9)
        new = frame["label"] != (total > 8)
        odd = np.flatnonzero(between & new & (np.arange(20_000) < middle - 200))
        spans[name] = len(odd) / between[: middle - 200].sum()
    assert spans["sea_g"] > spans["sea_a"]


def test_rbf_moves_all_the_time() -> None:
    assert generate("rbf_m", 300, 0)[1] == []
    known = {}
    for name in ("rbf_m", "rbf_f"):
        frame = generate(name, 4000, 0)[0]
        x, y = frame.drop(columns="label").to_numpy(), frame["label"].to_numpy()
        old = KNeighborsClassifier(5).fit(x[:1500], y[:1500])
        known[name] = old.score(x[-1500:], y[-1500:])
    assert known["rbf_m"] > known["rbf_f"] + 0.1
