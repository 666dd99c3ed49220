"""The only way to read and to write a result file.

In the file the lists of `TABLES` stand as pandas splits a frame, the names of the columns once and then the
data, an entry a line: with the names in every entry a file would be twice as large.
"""

import json
from pathlib import Path
from typing import Any

from apps.common.compare.conform import fault
from apps.common.compare.schema import Results
from apps.common.errors import UserError
from apps.common.files import write_text

TABLES = ("rows", "intervals")
"""Fields whose entries all have the same names."""


def validate(results: Any, name: str) -> Results:
    """Return `results` if it keeps the schema and its rows differ. Raises `UserError` naming the field."""
    if wrong := fault(results, Results, "the file"):
        raise UserError(f"{name}: {wrong}; write it with `make compare` or `make bench`, not by hand.")
    checked: Results = results
    places = [(row["data"], row["slice"], row["arm"], row["seed"], row["metric"]) for row in checked["rows"]]
    if len(set(places)) < len(places):
        raise UserError(f"{name}: a measurement is there twice; write it again with `make compare`.")
    return checked


def read_results(path: Path) -> Results:
    """Read and validate a result file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: restore it, or write it again.") from error
    try:
        tables = {name: _entries(content[name]) for name in TABLES if name in content}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {' or '.join(TABLES)} is no table of columns and data; write it with `make compare` or "
            "`make bench`, not by hand."
        ) from error
    return validate({**content, **tables}, str(path))


def write_results(path: Path, results: Results) -> None:
    """Validate and write a result file, whole or not at all."""
    validate(results, str(path))
    parts = [
        f"{_text(key)}: {_table(value) if key in TABLES else _lines(value)}" for key, value in results.items()
    ]
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _entries(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], values, strict=True)) for values in table["data"]]


def _table(entries: Any) -> str:
    columns = list(entries[0]) if entries else []
    data = [[entry[column] for column in columns] for entry in entries]
    return f'{{"columns": {_text(columns)}, "data": {_lines(data)}}}'


def _lines(value: object) -> str:
    """A value as JSON; of a list of entries each on a line of its own."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict | list)):
        return _text(value)
    return "[\n" + ",\n".join(map(_text, value)) + "\n]"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")
