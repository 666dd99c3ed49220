"""What every app keeps to, as checks to run on your own: `check_app("myapp")`."""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from apps.common.discovery import app_module, app_names, project_root, training_configs
from apps.common.errors import UserError

FILES = ("__init__", "data", "model", "task", "metrics", "evaluate", "predict", "compare")
CONFIGS = ("default", "compare")
PROFILES = ("quick", "full")
SECTIONS = ("Problem", "Model", "Data", "Commands", "Results", "Limits")


def check_app(app: str) -> list[str]:
    """Return what an app lacks of the contract, one sentence each; empty when it has everything.

    The contract: its files, names and folders; a README with the usual sections; a model without Lightning;
    no import of another app; every config builds its data, model and trainer.
    """
    faults = [*_missing_files(app), *_missing_sections(app), *_wrong_imports(app)]
    return faults or [*_missing_names(app), *_broken_configs(app)]


def build(app: str, config: Path, *options: str) -> Any:
    """Build data, model and trainer of a config without running anything; return the command line object.

    Raises UserError where the config does not fit.
    """
    from apps.common.cli import AppCLI

    class Builder(AppCLI):
        def _run_subcommand(self, subcommand: str) -> None:
            """Run nothing."""

    return Builder(
        app, config.stem, ["fit", "--config", str(config), "--trainer.fast_dev_run", "1", *options]
    )


def with_router(config: Path, class_path: str) -> dict[str, Any]:
    """Return the content of a config with each of its routers exchanged for another.

    Raises UserError where the config names no router.
    """
    content: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    if not _exchange(content, class_path):
        raise UserError(f"{config} names no router: give its MoE block one by class_path.")
    return content


def _exchange(node: Any, class_path: str) -> int:
    """Put the router `class_path` in place of every router below a node; return how many there were."""
    if isinstance(node, list):
        return sum(_exchange(value, class_path) for value in node)
    if not isinstance(node, dict):
        return 0
    if _is_router(node.get("class_path")):
        node.clear()
        node["class_path"] = class_path
        return 1
    return sum(_exchange(value, class_path) for value in node.values())


def _is_router(class_path: object) -> bool:
    from collegium.routers import Router

    if not isinstance(class_path, str) or "." not in class_path:
        return False
    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, None)
    return inspect.isclass(found) and issubclass(found, Router)


def imports(file: Path) -> set[str]:
    """Return the full names of all modules that a source file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


def app_imports(folder: Path, own: str | None = None) -> dict[str, set[str]]:
    """Return, for each source file below `folder`, the apps it imports beside its own."""
    others = {f"apps.{app}" for app in app_names() if app != own}
    found = {
        str(file.relative_to(folder)): {name for name in imports(file) if _package(name) in others}
        for file in sorted(folder.rglob("*.py"))
    }
    return {file: names for file, names in found.items() if names}


def _package(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _missing_files(app: str) -> Iterator[str]:
    root = project_root()
    wanted = [Path("apps", app, f"{name}.py") for name in FILES]
    wanted += [Path("configs", app, f"{name}.yaml") for name in CONFIGS]
    wanted.append(Path("docs", "apps", f"{app}.md"))
    yield from (f"{path} is missing" for path in wanted if not (root / path).is_file())
    if not any((root / "tests" / "apps" / app).rglob("test_*.py")):
        yield f"tests/apps/{app} holds no test"


def _missing_sections(app: str) -> Iterator[str]:
    readme = project_root() / "apps" / app / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    wanted = [f"## {section}" for section in SECTIONS]
    wanted += [f"<!-- results:{app}:{name}:{end} -->" for name in PROFILES for end in ("begin", "end")]
    yield from (f"apps/{app}/README.md has no line '{line}'" for line in wanted if line not in lines)


def _wrong_imports(app: str) -> Iterator[str]:
    folder = project_root() / "apps" / app
    for file, names in app_imports(folder, own=app).items():
        yield f"apps/{app}/{file} imports another app: {', '.join(sorted(names))}"
    model = folder / "model.py"
    if model.is_file() and any(name.split(".")[0].endswith("lightning") for name in imports(model)):
        yield f"apps/{app}/model.py imports lightning: a model is a plain nn.Module"


def _missing_names(app: str) -> Iterator[str]:
    from lightning import LightningDataModule

    from apps.common.task import MoETask

    for module, name, base in (("data", "Data", LightningDataModule), ("task", "Task", MoETask)):
        found = getattr(app_module(app, module), name, None)
        if not (inspect.isclass(found) and issubclass(found, base)):
            yield f"apps/{app}/{module}.py has no class {name}({base.__name__})"
    functions = (
        ("evaluate", {"run", "split"}),
        ("predict", {"input", "out", "run"}),
        ("compare", {"budget"}),
    )
    for module, parameters in functions:
        name = "arms" if module == "compare" else module
        function = getattr(app_module(app, module), name, None)
        if not parameters <= _parameters(function):
            yield f"apps/{app}/{module}.py has no function {name} with {', '.join(sorted(parameters))}"


def _parameters(function: Callable[..., Any] | None) -> set[str]:
    return set(inspect.signature(function).parameters) if callable(function) else set()


def _broken_configs(app: str) -> Iterator[str]:
    for config in training_configs(app):
        try:
            build(app, config)
            with_router(config, "collegium.routers.TopK")
        except UserError as error:
            yield str(error)
    yield from _broken_profiles(app)


def _broken_profiles(app: str) -> Iterator[str]:
    from apps.common.compare.places import config_file
    from apps.common.compare.plan import load_arms
    from apps.common.compare.profile import profile_names, read_profile

    for name in dict.fromkeys([*PROFILES, *profile_names(config_file(app))]):
        try:
            profile = read_profile(config_file(app), name)
            unknown = {*profile.arms, *profile.tried} - set(load_arms(app, profile.budget))
        except UserError as error:
            yield str(error)
        else:
            yield from (f"apps/{app}/compare.py has no arm {arm}" for arm in sorted(unknown))
