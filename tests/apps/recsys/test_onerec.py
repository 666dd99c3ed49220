"""OneRec: words of items, what is legal, and the beam against all there is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apps.recsys.data import Data
from apps.recsys.onerec import OneRec, some_places
from apps.recsys.semantic import Codebooks, told_apart
from apps.recsys.sequences import FIRST, Walk
from apps.recsys.trie import Trie
from tests.core.blocks import examples

WORDS = (8, 8)


@examples(15)
@given(seed=st.integers(0, 2**16))
def test_what_is_left_shrinks_with_every_level(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(60, 5))
    made = Codebooks.fit(vectors, (6, 6, 6), seed=0)
    words = made.encode(vectors)
    left = [((vectors - made.decode(words[:, :n])) ** 2).sum(1).mean() for n in range(1, 4)]
    assert (vectors**2).sum(1).mean() > left[0] > left[1] > left[2]


def test_a_vector_has_the_words_of_the_nearest_centres() -> None:
    made = Codebooks([np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])])
    assert made.encode(np.array([[0.9, 0.1], [10.2, 1.8]])).tolist() == [[0, 0], [1, 1]]
    assert made.decode(np.array([[1, 1]])).tolist() == [[10.0, 2.0]]


@examples(15)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=20))
def test_a_last_word_tells_apart_what_is_alike(words: list[tuple[int, int]]) -> None:
    made = told_apart(np.array(words))
    assert len(np.unique(made, axis=0)) == len(words)
    assert made[:, :2].tolist() == [list(own) for own in words]
    assert made[:, 2].max() < len(words)


def test_a_trie_leads_to_every_item_and_nowhere_else() -> None:
    codes = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 2], [0, 1]])  # the first two ids are of none
    trie = Trie.of(codes, most=3)
    found = {}
    for first in range(3):
        for second in range(3):
            node = int(trie.children[0][0, first])
            if node >= 0 and (leaf := int(trie.children[1][node, second])) >= 0:
                found[first, second] = int(trie.items[leaf])
    assert found == {(1, 0): 2, (1, 2): 3, (0, 1): 4}


@pytest.fixture(scope="module")
def data() -> Data:
    found = Data(rows=1500, protocol="next_item", history=8)
    found.setup()
    return found


@pytest.fixture(scope="module")
def network(data: Data) -> OneRec:
    torch.manual_seed(0)
    made = OneRec(dim=8, depth=1, words=WORDS, session=2, beams=5000)
    made.build(data.encoder.sizes, len(data.catalogue), data.history)
    assert data.contents is not None
    made.study(data.walks("train").walk, data.contents)
    with torch.no_grad():
        for table in (made.spoken, made.embedder.items, made.ago, made.order):
            table.weight.normal_()
    return made.eval()


@torch.no_grad()
def chance_of(network: OneRec, walk: Walk, items: list[int]) -> float:
    """Log probability of a session for one user, by its words one after the other."""
    memory, blank = network._listen(walk.profile, walk.history)
    spoken, told = [], 0.0
    for word in network.codes[torch.tensor(items)].flatten().tolist():
        tokens = network._begun(torch.tensor([[spoken]], dtype=torch.int64))
        scores = network._speak(tokens, memory, blank[:, None], last=True)[0, 0].log_softmax(-1)
        told += float(scores[word])
        spoken.append(word)
    return told


def test_a_beam_without_bounds_finds_every_item_with_its_chance(network: OneRec, data: Data) -> None:
    walk = data.walks("validation").__getitems__([3])
    items, chance = network.write(walk)
    known = {int(i): float(c) for i, c in zip(items[0, :, 0], chance[0], strict=True) if c > -torch.inf}
    history = set(walk.seen[0].tolist())
    assert set(known) == set(range(FIRST, len(data.catalogue))) - history
    for item in list(known)[::40]:
        assert known[item] == pytest.approx(chance_of(network, walk, [item]), abs=1e-4)
    assert sorted(known.values(), reverse=True) == list(known.values())
    scores = network.scores(walk)[0]
    assert {i for i, s in enumerate(scores.tolist()) if s > -float("inf")} == set(known)


def test_a_session_has_no_item_twice_and_its_chance_is_that_of_all_its_words(
    network: OneRec, data: Data
) -> None:
    walk = data.walks("validation").__getitems__([1, 5])
    items, chance = network.write(walk, session=2, beams=20)
    assert items.shape == (2, 20, 2)
    assert chance.isfinite().all()
    for user in range(2):
        one = data.walks("validation").__getitems__([[1, 5][user]])
        history = set(walk.seen[user].tolist())
        for session, told in zip(items[user].tolist(), chance[user].tolist(), strict=True):
            assert len(set(session)) == 2
            assert not history & set(session)
            assert told == pytest.approx(chance_of(network, one, session), abs=1e-4)


def test_a_session_longer_than_those_of_training_is_refused(network: OneRec, data: Data) -> None:
    with pytest.raises(ValueError, match="sessions of up to 2 items, not 3"):
        network.write(data.walks("validation").__getitems__([0]), session=3)


def test_chances_of_sessions_are_those_of_their_words(network: OneRec, data: Data) -> None:
    walk = data.walks("validation").__getitems__([4])
    sessions = [[5, 9], [9, 5], [20, 21]]
    found = network.chances(walk, torch.tensor([sessions]))[0]
    wanted = [chance_of(network, walk, items) for items in sessions]
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_wider_beam_never_ends_with_less(network: OneRec, data: Data) -> None:
    walk = data.walks("validation").__getitems__(range(20))
    best = [network.write(walk, beams=width)[1][:, 0] for width in (1, 8, 5000)]
    assert (best[0] <= best[2] + 1e-5).all()
    assert (best[1] <= best[2] + 1e-5).all()


def test_what_comes_later_is_not_heard(network: OneRec, data: Data) -> None:
    """The loss at a place does not change with the items from there on in what is heard."""
    walk = data.walks("train").__getitems__(range(60))
    full = next(i for i in range(60) if (walk.items[i] > 0).all())
    items = walk.items[full : full + 1]
    other = items.clone()
    other[:, 5:] = 3
    told = []
    for each in (items, other):
        memory, blank = network._listen(walk.profile.take([full]), each[:, :-1])
        later = torch.arange(8) >= torch.tensor([[4]])[..., None]
        words = network.codes[items[:, 4:6]][:, None]
        told.append(network._speak(network._tokens(words), memory, blank[:, None] | later))
    torch.testing.assert_close(told[0], told[1])


def test_places_have_something_before_and_a_known_item() -> None:
    items = torch.tensor([[0, 0, 5, 1, 6], [0, 0, 0, 0, 7], [1, 2, 0, 0, 0]])
    torch.manual_seed(0)
    row, place = some_places(items, 40)
    assert row.tolist() == [0, 2]
    assert set(place[0].tolist()) == {4}
    assert set(place[1].tolist()) == {1}


@pytest.mark.parametrize("words", [(40, 40), (3,)])
def test_a_wide_beam_holds_every_legal_session_once(words: tuple[int, ...], data: Data) -> None:
    """Whether few items or many have their first words alike."""
    torch.manual_seed(0)
    made = OneRec(dim=8, depth=1, words=words, session=2, beams=5000)
    made.build(data.encoder.sizes, FIRST + 9, data.history)
    made.codes[FIRST:, 0] = torch.arange(9) % words[0]
    made.codes[FIRST:, -1] = torch.arange(9) // words[0]
    walk = data.walks("train").__getitems__([0])
    blank = torch.zeros_like(walk.items)
    blank[:, -2] = FIRST
    walk = walk._replace(items=blank, seen=torch.tensor([[FIRST + 3]]))
    items, chance = made.eval().write(walk, session=2)
    live = [
        tuple(own) for own, told in zip(items[0].tolist(), chance[0].tolist(), strict=True) if told > -1e9
    ]
    left = [item for item in range(FIRST, FIRST + 9) if item not in (FIRST, FIRST + 3)]
    assert sorted(live) == [(a, b) for a in left for b in left if a != b]
    chances = [chance_of(made, walk, list(own)) for own in live]
    assert chance[0][: len(live)].tolist() == pytest.approx(chances, abs=1e-4)


def test_another_seed_clusters_items_otherwise(data: Data) -> None:
    codes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made = OneRec(dim=8, depth=1, words=WORDS)
        made.build(data.encoder.sizes, len(data.catalogue), data.history)
        assert data.contents is not None
        made.study(data.walks("train").walk, data.contents)
        codes.append(made.codes)
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_it_learns_a_rule() -> None:
    """Items follow one another in a ring: after training the next one comes first for most."""
    torch.manual_seed(0)
    items = (torch.arange(9) + torch.arange(12)[:, None]) % 12 + FIRST
    data = Data(rows=300, protocol="next_item", history=8)
    data.setup()
    walk = data.walks("train").__getitems__(torch.zeros(12, dtype=torch.int64))._replace(items=items)
    made = OneRec(dim=32, depth=1, words=(4,), session=1, dropout=0.0, beams=5)
    made.build(data.encoder.sizes, 14, 8)
    made.codes[FIRST:] = torch.tensor([[i % 4, i // 4] for i in range(12)])
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        made.loss(walk).backward()
        optimizer.step()
    first = made.eval().write(walk)[0][:, 0, 0]
    assert (first == walk.target).float().mean() > 0.9


def test_too_many_alike_items_are_refused(data: Data) -> None:
    made = OneRec(dim=8, depth=1, words=(1,))
    made.build(data.encoder.sizes, len(data.catalogue), data.history)
    assert data.contents is not None
    with pytest.raises(ValueError, match="items have the same words: give OneRec more `words`"):
        made.study(data.walks("train").walk, data.contents)
