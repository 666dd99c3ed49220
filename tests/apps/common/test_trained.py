"""The task of a run comes back as it was trained, or one sentence says why it cannot."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.common.errors import UserError
from apps.common.runs import Run
from apps.common.trained import task_of


def task_class() -> Any:
    """The toy's, by the name under which apps are found."""
    return import_module("toys.moons.task").Task


def test_a_task_comes_back_with_its_weights(fit: Callable[..., Path]) -> None:
    run = Run(fit(), "moons")
    task, checkpoint = task_of(run, task_class())
    assert not task.training
    for name, weight in task.state_dict().items():
        torch.testing.assert_close(weight, checkpoint["state_dict"][name])


def test_weights_that_the_network_no_longer_has_are_one_sentence(fit: Callable[..., Path]) -> None:
    run = Run(fit(), "moons")
    checkpoint = torch.load(run.best, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"]["former"] = checkpoint["state_dict"].pop(name)
    torch.save(checkpoint, run.best)
    with pytest.raises(UserError, match="does not fit the network as it is now") as caught:
        task_of(run, task_class())
    assert str(run.best) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_gone_is_one_sentence(fit: Callable[..., Path]) -> None:
    run = Run(fit(), "moons")
    checkpoint = torch.load(run.best, weights_only=True)
    checkpoint["hyper_parameters"]["network"]["class_path"] = "toys.moons.model.Gone"
    torch.save(checkpoint, run.best)
    with pytest.raises(UserError, match="does not fit the network as it is now") as caught:
        task_of(run, task_class())
    assert "\n" not in str(caught.value)
