"""Which state of the source a result was made with."""

import subprocess
from pathlib import Path


def commit(root: Path) -> str:
    """Return the commit of the checkout, with `-modified` where code or configuration differs from it."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return "unknown"
    changes = _git(root, "status", "--porcelain", "--", "apps", "core", "configs")
    return f"{head}-modified" if changes else head


def _git(root: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
