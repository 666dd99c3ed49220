"""Folders that one process keeps."""

from pathlib import Path

import pytest

from apps.common.errors import UserError
from apps.common.files import held_folder


def test_a_folder_is_kept_for_one_at_a_time(tmp_path: Path) -> None:
    with held_folder(tmp_path, "taken"):
        with pytest.raises(UserError, match="taken"), held_folder(tmp_path, "taken"):
            pass
        with pytest.raises(UserError, match="taken"), held_folder(tmp_path, "taken"):
            pass
    with held_folder(tmp_path, "taken"):
        pass


def test_what_blocks_inside_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="pipe is full"), held_folder(tmp_path, "taken"):
        raise BlockingIOError("pipe is full")
    with held_folder(tmp_path, "taken"):
        pass
