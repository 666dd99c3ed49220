"""Finds apps by their folder, and what belongs to each: modules, configurations, data."""

import ast
import difflib
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from apps.common.errors import UserError

APPS_VARIABLE = "COLLEGIUM_APPS"


def apps_folder() -> Path:
    """Return the folder of the apps: `apps/` of the checkout, or what `COLLEGIUM_APPS` names."""
    return Path(os.environ.get(APPS_VARIABLE) or Path(__file__).parents[1]).resolve()


def project_root() -> Path:
    """Return the folder that holds the apps, and beside them `configs/`, `data/` and `runs/`."""
    return apps_folder().parent


def app_names() -> list[str]:
    """Return the names of all apps, sorted: the folders that hold a data.py."""
    return sorted(path.parent.name for path in apps_folder().glob("*/data.py"))


def check_app(app: str) -> str:
    """Return `app` if there is one of that name, else raise `UserError` with the nearest name."""
    names = app_names()
    if app in names:
        return app
    near = difflib.get_close_matches(app, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of: {', '.join(names) or '(none yet)'}."
    raise UserError(f"there is no app or command named {app!r}: {hint}")


def app_module(app: str, name: str) -> ModuleType:
    """Import `apps.<app>.<name>`. Raises `UserError` when the app has no such file."""
    full = _full_name(app, name)
    if not has_module(app, name):
        raise UserError(f"{apps_folder() / app / name}.py does not exist: {app} has no {name}.")
    return import_module(full)


def has_module(app: str, name: str) -> bool:
    """Tell whether the app has a module of that name, without importing it."""
    return find_spec(_full_name(app, name)) is not None


def configs(app: str) -> list[Path]:
    """Return the app's configuration files, sorted."""
    return sorted((project_root() / "configs" / app).glob("*.yaml"))


def training_configs(app: str) -> list[Path]:
    """Return the app's configs that can be trained: all but compare.yaml."""
    return [path for path in configs(app) if path.stem != "compare"]


def data_folder(app: str) -> Path:
    """Return `data/<app>/` of the checkout."""
    return project_root() / "data" / app


def summary(app: str) -> str:
    """Return the first line of the docstring of the app's package, without importing it."""
    source = (apps_folder() / app / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def own_commands(app: str) -> tuple[str, ...]:
    """Return the commands that an app has beside the usual ones: COMMANDS of its package.

    Each is a function of its own name in a module of that name.
    """
    package = import_module(_full_name(app, "data").rpartition(".")[0])
    return tuple(getattr(package, "COMMANDS", ()))


def _full_name(app: str, name: str) -> str:
    check_app(app)
    root = str(project_root())
    if root not in sys.path:
        sys.path.insert(0, root)
    return f"{apps_folder().name}.{app}.{name}"
