"""Data sets are found on disk or downloaded, and never used unless their bytes are the right ones."""

import gzip
import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml

from apps.common.catalogue import catalogue, describe, fetch, fetch_sets, identity
from apps.common.errors import UserError
from apps.common.frames import table_sha256
from tests.apps.common.helpers import Quiet, serving

BYTES = b"date,a\n" + b"2020-01-01,1\n" * 500


class Site:
    """A checkout with one app and its catalogue, and a server that has the files."""

    def __init__(self, root: Path, address: str) -> None:
        self.root, self.address = root, address
        self.data, self.served = root / "data" / "foo", root / "served"
        for folder in (root / "apps" / "foo", self.data, self.served):
            folder.mkdir(parents=True)
        (self.served / "a.csv").write_bytes(BYTES)
        (self.served / "a.csv.gz").write_bytes(gzip.compress(BYTES))
        self.write()

    def write(self, **changes: Any) -> None:
        entry = {
            "file": "a.csv",
            "url": f"{self.address}/a.csv",
            "sha256": hashlib.sha256(BYTES).hexdigest(),
            "licence": "CC0",
            "citation": "A et al. 2020",
            "split": "ratio",
            **changes,
        }
        content = {"A": {key: value for key, value in entry.items() if value is not None}}
        (self.data / "catalogue.yaml").write_text(yaml.safe_dump(content))

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.data.iterdir() if path.name != "catalogue.yaml")


@pytest.fixture
def prepared(site: "Site", monkeypatch: pytest.MonkeyPatch) -> "Site":
    """The same, whose app makes a table of every second row."""
    made = SimpleNamespace(halve=lambda origin: pd.read_csv(origin).iloc[::2])
    monkeypatch.setattr("apps.common.catalogue.app_module", lambda app, name: {"prepare": made}[name])
    table = pd.read_csv(BytesIO(BYTES)).iloc[::2]
    site.write(file="a.parquet", prepare="halve", sha256=table_sha256(table))
    return site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("COLLEGIUM_APPS", str(tmp_path / "apps"))
    monkeypatch.delenv("COLLEGIUM_DATA", raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(tmp_path / "served") as address:
        yield Site(tmp_path, address)


def test_a_set_is_downloaded_once(site: Site) -> None:
    path = fetch("foo", "A")
    assert path == site.data / "a.csv"
    assert path.read_bytes() == BYTES
    assert fetch("foo", "A") == path
    assert Quiet.answers == 1


def test_a_set_is_known_by_all_that_is_read_of_it(site: Site) -> None:
    assert identity("foo", "A") == hashlib.sha256(BYTES).hexdigest()
    (site.data / "columns.yaml").write_text("user: who\n")
    found = []
    for read in ({"header": False}, {"header": True}, {"schema": "columns.yaml"}, {"users": "A"}):
        site.write(read=read)
        found.append(identity("foo", "A"))
    site.write(read={"schema": "columns.yaml"})
    (site.data / "columns.yaml").write_text("# a remark\nuser: who\n")
    assert identity("foo", "A") == found[2]
    (site.data / "columns.yaml").write_text("user: whoever\n")
    found.append(identity("foo", "A"))
    site.write(read={"users": "A"}, sha256="0" * 64)
    found.append(identity("foo", "A"))
    assert len(set(found)) == len(found) == 6


def test_a_packed_set_stays_packed(site: Site) -> None:
    site.write(url=f"{site.address}/a.csv.gz")
    path = fetch("foo", "A")
    assert path == site.data / "a.csv.gz"
    assert gzip.decompress(path.read_bytes()) == BYTES
    assert fetch("foo", "A") == path
    assert Quiet.answers == 1


def test_a_set_whose_name_ends_in_gz(site: Site) -> None:
    site.write(file="a.csv.gz", url=f"{site.address}/a.csv.gz")
    assert fetch("foo", "A") == site.data / "a.csv.gz"
    assert fetch("foo", "A") == site.data / "a.csv.gz"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("change", ["altered", "truncated", "empty"])
def test_wrong_bytes_are_refused_and_removed(site: Site, packed: bool, change: str) -> None:
    name = "a.csv.gz" if packed else "a.csv"
    site.write(url=f"{site.address}/{name}")
    whole = (site.served / name).read_bytes()
    wrong = {"altered": whole[:-20] + bytes(20), "truncated": whole[:-9], "empty": b""}[change]
    (site.served / name).write_bytes(wrong)
    with pytest.raises(
        UserError, match=rf"{site.address}/{name} gave other bytes .* were removed: try again"
    ):
        fetch("foo", "A")
    assert site.files == []


def test_a_broken_download_leaves_nothing(site: Site) -> None:
    site.write(url=f"{site.address}/gone.csv")
    with pytest.raises(
        UserError, match=r"gone\.csv could not be downloaded \(status 404\): try again, or put"
    ):
        fetch("foo", "A")
    site.write(url="http://127.0.0.1:9/a.csv")
    with pytest.raises(UserError, match=r"could not be downloaded \(ConnectionError\)"):
        fetch("foo", "A")
    assert site.files == []


def test_the_users_own_data_folder_comes_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    own = site.root / "own"
    monkeypatch.setenv("COLLEGIUM_DATA", str(own))
    (own / "foo").mkdir(parents=True)
    (own / "foo" / "a.csv.gz").write_bytes(gzip.compress(BYTES))
    assert fetch("foo", "A") == own / "foo" / "a.csv.gz"
    (own / "foo" / "a.csv.gz").unlink()
    (site.data / "a.csv").write_bytes(BYTES)
    assert fetch("foo", "A") == site.data / "a.csv"
    (site.data / "a.csv").unlink()
    assert fetch("foo", "A") == own / "foo" / "a.csv"
    assert Quiet.answers == 1


def test_an_altered_file_of_the_user_is_refused_and_left_alone(site: Site) -> None:
    (site.data / "a.csv").write_bytes(BYTES[:-1])
    with pytest.raises(UserError, match=r"a\.csv is truncated or altered .* remove it"):
        fetch("foo", "A")
    assert (site.data / "a.csv").read_bytes() == BYTES[:-1]
    assert Quiet.answers == 0


def test_an_unknown_name_lists_the_known(site: Site) -> None:
    with pytest.raises(UserError, match="foo has no data set 'B': choose one of A"):
        describe("foo", "B")


def test_an_app_without_catalogue_says_so(site: Site) -> None:
    (site.data / "catalogue.yaml").unlink()
    with pytest.raises(UserError, match=r"catalogue\.yaml does not exist: foo has no public data sets"):
        fetch_sets("foo")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [({"licence": None, "url": None}, "lacks licence, url"), ({"sha": "1"}, "has the unknown key 'sha'")],
)
def test_a_wrong_entry_is_one_sentence(site: Site, changes: dict[str, Any], fault: str) -> None:
    site.write(**changes)
    with pytest.raises(UserError, match=rf"catalogue\.yaml: the entry A {fault}: mend it"):
        catalogue("foo")


