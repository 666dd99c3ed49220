"""Looks into the runs of the toy app."""

from pathlib import Path
from typing import Any

import torch

TOY = Path(__file__).parent / "toy"


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    """Return a checkpoint of a run."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def differing_weights(run: Path, other: Path, name: str = "last") -> list[str]:
    """Return the names of the weights of two runs that are not the same to the bit."""
    one, two = (checkpoint(path, name)["state_dict"] for path in (run, other))
    return [
        key for key in {*one, *two} if key not in one or key not in two or not torch.equal(one[key], two[key])
    ]
