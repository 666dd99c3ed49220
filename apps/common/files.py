"""Files that appear whole or not at all."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apps.common.errors import UserError


@contextmanager
def held_folder(path: Path, refusal: str) -> Iterator[None]:
    """Keep a folder for this process; the system lets go of it however the process ends.

    Raises `UserError(refusal)` while another process holds it.
    """
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(refusal) from error
        yield
    finally:
        os.close(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` if the block succeeds.

    Raises `UserError` where nothing can be written there.
    """
    temporary = _begun(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Raise `UserError` where nothing can be written, before work is done for it."""
    _begun(path).unlink()


def _begun(path: Path) -> Path:
    """An empty file beside a path."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): name another place.") from error
    return temporary


def check_out(out: Path, input: Path, endings: Sequence[str] = (".csv",)) -> None:
    """Raise `UserError` where predictions of `input` cannot be written to `out`: by its ending, or itself."""
    if out.suffix not in endings:
        raise UserError(f"{out}: give a name that ends in {' or '.join(endings)}.")
    if out.resolve() == input.resolve():
        raise UserError(f"{out} is the input: name another file for the predictions.")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
