"""Reading a profile of `configs/<app>/compare.yaml`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from apps.common.compare.cells import canonical
from apps.common.compare.trials import ROUTED
from apps.common.errors import UserError


@dataclass(frozen=True)
class Profile:
    """One entry below `profiles:`. `budget` belongs to the app, which gets it as it stands.

    Arms in `tried` have their trials on validation, and are not tested.
    """

    data: list[str]
    arms: list[str]
    seeds: int
    budget: dict[str, Any]
    tried: list[str] = field(default_factory=list)


def read_profile(config: Path, name: str) -> Profile:
    """Read one profile of a comparison's configuration. Raises `UserError` for anything that does not fit."""
    entry = _read_entry(config, name)
    where = f"{config}, profile {name}"
    if set(entry) != {"data", "arms", "tried", "seeds", "budget"}:
        raise UserError(f"{where}: give the keys data, arms, seeds, budget and no others, but perhaps tried.")
    for key in ("data", "arms", "tried"):
        if not _distinct_names(entry[key]) or (key != "tried" and not entry[key]):
            raise UserError(f"{where}: make `{key}` a list of names, each given once.")
    if twice := set(entry["arms"]) & set(entry["tried"]):
        raise UserError(f"{where}: {min(twice)} is in `arms` and in `tried`: what is tested is tried anyway.")
    if ROUTED not in entry["arms"] or len(entry["arms"]) == 1:
        raise UserError(f"{where}: make `arms` the arm {ROUTED} and those to compare with it.")
    if type(entry["seeds"]) is not int or entry["seeds"] < 1:
        raise UserError(f"{where}: make `seeds` a whole number of at least 1.")
    if not _plain_mapping(entry["budget"]):
        raise UserError(f"{where}: make `budget` a mapping of names to numbers, strings and lists.")
    return Profile(**entry)


def profile_names(config: Path) -> list[str]:
    """Return the names of a comparison's profiles; none where the file is missing or cannot be read."""
    try:
        return list(yaml.safe_load(config.read_text(encoding="utf-8"))["profiles"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []


def _read_entry(config: Path, name: str) -> dict[str, Any]:
    if not config.is_file():
        raise UserError(f"{config} does not exist: write it, with the profiles quick and full.")
    try:
        profiles = yaml.safe_load(config.read_text(encoding="utf-8"))["profiles"]
        return {"budget": {}, "tried": [], **profiles[name]}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        known = ", ".join(profile_names(config)) or "none"
        raise UserError(
            f"{config} has no readable profile {name}: add it below `profiles:`, or use another ({known})."
        ) from error


def _distinct_names(names: object) -> bool:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    return len(names) == len(set(names))


def _plain_mapping(budget: object) -> bool:
    try:
        return isinstance(budget, dict) and bool(canonical(budget))
    except (TypeError, ValueError):
        return False
