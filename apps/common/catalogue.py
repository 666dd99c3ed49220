"""Public data sets by name: found on disk or downloaded, and checked against their checksum.

`data/<app>/catalogue.yaml` has for each name: file, url, sha256 (of the bytes, unpacked where they are
gzipped), licence, citation, and optionally split, a note and `read`, options for the app's reader. A file
lies in `$COLLEGIUM_DATA/<app>/`, where that is set, or in `data/<app>/`; it may be packed, with `.gz` after
its name.

Where the origin offers something else than a table that can be used as it is, `prepare` names a function of
`apps/<app>/prepare.py` that makes the table of the file at the url. The sha256 is then that of the table
(`table_sha256`): it holds for a table made anew as for a copy from elsewhere, whatever wrote the file.
"""

import gzip
import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apps.common.discovery import app_module, data_folder
from apps.common.errors import UserError
from apps.common.files import replacing
from apps.common.frames import read_frame, table_sha256
from apps.common.mistakes import check_config

UNPACKABLE = (EOFError, gzip.BadGzipFile, zlib.error)
"""What unpacking raises where bytes are not those that were packed."""
UNREADABLE = (*UNPACKABLE, zipfile.BadZipFile, KeyError, ValueError)
"""What making a table raises where the file is not the one that it is made of."""


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of one data set."""

    file: str
    url: str
    sha256: str
    licence: str
    citation: str
    split: str = ""
    prepare: str = ""
    note: str = ""
    read: dict[str, Any] = field(default_factory=dict)


def catalogue(app: str) -> dict[str, Entry]:
    """Return the app's data sets by name. Raises `UserError` where the file or part of an entry is absent."""
    path = data_folder(app) / "catalogue.yaml"
    if not path.is_file():
        raise UserError(f"{path} does not exist: {app} has no public data sets.")
    known = {f.name for f in fields(Entry)}
    needed = {f.name for f in fields(Entry) if f.default is MISSING and f.default_factory is MISSING}
    entries = {}
    for name, content in check_config(path).items():
        content = content if isinstance(content, dict) else {}
        missing = sorted(needed - set(content))
        wrong = sorted(set(content) - known)
        if missing or wrong:
            fault = f"lacks {', '.join(missing)}" if missing else f"has the unknown key {wrong[0]!r}"
            raise UserError(f"{path}: the entry {name} {fault}: mend it.")
        entries[name] = Entry(**content)
    return entries


def describe(app: str, name: str) -> Entry:
    """Return the entry of one data set. Raises `UserError` where there is none of that name."""
    entries = catalogue(app)
    if name not in entries:
        raise UserError(f"{app} has no data set {name!r}: choose one of {', '.join(sorted(entries))}.")
    return entries[name]


def identity(app: str, name: str) -> str:
    """A hash of what is read of a data set: the sha256 of its file where that is all.

    Else it is that of the file, of the options of the reader, and of the sets of the catalogue and the YAML
    files beside it that these options name.
    """
    entry, entries = describe(app, name), catalogue(app)
    if not entry.read:
        return entry.sha256
    named: dict[str, Any] = {}
    for key, value in entry.read.items():
        if isinstance(value, str) and value in entries:
            named[key] = entries[value].sha256
        elif isinstance(value, str) and value.endswith(".yaml"):
            named[key] = check_config(data_folder(app) / value)
    told = [entry.sha256, entry.read, *([named] if named else [])]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def fetch(app: str, name: str) -> Path:
    """Return the path of a data set, downloaded and prepared if it is not on disk, and checked.

    Raises:
        UserError: an unknown name, a failed download, or content that is not that of the catalogue. What was
            downloaded wrongly is removed; a wrong file of the user's own is left alone.
    """
    entry = describe(app, name)
    for folder in _folders(app):
        for path in (folder / entry.file, folder / f"{entry.file}.gz"):
            if path.is_file():
                return _checked(path, entry)
    return _download(app, entry, _folders(app)[0] / entry.file)


def fetch_sets(app: str, name: str | None = None) -> None:
    """Download public data sets of the app, and tell where they lie.

    Args:
        app: name of the app.
        name: one data set; all by default.
    """
    for each in [name] if name else catalogue(app):
        entry = describe(app, each)
        print(f"{each}: {fetch(app, each)}  ({entry.citation}; licence: {entry.licence})", flush=True)


def _folders(app: str) -> list[Path]:
    root = os.environ.get("COLLEGIUM_DATA")
    return [*([Path(root) / app] if root else []), data_folder(app)]


def _checked(path: Path, entry: Entry) -> Path:
    found = _sha256_of_table(path) if entry.prepare else _sha256(path, path.suffix == ".gz")
    if found != entry.sha256:
        raise UserError(f"{path} is truncated or altered (wrong SHA-256): remove it to download it again.")
    return path


def _download(app: str, entry: Entry, path: Path) -> Path:
    import requests  # late: most commands download nothing

    packed = entry.url.endswith(".gz") and not entry.prepare
    source = path.with_name(f"{path.name}.gz") if packed and path.suffix != ".gz" else path
    try:
        with replacing(source) as temporary:
            if entry.prepare:
                found = _prepare(app, entry, temporary)
            else:
                _get(entry.url, temporary)
                found = _sha256(temporary, packed)
            if found != entry.sha256:
                raise UserError(
                    f"{entry.url} gave other bytes than the catalogue names (wrong SHA-256), and they were "
                    "removed: try again, or get the file elsewhere."
                )
    except (requests.RequestException, OSError) as error:
        raise UserError(
            f"{entry.url} could not be downloaded ({_reason(error)}): "
            f"try again, or put the file at {path} yourself."
        ) from error
    return source


def _get(url: str, path: Path) -> None:
    import pooch  # late: most commands download nothing

    pooch.HTTPDownloader(progressbar=True, timeout=30)(url, str(path), None)


def _prepare(app: str, entry: Entry, path: Path) -> str:
    """Write the table that is made of the file at the url; return its checksum, empty where none can be made.

    The file itself is not kept.
    """
    make = getattr(app_module(app, "prepare"), entry.prepare)
    with TemporaryDirectory() as folder:
        origin = Path(folder) / entry.url.rpartition("/")[2]
        _get(entry.url, origin)
        try:
            table = make(origin)
        except UNREADABLE:
            return ""
    table.to_parquet(path, index=False)
    return table_sha256(table)


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__


def _sha256(path: Path, packed: bool) -> str:
    """Return the checksum of the bytes, unpacked if they are packed; empty where they cannot be unpacked."""
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except UNPACKABLE:
        return ""


def _sha256_of_table(path: Path) -> str:
    """Return the checksum of a table; empty where it cannot be read."""
    try:
        return table_sha256(read_frame(path))
    except UserError:
        return ""
