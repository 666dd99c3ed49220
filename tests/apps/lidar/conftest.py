"""A run that tests of the commands share, and an image of histograms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.common.discovery import project_root
from apps.common.main import main
from apps.lidar.instrument import TO_DEVIATION, Clock
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import histograms
from tests.apps.lidar.test_simulate import seeded

CONFIG = project_root() / "configs/lidar/default.yaml"
CLOCK = Clock()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run of known tissue."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setenv("COLLEGIUM_RUNS", str(folder))
    short = ["--data.scenes", "4000", "--data.held_out", "500", "--trainer.max_epochs", "3"]
    assert main(["lidar", "fit", "--config", str(CONFIG), *short]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "runs" in request.fixturenames:
        monkeypatch.setenv("COLLEGIUM_RUNS", str(request.getfixturevalue("runs")))


def image(folder: Path, **changes: object) -> tuple[Path, Path, np.ndarray]:
    """An image of 6 by 5 histograms with three bad pixels, its response, and its depths."""
    scenes = Ranges(response=(0.2, 0.2), photons=(5000.0, 20_000.0)).draw(30, seeded(4))
    counts = histograms(scenes, Rig(), seeded(5)).numpy().reshape(6, 5, -1)
    counts[0, 0], counts[0, 1, 3], counts[0, 2, 4] = 0, -1, np.nan
    tissue = {name: getattr(scenes, name).numpy().reshape(6, 5) for name in ("scattering", "absorption")}
    arrays = {"counts": counts, "bin_width": CLOCK.width, **tissue, **changes}
    np.savez(folder / "image.npz", **{name: array for name, array in arrays.items() if array is not None})
    time = CLOCK.centres.numpy() + CLOCK.flash
    light = 1e4 * np.exp(-(((time - CLOCK.flash) / (0.2 * TO_DEVIATION)) ** 2) / 2)
    pd.DataFrame({"time": time, "counts": light}).to_csv(folder / "irf.csv", index=False)
    return folder / "image.npz", folder / "irf.csv", scenes.depth.numpy().reshape(6, 5)
