"""The tables of docs/performance.md, made from docs/results/moe_layer.json alone."""

from collections.abc import Callable, Iterable, Mapping
from statistics import geometric_mean

from apps.common import markdown
from apps.common.compare.schema import Results
from apps.common.discovery import project_root
from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.goals import Ratios, goals
from benchmarks.grid import Point
from benchmarks.parts import PARTS
from benchmarks.results import Page
from benchmarks.routers import ROUTERS
from benchmarks.timing import MODES

RESULTS = project_root() / "docs" / "results" / "moe_layer.json"

CLASSES: dict[str, Callable[[Point], bool]] = {
    "256 and more, width 256": lambda point: point.rows >= 256 and point.width == 256,
    "256 and more, width 64": lambda point: point.rows >= 256 and point.width == 64,
    "64 to 255": lambda point: 64 <= point.rows < 256,
    "under 64": lambda point: point.rows < 64,
    "all": lambda point: True,
}
PARTS_READ = (
    "Where the time of a forward pass with top-k goes, each part as a share of the dense layer's time:"
)
ROUTERS_READ = (
    "The layer with every router, in training mode, untrained, as a ratio to that with top-k (forward / "
    "forward + backward), and how many experts run a token:"
)


def tables(results: Results) -> str:
    """All tables, as markdown."""
    points = by_point(results)
    aims = markdown.table(["goal", "at most", *(mode.replace("_", " + ") for mode in MODES)], goals(points))
    parts = [_summary(points), aims, _every_point(points, results)]
    if memory := _memory(results):
        parts += ["Peak memory of one forward + backward, weights and gradients included, in MiB:", memory]
    if table := _parts(results):
        parts += [PARTS_READ, table]
    if table := _routers(results):
        parts += [ROUTERS_READ, table]
    return "\n\n".join([*parts, _left_out(results), _origin(results)])


def by_point(results: Results) -> Mapping[Point, Ratios]:
    """The ratios of every point, with the best of the peers as "best peer"."""
    found: dict[tuple[str, str, str], float] = {
        (row["data"], row["arm"], row["metric"]): row["value"]
        for row in results["rows"]
        if row["slice"] == "all"
    }
    points: dict[Point, dict[str, tuple[float, float]]] = {}
    for data, arm, _ in found:
        ratios = points.setdefault(Point.parse(data), {})
        forward, both = (found[data, arm, f"ratio_{mode}"] for mode in MODES)
        ratios[arm] = forward, both
    for ratios in points.values():
        rivals = [ratios[name] for name in PEERS if name in ratios]
        ratios["best peer"] = min(f for f, _ in rivals), min(b for _, b in rivals)
    return points


def means(points: Iterable[Ratios], arm: str) -> tuple[float, float] | None:
    """Geometric means of an arm; None where it is missing at a point."""
    ratios = [ratios.get(arm) for ratios in points]
    if not ratios or None in ratios:
        return None
    forward, both = zip(*(pair for pair in ratios if pair), strict=True)
    return geometric_mean(forward), geometric_mean(both)


def _summary(points: Mapping[Point, Ratios]) -> str:
    arms = ["floor", "collegium", "best peer", "loop", "transformers_grouped_mm", "transformers_eager"]
    rows = []
    for label, belongs in CLASSES.items():
        members = [ratios for point, ratios in points.items() if belongs(point)]
        rows.append([label, str(len(members)), *(_pair(means(members, arm)) for arm in arms)])
    return markdown.table(["rows an expert", "points", *map(_title, arms)], rows)


def _every_point(points: Mapping[Point, Ratios], results: Results) -> str:
    arms = [arm for arm in CONTESTANTS if arm != "dense"]
    seconds = {
        (Point.parse(row["data"]), row["metric"]): row["value"]
        for row in results["rows"]
        if row["metric"].startswith("seconds")
    }
    rows = []
    for point, ratios in points.items():
        dense = " / ".join(f"{1000 * seconds[point, f'seconds_{mode}']:.1f}" for mode in MODES)
        cells = [_pair(ratios.get(arm)) for arm in arms]
        rows.append([point.name, str(point.rows), dense, *cells, _fastest(ratios)])
    head = ["point", "rows an expert", "dense, ms", *map(_title, arms), "fastest"]
    return markdown.table(head, rows)


def _fastest(ratios: Ratios) -> str:
    """Who wins, the floor aside: forward / forward + backward."""
    rivals = {arm: ratios[arm] for arm in ("collegium", *PEERS) if arm in ratios}
    winners = [min(rivals, key=lambda arm: rivals[arm][mode]) for mode in range(len(MODES))]
    return " / ".join(_title(name) for name in dict.fromkeys(winners))


def _memory(results: Results) -> str:
    found = {
        (row["data"], row["arm"]): row["peak_memory_mb"]
        for row in results["rows"]
        if row["peak_memory_mb"] is not None
    }
    arms = list(CONTESTANTS)
    rows = [
        [data, *(f"{found[data, arm]:.0f}" if (data, arm) in found else "-" for arm in arms)]
        for data in dict.fromkeys(data for data, _ in found)
    ]
    return markdown.table(["point", *map(_title, arms)], rows) if rows else ""


def _parts(results: Results) -> str:
    """The parts of a forward pass, as shares of the dense layer's time."""
    found = {(row["data"], row["arm"]): row["value"] for row in results["rows"] if row["slice"] == "parts"}
    rows = [
        [data, *(f"{found[data, part]:.2f}" for part in PARTS)]
        for data in dict.fromkeys(data for data, _ in found)
    ]
    return markdown.table(["point", *PARTS], rows) if rows else ""


def _routers(results: Results) -> str:
    """The layer with every router: its ratios to top-k, and why where they are large or small."""
    found = {
        (row["data"], row["arm"], row["metric"]): row["value"]
        for row in results["rows"]
        if row["slice"] == "routers"
    }
    points = list(dict.fromkeys(data for data, _, _ in found))
    rows = []
    for name in dict.fromkeys(arm for _, arm, _ in found):
        ratios = [tuple(found[data, name, f"ratio_{mode}"] for mode in MODES) for data in points]
        cells = [_pair((forward, both)) for forward, both in ratios]
        rows.append([name, f"{found[points[0], name, 'experts_a_token']:.1f}", *cells, ROUTERS[name].reason])
    return markdown.table(["router", "experts a token", *points, "why"], rows) if rows else ""


def _left_out(results: Results) -> str:
    reasons: dict[tuple[str, str], int] = {}
    for names in results["budget"]["left_out"].values():
        for item in names.items():
            reasons[item] = reasons.get(item, 0) + 1
    return "\n".join(
        f"- {_title(name)}: left out of {count} points; it {reason}."
        for (name, reason), count in reasons.items()
    )


def _origin(results: Results) -> str:
    machine = f"{results['environment']['cpu']}, torch {results['environment']['torch']}"
    return (
        f"{results['budget']['rounds']} rounds, four times as many below N8192-d256, on {machine}, "
        f"commit `{results['commit'][:10]}`, "
        f"{results['created'][:10]}, `{results['command']}`."
    )


def _pair(ratios: tuple[float, float] | None) -> str:
    return "-" if ratios is None else f"{ratios[0]:.2f} / {ratios[1]:.2f}"


def _title(name: str) -> str:
    return name.replace("_", " ") if name != "transformers_grouped_mm" else "transformers grouped_mm"


PAGE = Page(project_root() / "docs" / "performance.md", "bench", RESULTS, tables)


if __name__ == "__main__":
    PAGE.refresh()
