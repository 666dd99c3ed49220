"""The sensitive column of a stream: who is of which group, and what the model sees."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.drift.data import Data
from apps.drift.memory import Memory
from apps.drift.streams import generate


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    table = pd.DataFrame(
        {
            "sex": ["f", "m", None, "m", "f", "f"] * 4,
            "age": range(24),
            "label": ["yes", "no", "no", "", "no", "yes"] * 4,
        }
    )
    table.to_csv(tmp_path / "stream.csv", index=False)
    return tmp_path / "stream.csv"


def made(path: Path, **options: object) -> Data:
    data = Data(path, target="label", window=4, chunk=4, **options)
    data.setup()
    return data


def test_each_row_with_a_label_has_its_group(stream: Path) -> None:
    data = made(stream, sensitive="sex")
    assert data.groups == ["f", "m"]
    batches = list(data.train_dataloader())
    assert torch.cat([group for *_, group in batches]).tolist() == ([0, 1, -1, 0, 0] * 4)[:16]
    assert data.last()[2].tolist() == [1, -1, 0, 0]
    assert all(len(x) == len(y) == len(group) for x, y, group in batches)


def test_the_sensitive_column_is_a_feature_only_if_asked_for(stream: Path) -> None:
    assert made(stream, sensitive="sex").features == ["age"]
    seen = made(stream, sensitive="sex", see_sensitive=True).features
    assert "sex=0" in seen
    assert "age" in seen


def test_without_a_sensitive_column_all_are_of_one_group(stream: Path) -> None:
    data = made(stream)
    assert data.last()[2].tolist() == [0, 0, 0, 0]
    assert data.groups == []


def test_the_wanted_label_is_numbered_last(stream: Path) -> None:
    assert made(stream).labels.names == ["yes", "no"]
    data = made(stream, wanted="yes")
    assert data.labels.names == ["no", "yes"]
    assert data.y[:3].tolist() == [1, 0, 0]


def test_codes_are_categories_where_it_is_said(stream: Path) -> None:
    assert made(stream).features[0] == "age"
    assert made(stream, categories=["age"]).features[0] == "age=0"
    with pytest.raises(UserError, match="no column 'job'"):
        made(stream, categories=["job"])


def test_groups_are_kept_for_prediction(stream: Path) -> None:
    data = made(stream, sensitive="sex")
    again = Data.from_state(data.state_dict())
    assert (again.sensitive, again.groups) == ("sex", ["f", "m"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensitive": "race"}, r"no column 'race' to tell groups by: it has sex, age, label\.$"),
        ({"sensitive": "age"}, r"age has 24 values, and groups want 2 to 20"),
        ({"wanted": "maybe"}, r"no label 'maybe': data\.wanted can be one of yes, no\.$"),
    ],
)
def test_bad_names_are_told_in_a_sentence(stream: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(stream, **options)


def test_memory_returns_its_last_rows_and_draws_from_them() -> None:
    memory = Memory(1, 5)
    assert [len(part) for part in memory.last(3)] == [0, 0]
    for first in (0, 4):
        memory.keep(torch.arange(first, first + 4.0)[:, None], torch.arange(first, first + 4))
    assert memory.last(3)[1].tolist() == [5, 6, 7]
    assert memory.last(9)[1].tolist() == [3, 4, 5, 6, 7]
    rows, labels = memory.draw(200, last=2)
    assert set(labels.tolist()) == {6, 7}
    assert torch.equal(rows[:, 0].long(), labels)
    assert set(memory.draw(200)[1].tolist()) == {3, 4, 5, 6, 7}


def test_hiring_drifts_first_for_accuracy_and_then_for_fairness() -> None:
    table, drifts = generate("hiring", 30_000, seed=3)
    assert drifts == [10_000, 20_000]
    parts = [table[begin + 500 : begin + 9_500] for begin in (0, 10_000, 20_000)]
    gap = [part.label[part.group == 0].mean() - part.label[part.group == 1].mean() for part in parts]
    assert 0.05 < gap[0] < 0.2
    assert abs(gap[1] - gap[0]) < 0.03
    assert gap[2] > gap[1] + 0.15
    told = [{name: part[name].corr(part.label) for name in ("skill", "experience")} for part in parts]
    assert told[0]["skill"] > 0.4 > 0.05 > abs(told[0]["experience"])
    assert all(one["experience"] > 0.4 > 0.05 > abs(one["skill"]) for one in told[1:])
