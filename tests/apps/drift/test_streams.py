"""Generated streams: concepts, where they change, and how suddenly."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from apps.drift.streams import ABRUPT, RECIPES, generate

SEGMENTS = [
    *("1110111", "0010010", "1011101", "1011011", "0111010"),
    *("1101011", "1101111", "1010010", "1111111", "1111011"),
]
"""The bars that a digit shows."""


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


def test_the_share_of_the_new_concept_is_a_sigmoid_about_the_middle() -> None:
    places, found = (-1.0, -0.5, 0.0, 0.5, 1.0), []
    for seed in range(10):
        frame, (middle, *_) = generate("sea_g", 20_000, seed)
        total = frame["x0"] + frame["x1"]
        above = frame.loc[total > 12, "label"].mode()[0]
        between = (total > 8) & (total <= 9)  # above the first threshold, below the second
        new = (frame["label"] != above)[between]
        ends = [(middle + 1000 * place - 100, middle + 1000 * place + 100) for place in places]
        found.append([new[(new.index >= low) & (new.index < high)].mean() for low, high in ends])
    wanted = [0.1 + 0.8 / (1 + np.exp(-4 * place)) for place in places]  # a tenth of the labels is noise
    assert np.mean(found, 0) == pytest.approx(wanted, abs=0.1)


def test_led_shows_its_digits_by_other_columns_in_each_concept() -> None:
    frame, middles = generate("led_a", 12_000, 0)
    for number, swapped in enumerate((1, 3, 5, 7)):
        first = middles[number - 1] + 200 if number else 0
        own = frame.iloc[first : (*middles, 12_000)[number] - 200]
        as_told = np.array([[int(bar) for bar in SEGMENTS[label]] for label in own["label"]])
        agree = (own[[f"x{i}" for i in range(7)]].to_numpy() == as_told).mean(0)
        assert (agree > 0.85).sum() == 7 - swapped, (number, agree)


def test_rbf_moves_all_the_time() -> None:
    assert generate("rbf_m", 300, 0)[1] == []
    known = {}
    for name in ("rbf_m", "rbf_f"):
        frame = generate(name, 4000, 0)[0]
        x, y = frame.drop(columns="label").to_numpy(), frame["label"].to_numpy()
        old = KNeighborsClassifier(5).fit(x[:1500], y[:1500])
        known[name] = old.score(x[-1500:], y[-1500:])
    assert known["rbf_m"] > known["rbf_f"] + 0.1
