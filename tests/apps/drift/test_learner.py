"""A stream outside Lightning: kept, taken up, refused."""

import pickle
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from river import checks
from river.drift import ADWIN

from apps.common.errors import UserError
from apps.drift.estimator import DriftMoE
from apps.drift.experts.unpickle import from_bytes, to_bytes
from apps.drift.learner import Learner
from tests.apps.drift.tables import table
from tests.core.blocks import examples

SMALL: dict[str, Any] = {
    "class_path": "apps.drift.model.StreamMoE",
    "init_args": {
        "experts": [
            {"class_path": "apps.drift.experts.Neighbours", "init_args": {"memories": [40]}},
            {
                "class_path": "apps.drift.experts.Trees",
                "init_args": {"num_trees": 2, "rate": 6, "detect": True},
            },
            {"class_path": "apps.drift.experts.Perceptrons", "init_args": {"hidden": [8]}},
        ],
        "memory": 60,
        "replay": 16,
    },
}


class Hostile:
    """When it is unpickled, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[return-value]


def rows(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], list[str]]:
    random = np.random.default_rng(seed)
    table, labels = [], []
    for _ in range(count):
        size, sky = float(random.normal()), ["sun", "rain", "fog"][random.integers(3)]
        table.append({"size": size if random.random() > 0.05 else None, "sky": sky})
        labels.append("up" if size + (sky == "rain") > 0.3 else "down")
    return table, labels


def taught(learner: Learner, first: int, last: int) -> torch.Tensor:
    table, labels = rows(160)
    said = [learner.learn(table[i : i + 16], labels[i : i + 16]).probs for i in range(first, last, 16)]
    return torch.cat([probs for probs in said if probs.shape[1] == said[-1].shape[1]])


def test_it_learns_words_and_numbers() -> None:
    table, labels = rows(600)
    learner = Learner(SMALL, classes=2)
    hits = []
    for i in range(0, 600, 16):
        said = learner.learn(table[i : i + 16], labels[i : i + 16])
        names = [learner.labels.name(int(best)) for best in said.probs.argmax(1)]
        hits += [name == label for name, label in zip(names, labels[i : i + 16], strict=True)]
    assert np.mean(hits[300:]) > 0.85


def test_a_state_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    whole, part = Learner(SMALL, classes=4), Learner(SMALL, classes=4)
    taught(whole, 0, 80)
    taught(part, 0, 80)
    part.save(tmp_path / "state.pt")
    torch.testing.assert_close(taught(Learner.load(tmp_path / "state.pt"), 80, 160), taught(whole, 80, 160))


def test_a_row_without_a_label_is_predicted_and_not_learned() -> None:
    table, labels = rows(48)
    one, two = Learner(SMALL, classes=2), Learner(SMALL, classes=2)
    for learner in (one, two):
        learner.learn(table[:32], labels[:32])
    said = one.learn(table[32:], [None] * 16)
    torch.testing.assert_close(said.probs, two.say(table[32:]).probs)
    assert one.rows == two.rows == 32
    mixed = one.learn(table[32:40], [None, *labels[33:40]])
    torch.testing.assert_close(mixed.probs[:1], two.say(table[32:33]).probs)
    assert one.rows == 39


def test_labels_that_come_later_are_learned() -> None:
    table, labels = rows(64)
    learner = Learner(SMALL, classes=3)
    assert learner.learn(table[:16], ["up"] * 16).probs.shape == (16, 1)
    assert learner.learn(table[16:32], [*labels[16:31], "sideways"]).probs.shape[1] == 3
    with pytest.raises(UserError, match="raise classes"):
        learner.learn(table[32:33], ["a fourth"])


def test_a_single_class_and_constant_features_are_no_error() -> None:
    learner = Learner(SMALL, classes=2)
    for _ in range(4):
        said = learner.learn([{"x": 1.0, "y": None}] * 16, ["same"] * 16)
    assert said.probs.tolist() == [[1.0]] * 16


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    learner = Learner(SMALL, classes=2)
    with pytest.raises(UserError, match="nothing was learned yet"):
        learner.save(tmp_path / "state.pt")
    with pytest.raises(UserError, match="nothing was learned yet"):
        learner.say([{"x": 1.0}])
    taught(learner, 0, 16)
    learner.save(tmp_path / "state.pt")
    whole = (tmp_path / "state.pt").read_bytes()
    for content in (b"", b"words", whole[: len(whole) // 2]):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.pt is no state of a stream"):
            Learner.load(tmp_path / "bad.pt")
    torch.save({"collegium": {"app": "lidar", "format": 1}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="belongs to lidar"):
        Learner.load(tmp_path / "other.pt")
    for part, content in (
        ("labels", None),
        ("config", {"class_path": "apps.drift.model.Nothing"}),
        ("network", {}),
    ):
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        torch.save({**state, part: content}, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=r"bad\.pt is no state of a stream"):
            Learner.load(tmp_path / "bad.pt")


def test_a_state_with_a_single_byte_changed_is_refused(tmp_path: Path) -> None:
    learner = Learner(SMALL, classes=2)
    taught(learner, 0, 16)
    learner.save(tmp_path / "state.pt")
    whole = bytearray((tmp_path / "state.pt").read_bytes())
    with ZipFile(tmp_path / "state.pt") as file:
        records = [info for info in file.infolist() if info.file_size > 8]
    for info in records:
        content, head = bytearray(whole), info.header_offset
        name, extra = struct.unpack("<HH", whole[head + 26 : head + 30])
        content[head + 30 + name + extra + info.file_size // 2] ^= 1
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.pt is no state of a stream"):
            Learner.load(tmp_path / "bad.pt")


@examples(20)
@given(seed=st.integers(0, 2**16))
def test_bytes_of_trees_that_were_changed_raise_nothing_else(seed: int) -> None:
    random = np.random.default_rng(seed)
    content = to_bytes(ADWIN()).clone()
    places = random.integers(0, len(content), 3)
    content[places] = torch.from_numpy(random.integers(0, 256, 3).astype(np.uint8))
    with suppress(UserError):
        from_bytes(content)


def test_a_state_with_hostile_bytes_runs_nothing(tmp_path: Path) -> None:
    learner = Learner(SMALL, classes=2)
    taught(learner, 0, 16)
    learner.save(tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    call = pickle.dumps(Hostile(str(tmp_path / "touched")))
    blobs = [name for name, value in state["network"].items() if name.endswith("_extra_state")]
    assert blobs
    for name in blobs:
        hostile = torch.frombuffer(bytearray(call), dtype=torch.uint8)
        torch.save({**state, "network": {**state["network"], name: hostile}}, tmp_path / "bad.pt")
        with pytest.raises(UserError, match="cannot be read"):
            Learner.load(tmp_path / "bad.pt")
    assert not (tmp_path / "touched").exists()


def test_a_state_imports_nothing_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile state names a module that would tell that it was imported."""
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    learner = Learner(SMALL, classes=2)
    taught(learner, 0, 16)
    learner.save(tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for config in (
        {"class_path": "hostile.Model"},
        {**state["config"], "init_args": {"experts": ["hostile.Expert"]}},
        {**state["config"], "init_args": {"experts": [{"class_path": "hostile.Expert"}]}},
    ):
        torch.save({**state, "config": config}, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=r"bad\.pt is no state of a stream"):
            Learner.load(tmp_path / "bad.pt")


def test_the_estimator_passes_rivers_checks() -> None:
    model = DriftMoE(chunk=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for check in checks.yield_checks(model):
            check(model.clone())


def test_the_estimator_keeps_labels_as_they_are() -> None:
    model = DriftMoE(SMALL, chunk=4)
    assert model.predict_proba_one({"x": 1}) == {}
    for i in range(24):
        model.learn_one({"x": i % 2}, i % 2 == 0)
    probs = model.predict_proba_one({"x": 0})
    assert set(probs) == {True, False}
    assert sum(probs.values()) == pytest.approx(1)
    assert model.predict_one({"x": 0}) is True


def test_the_estimator_takes_equal_labels_for_one_and_texts_for_what_came_first() -> None:
    model = DriftMoE(SMALL, chunk=4)
    for i in range(16):
        model.learn_one({"x": i % 2}, [1, True, "1", 0][i % 4])
    assert list(model.predict_proba_one({"x": 0})) == [1, 0]


def test_the_estimator_reads_rows_of_other_columns() -> None:
    model = DriftMoE(SMALL, chunk=1)
    model.learn_one({"a": 1.0}, 1)
    model.learn_one({"b": 1.0}, 0)
    assert set(model.predict_proba_one({"c": 1.0})) == {0, 1}


def test_the_estimator_learns_nothing_from_a_row_without_a_label() -> None:
    model = DriftMoE(chunk=4)
    for i in range(12):
        model.learn_one({"a": float(i % 2)}, None if i % 3 == 0 else i % 2)
    assert set(model.predict_proba_one({"a": 1.0})) == {0, 1}


def test_a_model_without_a_router_trusts_itself() -> None:
    rows = table(40).dropna(ignore_index=True).to_dict("records")
    learner = Learner(
        {"class_path": "apps.drift.fair.perceptron.FairPerceptron", "init_args": {"hidden": 4}}, "state", 2
    )
    learner.learn(rows, [row["state"] for row in rows])
    assert torch.equal(learner.say(rows[:3]).trust, torch.ones(3, 1))
