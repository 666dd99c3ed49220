"""What each command of `python -m apps` runs; imported when the command is known."""

import argparse
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from apps.common.cli import AppCLI
from apps.common.discovery import configs
from apps.common.mistakes import check_config, explain, keys
from apps.common.runs import Run, find_run


def run_lightning(app: str, args: Sequence[str]) -> None:
    """Run `fit`, `validate` or `test` of an app.

    Besides Lightning's options, `--resume` (fit) goes on with the newest run of the configuration, with that
    run's own settings; `--run` names another one. `validate` and `test` measure the best checkpoint of the
    newest run, unless `--run` or `--ckpt_path` names another.
    """
    _hush()
    command, options = args[0], _own_options(args[1:])
    files: list[Path] = options.config or [_short(path) for path in configs(app) if path.stem == "default"]
    name = config_name(files[-1]) if files else "default"
    run: Run | None = None
    if options.resume or options.run or (command != "fit" and not options.ckpt_path):
        run = find_run(app, options.run, config=name, trained=command != "fit")
        name = config_name(run.config_file)
        files = [run.config_file]
    for file in files:
        check_config(file)
    given = [command, *(part for file in files for part in ("--config", str(file))), *options.rest]
    AppCLI(app, name, given, run, options.ckpt_path)


def run_function(function: Callable[..., None], program: str, args: Sequence[str], **fixed: Any) -> None:
    """Call a typed function with its parameters given as options, but those that are fixed."""
    _hush()
    parser = ArgumentParser(prog=program, exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(function, as_positional=False, skip=set(fixed))
    try:
        values = parser.instantiate_classes(parser.parse_args(one_by_one(args, parser)))
    except ArgumentError as error:
        raise explain(str(error), keys(parser), args) from error
    function(**fixed, **values)


def one_by_one(args: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Write the values of a list, `--levels 0.1 0.9`, as the parser reads them, each behind `--levels+`."""
    lists = {name for action in parser._actions for name in action.option_strings if name.endswith("+")}
    words: list[str] = []
    option: str | None = None
    for arg in args:
        if option and not arg.startswith(("-", "[")):
            if words[-1] == option:
                words.pop()
            words += [f"{option}+", arg]
        else:
            option = arg if f"{arg}+" in lists else None
            words.append(arg)
    return words


def config_name(file: Path) -> str:
    """Return the name of a configuration file; for the config.yaml of a run, that of its parent folder.

    >>> config_name(Path("configs/timeseries/default.yaml"))
    'default'
    >>> config_name(Path("runs/timeseries/large/3/config.yaml"))
    'large'
    """
    of_a_run = file.name == "config.yaml" and file.parent.name.isdecimal()
    return file.resolve().parents[1].name if of_a_run else file.stem


def _own_options(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", type=Path, action="append")
    parser.add_argument("--ckpt_path", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--run", type=Path)
    options, rest = parser.parse_known_args(args)
    options.rest = rest
    return options


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _hush() -> None:
    """Keep advertisements and notes on internals off the screen."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
