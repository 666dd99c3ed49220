"""Cells as numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apps.common.errors import UserError
from apps.recsys.columns import Schema
from apps.recsys.encoding import FIRST, MISSING, MOST_TAGS, Bins, Encoder, Vocabulary, as_text
from tests.core.blocks import examples

SCHEMA = Schema({}, {"city": "category", "price": "number", "tags": "tags"})
TRAIN = pd.DataFrame(
    {
        "city": ["a", "b", "a", "b", "rare", None],
        "price": [1.0, 2.0, 3.0, 4.0, 5.0, np.nan],
        "tags": ["x y", "x", "y x", "x z", None, "y"],
    }
)


def test_rare_unseen_and_blank_values_have_places_of_their_own() -> None:
    words = Vocabulary.of(TRAIN["city"], least=2)
    found = words.encode(pd.Series(["a", "b", "rare", "new", None, " "]))
    assert found.tolist() == [FIRST + 1, FIRST + 2, FIRST, FIRST, MISSING, MISSING]
    assert len(words) == 4
    assert words.unseen(pd.Series(["a", "new", None, "rare"])) == 0.5


def test_values_that_are_not_known_share_buckets_by_their_hash() -> None:
    words = Vocabulary([], buckets=7)
    values = pd.Series([f"v{i}" for i in range(500)])
    found = words.encode(values)
    assert set(found) == set(range(FIRST, FIRST + 7))
    assert np.array_equal(found, words.encode(values))
    assert len(words) == FIRST + 7


@pytest.mark.parametrize("kind", ["int64", "float64", "str", "category"])
def test_a_number_is_the_same_category_whatever_holds_it(kind: str) -> None:
    words = Vocabulary.of(pd.Series([3, 4, 3, 4]))
    assert words.encode(pd.Series([4, 3]).astype(kind)).tolist() == [3, 2]
    assert as_text(2.5) == "2.5"


def test_frequent_values_come_first_and_equals_are_sorted() -> None:
    assert Vocabulary.of(pd.Series(list("bbaacccd"))).known == ["c", "a", "b", "d"]
    assert Vocabulary.of(pd.Series(list("bbaacccd")), most=2).known == ["c", "a"]


@examples(20)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(2, 32))
def test_bins_rise_with_the_number_and_places_lie_between_the_ends(known: list[float], bins: int) -> None:
    made, asked = Bins.of(np.array(known), bins), np.sort(np.append(known, [-2e6, 2e6]))
    ids, places = made.encode(asked), made.place(asked)
    assert (np.diff(ids) >= 0).all()
    assert ids.min() >= 1
    assert ids.max() < len(made)
    assert (np.diff(places) >= 0).all()
    assert np.abs(places).max() <= 1


def test_numbers_that_are_mostly_zero_are_still_told_apart() -> None:
    made = Bins.of(np.append(np.zeros(1000), np.arange(1, 33)), 32)
    assert len(np.unique(made.encode(np.array([0.0, 3, 9, 15, 21, 27])))) == 6


def test_blank_numbers_are_told_from_zero() -> None:
    made = Bins.of(np.array([0.0, 1.0, np.nan]), 4)
    assert made.encode(np.array([np.nan, 0.0])).tolist()[0] == MISSING
    assert made.encode(np.array([0.0]))[0] != MISSING
    assert made.place(np.array([np.nan]))[0] == 0


def test_rows_become_ids_values_and_tags() -> None:
    encoder = Encoder.fit(TRAIN, SCHEMA, "log", bins=4)
    rows = encoder.encode(pd.DataFrame({"city": ["b"], "price": [9.0], "tags": ["y new x"]}), "log")
    assert rows.ids.shape == (1, 2)
    assert rows.values.tolist() == [[1.0]]
    assert rows.tags.shape == (1, 1, MOST_TAGS)
    words = encoder.tags["tags"][1]
    assert rows.tags[0, 0, :4].tolist() == [*words.encode(pd.Series(["y", "new", "x"])), 0]
    for ids, size in zip(rows.ids[0], encoder.sizes.ids, strict=True):
        assert ids < size


def test_a_schema_without_a_kind_gives_columns_of_no_width() -> None:
    rows = Encoder.fit(TRAIN, Schema({}, {"price": "number"}), "log").encode(TRAIN, "log")
    assert rows.tags.shape == (6, 0, MOST_TAGS)
    rows = Encoder.fit(TRAIN, Schema({}, {"city": "category"}), "log").encode(TRAIN, "log")
    assert rows.values.shape == (6, 0)


def test_an_encoder_comes_back_from_plain_values() -> None:
    encoder = Encoder.fit(TRAIN, SCHEMA, "log")
    again = Encoder.from_state(encoder.state())
    for one, other in zip(encoder.encode(TRAIN, "a"), again.encode(TRAIN, "a"), strict=True):
        assert torch.equal(one, other)
    assert again.sizes == encoder.sizes
    assert again.names == ["city", "price", "tags"]


def test_a_word_among_numbers_is_one_sentence() -> None:
    encoder = Encoder.fit(TRAIN, SCHEMA, "log")
    bad = TRAIN.assign(price=["1", "2", "cheap", "4", "5", "6"])
    with pytest.raises(UserError, match=r"mine.csv: price is 'cheap' in row 3, and should be a number"):
        encoder.encode(bad, "mine.csv")
