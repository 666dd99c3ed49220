"""From finished cells to the content of a result file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from apps.common.compare.cells import Cell, Finished
from apps.common.compare.differences import differences
from apps.common.compare.environment import environment
from apps.common.compare.kept import with_kept
from apps.common.compare.ledger import Ledger, Opening, openings_in, summarise
from apps.common.compare.measurements import Measured, rows
from apps.common.compare.places import config_file, results_file
from apps.common.compare.plan import Plan
from apps.common.compare.profile import profile_names
from apps.common.compare.results import read_results
from apps.common.compare.schema import Choice, Code, Results, Tested
from apps.common.discovery import project_root
from apps.common.revision import commit


def assemble(
    plan: Plan, choices: list[Choice], finished: Mapping[str, Finished], ledger: Ledger, code: str
) -> Results:
    """Return the content of the result file of a finished comparison.

    Sets that were not to be measured stay as the result file has them, see `kept_sets`.

    Args:
        plan: What was compared.
        choices: What each arm chose on each data set.
        finished: Every cell of the plan, trials and tests, by its key.
        ledger: The openings of test splits.
        code: The fingerprint of the source as it is now.
    """
    pairs = [(choice["arm"], cell) for choice in choices for cell in plan.chosen_cells(choice)]
    found = [(arm, cell, finished[cell.key].outcome) for arm, cell in pairs]
    measured = [Measured(arm, cell, outcome) for arm, cell, outcome in found if outcome is not None]
    results = Results(
        app=plan.app,
        profile=plan.profile,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(project_root()),
        command=f"make compare APP={plan.app} PROFILE={plan.profile}",
        environment=dict(environment()),
        code=Code(now=code, cells=dict(Counter(cell.code for cell in finished.values()))),
        data={name: plan.data[name] for name in plan.wanted},
        seeds=plan.seeds,
        budget=plan.budget,
        cpu_hours=round(sum(cell.cpu_seconds for cell in finished.values()) / 3600, 4),
        rows=rows(measured),
        intervals=differences(measured),
        tested=[],
        choices=choices,
    )
    path = results_file(plan.app, plan.profile)
    results = with_kept(plan, results, read_results(path) if path.exists() else None)
    current = [cell for choice in results["choices"] for cell in plan.chosen_cells(choice)]
    return {**results, "tested": _tested(plan.app, ledger, current)}


def _tested(app: str, ledger: Ledger, current: Sequence[Cell]) -> list[Tested]:
    """Join the ledger of this machine with what the app's result files have on record.

    A cell from an archive may have been tested where no ledger was kept: it was once at the least.
    """
    openings = ledger.openings()
    for path in (results_file(app, profile) for profile in profile_names(config_file(app))):
        if path.exists():
            openings |= openings_in(read_results(path).get("tested", []))
    noted = {opening[:4] for opening in openings}
    needed = {(cell.data, cell.arm, cell.configuration, cell.seed) for cell in current}
    openings |= {Opening(*fit, "unknown") for fit in needed - noted}
    return summarise(openings, {cell.configuration for cell in current})
