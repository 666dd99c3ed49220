"""Logs from files."""

from pathlib import Path

import pandas as pd
import pytest

from apps.common.errors import UserError
from apps.recsys.files import read_log

INTER = "user_id:token\titem_id:token\trating:float\ttags:token_seq\n1\t7\t4.5\ta b\n2\t8\t\tb\n"
USER = "user_id:token\tage:float\n1\t30\n2\t41\n3\t9\n"
ITEM = "item_id:token\tgenre:token_seq\n7\tx y\n8\tz\n"


def write(folder: Path, **files: str) -> Path:
    for suffix, text in files.items():
        (folder / f"log.{suffix}").write_text(text)
    return folder / f"log.{next(iter(files))}"


def test_atomic_files_bring_users_items_and_kinds(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, inter=INTER, user=USER, item=ITEM))
    assert list(log.frame) == ["user_id", "item_id", "rating", "tags", "age", "genre"]
    assert log.frame["user_id"].tolist() == ["1", "2"]
    assert log.frame["age"].tolist() == [30.0, 41.0]
    assert log.frame["rating"].isna().tolist() == [False, True]
    assert log.kinds["genre"] == "tags"
    assert log.kinds["rating"] == "number"
    assert log.kinds["user_id"] == "category"


def test_tables_are_joined_by_their_first_column_and_bring_new_columns_alone(tmp_path: Path) -> None:
    log, users = tmp_path / "log.csv", tmp_path / "users.csv"
    pd.DataFrame({"u": [2, 1, 5], "i": [7, 7, 8], "city": ["a", "b", "c"]}).to_csv(log, index=False)
    pd.DataFrame({"u": [1, 2], "city": ["x", "y"], "age": [30, 41]}).to_csv(users, index=False)
    frame = read_log(log, users=users).frame
    assert frame["city"].tolist() == ["a", "b", "c"]
    assert frame["age"].iloc[:2].tolist() == [41, 30]
    assert frame["age"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("files", "mend"),
    [
        ({"inter": "user_id:token\titem\n1\t2\n"}, "'item' tells no kind: write item:token"),
        ({"inter": "user_id:token\titem:what\n1\t2\n"}, "tells no kind"),
        ({"inter": "user_id:token\n"}, "there are no rows"),
        ({"inter": ""}, "cannot be read as an atomic file"),
        ({"inter": INTER, "user": "name:token\n1\n"}, "its first column is 'name'"),
        ({"inter": INTER, "user": "user_id:token\n1\n1\n"}, "user_id 1 has two rows"),
        ({"inter": "user_id:token\tuser_id:float\n1\t2\n"}, "two columns are called user_id"),
        ({"inter": "user_id:token\tclick:float\n1\t1\n2\tabc\n"}, "click is 'abc' in row 2"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, files: dict[str, str], mend: str) -> None:
    with pytest.raises(UserError, match=mend) as caught:
        read_log(write(tmp_path, **files))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_log(tmp_path / "none.inter")


def test_lists_of_parquet_are_tags(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 2, 3], "genres": [["a", "b c"], [], None]})
    frame.to_parquet(tmp_path / "log.parquet")
    found = read_log(tmp_path / "log.parquet")
    assert found.kinds == {"genres": "tags"}
    assert found.frame["genres"].tolist()[:2] == ["a\x1fb c\x1f", ""]
    assert found.frame["genres"].isna().tolist() == [False, False, True]


def test_keys_of_another_kind_are_one_sentence(tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1, 2], "x": [1, 2]}).to_csv(tmp_path / "log.csv", index=False)
    pd.DataFrame({"user_id": ["a", "b"], "age": [1, 2]}).to_csv(tmp_path / "users.csv", index=False)
    with pytest.raises(UserError, match="user_id holds text and numbers"):
        read_log(tmp_path / "log.csv", tmp_path / "users.csv")
