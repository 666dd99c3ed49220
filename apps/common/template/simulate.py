"""A generated table in which every cluster has its own rule."""

import numpy as np
import pandas as pd


def simulate(
    rows: int, features: int = 8, groups: int = 6, noise: float = 0.02, seed: int = 0
) -> pd.DataFrame:
    """Rows in clusters, each with a linear rule of its own for the class: one rule for all cannot fit.

    Args:
        rows: N.
        features: F, columns x0, x1, ...
        groups: clusters.
        noise: share of rows whose class is flipped.
        seed: another seed is another table.
    """
    random = np.random.default_rng(seed)
    centres = random.normal(scale=3.0, size=(groups, features))
    rules = random.normal(size=(groups, features))
    group = random.integers(groups, size=rows)
    inside = random.normal(size=(rows, features))
    positive = (inside * rules[group]).sum(1) > 0
    positive ^= random.random(rows) < noise
    table = pd.DataFrame(centres[group] + inside, columns=[f"x{i}" for i in range(features)])
    return table.assign(label=np.where(positive, "yes", "no"))
