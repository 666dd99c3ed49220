"""Cells: the pieces of work of a comparison, each known by the hash of its configuration."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apps.common.compare.arms import Cost, Outcome, Place, Value

OTHERS = ("trials", "sets", "networks", "routed", "folds")
"""Parts of a budget that are not for all cells alike, so that a change of one leaves the other cells."""

FORMAT = 1
"""Counts up when the files of finished cells change their meaning, so that older ones are run again."""


@dataclass(frozen=True)
class Cell:
    """One fit: a trial is scored on validation alone, a final cell is tested as well."""

    app: str
    data: str
    data_sha256: str
    arm: str
    settings: dict[str, Any]
    trial: dict[str, Any]
    seed: int
    budget: dict[str, Any]
    final: bool

    @property
    def key(self) -> str:
        """The hash that names the finished cell's file."""
        return _digest({**asdict(self), "budget": self._own_budget(), "format": FORMAT})

    @property
    def configuration(self) -> str:
        """The hash of all but the seed: what the openings of a test split are counted by."""
        whole = {**asdict(self), "budget": self._own_budget()}
        return _digest({key: value for key, value in whole.items() if key not in ("seed", "final")})

    def _own_budget(self) -> dict[str, Any]:
        """The budget without what is for others: all `trials`, the `sets` of other data, `networks` and
        `routed`, of which arms repeat in their settings what is theirs, and `folds`, which are of trials."""
        own = {key: value for key, value in self.budget.items() if key not in OTHERS}
        folds = {} if self.final else self.budget.get("folds", {})
        several = {"folds": folds[self.data]} if self.data in folds else {}
        return {**own, "set": self.budget.get("sets", {}).get(self.data, {}), **several}

    @property
    def label(self) -> str:
        """The cell in words, for a log line."""
        kind = "test" if self.final else "trial"
        settings = f" {canonical(self.trial)}" if self.trial else ""
        return f"{self.data} {self.arm} {kind}{settings} seed {self.seed}"


@dataclass(frozen=True)
class Finished:
    """What is kept of a cell. `validation` is None where it was not finite, `outcome` None for a trial;
    `code` is the fingerprint of the source that ran it, `cpu_seconds` what its process used."""

    validation: float | None
    outcome: Outcome | None
    code: str
    cpu_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads back exactly; of test units nine digits."""
        outcome = None if self.outcome is None else _outcome_to_json(self.outcome)
        kept = {"validation": self.validation, "code": self.code, "cpu_seconds": self.cpu_seconds}
        return {**kept, "outcome": outcome}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Finished":
        """Read what `to_json` gave."""
        outcome = None if kept["outcome"] is None else _outcome_from_json(kept["outcome"])
        return cls(kept["validation"], outcome, kept["code"], kept["cpu_seconds"])


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value. Raises TypeError or ValueError for anything else."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:20]


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "values": [[v[0], v[1], float(v[2]), bool(v[3])] for v in outcome.values],
        "units": _numbers_to_json(outcome.units),
        "weights": _numbers_to_json(outcome.weights),
        "cost": {name: _plain(figure) for name, figure in asdict(outcome.cost).items()},
    }


def _outcome_from_json(kept: dict[str, Any]) -> Outcome:
    values = [Value(*value) for value in kept["values"]]
    units, weights = (_numbers_from_json(kept[name]) for name in ("units", "weights"))
    return Outcome(values, units, Cost(**kept["cost"]), weights)


def _plain(figure: Any) -> Any:
    return figure.item() if isinstance(figure, np.generic) else figure


def _numbers_to_json(numbers: Any) -> list[list[Any]]:
    return [[*place, [float(f"{number:.9g}") for number in row]] for place, row in numbers.items()]


def _numbers_from_json(kept: list[list[Any]]) -> dict[Place, np.ndarray]:
    return {(slice_, metric): np.array(row) for slice_, metric, row in kept}
