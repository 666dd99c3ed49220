"""The public tables: made of archives as their origins offer them, where the tables are at hand."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from apps.common.discovery import project_root
from apps.common.frames import read_frame, table_sha256
from apps.recsys import prepare
from apps.recsys.columns import Schema

FOLDER = project_root() / "data" / "recsys"
ENTRIES = yaml.safe_load((FOLDER / "catalogue.yaml").read_text())


def real(name: str) -> pd.DataFrame:
    """The table of a set, or a skipped test where the file is not below COLLEGIUM_DATA."""
    path = Path(os.environ.get("COLLEGIUM_DATA", "")) / "recsys" / ENTRIES[name]["file"]
    if not path.is_file():
        pytest.skip(f"{path.name} is not below COLLEGIUM_DATA")
    return read_frame(path)


def test_every_entry_says_how_its_table_is_made_and_has_a_schema_that_reads() -> None:
    for name, entry in ENTRIES.items():
        assert hasattr(prepare, entry["prepare"]), name
        assert entry["url"].startswith("https://")
        assert len(entry["sha256"]) == 64
        if "schema" in entry.get("read", {}):
            schema = Schema.load(FOLDER / entry["read"]["schema"])
            assert schema.tasks
            assert not set(schema.features) & {*schema.tasks, *schema.outcomes}


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(f"ml-100k/{name.replace('_', '.')}", text.encode("latin-1"))
    return path


@pytest.mark.data
@pytest.mark.parametrize(("name", "member"), [("census", "data"), ("census_test", "test")])
def test_census_tables_are_made_of_files_without_header(name: str, member: str, tmp_path: Path) -> None:
    table = real(name)
    text = io.StringIO()
    table.assign(income=table["income"].astype(str) + ".").to_csv(text, header=False, index=False)
    origin = tmp_path / "census.zip"
    with zipfile.ZipFile(origin, "w") as packed:
        packed.writestr(f"census-income.{member}", text.getvalue().replace(",", ", "))
    assert table_sha256(getattr(prepare, name)(origin)) == ENTRIES[name]["sha256"]


@pytest.mark.data
def test_kuairand_tables_are_made_of_three_files_of_a_tar(tmp_path: Path) -> None:
    log, users, videos = (real(name) for name in ("kuairand", "kuairand_users", "kuairand_videos"))
    before = log.head(5).assign(date=20220424)  # a day that is left out, and a user who is not in the log
    shuffled = pd.concat([log, before]).sample(frac=1, random_state=0)
    order = shuffled.sort_values("time_ms", kind="stable").reset_index(drop=True)
    files = {
        "log_standard_4_22_to_5_08_pure.csv": order.drop(columns=["author_id", "tag"]).assign(is_rand=0),
        "user_features_pure.csv": pd.concat([users, users.tail(1).assign(user_id=10**9)]),
        "video_features_basic_pure.csv": videos,
    }
    origin = tmp_path / "pure.tar.gz"
    with tarfile.open(origin, "w:gz") as packed:
        for name, table in files.items():
            content = table.to_csv(index=False).encode()
            member = tarfile.TarInfo(f"KuaiRand-Pure/data/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    assert table_sha256(prepare.kuairand_users(origin)) == ENTRIES["kuairand_users"]["sha256"]
    assert table_sha256(prepare.kuairand_videos(origin)) == ENTRIES["kuairand_videos"]["sha256"]
    made = prepare.kuairand(origin)
    assert list(made) == list(log)
    pd.testing.assert_frame_equal(
        made.sort_values(list(made), ignore_index=True),
        log.sort_values(list(log), ignore_index=True),
        check_dtype=False,
    )


@pytest.mark.data
def test_movielens_tables_are_made_of_three_files_of_a_zip(tmp_path: Path) -> None:
    log, users = real("ml100k"), real("ml100k_users")
    films = [
        (
            "1",
            "Toy Story (1995)",
            "01-Jan-1995",
            "",
            "u",
            *("1" if g in (3, 4, 5) else "0" for g in range(19)),
        ),
        ("267", "unknown", "", "", "", "1", *["0"] * 18),
        (
            "1412",
            "Land Before Time III (1995) (V)",
            "",
            "",
            "",
            *("1" if g in (3, 4) else "0" for g in range(19)),
        ),
    ]
    origin = zipped(
        tmp_path / "ml-100k.zip",
        u_data=log.to_csv(sep="\t", header=False, index=False),
        u_user=users.to_csv(sep="|", header=False, index=False),
        u_item="\n".join("|".join(film) for film in films) + "\n",
    )
    assert table_sha256(prepare.ml100k(origin)) == ENTRIES["ml100k"]["sha256"]
    assert table_sha256(prepare.ml100k_users(origin)) == ENTRIES["ml100k_users"]["sha256"]
    table = real("ml100k_items").set_index("item_id")
    for row in prepare.ml100k_items(origin).to_dict("records"):
        wanted = table.loc[row["item_id"]]
        assert row["release_year"] == wanted["release_year"]
        assert row["class"] == wanted["class"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "positives"),
    [
        ("kuairand", (135307, 36498, 56524), [0.4425, 0.3109, 0.0176, 0.0190]),
        ("census", (199523, 49881, 49881), [0.0621, 0.4335]),
        ("census_education", (199523, 49881, 49881), [0.3358, 0.4335]),
    ],
)
def test_sets_have_their_stated_size_and_shares(
    name: str, rows: tuple[int, ...], positives: list[float]
) -> None:
    from apps.recsys.data import Data

    real(name)
    data = Data(name=name)
    data.setup()
    assert tuple(len(data.part(part)) for part in ("train", "validation", "test")) == rows
    labels = data.part("train").batch.labels.mean(0)[: len(positives)]
    assert labels.tolist() == pytest.approx(positives, abs=5e-4)
