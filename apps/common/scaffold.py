"""`make new-app`: a copy of the template app under another name."""

import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from apps.common.discovery import app_names, project_root
from apps.common.errors import UserError

TEMPLATE = Path(__file__).parent / "template"
RESERVED = {"common", "template", "list", "help", "results"}
SHOWN = ("mkdocs.yml", "docs/index.md", "README.md")
"""Where a reader finds the apps."""


def new_app(name: str) -> None:
    """Write a small app that trains, evaluates, predicts and compares at once.

    Args:
        name: lower-case letters, digits and underscores; becomes apps/<name>.
    """
    _check_name(name)
    root = project_root()
    files = dict(_files(name, root))
    for path in files:
        if path.exists():
            raise UserError(f"{path.relative_to(root)} exists already: choose another name, or remove it.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _tidy([path for path in files if path.suffix == ".py"])
    print(f"apps/{name}, configs/{name} and tests/apps/{name} are written; next: make train APP={name}")
    print(f"To show it to others, name docs/apps/{name}.md in {', '.join(SHOWN)}.")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in RESERVED:
        raise UserError(
            f"{name!r} cannot be the name of an app: use lower-case letters, digits, underscores, a letter "
            "first, and no word of Python or of the command line."
        )
    if name in app_names():
        raise UserError(f"there is an app {name} already: choose another name.")


def _files(name: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file of the new app with its text."""
    yield root / "docs" / "apps" / f"{name}.md", f'--8<-- "apps/{name}/README.md"\n'
    folders = {"configs": root / "configs" / name, "tests": root / "tests" / "apps" / name}
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        folder = folders.get(source.parent.name, root / "apps" / name)
        yield folder / _renamed(source.name, name), _renamed(source.read_text(encoding="utf-8"), name)


def _renamed(text: str, name: str) -> str:
    text = text.replace("apps.common.template", f"apps.{name}")
    return text.replace("Template", name.capitalize()).replace("template", name)


def _tidy(files: list[Path]) -> None:
    """Sort imports and break lines anew, as another name has another place and length."""
    if shutil.which("ruff", path=str(Path(sys.executable).parent)) is None:
        return
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *map(str, files)], check=False)
