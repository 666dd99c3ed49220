"""The task and the data of a run, built again."""

from __future__ import annotations

from textwrap import shorten
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser
from lightning import LightningDataModule

from apps.common.errors import UserError
from apps.common.runs import Run, load_checkpoint
from apps.common.task import MoETask

SomeTask = TypeVar("SomeTask", bound=MoETask)
SomeData = TypeVar("SomeData", bound=LightningDataModule)


def task_of(run: Run, kind: type[SomeTask]) -> tuple[SomeTask, dict[str, Any]]:
    """The task of a run's best checkpoint, on the CPU and in evaluation mode; and that checkpoint.

    Raises UserError as `load_checkpoint` does, and where the network has changed since.
    """
    checkpoint = load_checkpoint(run.best, run.app)
    try:
        return kind.load_from_checkpoint(run.best, map_location="cpu").eval(), checkpoint
    except (ArgumentError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        why = shorten(str(error), 200)
        raise UserError(
            f"{run.best} does not fit the network as it is now ({why}): train again, or go back to the "
            "version that made it."
        ) from error


def data_of(run: Run, kind: type[SomeData], options: dict[str, Any] | None = None) -> SomeData:
    """The data module of a run, or the same with other options; nothing of it is read yet.

    Raises UserError where the options do not fit.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    try:
        wanted = parser.parse_object({"data": run.options("data") if options is None else options})
        data: SomeData = parser.instantiate_classes(wanted).data
    except (ArgumentError, ValueError) as error:
        raise UserError(f"{run.config_file}: {error}") from error
    return data
