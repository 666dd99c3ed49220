"""Read a CSV or parquet file into a frame, or say in one sentence why it cannot be read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import warnings
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd

from apps.common.errors import UserError

TEXT = (".csv", ".txt", ".tsv")
SUFFIXES = (*TEXT, *(f"{suffix}.gz" for suffix in TEXT), ".parquet")


def read_frame(path: Path, header: bool = True) -> pd.DataFrame:
    """Return the rows of a file under string column names and a 0, 1, 2... index.

    header: False names the columns "0", "1", ... and reads the first row as data (text files).
    Commas, semicolons and tabs are told apart by the first line.

    Raises UserError where the file is missing, empty, truncated, or of another format.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it.")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(f"{path}: cannot tell the format: use one of {', '.join(SUFFIXES)}.")
    try:
        frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, header)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is truncated or damaged: copy it again.") from error
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: the file is empty: write a header and rows.") from error
    except pd.errors.ParserWarning as error:
        raise UserError(
            f"{path}: rows have more cells than the header: name each column, write decimals with a point."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: the text is not UTF-8 (byte {error.start}): save it again as UTF-8."
        ) from error
    except (ValueError, OSError) as error:  # includes parser, encoding and parquet errors
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{path}: cannot be read as a table ({reason}): save it again as CSV.") from error
    if frame.empty:
        raise UserError(f"{path}: there are no rows: write a header and rows.")
    frame.columns = frame.columns.map(str)
    return frame.reset_index(drop=True)


def table_sha256(frame: pd.DataFrame) -> str:
    """Return the checksum of a table: of its names and cells as CSV, without the index.

    It is the same for CSV and parquet by any writer, and for numbers of any width that read back exactly;
    whole numbers and decimals differ (1 and 1.0). A missing cell counts as an empty text.
    """
    return hashlib.sha256(frame.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def _read_text(path: Path, header: bool) -> pd.DataFrame:
    with gzip.open(path, "rt") if path.suffix.lower() == ".gz" else path.open() as lines:
        first = lines.readline()
    delimiter = max(",;\t", key=first.count)
    names = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    if header and (twice := [name for name, times in Counter(names).items() if times > 1 and name]):
        raise UserError(f"{path}: two columns are called '{twice[0].strip()}': give each a name of its own.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop what the header does not name
        return pd.read_csv(
            path,
            sep=delimiter,
            header=0 if header else None,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis(str(frame.index.name or "date")).reset_index()
    return frame
