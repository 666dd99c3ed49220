"""The command `compare`: from a profile to a result file and its pages."""

from rich.console import Console

from apps.common.compare.assemble import assemble
from apps.common.compare.cache import read_archive, write_archive
from apps.common.compare.choice import choose
from apps.common.compare.environment import fingerprint
from apps.common.compare.executor import Executor
from apps.common.compare.ledger import Ledger
from apps.common.compare.lock import only_one
from apps.common.compare.places import Places, archive_file, archives, results_file
from apps.common.compare.plan import Plan, read_plan
from apps.common.compare.refresh import refresh_pages
from apps.common.compare.results import write_results
from apps.common.discovery import check_app
from apps.common.errors import UserError


def compare(
    app: str, profile: str = "quick", jobs: int = 2, fresh: bool = False, data: str | None = None
) -> None:
    """Compare the routed model with its controls and peers, and write the result file and its pages.

    All trials are run and scored on validation; then each arm is fitted with its choice for every seed, and
    tested once. Finished cells are kept: after a kill the same command goes on.

    Args:
        app: The app to compare.
        profile: `quick` takes minutes and says so on the page, `full` is the evidence; some apps have more.
        jobs: How many cells run at the same time, each in a process with one thread.
        fresh: Run every cell again, whatever is kept.
        data: Measure these sets of the profile alone, with commas between them; the others stay in the
            result file as they are, as long as they were measured with the profile as it is now.
    """
    check_app(app)
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}: give at least 1.")
    places = Places.of(app)
    with only_one(places.home, app):
        executor = Executor(places, fingerprint(app), jobs, fresh, archives(app))
        _run(read_plan(app, profile, data), executor, Ledger(places.ledger))
    refresh_pages()


def _run(plan: Plan, executor: Executor, ledger: Ledger) -> None:
    trials = [cell for pair in plan.pairs() for cell in plan.trial_cells(*pair)]
    done = executor.run("trials", trials)
    choices = [choice for pair in plan.pairs() if (choice := choose(plan, *pair, done)) is not None]
    done |= executor.run("tests", [cell for choice in choices for cell in plan.chosen_cells(choice)])
    if failed := len(executor.failures):
        raise UserError(
            f"{failed} of {failed + len(done)} cells failed, so docs/results stays as it was: mend them "
            f"and run the same command again, finished cells are kept; the first was {executor.failures[0]}"
        )
    results = assemble(plan, choices, done, ledger, executor.code)
    if other := sum(finished.code != executor.code for finished in done.values()):
        Console().print(
            f"warning: {other} of {len(done)} cells were run by other code; --fresh true runs all again"
        )
    if left := results.get("unmeasured"):
        Console().print(f"not measured with the profile as it is now: {', '.join(left)}", highlight=False)
    write_results(results_file(plan.app, plan.profile), results)
    archive, keys = archive_file(plan.app, plan.profile), plan.keys()
    kept = {key: finished for key, finished in read_archive(archive).items() if key in keys}
    write_archive(archive, kept | done)