def test_options_for_the_reader_are_kept(site: Site) -> None:
    site.write(read={"header": False}, note="no names")
    assert (describe("foo", "A").read, describe("foo", "A").note) == ({"header": False}, "no names")


def test_the_command_tells_path_and_licence(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_sets("foo", name="A")
    assert capsys.readouterr().out.strip() == f"A: {site.data / 'a.csv'}  (A et al. 2020; licence: CC0)"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_table_is_made_of_what_the_origin_offers(prepared: Site, name: str) -> None:
    entry = yaml.safe_load((prepared.data / "catalogue.yaml").read_text())["A"]
    prepared.write(**{**entry, "url": f"{prepared.address}/{name}"})
    path = fetch("foo", "A")
    assert path == prepared.data / "a.parquet"
    assert pd.read_parquet(path).equals(pd.read_csv(BytesIO(BYTES)).iloc[::2].reset_index(drop=True))
    assert fetch("foo", "A") == path
    assert (Quiet.answers, prepared.files) == (1, ["a.parquet"])


def test_a_copy_of_the_table_by_another_writer_will_do(prepared: Site) -> None:
    fetch("foo", "A")
    path = prepared.data / "a.parquet"
    before = path.read_bytes()
    pd.read_parquet(path).astype({"a": "int8"}).to_parquet(path, compression="gzip")
    assert path.read_bytes() != before
    assert fetch("foo", "A") == path


def test_a_table_with_one_other_cell_is_refused_and_left_alone(prepared: Site) -> None:
    path = fetch("foo", "A")
    table = pd.read_parquet(path)
    table.loc[100, "a"] = 2
    table.to_parquet(path, index=False)
    with pytest.raises(UserError, match=r"a\.parquet is truncated or altered .* remove it"):
        fetch("foo", "A")
    assert pd.read_parquet(path).equals(table)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"a\.parquet is truncated or altered .* remove it"):
        fetch("foo", "A")
    assert Quiet.answers == 1


@pytest.mark.parametrize("wrong", [BYTES.replace(b",1", b",2", 1), BYTES + b"1,2,3", b"", b"\xff\xfe"])
def test_an_origin_that_makes_no_such_table_is_refused(prepared: Site, wrong: bytes) -> None:
    (prepared.served / "a.csv").write_bytes(wrong)
    with pytest.raises(UserError, match=r"a\.csv gave other bytes than the catalogue names"):
        fetch("foo", "A")
    assert prepared.files == []


def test_an_origin_that_cannot_be_reached_is_told(prepared: Site) -> None:
    (prepared.served / "a.csv").unlink()
    with pytest.raises(UserError, match=r"a\.csv could not be downloaded \(status 404\)"):
        fetch("foo", "A")
    assert prepared.files == []
