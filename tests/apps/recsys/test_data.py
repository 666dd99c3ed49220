"""Impressions: split, encoded, with what came before."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from apps.common.errors import UserError
from apps.recsys.data import Data
from apps.recsys.impressions import counts_of, histories, parts_of
from apps.recsys.simulate import simulate
from tests.core.blocks import examples


def ready(**options: object) -> Data:
    data = Data(**{"rows": 600, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def test_parts_are_in_order_of_time_and_cover_the_log(tmp_path: Path) -> None:
    table = simulate(400).sample(frac=1, random_state=0)
    table.to_csv(tmp_path / "log.csv", index=False)
    data = ready(path=tmp_path / "log.csv", tasks=["watch_0", "interact_0"])
    times = [
        data.source.read().frame["time"].to_numpy()[data.places[part]]
        for part in ("train", "validation", "test")
    ]
    assert [len(each) for each in times] == [280, 60, 60]
    assert times[0].max() < times[1].min()
    assert times[1].max() < times[2].min()


def test_a_cut_says_when_parts_begin() -> None:
    frame = pd.DataFrame({"time": [5, 1, 3, 2, 4]})
    found = parts_of(frame, "time", None, [3, 5], np.random.default_rng(0), "log")
    assert {part: rows.tolist() for part, rows in found.items()} == {
        "train": [1, 3],
        "validation": [2, 4],
        "test": [0],
    }


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"time": None, "split": "time"}, "names no time to split by"),
        ({"cut": [0, 3]}, "leaves no rows for train"),
        ({"cut": [3, 99]}, "leaves no rows for test"),
    ],
)
def test_splits_that_cannot_be_are_one_sentence(options: dict[str, object], fault: str) -> None:
    frame = pd.DataFrame({"time": [5, 1, 3, 2, 4]})
    given_ = {"time": "time", "split": None, "cut": None, **options}
    with pytest.raises(UserError, match=fault):
        parts_of(frame, generator=np.random.default_rng(0), source="log", **given_)  # type: ignore[arg-type]


def test_a_blank_time_is_one_sentence() -> None:
    frame = pd.DataFrame({"time": [5, None, 3]})
    with pytest.raises(UserError, match="time is blank in row 2"):
        parts_of(frame, "time", None, None, np.random.default_rng(0), "log")


@examples(20)
@given(seed=st.integers(0, 2**16), length=st.integers(1, 4))
def test_a_history_is_what_a_user_took_before(seed: int, length: int) -> None:
    random, n = np.random.default_rng(seed), 30
    user, item = random.integers(-1, 4, n), random.integers(1, 9, n)
    taken, moment = random.random(n) < 0.6, random.integers(0, 12, n)  # of which many are the same
    order = np.argsort(moment, kind="stable")
    found, latest = histories(user, item, taken, moment, length)
    for row in range(n):
        earlier = [r for r in order if moment[r] < moment[row] and user[r] == user[row]]
        before = [item[r] for r in earlier if taken[r] and user[row] >= 0]
        wanted = ([0] * length + before)[-length:] if before else [0] * length
        assert found[row].tolist() == wanted
    for who in range(4):
        before = [item[r] for r in order if user[r] == who and taken[r]]
        assert latest.get(who, []) == before[-length:]


def test_no_row_knows_its_own_label_or_a_later_one() -> None:
    """The history of a row does not change with the labels from that row on."""
    table = simulate(300)
    user, item = table["user_id"].to_numpy(), table["item_id"].to_numpy()
    label, order = table["watch_0"].to_numpy() == 1, np.arange(300)
    known, _ = histories(user, item, label, order, 5)
    label = label.copy()
    label[150:] = ~label[150:]
    other, _ = histories(user, item, label, order, 5)
    assert np.array_equal(known[:151], other[:151])
    assert not np.array_equal(known[151:], other[151:])


def test_rows_are_counted_among_those_of_training_alone() -> None:
    assert counts_of(np.array([0, 1, 0, -1, 2]), np.array([0, 1, 3])).tolist() == [1, 1, 1, 0, 0]


def test_ids_and_quantiles_are_learned_from_training_rows_alone() -> None:
    table = simulate(600)
    later = table.copy()
    later.loc[420:, "x0"] *= 100
    later.loc[420:, "item_id"] += 10_000

    def learned(frame: pd.DataFrame, folder: Path) -> Data:
        frame.to_csv(folder / "log.csv", index=False)
        return ready(path=folder / "log.csv", tasks=["watch_0"])

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        one, other = learned(table, Path(folder)), learned(later, Path(folder))
    assert one.encoder.state() == other.encoder.state()
    assert one.catalogue.known == other.catalogue.known
    assert int(other.part("test").batch.item.max()) == 1  # all of them unseen


def test_held_out_rows_are_halved(tmp_path: Path) -> None:
    table = simulate(300).drop(columns="time")
    table[:200].to_csv(tmp_path / "log.csv", index=False)
    table[200:].to_csv(tmp_path / "rest.csv", index=False)
    data = ready(path=tmp_path / "log.csv", held_out=tmp_path / "rest.csv", tasks=["watch_0"])
    assert data.places["train"].tolist() == list(range(200))
    rest = np.concatenate([data.places["validation"], data.places["test"]])
    assert np.sort(rest).tolist() == list(range(200, 300))
    assert len(data.places["validation"]) == 50


def test_a_restored_module_reads_rows_alike_and_remembers_users() -> None:
    data = ready(history=4)
    again = Data.from_state(data.state_dict())
    frame = simulate(30, seed=5).drop(columns=["watch_0", "interact_0", "time"])
    one, other = data.encode(frame, "a"), again.encode(frame, "a")
    for left, right in zip(one.rows, other.rows, strict=True):
        assert torch.equal(left, right)
    assert torch.equal(one.history, other.history)
    assert one.history.any()


def test_the_last_history_is_that_of_a_row_that_would_come_next() -> None:
    data = ready(history=4, rows=200)
    frame, batch = data.source.read().frame, data.part("test").batch
    assert frame is not None
    user = frame["user_id"].iloc[-1]
    last = data.encode(frame.iloc[[-1]], "log").history[0].tolist()
    before = batch.history[-1].tolist()
    taken = [int(batch.item[-1])] if frame["watch_0"].iloc[-1] else []
    assert last == (before + taken)[-4:]
    assert str(user) in data.latest or not any(last)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"watch_0": 1}, "all train rows have one value of the label watch_0"),
        ({"watch_0": 2}, "the label watch_0 is 2 in row 1"),
    ],
)
def test_labels_without_two_values_are_one_sentence(
    tmp_path: Path, change: dict[str, int], fault: str
) -> None:
    simulate(100).assign(**change).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(UserError, match=fault):
        ready(path=tmp_path / "log.csv", tasks=["watch_0"])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"name": "nowhere"}, "there is no set 'nowhere': name one of simulated, kuairand, census"),
        ({"taken": "buys"}, "data.taken is 'buys': name one of watch_0"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        ready(**options)


def test_a_file_without_tasks_asks_for_them(tmp_path: Path) -> None:
    simulate(50).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(UserError, match=r"name the labels: --data\.tasks"):
        ready(path=tmp_path / "log.csv")
    with pytest.raises(UserError, match="has no column 'buys'"):
        ready(path=tmp_path / "log.csv", tasks=["buys"])


def test_held_out_rows_are_joined_with_the_same_tables(tmp_path: Path) -> None:
    table = simulate(300).drop(columns="time")
    users = pd.DataFrame({"user_id": table["user_id"].unique()})
    users.assign(age=users["user_id"] % 7).to_csv(tmp_path / "users.csv", index=False)
    table[:200].to_csv(tmp_path / "log.csv", index=False)
    table[200:].to_csv(tmp_path / "rest.csv", index=False)
    data = ready(
        path=tmp_path / "log.csv",
        held_out=tmp_path / "rest.csv",
        users=tmp_path / "users.csv",
        tasks=["watch_0"],
    )
    assert "age" in data.schema.features
    assert len(data.places["train"]) == 200


def test_a_log_that_has_changed_is_refused(tmp_path: Path) -> None:
    table = simulate(600)
    table.to_csv(tmp_path / "log.csv", index=False)
    state = ready(path=tmp_path / "log.csv", tasks=["watch_0"]).state_dict()
    ready(path=tmp_path / "log.csv", tasks=["watch_0"]).load_state_dict(state)
    table[:550].to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(UserError, match="has changed since training: restore it"):
        ready(path=tmp_path / "log.csv", tasks=["watch_0"]).load_state_dict(state)


@pytest.mark.parametrize("change", ["order", "schema"])
def test_rows_in_another_order_and_other_labels_are_another_log(change: str, tmp_path: Path) -> None:
    table, schema = simulate(600), tmp_path / "schema.yaml"
    table.to_csv(tmp_path / "log.csv", index=False)
    told = {"features": {"user_id": "category"}, "tasks": {"late": {"when": "watch_0 >= 1"}}}
    schema.write_text(yaml.safe_dump(told))
    state = ready(path=tmp_path / "log.csv", schema=schema).state_dict()
    if change == "order":
        table[::-1].to_csv(tmp_path / "log.csv", index=False)
    else:
        schema.write_text(yaml.safe_dump({**told, "tasks": {"late": {"when": "watch_0 < 1"}}}))
    with pytest.raises(UserError, match="has changed since training: restore it"):
        ready(path=tmp_path / "log.csv", schema=schema).load_state_dict(state)


def test_values_of_lists_stay_whole(tmp_path: Path) -> None:
    cells = [["red shoes", "hat"], ["hat"], ["red shoes"], []] * 100
    table = simulate(400).assign(kinds=cells)
    table.to_parquet(tmp_path / "log.parquet")
    data = ready(path=tmp_path / "log.parquet", tasks=["watch_0"])
    assert set(data.encoder.tags["kinds"][1].known) == {"red shoes", "hat"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"split": "random", "cut": [1, 2]}, "split at random, and data.cut would not be followed"),
        ({"held_out": "rest.csv", "split": "time"}, "are held out, and data.split would not be followed"),
        ({"held_out": "rest.csv", "cut": [1, 2]}, "are held out, and data.cut would not be followed"),
        ({"protocol": "next_item", "split": "time"}, "last ones are held out, and data.split would not"),
        ({"protocol": "next_item", "held_out": "rest.csv"}, "and data.held_out would not be followed"),
        ({"held_out": "log.csv", "history": 3}, "no later than those of training"),
    ],
)
def test_options_that_would_not_be_followed_are_refused(
    options: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    table = simulate(600)
    for name in ("log.csv", "rest.csv"):
        table.to_csv(tmp_path / name, index=False)
    if "held_out" in options:
        options = {**options, "held_out": tmp_path / options["held_out"]}
    with pytest.raises(UserError, match=fault):
        ready(path=tmp_path / "log.csv", tasks=["watch_0"], **options)


def test_tasks_choose_among_those_of_a_schema(tmp_path: Path) -> None:
    simulate(600).to_csv(tmp_path / "log.csv", index=False)
    schema = tmp_path / "schema.yaml"
    schema.write_text(yaml.safe_dump({"features": {"user_id": "category"}, "tasks": ["watch_0", "watch_1"]}))
    data = ready(path=tmp_path / "log.csv", schema=schema, tasks=["watch_1"])
    assert list(data.schema.tasks) == ["watch_1"]
    assert data.schema.outcomes == ["watch_0"]
    with pytest.raises(UserError, match="has no task 'watch_7': name some of watch_0, watch_1"):
        ready(path=tmp_path / "log.csv", schema=schema, tasks=["watch_7"])


def test_a_history_of_rows_in_no_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a history needs rows in order of time"):
        ready(rows=300, split="random", history=3)


@pytest.mark.parametrize(("name", "kind"), [("stars", "category"), ("play", "number")])
def test_a_feature_that_tells_a_label_is_pointed_at_where_the_schema_is_guessed(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = simulate(600)
    table["stars"] = np.where(table["watch_0"] == 1, "five", "two")
    table["play"] = table["watch_0"] * 10 + table["x0"]
    table.drop(columns={"stars", "play"} - {name}).to_csv(tmp_path / "log.csv", index=False)
    data = ready(path=tmp_path / "log.csv", tasks=["watch_0"])
    assert data.schema.features[name] == kind
    told = capsys.readouterr().out
    assert f"note: {name} alone tells watch_0 almost surely" in told
    assert told.count("alone tells") == 1
    assert "note: columns are taken for user user_id; item item_id; time time;" in told
    assert "labels watch_0;" in told
    assert "note: watch_1 holds 0 and 1 alone and is read as a feature" in told
    assert "x0 holds" not in told
