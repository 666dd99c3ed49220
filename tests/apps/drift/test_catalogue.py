"""The public sets: what the catalogue says of them, and what is measured on the real tables."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from apps.common.catalogue import catalogue, fetch, identity
from apps.common.compare.plan import data_sha256
from apps.common.discovery import project_root
from apps.common.frames import table_sha256
from apps.common.main import main
from apps.drift import prepare
from apps.drift.comparison.measured import stream
from apps.drift.data import Data
from apps.drift.metrics import majority, no_change, right
from tests.apps.common.helpers import serving

SETS = catalogue("drift")
AREAS = [f"Wilderness_Area{number}" for number in range(1, 5)]


def table(name: str) -> pd.DataFrame:
    """The whole table of a set, or a skipped test where it is not below COLLEGIUM_DATA."""
    root = os.environ.get("COLLEGIUM_DATA")
    file = Path(root or "") / "drift" / SETS[name].file
    if not root or not file.is_file():
        pytest.skip(f"{file.name} is not below COLLEGIUM_DATA")
    return pd.read_parquet(file)


@cache
def real(name: str, **options: object) -> Data:
    """The module of a set, under the same condition; nobody changes it."""
    table(name)
    data = Data(name=name, **options)
    data.setup()
    return data


def test_every_set_has_an_address_a_checksum_a_citation_and_its_target() -> None:
    for name, entry in SETS.items():
        assert entry.url.startswith("https://")
        assert len(entry.sha256) == 64
        assert callable(getattr(prepare, entry.prepare)), name
        assert entry.licence
        assert entry.citation
        assert "hecked: " in entry.note
        assert "target" in entry.read
        Data(name=name, **entry.read)


@pytest.mark.data
@pytest.mark.parametrize("name", list(SETS))
def test_each_table_is_that_of_the_catalogue(name: str) -> None:
    assert table_sha256(table(name)) == SETS[name].sha256
    assert fetch("drift", name).name == SETS[name].file


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "unlabelled", "columns", "shares"),
    [
        ("electricity", 45_312, 0, 8, {"1": 0.425, "0": 0.575}),
        ("nycflights", 29_771, 845, 10, {"True": 0.407, "False": 0.593}),
        (
            "covtype",
            30_988,
            0,
            54,
            {"1": 0.367, "2": 0.486, "3": 0.062, "4": 0.004, "5": 0.016, "6": 0.029, "7": 0.036},
        ),
        ("adult", 48_842, 0, 11, {"<=50K": 0.761, ">50K": 0.239}),
        ("compas", 4_511, 0, 7, {"1": 0.380, "0": 0.620}),
        ("law_school", 20_798, 0, 10, {"0": 0.110, "1": 0.890}),
        ("dutch_census", 60_420, 0, 10, {"0": 0.524, "1": 0.476}),
    ],
)
def test_streams_have_their_rows_columns_and_shares_of_labels(
    name: str, rows: int, unlabelled: int, columns: int, shares: dict[str, float]
) -> None:
    data = real(name)
    assert (len(data.x), data.unlabelled, len(data.schema.columns)) == (rows, unlabelled, columns)
    found = torch.bincount(data.y, minlength=len(shares)) / rows
    assert dict(zip(data.labels.names, found.tolist(), strict=True)) == pytest.approx(shares, abs=5e-4)
    assert torch.isfinite(data.x).all()


@pytest.mark.data
def test_floors_are_those_that_were_measured() -> None:
    label = real("electricity").y.numpy()
    assert right(label, no_change(label)).mean() == pytest.approx(0.853, abs=5e-4)
    assert right(label, majority(label)).mean() == pytest.approx(0.575, abs=0.01)
    whole = table("covtype")["Cover_Type"]
    assert (whole == 2).mean() == pytest.approx(0.488, abs=5e-4)
    late = table("nycflights")["arr_delay"].dropna() > 0
    assert late.mean() == pytest.approx(0.406, abs=5e-4)


@pytest.mark.data
def test_electricity_is_in_the_order_of_time() -> None:
    data = real("electricity")
    weekday, period = (data.x[:, data.features.index(name)].view(944, 48) for name in ("day", "period"))
    assert (period - torch.linspace(0, 1, 48)).abs().max() < 1e-4
    assert (weekday == weekday[:, :1]).all()
    assert (weekday[1:, 0] == weekday[:-1, 0] % 7 + 1).all()


@pytest.mark.data
def test_flights_are_in_the_order_of_their_schedule_and_delays_are_no_features() -> None:
    data = real("nycflights")
    assert not [name for name in data.features if "delay" in name]
    month, day, time = (data.x[:, data.features.index(name)] for name in prepare.SCHEDULE)
    assert ((month * 100 + day) * 10_000 + time).double().diff().min() >= 0


@pytest.mark.data
def test_the_areas_of_the_forest_come_one_after_the_other_and_are_shuffled_inside() -> None:
    data = real("covtype")
    area = data.x[:, [data.features.index(name) for name in AREAS]].argmax(1)
    assert area.unique_consecutive().tolist() == [0, 1, 2, 3]
    whole = table("covtype")[AREAS].to_numpy().argmax(1)
    share = np.bincount(whole) / len(whole)
    assert torch.bincount(area).numpy() / len(area) == pytest.approx(share, abs=1e-3)
    height = data.x[area == 0, data.features.index("Elevation")].numpy()
    assert abs(np.corrcoef(height[1:], height[:-1])[0, 1]) < 0.02


@pytest.mark.data
def test_compas_is_filtered_as_usual_and_ends_before_its_flaw() -> None:
    assert len(real("compas", where="-30 <= days_b_screening_arrest <= 30").x) == 6172
    groups = real("compas")
    assert sorted(groups.groups) == ["African-American", "Caucasian"]
    later = table("compas").query("compas_screening_date > '2014-04-01'")
    assert len(later) == 998
    assert later["two_year_recid"].mean() > 0.8
    kept = (
        table("compas")
        .query(SETS["compas"].read["where"])
        .sort_values("compas_screening_date", kind="stable")
    )
    age = groups.x[:, groups.features.index("age")]
    assert age.tolist() == kept["age"].tolist()
    outcomes = ("recid", "decile", "score", "screening")
    assert not [name for name in groups.features if any(word in name for word in outcomes)]


@pytest.mark.data
def test_the_comparison_knows_public_sets_by_table_and_reading_and_runs_over_whole_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = yaml.safe_load((project_root() / "configs/drift/compare.yaml").read_text())["profiles"]["full"]
    for name in ("electricity", "nycflights", "covtype"):
        assert name in profile["data"]
        table(name)
    before = data_sha256("drift", "covtype")
    assert before == identity("drift", "covtype")
    for changed in ({"sha256": "0" * 64}, {"read": SETS["covtype"].read | {"every": 4}}):
        entry = replace(SETS["covtype"], **changed)
        with monkeypatch.context() as patch:
            patch.setattr("apps.common.catalogue.describe", lambda app, name, entry=entry: entry)
            assert identity("drift", "covtype") != before
    assert len(stream("electricity", 300, seed=1).x) == 45_312
    assert len(stream("sea", 300, seed=1).x) == 300


def zipped_arff(table: pd.DataFrame, file: Path) -> None:
    """Write a table as the origin of electricity has it."""
    numbers = [name for name in table if name not in ("day", "class")]
    kinds = dict.fromkeys(numbers, "numeric") | {"day": "{1,2,3,4,5,6,7}", "class": "{UP,DOWN}"}
    head = "".join(f"@attribute {name} {kinds[name]}\n" for name in table)
    body = table.assign(**{"class": table["class"].map({1: "UP", 0: "DOWN"})}).to_csv(
        index=False, header=False
    )
    with ZipFile(file, "w") as packed:
        packed.writestr("elecNormNew.arff", f"@relation electricity\n{head}@data\n{body}")


def flights_csv(table: pd.DataFrame, file: Path) -> None:
    """Write flights in another order of months, with other columns, without days of the week."""
    other = table.drop(columns="dow").assign(year=2013, tailnum="N1")
    other.sort_values("month", ascending=False, kind="stable").to_csv(file)


def doubled_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table at double precision, with an index, and its columns the other way round."""
    table[table.columns[::-1]].astype(float).to_csv(file)


