"""A small stream for tests."""

import numpy as np
import pandas as pd


def table(count: int = 900, seed: int = 0) -> pd.DataFrame:
    """A stream whose rule turns round half-way, with gaps."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": random.normal(size=count), "sky": random.choice(["sun", "rain"], count)})
    label = (frame["size"] + (frame["sky"] == "rain") > 0.5).to_numpy().copy()
    label[count // 2 :] = ~label[count // 2 :]
    frame["when"] = pd.date_range("2024-01-01", periods=count, freq="h").astype(str)
    frame.loc[::17, "size"] = None
    return frame.assign(state=np.where(label, "up", "down"))
