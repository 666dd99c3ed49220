"""Reads the first words of the command line and hands the rest on; imports nothing heavy before that."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from apps.common.discovery import (
    app_module,
    app_names,
    check_app,
    own_commands,
    summary,
    training_configs,
)
from apps.common.errors import UserError

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a program that Ctrl-C ended, as shells have it."""

USAGE = """\
python -m apps list                          the apps and their configurations
python -m apps <app> fit [--resume]          train; --config configs/<app>/<name>.yaml, any Lightning option
python -m apps <app> validate|test           Lightning's loops on the newest run, or on --ckpt_path
python -m apps <app> evaluate|predict        measure a run; predict for your own file; see --help
python -m apps <app> compare                 routed against its controls and peers; --profile quick|full
python -m apps <app> data                    download public data; --name for one set
python -m apps <app> <command>               what an app has of its own; see its README
python -m apps new-app <name>                start a new app
python -m apps results                       regenerate every table made from docs/results/
"""


def main(args: Sequence[str]) -> int:
    """Run a command and return its exit code: 0, 2 with one sentence on stderr, or 130 after Ctrl-C."""
    try:
        _run(list(args))
    except UserError as error:
        if _is_first():
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return INTERRUPTED
        raise
    return 0


def _is_first() -> bool:
    """Whether this is the first process of a training: the others come upon the same mistake."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0


def _run(args: list[str]) -> None:
    match args:
        case [] | ["help" | "-h" | "--help", *_]:
            print(USAGE, end="")
        case ["list"]:
            _list()
        case ["new-app", name]:
            from apps.common.scaffold import new_app

            new_app(name)
        case ["new-app", *_]:
            raise UserError("new-app wants one name: `python -m apps new-app <name>`.")
        case ["results", *rest]:
            from apps.common.compare import refresh_pages

            _call(refresh_pages, "results", rest)
        case [app, *rest]:
            _run_app(check_app(app), rest)


def _run_app(app: str, args: list[str]) -> None:
    match args:
        case ["fit" | "validate" | "test", *_]:
            from apps.common.commands import run_lightning

            run_lightning(app, args)
        case ["evaluate" | "predict" as command, *rest]:
            _call(getattr(app_module(app, command), command), f"{app} {command}", rest)
        case ["compare", *rest]:
            from apps.common.compare import compare

            _call(compare, f"{app} compare", rest, app=app)
        case [command, *rest] if command in own_commands(app):
            _call(getattr(app_module(app, command), command), f"{app} {command}", rest)
        case ["data", *rest]:
            from apps.common.catalogue import fetch_sets

            _call(fetch_sets, f"{app} data", rest, app=app)
        case _:
            wanted = f"{args[0]!r} is no command of {app}" if args else f"{app} wants a command"
            usual = "fit, validate, test, evaluate, predict, compare"
            raise UserError(f"{wanted}: choose {', '.join([usual, *own_commands(app)])} or data.")


def _call(function: Callable[..., None], name: str, args: list[str], **fixed: str) -> None:
    from apps.common.commands import run_function

    run_function(function, f"python -m apps {name}", args, **fixed)


def _list() -> None:
    for app in app_names():
        print(f"{app}: {summary(app)}")
        for config in training_configs(app):
            print(f"    {config.stem:16} {_first_comment(config)}")


def _first_comment(config: Path) -> str:
    first = config.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
