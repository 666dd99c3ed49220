"""What a result was made with: versions, machine, and the state of the source."""

import ast
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

from apps.common.discovery import apps_folder, project_root


def environment() -> dict[str, str | int]:
    """Return versions and machine, without a name of the machine, of its user or of any path."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.machine()}",
    }


def fingerprint(app: str) -> str:
    """Return a hash of the source that fits and measures: the core's, the common and the app's own.

    It is taken of the parsed code, so that comments and layout do not change it. This package is left out: it
    runs and counts cells, and has no say in their figures.
    """
    digest = hashlib.sha256()
    for folder in (project_root() / "core" / "collegium", apps_folder() / "common", apps_folder() / app):
        for path in sorted(folder.rglob("*.py")):
            if not path.is_relative_to(Path(__file__).parent):
                name = path.relative_to(folder.parent).as_posix()
                digest.update(f"{name}\n{ast.dump(ast.parse(path.read_bytes()))}\n".encode())
    return digest.hexdigest()[:12]


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
