"""The state of the source is told by commit, and by whether code differs from it."""

import subprocess
from pathlib import Path

from apps.common.revision import commit


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_commit_is_marked_where_code_differs_from_it(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("a = 1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("no code")
    assert commit(tmp_path) == head
    (tmp_path / "core" / "a.py").write_text("a = 2")
    assert commit(tmp_path) == f"{head}-modified"


def test_a_folder_without_commits_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) == "unknown"
