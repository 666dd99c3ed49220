"""best.ckpt holds the best network of the kind that will be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from collegium import routers
from lightning import Trainer

from apps.common.callbacks import Annealing
from apps.common.checkpoints import BestCheckpoint
from tests.apps.common.told import Rows, Told
from tests.apps.common.toy.toys.moons.model import Net

Factory = Callable[[int, int], routers.Router]
LOSSES = [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.6, 0.5, 0.7]
"""Schedules end in the ninth of eleven epochs."""


def train(folder: Path, router: Factory, best: BestCheckpoint, epochs: int = 11) -> Path:
    Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[Annealing(), best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Told(Net(router=router), LOSSES), Rows())
    return folder / "checkpoints" / "best.ckpt"


def kept(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.parametrize(
    ("router", "epoch"), [(routers.DenseToSparse, 9), (routers.TopK, 0)], ids=["scheduled", "plain"]
)
def test_the_best_is_one_from_after_the_schedules(tmp_path: Path, router: Factory, epoch: int) -> None:
    assert kept(train(tmp_path, router, BestCheckpoint()))["epoch"] == epoch


@pytest.mark.parametrize(
    ("state", "saved"), [({"settled": False}, True), ({}, False)], ids=["in it", "plain"]
)
def test_a_restart_knows_whether_the_best_is_from_before(
    tmp_path: Path, state: dict[str, bool], saved: bool
) -> None:
    best = BestCheckpoint()
    best.load_state_dict({"best": 0.05, **state})
    assert train(tmp_path, routers.TopK, best, epochs=1).exists() == saved
