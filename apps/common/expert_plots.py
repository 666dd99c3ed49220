"""Pictures of the experts of every layer: load over the training, and who is chosen with whom."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from apps.common.plots import colour_bar, panels


def load_over_time(layers: Mapping[str, tuple[Sequence[int], np.ndarray]]) -> Figure:
    """Draw a panel for each layer: expert x step, the colour is the expert's load over even load.

    A validation's column ends at its step.

    Args:
        layers: name -> the steps of the validations, and the share (experts, validations) of each expert.
    """
    figure, grid = panels(len(layers))
    for axes, (name, (steps, shares)) in zip(grid, layers.items(), strict=True):
        experts = len(shares)
        image = axes.pcolormesh(
            [0, *steps], np.arange(experts + 1) - 0.5, shares * experts, vmin=0, vmax=2, cmap="RdBu_r"
        )
        axes.grid(visible=False)
        axes.invert_yaxis()
        axes.set_yticks(range(0, experts, -(-experts // 16)))
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel("step", fontsize=8)
        axes.set_ylabel("expert", fontsize=8)
    figure.suptitle("Load over the training", fontsize=10)
    colour_bar(figure, image, grid, "load / even")
    return figure


def company(layers: Mapping[str, np.ndarray]) -> Figure:
    """Draw a panel for each layer: how often two experts are chosen together, over what chance would give.

    Args:
        layers: name -> (experts, experts), 1 at chance; NaN is left grey.
    """
    figure, grid = panels(len(layers), height=2.8)
    for axes, (name, ratio) in zip(grid, layers.items(), strict=True):
        image = axes.imshow(ratio, vmin=0, vmax=2, cmap="RdBu_r")
        axes.grid(visible=False)
        axes.set_facecolor("0.85")
        ticks = range(0, len(ratio), -(-len(ratio) // 8))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel("expert", fontsize=8)
        axes.set_ylabel("expert", fontsize=8)
    figure.suptitle("Chosen together", fontsize=10)
    colour_bar(figure, image, grid, "together / by chance")
    return figure


def over_chance(together: np.ndarray) -> np.ndarray:
    """Return (E, E) co-selection over chance; NaN on the diagonal and for an expert that is never chosen.

    Chance leaves each expert its number of partners, and lets them be partners in proportion to a popularity
    of each expert (quasi-independence), as two independent choices never fall on one expert.

    Args:
        together: (E, E) share of the tokens that go to both.
    """
    pairs = together * (1 - np.eye(len(together)))
    partners = pairs.sum(1)
    popularity = np.sqrt(partners)
    for _ in range(200):  # a fixed point, damped
        others = np.maximum(popularity.sum() - popularity, 1e-12)
        popularity = np.sqrt(popularity * partners / others)
    chance = np.outer(popularity, popularity)
    np.fill_diagonal(chance, 0)
    possible = chance > 1e-9
    return np.where(possible, pairs / np.where(possible, chance, 1), np.nan)
