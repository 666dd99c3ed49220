"""How far training has come, for routers that change on the way."""

from typing import Any

import torch
from torch import Tensor

from collegium.precision import Float32Buffers


class Schedule(Float32Buffers):
    """The share of training that is over, as a tensor, and whether the schedule has ended, as a flag.

    Compiled code reads the share without a graph break, and is compiled once for each side of the end. Both
    come back with the state.

    Args:
        end: the share of training at which the schedule ends.

    >>> schedule = Schedule(end=0.5)
    >>> schedule.move(0.5)
    >>> float(schedule.progress), schedule.over
    (0.5, True)
    """

    progress: Tensor

    def __init__(self, end: float = 1.0) -> None:
        super().__init__()
        self.end = end
        self.over = end <= 0
        self.register_buffer("progress", torch.zeros((), dtype=torch.float32))

    def move(self, progress: float) -> None:
        """Take up the share of training that is over, 0 to 1."""
        self.progress.fill_(progress)
        self.over = progress >= self.end - ROUNDING

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if prefix + "progress" in state_dict:
            self.over = float(state_dict[prefix + "progress"]) >= self.end - ROUNDING


ROUNDING = 1e-6
"""What a share may lose on its way through float32."""
