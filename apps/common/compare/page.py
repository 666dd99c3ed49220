"""The generated part of a page, made from a result file alone."""

from apps.common.compare.intervals import FEWEST_SEEDS
from apps.common.compare.schema import Results, Run
from apps.common.compare.tables import main_table, slice_tables, validation_table
from apps.common.compare.view import View

QUICK = (
    "**Quick profile**: small budgets, made to run in minutes. It shows that the comparison works; "
    "for evidence take the full profile."
)
READING = (
    "A difference is the arm minus `routed`, as a mean over seeds, with its 95% interval (seeds and test "
    "units resampled together). *routed better* and *routed worse* stand where the interval excludes zero; "
    "*no difference shown* where it does not. *By seeds* stands where a metric has no test units, and seeds "
    "alone were resampled."
)
CHOSEN = (
    "Scores on validation (lower is better) of what each arm chose, with the first seed. Arms that stand "
    "here alone were tried and not tested."
)
COLOURS = "Green: routed better. Red: routed worse. Grey: no difference shown, or too few seeds for a claim."


def render(results: Results, picture: str | None, slices: bool = True) -> str:
    """Return the markdown of a result file.

    Args:
        results: the file.
        picture: the address of its picture from the page; None for no picture.
        slices: add tables by slice, and of the choices.
    """
    parts = [QUICK] if results["profile"] == "quick" else []
    for view in View.each(results):
        parts += [f"**{view.data}**", main_table(view)]
        if units := view.units(view.slices[0]):
            parts.append(f"The intervals of {view.data} rest on {units} test units.")
        if slices and (tables := slice_tables(view)):
            parts += [f"{view.data} by slice, means over seeds:", *tables]
    if slices and (chosen := validation_table(results)):
        parts += [CHOSEN, chosen]
    if left := results.get("unmeasured"):
        parts.append(f"**Not measured yet**: {', '.join(left)}.")
    if picture is not None:
        parts += [f"![Differences to the routed arm, with 95% intervals]({picture})", COLOURS]
    parts.append(READING)
    if results["seeds"] < FEWEST_SEEDS:
        parts.append(f"With fewer than {FEWEST_SEEDS} seeds nothing is claimed: *too few seeds*.")
    parts.append(" ".join([_origin(results), _openings(results), _other_code(results)]).strip())
    return "\n\n".join(parts)


def _origin(results: Results) -> str:
    seeds = "1 seed" if results["seeds"] == 1 else f"{results['seeds']} seeds"
    data = ", ".join(f"{name} `{digest[:12]}`" for name, digest in results["data"].items())
    earlier = "".join(f" {', '.join(run['data'])}: {_run(run)}." for run in results.get("earlier", []))
    return (
        f"Profile {results['profile']}, {seeds}, {_run(results)}, `{results['command']}`.{earlier} "
        f"Data (sha256): {data}."
    )


def _run(run: Results | Run) -> str:
    machine = f"{run['environment']['cpu']} ({run['environment']['cores']} cores)"
    commit = _short_commit(run["commit"])
    return f"{run['cpu_hours']:.2f} CPU-hours on {machine}, commit `{commit}`, {run['created'][:10]}"


def _openings(results: Results) -> str:
    """Say how often the test splits were opened, for these figures and before."""
    current = [entry for entry in results["tested"] if entry["current"]]
    earlier = sum(entry["times"] for entry in results["tested"] if not entry["current"])
    cells = len({(row["data"], row["arm"], row["seed"]) for row in results["rows"]})
    times = sum(entry["times"] for entry in current)
    sentence = f"Test splits were opened {times} times for these {cells} fits"
    return f"{sentence}, and {earlier} times for other configurations." if earlier else f"{sentence}."


def _other_code(results: Results) -> str:
    codes = [run["code"] for run in (results, *results.get("earlier", []))]
    pairs = [(state != code["now"], count) for code in codes for state, count in code["cells"].items()]
    other, total = sum(count for differs, count in pairs if differs), sum(count for _, count in pairs)
    return f"{other} of {total} cells were run by an earlier state of the code." if other else ""


def _short_commit(commit: str) -> str:
    head, _, modified = commit.partition("-")
    return f"{head[:10]}-{modified}" if modified else head[:10]
