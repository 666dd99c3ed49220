"""One comparison of an app at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apps.common.files import held_folder


@contextmanager
def only_one(folder: Path, app: str) -> Iterator[None]:
    """Hold the folder for this process: two at once would run cells twice, and open test splits twice.

    Raises `UserError` while another holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held_folder(folder, f"another comparison of {app} is running in {folder}: wait for it."):
        yield
