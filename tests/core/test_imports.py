"""The core needs torch and nothing else."""

import ast
import sys
from pathlib import Path

import collegium
import pytest

ROOT = Path(collegium.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of all that a file imports, relative imports being its own."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_torch_the_standard_library_and_the_core_alone(path: Path) -> None:
    assert imported(path) <= {"torch", "collegium", *sys.stdlib_module_names}


def test_the_core_is_typed() -> None:
    assert (ROOT / "py.typed").exists()
