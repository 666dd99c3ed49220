"""Users' items in order, and the windows that are learned from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apps.common.errors import UserError
from apps.recsys.data import Data
from apps.recsys.encoding import Encoded
from apps.recsys.sequences import (
    FIRST,
    UNSEEN,
    Walk,
    constant_within,
    in_order,
    split_last,
    walk_of,
    windows,
)
from apps.recsys.simulate import simulate
from tests.core.blocks import examples

NOTHING = Encoded(torch.zeros(99, 0, dtype=torch.int64), torch.zeros(99, 0), torch.zeros(99, 0, 1))


@examples(20)
@given(seed=st.integers(0, 2**16))
def test_rows_of_a_user_come_in_order_of_time_and_each_item_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    user, item, order = random.integers(-1, 4, 30), random.integers(-1, 5, 30), random.permutation(30)
    found = in_order(user, item, order)
    for who, rows in enumerate(found):
        first: dict[int, int] = {}
        for row in order.tolist():
            if user[row] == who and item[row] >= 0:
                first.setdefault(int(item[row]), row)
        assert rows.tolist() == list(first.values())
    assert len(found) == max(int(user.max()) + 1, 0)


def test_the_last_two_items_of_a_user_are_held_out() -> None:
    rows = [np.arange(5), np.array([7, 8, 9]), np.array([10, 11])]
    found = split_last(rows)
    assert [own.tolist() for own in found["train"]] == [[0, 1, 2], [7], [10, 11]]
    assert [own.tolist() for own in found["validation"]] == [[0, 1, 2, 3], [7, 8]]
    assert [own.tolist() for own in found["test"]] == [[0, 1, 2, 3, 4], [7, 8, 9]]


@examples(20)
@given(sizes=st.lists(st.integers(0, 14), min_size=1, max_size=4), length=st.integers(1, 6))
def test_every_item_but_a_users_first_is_told_once_from_what_came_before(
    sizes: list[int], length: int
) -> None:
    starts = np.cumsum([0, *sizes])
    rows = [np.arange(a, a + n) for a, n in zip(starts, sizes, strict=False)]
    found = windows(rows, length)
    told = [row for own in found for row in own[1:].tolist()]
    assert sorted(told) == [row for own in rows for row in own[1:].tolist()]
    assert all(len(own) <= length + 1 for own in found)
    assert all((np.diff(own) == 1).all() for own in found)


def test_a_window_has_zeros_in_front_and_the_last_item_to_be_told() -> None:
    item, liked = np.arange(10) + FIRST, np.arange(10, dtype=np.float32)
    rows = [np.array([4]), np.array([1, 2, 3, 5])]
    walk = walk_of(rows, item, liked, NOTHING, 2, measured=True)
    assert walk.items.tolist() == [[0, 0, 6], [4, 5, 7]]
    assert walk.target.tolist() == [6, 7]
    assert walk.liked[1].tolist() == [2.0, 3.0, 5.0]
    assert walk.liked[0].isnan().tolist() == [True, True, False]
    assert walk.seen.tolist() == [[0, 0, 0], [3, 4, 5]]
    assert walk_of([np.array([4])], item, liked, NOTHING, 2, measured=False).seen.shape == (1, 0)


def test_a_user_without_history_has_one_unseen_item() -> None:
    items = torch.tensor([[0, 0, 6], [0, 4, 5]])
    walk = Walk(NOTHING, items, items.float(), items[:, :0])
    assert walk.history.tolist() == [[0, UNSEEN], [0, 4]]


def test_what_never_changes_within_a_user_is_the_users() -> None:
    frame = pd.DataFrame(
        {"u": [1, 1, 2], "i": [5, 6, 5], "age": [3, 3, 9], "genre": ["a", "b", "a"], "x": [1, 2, 3]}
    )
    assert constant_within(frame, "u", ["u", "age", "genre", "x"]) == ["age"]
    assert constant_within(frame, "i", ["age", "genre", "x"]) == ["genre"]


def test_parts_of_a_log_share_no_item_to_be_told(tmp_path: Path) -> None:
    data = Data(rows=2000, protocol="next_item", history=6)
    data.setup()
    frame = data.source.read().frame
    names = [data.item_name(i) for i in data.walks("test").walk.target.tolist() if i >= FIRST]
    frame = frame.drop_duplicates(["user_id", "item_id"])
    last = frame.groupby("user_id").filter(lambda own: len(own) >= 3).groupby("user_id")["item_id"].last()
    known = [str(item) for item in last if str(item) in data.catalogue.known]
    assert sorted(names) == sorted(known)
    train = data.walks("train").walk.items
    assert int(((train[:, 1:] > 0) & (train[:, :-1] > 0)).sum()) + frame["user_id"].nunique() == sum(
        max(n - 2, 1) if n >= 3 else n for n in frame.groupby("user_id").size()
    )
    assert data.contents is not None
    assert len(data.contents.ids) == len(data.catalogue)
    assert data.contents.tags.shape[1] == 1  # the tag is the item's


def test_what_is_known_of_an_item_is_that_of_its_rows() -> None:
    data = Data(rows=800, protocol="next_item")
    data.setup()
    frame = data.source.read().frame
    assert data.contents is not None
    tag = frame.drop_duplicates("item_id").set_index("item_id")["tag"]
    kinds: dict[tuple[int, ...], set[str]] = {}
    for item in range(FIRST, len(data.catalogue)):
        words = tuple(data.contents.tags[item, 0].tolist())
        kinds.setdefault(words, set()).add(tag[int(data.item_name(item))])
    assert all(len(tags) == 1 for tags in kinds.values())
    assert len(kinds) == tag.nunique()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda table: table.drop(columns="item_id"), "wants a user and an item"),
        (lambda table: table.assign(user_id=range(len(table))), "no user has 3 items"),
        (lambda table: table.assign(user_id=table.index // 3, item_id=table.index), "no user has 4 items"),
        (lambda table: table.assign(time=table["time"].where(table["time"] > 5)), "time is blank in row 1"),
    ],
)
def test_logs_without_sequences_are_one_sentence(tmp_path: Path, change: object, fault: str) -> None:
    change(simulate(51)).to_csv(tmp_path / "log.csv", index=False)  # type: ignore[operator]
    with pytest.raises(UserError, match=fault):
        Data(path=tmp_path / "log.csv", tasks=["watch_0"], protocol="next_item").setup()


def test_a_users_own_log_is_read_as_that_of_training() -> None:
    data = Data(rows=2000, protocol="next_item", history=6)
    data.setup()
    again = Data.from_state(data.state_dict())
    frame = data.source.read().frame
    names, walks = again.encode_walks(frame, "log")
    assert len(names) == len(walks) == frame["user_id"].nunique()
    by_name = dict(zip(names, walks.walk.history.tolist(), strict=True))
    for who in frame["user_id"].unique()[:20]:
        taken = frame[frame["user_id"] == who]["item_id"].drop_duplicates().map(lambda item: str(item))
        ids = data.catalogue.encode(taken).tolist()[-6:]
        assert by_name[str(who)] == [0] * (6 - len(ids)) + ids
    assert walks.walk.target.eq(0).all()
    assert all(
        set(h) - {0} <= set(s)
        for h, s in zip(walks.walk.history.tolist(), walks.walk.seen.tolist(), strict=True)
    )


def test_a_user_without_a_known_item_is_told_something_too() -> None:
    data = Data(rows=2000, protocol="next_item", history=6)
    data.setup()
    again = Data.from_state(data.state_dict())
    frame = data.source.read().frame[:40]
    nobody = frame[:2].assign(user_id=9999, item_id=pd.Series([None, None], dtype="object"))
    names, walks = again.encode_walks(pd.concat([frame, nobody], ignore_index=True), "log")
    assert set(names) == {*map(str, frame["user_id"].unique()), "9999"}
    walk = walks.__getitems__([names.index("9999")])
    assert walk.history.tolist() == [[0] * 5 + [UNSEEN]]
    assert walks.activity[names.index("9999")] == 0
