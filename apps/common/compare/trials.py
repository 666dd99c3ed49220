"""Fairness of choice: every arm that chooses has the same number of validation trials."""

from collections.abc import Mapping

from apps.common.compare.arms import Arm
from apps.common.compare.cells import canonical
from apps.common.errors import UserError

ROUTED = "routed"
CONTROLS = ("dense_active", "dense_total", "random_router")


def check_trials(arms: Mapping[str, Arm], where: str) -> None:
    """Raise `UserError` where arms choose among unequal numbers of settings, or these are no plain values.

    Exempt is an arm with nothing to choose (`[{}]`), but never the routed model or one of its controls.
    """
    counts = {}
    for name, arm in arms.items():
        trials = _plain_trials(name, arm, where)
        if not trials or len(set(trials)) < len(trials):
            raise UserError(f"{where}: give {name} at least one trial, and no trial twice.")
        if name in (ROUTED, *CONTROLS) or trials != ["{}"]:
            counts[name] = len(trials)
    for name, count in counts.items():
        if count != counts[ROUTED]:
            raise UserError(
                f"{where}: {name} has {count} validation trials where {ROUTED} has {counts[ROUTED]}: "
                "give every arm that chooses the same number."
            )


def _plain_trials(name: str, arm: Arm, where: str) -> list[str]:
    try:
        canonical(dict(arm.settings))
        return [canonical(trial) for trial in arm.trials]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: make the trials and settings of {name} of numbers, strings, lists and dicts."
        ) from error
