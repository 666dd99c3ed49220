"""A toy app in a folder of its own: numpy arms that finish at once, and note what is asked of them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from apps.common.compare import compare

CONFIG = """\
profiles:
  quick: {data: [coins], arms: [routed, dense_active, constant], seeds: 2, budget: {units: 40}}
  full: {data: [coins, dice], arms: [routed, constant], seeds: 1, budget: {units: 60}}
"""


@dataclass
class ToyApp:
    """Where the toy app stands, and what its arms have noted."""

    root: Path
    folder: Path

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def notes(self) -> list[tuple[str, str, int]]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(word, cell, int(process)) for word, cell, process in lines]

    def noted(self, word: str) -> list[str]:
        return [cell for kind, cell, _ in self.notes if kind == word]

    @property
    def home(self) -> Path:
        return self.root / "runs" / "compare" / "toy"

    @property
    def results(self) -> Path:
        return self.root / "docs" / "results" / "toy-quick.json"

    @property
    def config(self) -> Path:
        return self.root / "configs" / "toy" / "compare.yaml"


def _write_toy(root: Path) -> ToyApp:
    folder = root / f"apps_{abs(hash(str(root)))}"  # a name of its own: modules are remembered by name
    toy = ToyApp(root, folder)
    for path in (folder / "toy", toy.config.parent, toy.results.parent):
        path.mkdir(parents=True)
    (folder / "toy" / "__init__.py").write_text('"""A toy."""\n')
    (folder / "toy" / "data.py").touch()
    shutil.copy(Path(__file__).with_name("toy_arms.py"), folder / "toy" / "compare.py")
    toy.log.touch()
    toy.config.write_text(CONFIG)
    return toy


@contextmanager
def _surroundings(toy: ToyApp) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COLLEGIUM_")]:
            patch.delenv(name)
        patch.setenv("COLLEGIUM_APPS", str(toy.folder))
        patch.setenv("TOY_LOG", str(toy.log))
        yield


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyApp]:
    """The toy app, of which nothing has been compared yet."""
    app = _write_toy(tmp_path)
    with _surroundings(app):
        yield app


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> ToyApp:
    """The toy app after its quick comparison. Only to be read."""
    app = _write_toy(tmp_path_factory.mktemp("uninterrupted"))
    with _surroundings(app):
        compare("toy")
    return app


@pytest.fixture
def compared(toy: ToyApp, uninterrupted: ToyApp) -> ToyApp:
    """A copy of the toy app after its quick comparison."""
    shutil.copy(uninterrupted.log, toy.log)
    shutil.copytree(uninterrupted.root / "runs", toy.root / "runs")
    shutil.copytree(uninterrupted.root / "docs", toy.root / "docs", dirs_exist_ok=True)
    return toy
