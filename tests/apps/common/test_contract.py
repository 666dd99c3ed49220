"""The contract's checks find what is wrong."""

import shutil
from pathlib import Path

import pytest
import yaml

from apps.common import contract
from apps.common.errors import UserError
from apps.common.scaffold import new_app


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout that holds one fresh app."""
    (tmp_path / "apps").mkdir()
    monkeypatch.setenv("COLLEGIUM_APPS", str(tmp_path / "apps"))
    new_app("foo")
    return tmp_path


def test_missing_files_are_named(checkout: Path) -> None:
    for path in ("apps/foo/metrics.py", "configs/foo/default.yaml", "docs/apps/foo.md"):
        (checkout / path).unlink()
    shutil.rmtree(checkout / "tests/apps/foo")
    faults = "\n".join(contract.check_app("foo"))
    for path in ("apps/foo/metrics.py", "configs/foo/default.yaml", "docs/apps/foo.md", "tests/apps/foo"):
        assert path in faults


def test_a_missing_section_is_named(checkout: Path) -> None:
    readme = checkout / "apps/foo/README.md"
    readme.write_text(readme.read_text().replace("## Limits", "## Edges"))
    assert contract.check_app("foo") == ["apps/foo/README.md has no line '## Limits'"]


@pytest.mark.parametrize("line", ["import lightning", "from lightning.pytorch import Trainer"])
def test_a_model_with_lightning_is_refused(checkout: Path, line: str) -> None:
    model = checkout / "apps/foo/model.py"
    model.write_text(f"def late():\n    {line}\n\n\n{model.read_text()}")
    assert contract.check_app("foo") == ["apps/foo/model.py imports lightning: a model is a plain nn.Module"]


def test_an_app_that_imports_another_is_refused(checkout: Path) -> None:
    new_app("bar")
    metrics = checkout / "apps/bar/metrics.py"
    metrics.write_text(metrics.read_text() + "\nfrom apps.foo import model\n")
    assert contract.check_app("bar") == ["apps/bar/metrics.py imports another app: apps.foo, apps.foo.model"]
    assert contract.app_imports(checkout / "apps/bar") != {}


def test_imports_inside_functions_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os, torch.nn\n\ndef late():\n    from numpy.linalg import norm\n")
    assert contract.imports(tmp_path / "a.py") == {"os", "torch.nn", "numpy.linalg", "numpy.linalg.norm"}


def test_every_router_of_a_config_is_exchanged(tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    routed = {"class_path": "collegium.routers.TopK", "init_args": {"k": 2}}
    other = {"class_path": "torch.nn.Linear", "init_args": {"router": routed}}
    config.write_text(yaml.safe_dump({"model": {"blocks": [other, {"router": routed}]}}))
    found = contract.with_router(config, "collegium.routers.Hash")
    hashed = {"class_path": "collegium.routers.Hash"}
    assert found["model"]["blocks"] == [
        {"class_path": "torch.nn.Linear", "init_args": {"router": hashed}},
        {"router": hashed},
    ]


def test_a_config_without_router_is_told(tmp_path: Path) -> None:
    config = tmp_path / "none.yaml"
    config.write_text("model: {network: {class_path: torch.nn.Linear}}")
    with pytest.raises(UserError, match=r"none.yaml names no router"):
        contract.with_router(config, "collegium.routers.TopK")
