"""The checksum of a table is one of its content."""

from pathlib import Path

import pandas as pd
import pytest

from apps.common.frames import read_frame, table_sha256

TABLE = pd.DataFrame({"a": [1, 2, 3], "b": [0.1, None, 2.0], "c": ["x", "y, z", None]})


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    narrow = TABLE.astype({"a": "int8", "b": "float32", "c": "category"}).set_index(pd.Index([7, 8, 9]))
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    narrow.to_parquet(tmp_path / "t.parquet", index=False)
    files = [table_sha256(read_frame(tmp_path / name)) for name in ("t.csv", "t.parquet")]
    assert {table_sha256(TABLE), table_sha256(narrow), *files} == {table_sha256(TABLE)}


@pytest.mark.parametrize(
    "other",
    [
        TABLE.assign(a=[1, 2, 4]),
        TABLE.assign(b=[0.1, 0.0, 2.0]),
        TABLE.assign(b=[0.1, None, 2.0000000000000004]),
        TABLE.assign(c=["x", "y", "z"]),
        TABLE.rename(columns={"a": "A"}),
        TABLE[["b", "a", "c"]],
        TABLE.iloc[::-1],
        TABLE.iloc[:2],
    ],
    ids=["number", "missing", "last digit", "text", "name", "columns", "order", "rows"],
)
def test_whatever_else_is_there_has_another_checksum(other: pd.DataFrame) -> None:
    assert table_sha256(other) != table_sha256(TABLE)
