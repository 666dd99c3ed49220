"""Files that can be read, and the one sentence for those that cannot."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.common.errors import UserError
from apps.timeseries.tables import Table, read_tables


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "my.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def hourly(rows: int = 6) -> pd.DataFrame:
    dates = pd.date_range("2024-01-01", periods=rows, freq="h")
    return pd.DataFrame({"date": dates, "a": np.arange(rows, dtype=float), "b": 10.0 - np.arange(rows)})


def read_one(path: Path, **options) -> Table:
    (table,) = read_tables(path, **options)
    return table


@pytest.mark.parametrize("name", ["my.csv", "my.csv.gz", "my.parquet", "my.tsv"])
def test_every_format_gives_the_same_table(tmp_path: Path, name: str):
    path = tmp_path / name
    if name.endswith(".parquet"):
        hourly().to_parquet(path)
    else:
        hourly().to_csv(path, index=False, sep="\t" if name.endswith(".tsv") else ",")
    table = read_one(path)
    assert table.names == ("a", "b")
    assert table.frequency == "h"
    np.testing.assert_array_equal(table.values, hourly()[["a", "b"]].to_numpy())
    assert table.index.equals(pd.DatetimeIndex(hourly()["date"]))


def test_parquet_with_the_dates_as_index(tmp_path: Path):
    path = tmp_path / "my.parquet"
    hourly().set_index("date").to_parquet(path)
    assert read_one(path).frequency == "h"


def test_semicolons_and_a_date_column_by_name(csv):
    path = csv("when;x\n2024-01-01;1\n2024-01-02;2\n2024-01-03;3\n")
    table = read_one(path, date_column="when")
    assert table.frequency == "D"
    assert table.values.ravel().tolist() == [1, 2, 3]


def test_gaps_and_blanks_become_missing(csv):
    path = csv("date,a\n2024-01-01 00:00,1\n2024-01-01 01:00,\n2024-01-01 02:00,3\n2024-01-01 04:00,5\n")
    table = read_one(path)
    np.testing.assert_array_equal(table.values.ravel(), [1, np.nan, 3, np.nan, 5])
    assert table.index[3] == pd.Timestamp("2024-01-01 03:00")


def test_columns_are_kept_in_the_order_asked_for(tmp_path: Path):
    hourly().to_csv(tmp_path / "my.csv", index=False)
    assert read_one(tmp_path / "my.csv", columns=["b", "a"]).names == ("b", "a")


def test_a_text_column_that_is_not_asked_for_does_no_harm(csv):
    path = csv("date,a,note\n2024-01-01,1,fine\n2024-01-02,2,cold\n2024-01-03,3,warm\n")
    assert read_one(path, columns=["a"]).values.ravel().tolist() == [1, 2, 3]


def test_no_header_and_no_dates(csv):
    table = read_one(csv("1,2\n3,4\n5,6\n", "rates.txt"), header=False, date_column="none")
    assert table.names == ("0", "1")
    assert table.frequency is None
    assert table.index.equals(pd.RangeIndex(3))
    assert table.values.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_whole_numbers_as_time(csv):
    table = read_one(csv("time,a\n0,1\n2,2\n4,3\n8,4\n"))
    assert table.index.equals(pd.RangeIndex(0, 10, 2))
    np.testing.assert_array_equal(table.values.ravel(), [1, 2, 3, np.nan, 4])
    assert table.future(2).tolist() == [10, 12]


def test_days_written_as_numbers(csv):
    table = read_one(csv("date, a\n20240130, 1\n20240131, 2\n20240201, 3\n"))
    assert table.frequency == "D"
    assert table.names == ("a",)
    assert table.index[-1] == pd.Timestamp("2024-02-01")


def test_long_file_gives_a_table_for_each_series(csv):
    path = csv(
        "id,date,value\na,2024-01-01,1\nb,2024-01-05,7\na,2024-01-02,2\nb,2024-01-06,\nb,2024-01-07,9\na,2024-01-03,3\n"
    )
    first, second = read_tables(path, id_column="id", value_column="value")
    assert (first.names, second.names) == (("a",), ("b",))
    assert first.values.ravel().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(second.values.ravel(), [7, np.nan, 9])
    assert second.index[0] == pd.Timestamp("2024-01-05")


def test_long_file_with_chosen_series(csv):
    path = csv("id,date,value\n1,2024-01-01,1\n2,2024-01-01,7\n1,2024-01-02,2\n2,2024-01-02,8\n")
    (table,) = read_tables(path, id_column="id", value_column="value", columns=["2"])
    assert table.values.ravel().tolist() == [7, 8]


@pytest.mark.parametrize("frequency", ["15min", "h", "6h", "D", "B", "W-TUE", "MS", "ME", "QS-JAN", "YS-JAN"])
@pytest.mark.parametrize("gap", [False, True])
def test_the_step_is_inferred_with_and_without_a_gap(tmp_path: Path, frequency: str, gap: bool):
    dates = pd.date_range("2024-01-03", periods=30, freq=frequency)
    frame = pd.DataFrame({"date": dates, "a": np.arange(30.0)})
    kept = frame.drop(index=[7, 8]) if gap else frame
    kept.to_csv(tmp_path / "my.csv", index=False)
    table = read_one(tmp_path / "my.csv")
    assert table.frequency == frequency
    assert table.index.equals(dates)
    assert np.isnan(table.values).sum() == (2 if gap else 0)


def test_a_named_step_fills_what_it_expects(csv):
    table = read_one(csv("date,a\n2024-01-01,1\n2024-01-03,2\n"), frequency="D")
    np.testing.assert_array_equal(table.values.ravel(), [1, np.nan, 2])


def test_weeks_may_begin_on_any_day(csv):
    table = read_one(csv("date,a\n2024-01-02,1\n2024-01-09,2\n"), frequency="W")
    assert table.frequency == "W-TUE"


def test_summer_time_offsets_are_read_as_one_clock(csv):
    path = csv(
        "date,a\n2024-03-31T00:00+01:00,1\n2024-03-31T01:00+01:00,2\n2024-03-31T03:00+02:00,3\n"
        "2024-03-31T04:00+02:00,4\n"
    )
    assert not np.isnan(read_one(path).values).any()


def test_the_future_goes_on_where_the_table_ends(tmp_path: Path):
    hourly().to_csv(tmp_path / "my.csv", index=False)
    future = read_one(tmp_path / "my.csv").future(2)
    assert future.tolist() == [pd.Timestamp("2024-01-01 06:00"), pd.Timestamp("2024-01-01 07:00")]


ONE, TWO = "2024-01-01,1\n", "2024-01-02,2\n"
GOOD = "date,a\n" + ONE + TWO + "2024-01-03,3\n"
LONG = "id,date,value\na,2024-01-01,1\na,2024-01-02,2\n"
LONG_NAMES = {"id_column": "id", "value_column": "value"}

BAD = {
    "missing date column": ("day,a\n1,2\n", {}, "no date column among day, a"),
    "unknown date column": (GOOD, {"date_column": "when"}, "no column 'when': choose among date, a"),
    "unknown column": (GOOD, {"columns": ["c"]}, "no column 'c': choose among a"),
    "unknown series": (LONG, LONG_NAMES | {"columns": ["z"]}, "no series 'z': choose among a"),
    "unknown id column": (LONG, LONG_NAMES | {"id_column": "key"}, "no column 'key'"),
    "half a long format": (LONG, {"id_column": "id"}, "both id_column and value_column"),
    "blank id": (LONG + ",2024-01-03,3\n", LONG_NAMES, "blank in row 3"),
    "dates out of order": ("date,a\n" + TWO + ONE, {}, "'2024-01-01' in row 2 comes before"),
    "date twice": ("date,a\n" + ONE + TWO + TWO, {}, "'2024-01-02' in row 3 is there twice"),
    "date twice in a series": (
        LONG + "a,2024-01-02,3\n",
        LONG_NAMES,
        "in row 3 of series 'a' is there twice",
    ),
    "blank date": ("date,a\n" + ONE + ",2\n", {}, "(blank) in row 2 in column 'date' is not a date"),
    "unreadable date": ("date,a\n" + ONE + "soon,2\n", {}, "'soon' in row 2 in column 'date' is not a date"),
    "fractional time": ("time,a\n0,1\n0.5,2\n", {}, "'0.5' in row 2 in column 'time' is not a whole number"),
    "text in a cell": ("date,a,b\n2024-01-01,1,2\n2024-01-02,1,x2\n", {}, "column 'b' holds 'x2' in row 2"),
    "text in a long cell": (LONG + "a,2024-01-03,?\n", LONG_NAMES, "column 'value' holds '?' in row 3"),
    "infinite cell": ("date,a\n" + ONE + "2024-01-02,inf\n", {}, "holds 'inf' in row 2"),
    "empty channel": ("date,a,b\n2024-01-01,1,\n2024-01-02,1,\n", {}, "'b' has no value at all"),
    "no value column": ("date\n2024-01-01\n2024-01-02\n", {}, "no column of values"),
    "irregular dates": ("date,a\n" + ONE + TWO + "2024-03-09,3\n2025-07-01,3\n", {}, "no regular step"),
    "irregular numbers": ("time,a\n0,1\n1,2\n100,3\n", {}, "no regular step"),
    "one row": ("date,a\n" + ONE, {}, "one row shows no step"),
    "unknown frequency": (GOOD, {"frequency": "fortnight"}, "frequency 'fortnight' is not known"),
    "frequency beside the dates": (GOOD, {"frequency": "MS"}, "do not lie on frequency 'MS'"),
    "frequency far too short": (GOOD, {"frequency": "s"}, "or fill hardly any of it"),
    "frequency without dates": (GOOD, {"frequency": "h", "date_column": "none"}, "`frequency` needs dates"),
    "frequency of numbers": ("time,a\n0,1\n1,2\n", {"frequency": "h"}, "`frequency` needs dates"),
    "empty file": ("", {}, "the file is empty"),
    "header alone": ("date,a\n", {}, "there are no rows"),
    "rows of unequal length": ("date,a\n" + ONE + "2024-01-02,1,5\n", {}, "cannot be read as a table"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_sentence_with_the_mend(csv: Callable[..., Path], case: str):
    text, options, expected = BAD[case]
    path = csv(text)
    with pytest.raises(UserError) as caught:
        read_tables(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert expected in message
    problem, mend = message.removeprefix(f"{path}: ").rsplit(": ", 1)
    assert problem
    assert mend.endswith(".")
    assert "\n" not in message


def test_missing_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.csv: there is no such file: check the path"):
        read_tables(tmp_path / "nowhere.csv")


def test_unknown_format(csv):
    with pytest.raises(UserError, match=r"my\.xlsx: cannot tell the format: use one of \.csv"):
        read_tables(csv("1", "my.xlsx"))


def test_truncated_gzip(tmp_path: Path):
    path = tmp_path / "my.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode() * 50)[:-20])
    with pytest.raises(UserError, match=r"my\.csv\.gz: the gzip file is truncated or damaged: copy it again"):
        read_tables(path)


def test_broken_parquet(csv):
    with pytest.raises(UserError, match=r"my\.parquet: cannot be read as a table"):
        read_tables(csv("not parquet", "my.parquet"))


def test_binary_text(tmp_path: Path):
    path = tmp_path / "my.csv"
    path.write_bytes(b"\xff\xfe\x00date,a\n")
    with pytest.raises(UserError, match=r"my\.csv: the text is not UTF-8 \(byte 0\)"):
        read_tables(path)


def test_decimal_commas_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "commas.csv"
    file.write_text("date,a\n2020-01-01,0,5\n2020-01-02,1,5\n")
    with pytest.raises(UserError, match=r"commas\.csv: rows have more cells than the header"):
        read_tables(file)


def test_a_series_of_one_row_takes_the_step_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text("date,id,value\n2020-01-05,new,1\n2020-01-01,old,1\n2020-01-02,old,2\n2020-01-03,old,3\n")
    new, old = read_tables(file, id_column="id", value_column="value")
    assert (new.names, old.names) == (("new",), ("old",))
    assert (new.frequency, old.frequency) == ("D", "D")
    assert len(new.values) == 1


@pytest.mark.parametrize("frequency", ["0h", "0D", "-1D"])
def test_a_step_that_leads_nowhere_is_refused(tmp_path: Path, frequency: str) -> None:
    file = tmp_path / "days.csv"
    file.write_text("date,a\n2020-01-01,0\n2020-01-02,1\n")
    with pytest.raises(UserError, match=f"frequency '{frequency}' is not known"):
        read_tables(file, frequency=frequency)


def test_day_and_month_are_told_apart_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "days.csv"

    def write(dates: list[str]) -> None:
        file.write_text("date,a\n" + "".join(f"{date},{row}\n" for row, date in enumerate(dates)))

    write([f"{day:02}/03/2020" for day in range(1, 13)])
    with pytest.raises(UserError, match=r"days\.csv: column 'date' may be read day or month first"):
        read_tables(file)
    write([f"{day:02}/03/2020" for day in range(1, 20)])  # there is no 13th month
    assert read_tables(file)[0].index[1] == pd.Timestamp("2020-03-02")
    write([f"03/{day:02}/2020" for day in range(1, 20)])
    assert read_tables(file)[0].index[1] == pd.Timestamp("2020-03-02")
    write(["30/03/2020", "31/03/2020", "01/04/2020"])
    assert read_tables(file)[0].index[2] == pd.Timestamp("2020-04-01")


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("date,a, a\n2020-01-01,0,1\n2020-01-02,1,2\n")
    with pytest.raises(UserError, match=r"two columns are called 'a': give each a name of its own"):
        read_tables(file)


def test_text_that_is_not_utf8_and_folders_are_told(tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes("date,Höhe\n2020-01-01,0\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"the text is not UTF-8 \(byte \d+\): save it again as UTF-8"):
        read_tables(file)
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        read_tables(tmp_path)


def test_one_row_shows_no_step(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("date,a\n2020-01-01,0\n")
    with pytest.raises(UserError, match="one row shows no step"):
        read_tables(file)
    assert read_tables(file, frequency="D")[0].frequency == "D"


def test_a_row_a_series_ends_where_its_values_do(csv):
    first, second = read_tables(csv("V1,V2,V3,V4\na,1,2,\nb,3,,5\n"), by_row=True, frequency="h")
    assert (first.names, second.names) == (("a",), ("b",))
    assert first.values.ravel().tolist() == [1, 2]
    np.testing.assert_array_equal(second.values.ravel(), [3, np.nan, 5])
    assert first.frequency == "h"
    assert second.future(2).tolist() == [3, 4]


def test_what_a_row_a_series_cannot_have_is_told(csv):
    file = csv("V1,V2\na,1\n")
    with pytest.raises(UserError, match="which has no `date_column`"):
        read_tables(file, by_row=True, date_column="V1")
    with pytest.raises(UserError, match="frequency 'often' is not known"):
        read_tables(file, by_row=True, frequency="often")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("a,1,2\na,3,4\n", "two rows are called 'a'"),
        ("a,1,2\nb,,\n", "'b' has no value at all"),
        ("a,1,2\nb,x,4\n", "'V2' holds 'x' in row"),
    ],
)
def test_rows_that_are_no_series_are_told(csv, rows: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        read_tables(csv(f"V1,V2,V3\n{rows}"), by_row=True)