def zipped_adult(table: pd.DataFrame, file: Path) -> None:
    """Write people as the origin has them: two files without a header, of which the second is odd."""
    with ZipFile(file, "w") as packed:
        for split, name in (("train", "adult.data"), ("test", "adult.test")):
            part = table[table["split"] == split].drop(columns="split")
            if split == "test":
                part = part.assign(income=part["income"] + ".")
            head = "" if split == "train" else "|1x3 Cross validator\n"
            packed.writestr(name, head + part.to_csv(index=False, header=False).replace(",", ", "))


def plain_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table as it is."""
    table.to_csv(file, index=False)


ORIGINS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "electricity": zipped_arff,
    "nycflights": flights_csv,
    "covtype": doubled_csv,
    "adult": zipped_adult,
    "compas": plain_csv,
    "law_school": plain_csv,
    "dutch_census": plain_csv,
}


@pytest.mark.data
@pytest.mark.parametrize("name", list(ORIGINS))
def test_a_file_like_the_origin_makes_the_table_of_the_catalogue(name: str, tmp_path: Path) -> None:
    file = tmp_path / SETS[name].url.rpartition("/")[2]
    ORIGINS[name](table(name), file)
    assert table_sha256(getattr(prepare, SETS[name].prepare)(file)) == SETS[name].sha256


@pytest.fixture
def electricity() -> pd.DataFrame:
    """The real table, read before the folder of the user's data is taken away."""
    return table("electricity")


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are offered in the place of electricity's origin, and another for what is made."""
    for name in ("served", "data"):
        (tmp_path / name).mkdir()
    entries = yaml.safe_load((project_root() / "data/drift/catalogue.yaml").read_text())
    monkeypatch.delenv("COLLEGIUM_DATA", raising=False)
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("apps.common.catalogue.data_folder", lambda app: tmp_path / "data")
    with serving(tmp_path / "served") as address:
        entry = entries["electricity"] | {"url": f"{address}/e.arff.zip"}
        (tmp_path / "data/catalogue.yaml").write_text(yaml.safe_dump({"electricity": entry}))
        yield tmp_path / "served"


@pytest.mark.data
def test_the_commands_download_prepare_and_train(
    electricity: pd.DataFrame, offered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped_arff(electricity, offered / "e.arff.zip")
    assert main(["drift", "data", "--name", "electricity"]) == 0
    made = offered.parent / "data/electricity.parquet"
    assert str(made) in capsys.readouterr().out
    assert table_sha256(pd.read_parquet(made)) == SETS["electricity"].sha256
    (offered / "e.arff.zip").unlink()
    fit = ["drift", "fit", "--config", str(project_root() / "configs/drift/default.yaml")]
    assert main([*fit, "--data.name", "electricity", "--data.rows", "1500"]) == 0
    assert (offered.parent / "runs/drift/default/1/report.html").is_file()


def test_an_origin_of_another_content_is_refused(offered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = pd.DataFrame({"date": [0.0, 0.5], "day": [2, 7], "class": [1, 0]})
    zipped_arff(few, offered / "e.arff.zip")
    assert main(["drift", "data"]) == 2
    assert "e.arff.zip gave other bytes than the catalogue names" in capsys.readouterr().err
    assert [file.name for file in (offered.parent / "data").iterdir()] == ["catalogue.yaml"]
