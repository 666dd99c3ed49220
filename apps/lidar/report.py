"""The pictures of a report: fits, errors beside their limit, trust, and maps of a phantom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binned_statistic

from apps.common.plots import COLORS, panels
from apps.common.report import Section
from apps.lidar.data import Data
from apps.lidar.estimates import PARTS, Found, edges, estimates, parts
from apps.lidar.experts import Window, opened
from apps.lidar.limits import bounds
from apps.lidar.metrics import risk_by_coverage
from apps.lidar.model import OUTPUTS, EvidenceMoE
from apps.lidar.phantom import phantom
from apps.lidar.simulate import expected
from apps.lidar.task import Task

UNITS = ("mm", "ns")
SHOWN, PARTS_SHOWN = 3, 10
AXES = {
    "photons": "photons",
    "depth": "depth, mm",
    "scattering": "reduced scattering, 1/mm",
    "lifetime": "lifetime, ns",
}


def sections(task: Task, data: Data, split: Literal["validation", "test"] = "validation") -> list[Section]:
    """Estimates beside the truth, examples of histograms, errors by condition, trust, a phantom."""
    found = estimates(task.network, data.part(split))
    parts = [_scatter(found), _examples(task, data, split, found), _conditions(found, data)]
    if isinstance(task.network, EvidenceMoE):
        parts += [_quality(found), _trust(found, data, list(task.network.windows))]
    return [*parts, _phantom(task, data)]


def _scatter(found: Found) -> Section:
    figure, grid = panels(len(OUTPUTS), width=4, height=3.6)
    for place, (axes, name, unit) in enumerate(zip(grid, OUTPUTS, UNITS, strict=True)):
        truth, value = found.truth[:, place], found.value[:, place]
        few = found.scenes.photons.log10().numpy()
        points = axes.scatter(truth, value, c=few, s=4, cmap="viridis", rasterized=True)
        axes.plot([truth.min(), truth.max()], [truth.min(), truth.max()], color="black", linewidth=0.8)
        axes.set(xlabel=f"true {name}, {unit}", ylabel=f"estimate, {unit}")
    figure.colorbar(points, ax=grid, label="log10 photons")
    text = "Each point is a histogram; the line is where estimate and truth agree."
    return Section("Estimates", text, [figure])


def _examples(task: Task, data: Data, split: Literal["validation", "test"], found: Found) -> Section:
    histograms = data.part(split)
    order = np.argsort(found.scenes.photons.numpy())
    rows = order[np.linspace(0, len(order) - 1, SHOWN).astype(int)]
    assert histograms.counts is not None
    depth, lifetime = torch.from_numpy(found.value[rows]).double().T
    low = {name: getattr(data.ranges, name)[0] / 2 for name in OUTPUTS}
    scenes = found.scenes[torch.from_numpy(rows)]
    scenes = scenes.having(depth=depth.clamp(min=low["depth"]), lifetime=lifetime.clamp(min=low["lifetime"]))
    reach = data.rig.reach(data.light) / scenes.scattering
    scenes = scenes.having(depth=scenes.depth.minimum(reach))
    light_of = expected(scenes, data.rig, data.light)
    fits = dict(zip(rows, light_of, strict=True))
    figure, grid = panels(SHOWN, height=3)
    time = data.clock.centres.numpy()
    for axes, row in zip(grid, rows, strict=True):
        counts, light = histograms.counts[row], histograms.light[row]
        axes.step(time, counts, color=COLORS[6], linewidth=0.8, where="mid", label="counts")
        axes.plot(time, light, color=COLORS[0], linewidth=1.3, label="truth")
        axes.plot(time, fits[row], color=COLORS[3], linewidth=1.3, linestyle="--", label="estimate")
        colours: dict[Window, str] = {"early": COLORS[2], "late": COLORS[1]}
        for window, colour in colours.items():
            share = opened(window, counts[None])[0]
            axes.fill_between(time, 0, share * float(counts.max()), color=colour, alpha=0.12, label=window)
        said = ", ".join(
            f"{name} {found.value[row, i]:.3g} ({found.truth[row, i]:.3g}) {unit}"
            for i, (name, unit) in enumerate(zip(OUTPUTS, UNITS, strict=True))
        )
        axes.set_title(said, fontsize=8, loc="left")
        axes.set_xlabel("ns after the flash", fontsize=8)
    grid[0].legend(fontsize=7, frameon=False)
    text = (
        "Histograms of few, some and many photons, and the light that is expected of the truth and of the "
        "estimate, in the same tissue. In the titles estimates, and in brackets the truth. The shaded parts "
        "are what the early and the late expert see."
    )
    return Section("Histograms", text, [figure])


def _conditions(found: Found, data: Data) -> Section:
    limits = bounds(data.ranges, data.rig, data.known_tissue)
    figure, panels_of = _by_condition(("photons", "depth", "scattering", "lifetime"), found, data)
    for axes, place, name, middle, mean in panels_of:
        error = found.value[:, place] - found.truth[:, place]
        axes.plot(middle, np.sqrt(mean(error**2)), label="root mean square")
        axes.plot(middle, mean(error), label="bias", linestyle="--")
        of_parts = parts(data.ranges, [name]) if name in PARTS else {}
        if known := [limits[part] for part in of_parts if part in limits]:
            least = np.sqrt([limit[OUTPUTS[place]] for limit in known])
            ends = edges(name, data.ranges)
            axes.stairs(least, ends, baseline=None, color="black", label="physical limit")
        axes.set_title(f"error of {OUTPUTS[place]}, {UNITS[place]}", fontsize=8, loc="left")
    text = (
        "The limit is that of the mean over all scenes of a part, so that the finer line of errors may cross "
        "it within one; see the table of `make evaluate`. By lifetime none is computed."
    )
    return _with_legend("Errors by condition", text, figure)


def _quality(found: Found) -> Section:
    figure, grid = panels(2 * len(OUTPUTS), columns=2, width=4.4, height=2.8)
    for place, (output, unit) in enumerate(zip(OUTPUTS, UNITS, strict=True)):
        error = found.value[:, place] - found.truth[:, place]
        coverage = np.arange(1, len(error) + 1) / len(error)
        left, right = grid[2 * place : 2 * place + 2]
        left.plot(coverage, risk_by_coverage(error, found.quality[:, place]), label="by quality")
        left.plot(coverage, risk_by_coverage(error, -np.abs(error)), label="by true error", linestyle="--")
        left.set_title(f"error of the best-graded {output}s, {unit}", fontsize=8, loc="left")
        left.set_xlabel("share that is kept", fontsize=8)
        tenths = np.quantile(found.expected[:, place], np.linspace(0, 1, 11))
        square, _, _ = binned_statistic(found.expected[:, place], error**2, bins=np.unique(tenths))
        told, _, _ = binned_statistic(*[found.expected[:, place]] * 2, bins=np.unique(tenths))
        right.plot(told, np.sqrt(square), marker="o", markersize=3)
        right.plot(told, told, color="black", linewidth=0.8)
        right.set_title(f"error of {output}, {unit}", fontsize=8, loc="left")
        right.set_xlabel("error that is expected", fontsize=8)
    grid[0].legend(fontsize=7, frameon=False)
    text = "Errors as estimates of low quality are left out, and beside the errors that are expected."
    return Section("Quality and error", text, [figure])


def _trust(found: Found, data: Data, windows: list[str]) -> Section:
    figure, panels_of = _by_condition(("photons", "depth", "lifetime"), found, data)
    for axes, place, _, middle, mean in panels_of:
        for expert, window in enumerate(windows):
            axes.plot(middle, mean(found.weight[:, expert, place]), label=window)
        axes.set(ylim=(0, 1))
        axes.set_title(f"trust in {OUTPUTS[place]}", fontsize=8, loc="left")
    return _with_legend("Whom the mixture trusts", "Mean weight of each expert in the mixture.", figure)


class Panel(NamedTuple):
    """One output (its place) by one parameter: middles of equal parts, and how means over them are formed."""

    axes: Axes
    place: int
    name: str
    middle: np.ndarray
    mean: Callable[[np.ndarray], np.ndarray]


def _by_condition(names: Sequence[str], found: Found, data: Data) -> tuple[Figure, list[Panel]]:
    """A picture with a row an output and a column a parameter, of those that vary."""
    names = [name for name in names if np.ptp(getattr(data.ranges, name)) > 0]
    figure, grid = panels(len(OUTPUTS) * len(names), columns=len(names))
    made = []
    for number, axes in enumerate(grid):
        place, name = number // len(names), names[number % len(names)]
        ends, middle = _spaced(name, data, PARTS_SHOWN)
        value = getattr(found.scenes, name).numpy()
        made.append(Panel(axes, place, name, middle, partial(_mean, value, ends)))
        axes.set_xlabel(AXES[name], fontsize=8)
        axes.set_xscale("log" if name == "photons" else "linear")
    return figure, made


def _mean(place: np.ndarray, ends: np.ndarray, value: np.ndarray) -> np.ndarray:
    means: np.ndarray = binned_statistic(place, value, bins=ends)[0]
    return means


def _with_legend(title: str, text: str, figure: Figure) -> Section:
    figure.axes[0].legend(fontsize=7, frameon=False)
    return Section(title, text, [figure])


def _spaced(name: str, data: Data, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of equal parts of a parameter's range, and their middles; of photons on a logarithmic scale."""
    spaced = np.geomspace if name == "photons" else np.linspace
    low, high = getattr(data.ranges, name)
    every: np.ndarray = spaced(low, high, num=2 * number - 1)
    return every[::2], every[1::2]


@torch.no_grad()
def _phantom(task: Task, data: Data) -> Section:
    truth, found = phantom(task.network, data)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    grid = figure.subplots(2, 3)
    for row, (output, unit) in enumerate(zip(OUTPUTS, UNITS, strict=True)):
        low, high = getattr(data.ranges, output)
        images = {
            f"true {output}": (truth[output], low, high),
            f"estimated {output}": (found[output], low, high),
            f"expected error of {output}": (found[f"{output}_error"], None, None),
        }
        for axes, (title, (image, least, most)) in zip(grid[row], images.items(), strict=True):
            shown = axes.imshow(image, cmap="viridis", vmin=least, vmax=most)
            axes.set_title(f"{title}, {unit}", fontsize=9, loc="left")
            axes.set_axis_off()
            figure.colorbar(shown, ax=axes, shrink=0.85)
    text = "Letters at several depths, each with a lifetime of its own, in one tissue; 2,000 photons a pixel."
    return Section("A phantom", text, [figure])
