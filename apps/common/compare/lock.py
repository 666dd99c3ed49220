"""One comparison of an app at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apps.common.errors import UserError


@contextmanager
def only_one(folder: Path, app: str) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it however the process ends.

    Two at once would run cells twice, and open test splits twice. Raises `UserError` while another holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another comparison of {app} is running in {folder}: wait for it.") from error
        yield
