"""What is to be compared: a profile with the arms and data sets that it names, as cells."""

from dataclasses import dataclass
from typing import Any

from apps.common.catalogue import fetch, identity
from apps.common.compare.arms import Arm
from apps.common.compare.cells import Cell
from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Choice
from apps.common.compare.trials import check_trials
from apps.common.discovery import app_module
from apps.common.errors import UserError


@dataclass(frozen=True)
class Plan:
    """A profile with everything that it names: `data` maps a name to the sha256 of its content.

    Of these sets, `wanted` are to be measured; of the arms, `tried` have trials alone. The app has the
    arms that are `offered`.
    """

    app: str
    profile: str
    data: dict[str, str]
    arms: dict[str, Arm]
    seeds: int
    budget: dict[str, Any]
    wanted: tuple[str, ...]
    tried: tuple[str, ...]
    offered: dict[str, Arm]

    def cell(self, data: str, arm: str, trial: dict[str, Any], seed: int, final: bool) -> Cell:
        """Return one piece of the work; of an arm that is another one here, that of the other."""
        arm, trial = self.arms[arm].same_as(data, trial) or (arm, trial)
        settings = dict(self.offered[arm].settings)
        return Cell(self.app, data, self.data[data], arm, settings, trial, seed, self.budget, final)

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (data, arm) to be measured, in the order of the configuration."""
        return [(data, arm) for data in self.wanted for arm in self.arms]

    def keys(self) -> set[str]:
        """Return the keys of all cells that this profile may have, of all sets, trials and seeds."""
        keys = set()
        for data in self.data:
            for arm, told in self.arms.items():
                for trial in map(dict, told.trials):
                    keys.add(self.cell(data, arm, trial, 0, final=False).key)
                    keys |= {self.cell(data, arm, trial, seed, final=True).key for seed in range(self.seeds)}
        return keys

    def trial_cells(self, data: str, arm: str) -> list[Cell]:
        """Return the trials of one arm with the first seed; none where there is nothing to choose."""
        trials = self.arms[arm].trials
        return [self.cell(data, arm, trial, 0, final=False) for trial in trials] if len(trials) > 1 else []

    def chosen_cells(self, choice: Choice) -> list[Cell]:
        """Return the cells that open the test split: one a seed, or a single one without randomness; none of
        an arm that is only tried."""
        data, arm = choice["data"], choice["arm"]
        if arm in self.tried:
            return []
        seeds = min(self.seeds, self.arms[arm].most_seeds or self.seeds) if self.arms[arm].seeded else 1
        return [self.cell(data, arm, choice["chosen"], seed, final=True) for seed in range(seeds)]


def read_plan(app: str, profile: str, data: str | None = None) -> Plan:
    """Read a profile and find its arms and data sets. Raises `UserError` for anything that does not fit.

    Args:
        app: The app to compare.
        profile: Its name in the app's configs/<app>/compare.yaml.
        data: The sets to measure, with commas between them; all by default.
    """
    config = config_file(app)
    wanted = read_profile(config, profile)
    known = load_arms(app, wanted.budget)
    named = [*wanted.arms, *wanted.tried]
    if missing := [arm for arm in named if arm not in known]:
        raise UserError(f"{config} names the arm {missing[0]}: use one of {', '.join(known)}.")
    arms = {name: known[name] for name in named}
    check_trials(arms, f"apps/{app}/compare.py")
    asked = wanted.data if data is None else [name.strip() for name in data.split(",")]
    if unknown := [name for name in asked if name not in wanted.data]:
        raise UserError(f"--data names {unknown[0]!r}: profile {profile} has {', '.join(wanted.data)}.")
    hashes = {name: data_sha256(app, name) for name in wanted.data}
    chosen = tuple(name for name in wanted.data if name in asked)
    return Plan(app, profile, hashes, arms, wanted.seeds, wanted.budget, chosen, tuple(wanted.tried), known)


def load_arms(app: str, budget: dict[str, Any]) -> dict[str, Arm]:
    """Return the arms that an app offers for a budget."""
    arms: dict[str, Arm] = app_module(app, "compare").arms(budget)
    return arms


def data_sha256(app: str, name: str) -> str:
    """Return the sha256 of a data set.

    An app with generated data says it itself: `data_sha256(name)` in its compare.py, which may return None
    for a name that it leaves to the catalogue. Sets of the catalogue are fetched, which checks their sha256;
    what they are known by is then their `identity`.
    """
    own = getattr(app_module(app, "compare"), "data_sha256", None)
    if own is not None and (answer := own(name)) is not None:
        return str(answer)
    fetch(app, name)
    return identity(app, name)
