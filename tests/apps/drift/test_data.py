"""What a stream is read with: what its name brings, and what the user says instead."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from apps.common.errors import UserError
from apps.drift.data import Data

ROWS = 60
TABLE = pd.DataFrame(
    {
        "hour": list(reversed(range(ROWS))),
        "size": range(ROWS),
        "early": [row % 7 for row in range(ROWS)],
        "sex": ["f", "m", "f"] * 20,
        "delay": [5, 5, -3, 0] * 15,
    }
)
READ = {
    "target": "delay",
    "above": 0,
    "wanted": "True",
    "drop": ["early"],
    "where": "size < 40",
    "order": ["hour"],
    "every": 2,
    "sensitive": "sex",
}


@pytest.fixture(autouse=True)
def buses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue with one set, and its file."""
    monkeypatch.delenv("COLLEGIUM_DATA", raising=False)
    monkeypatch.setattr("apps.common.catalogue.data_folder", lambda app: tmp_path)
    file = tmp_path / "buses.csv"
    TABLE.to_csv(file, index=False)
    entry = {
        "file": file.name,
        "url": "https://example.org/buses.csv",
        "licence": "CC0",
        "citation": "A 2020",
    }
    entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "catalogue.yaml").write_text(yaml.safe_dump({"buses": {**entry, "read": READ}}))
    return file


def made(**options: Any) -> Data:
    data = Data(**{"name": "buses", "window": 4, **options})
    data.setup()
    return data


def column(data: Data, name: str) -> list[float]:
    return data.x[:, data.features.index(name)].tolist()


def test_a_public_set_is_read_as_the_catalogue_says() -> None:
    data = made()
    assert data.features == ["hour", "size"]
    assert column(data, "hour") == list(range(20, 60, 2))
    assert column(data, "size") == list(range(39, 0, -2))
    assert data.labels.names == ["False", "True"]
    assert data.y.tolist() == [0, 1] * 10
    assert data.groups == ["f", "m"]


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"every": 1}, "hour", list(range(20, 60))),
        ({"order": []}, "size", list(range(0, 40, 2))),
        ({"where": ""}, "size", list(range(59, 0, -2))),
        ({"where": "hour < 30"}, "hour", list(range(0, 30, 2))),
        ({"drop": []}, "early", [row % 7 for row in range(39, 0, -2)]),
        ({"rows": 8}, "size", list(range(39, 24, -2))),
    ],
)
def test_what_the_user_gives_holds_instead(given: dict[str, Any], name: str, expected: list[int]) -> None:
    assert column(made(**given), name) == expected


def test_what_the_user_gives_of_labels_and_groups_holds_instead() -> None:
    assert made(every=1).y.tolist() == [0, 0, 1, 1] * 10
    assert made(every=1, above=-1).y.tolist() == [1, 0, 1, 1] * 10
    assert made(wanted="False").labels.names == ["True", "False"]
    assert made(wanted="", every=1).labels.names == ["False", "True"]
    assert made(sensitive="").group.tolist() == [0] * 20
    assert "sex=0" in made(sensitive="").features


def test_threshold_and_wanted_label_are_not_those_of_another_target() -> None:
    data = made(target="early", drop=[])
    assert (data.above, data.wanted) == (None, None)
    assert set(data.labels.names) == {str(number) for number in range(7)}
    assert made(target="delay").above == 0


def test_nothing_is_taken_up_for_a_file_of_the_users_own(buses: Path) -> None:
    data = made(path=buses, target="delay")
    assert len(data.x) == ROWS
    assert data.labels.names == ["5", "-3", "0"]
    assert "early" in data.features


def test_hiring_brings_its_groups_and_what_is_wanted() -> None:
    data = made(name="hiring", rows=200)
    assert "group" not in data.features
    assert sorted(data.groups) == ["0", "1"]
    assert data.labels.names[-1] == "1"
    assert "group" in made(name="hiring", rows=200, sensitive="").features


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "busses"},
            r"^there is no stream 'busses': name one of sea, .*, hiring, buses, or give --data",
        ),
        ({"target": "early"}, r"^buses: early is both target and dropped: give --data\.drop\.$"),
        (
            {"order": ["minute"]},
            r"^buses has no column 'minute': it has hour, size, early, sex, delay; name another",
        ),
        (
            {"where": "minute < 3"},
            r"'minute < 3', which cannot be asked of its rows \(.*minute.*\): mend it\.$",
        ),
        ({"where": "size <"}, r"'size <', which cannot be asked of its rows"),
        ({"where": "size < 'a'"}, r"which cannot be asked of its rows"),
        ({"where": "size + 1"}, r"'size \+ 1', which is no condition: compare a column with a value\.$"),
        ({"where": "3 < 5"}, r"'3 < 5', which is no condition"),
        ({"where": "size > 999"}, r"'size > 999', which holds for no row: mend it\.$"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**options)
