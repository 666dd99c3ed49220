"""Turns the command line parser's complaints into one sentence that names the file and the mend."""

import difflib
import inspect
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from apps.common.errors import UserError

_UNKNOWN = re.compile(r"(?:does not accept option|Option) '([^']+)'|unrecognized arguments: (\S+)")
_REFUSING = re.compile(r"Option '[^']+' is not accepted\. Got value: Namespace\(.*?class_path='([\w.]+)'")
_CLASS = re.compile(r"class_path='([\w.]+)'|class_path '([\w.]+)'")
_KEY = re.compile(r'Parser key "([\w.]+)"')
_VALUE = re.compile(r"(?:Got value|Given value): (?!Namespace\()(.+?)(?=\. Got value|$)", re.MULTILINE)
_EXPECTED = re.compile(r"Expected (?:an? )?(?:<class '([\w.]+)'>|(?:typing\.)?(.+?)(?:\. Got|\n|$))")
_NOISE = re.compile(r'Parser key "[\w.]+":|Problem with given ')
_ABSENT = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_STRATEGY = re.compile(r"invalid strategy name: `strategy='(\w+)'`")
_MISSING = re.compile(r"arguments are required: (?:fit\.|validate\.|test\.)?(\S+)")


def check_config(path: Path) -> dict[str, Any]:
    """Return the content of a configuration file. Raises `UserError` unless it is a YAML mapping."""
    if not path.is_file():
        near = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "no .yaml file"
        raise UserError(f"{path} does not exist: {path.parent} holds {near}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{path} is not valid YAML{where}: {getattr(error, 'problem', error)}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a mapping of keys to values: start from one of {path.parent}/*.yaml.")
    return content


def explain(message: str, known: Iterable[str], args: Sequence[str]) -> UserError:
    """Return the sentence for a parser's error message.

    Args:
        message: what the parser said, often several lines.
        known: the keys there are.
        args: the command line; the files after `--config` are looked through for the mistake.
    """
    key, value, owner = (_last(pattern, message) for pattern in (_KEY, _VALUE, _CLASS))
    if (refusing := _REFUSING.search(message)) is not None:
        owner = refusing[1]  # the innermost; those around it are told after it
    if unknown := _last(_UNKNOWN, message).lstrip("-").partition("=")[0]:
        inside = f" of {owner}" if owner else ""
        wrong, mend = _mend(unknown, list(_parameters(owner) if owner else known))
        return UserError(f"{_source(unknown, args)}: unknown key {wrong!r}{inside}: {mend}")
    if (absent := _ABSENT.search(message)) is not None:
        module, name = absent.groups()
        known_names = sorted(getattr(import_module(module), "__all__", []))
        near = ", ".join(difflib.get_close_matches(name, known_names, n=3) or known_names) or "another one"
        return UserError(f"{_source(name, args)}: {key}: {module} has no {name!r}: choose {near}.")
    if missing := _last(_MISSING, message):
        return UserError(f"{_source('', args)}: {missing} is missing: give it a value.")
    kinds = " or ".join(dict.fromkeys(_readable(a or b) for a, b in _EXPECTED.findall(message)))
    if key and value and kinds:
        return UserError(f"{_source(key, args)}: {key} is {value!r}: give {kinds}.")
    text = " ".join(_NOISE.sub("", message).split())
    return UserError(f"{_source(key, args)}: {f'{key}: ' if key else ''}{text.rstrip('.')}.")


def refused(error: Exception, args: Sequence[str]) -> UserError:
    """Return the sentence for what a class of the configuration refuses when it is built.

    The command line is named where the error speaks of one of its options, or else the last file.
    """
    message = " ".join(str(error).split()).rstrip(".!")
    options = [arg[2:].partition("=")[0].rpartition(".")[2] for arg in _typed(args) if arg.startswith("--")]
    typed = any(re.search(rf"\b{re.escape(option)}\b", message) for option in options)
    where = next(reversed([] if typed else config_files(args)), "command line")
    if (found := _STRATEGY.search(message)) is not None:
        from lightning.pytorch.strategies import StrategyRegistry  # late: reading a file needs no torch

        known = StrategyRegistry.available_strategies()
        near = difflib.get_close_matches(found[1], known, n=1) or ["auto", "ddp", "expert_parallel"]
        message = f"trainer.strategy is {found[1]!r}, which does not exist: choose {', '.join(near)}"
    return UserError(f"{where}: {message}.")


def keys(parser: ArgumentParser) -> list[str]:
    """Return the keys that a parser knows."""
    return [action.dest for action in parser._actions]


def config_files(args: Sequence[str]) -> list[Path]:
    """Return the files that a command line names with `--config`."""
    return [Path(value) for option, value in pairwise(args) if option == "--config"]


def _typed(args: Sequence[str]) -> list[str]:
    """Return the command line without the files that it names with `--config`."""
    return [arg for before, arg in pairwise(["", *args]) if "--config" not in (before, arg)]


def _last(pattern: re.Pattern[str], message: str) -> str:
    found = pattern.findall(message) or [""]
    return found[-1] if isinstance(found[-1], str) else next(group for group in found[-1] if group)


def _readable(kind: str) -> str:
    """Return the name of a type as a user knows it."""
    if kind.startswith("Literal["):
        return f"one of {kind.removeprefix('Literal[').rstrip(']')}"
    plain = {
        "NoneType": "null",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "list": "a list such as [a,b]",
    }
    return plain.get(kind, kind)


def _source(key: str, args: Sequence[str]) -> str:
    """Return `command line` if an option there ends in the last part of `key`, or else the file with it."""
    last = re.escape(key.rpartition(".")[2])
    ends = re.compile(rf"\b{last}(?![\w.])")
    if key and any(arg.startswith(f"--{key}") or ends.search(arg) for arg in _typed(args)):
        return "command line"
    word = re.compile(rf"\b{last}\b")
    holders = [path for path in config_files(args) if word.search(path.read_text(encoding="utf-8"))]
    return str(holders[-1]) if holders else "command line"


def _mend(name: str, known: Sequence[str]) -> tuple[str, str]:
    """Return the first part of a dotted key that is wrong, and what to do about it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        start, level = ".".join(parts[:count]), {".".join(key.split(".")[:count]) for key in known}
        if start not in level:
            if parts[-1] in level:
                return name, f"did you mean {parts[-1]!r}?"
            near = difflib.get_close_matches(start, sorted(level), n=1)
            return start, f"did you mean {near[0]!r}?" if near else "remove it."
    return name, "remove it."


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        owner = getattr(__import__(module, fromlist=[name]), name)
        return [
            parameter for base in inspect.getmro(owner) for parameter in inspect.signature(base).parameters
        ]
    except (ImportError, AttributeError, ValueError, TypeError):
        return []
