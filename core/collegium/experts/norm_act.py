"""What follows an expert's last product: a norm and an activation of its output."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.experts.base import Experts

Act = Literal["silu", "relu"]
ACTS = {"silu": F.silu, "relu": F.relu}
EPS = 1e-5
MOMENTUM = 0.1


class NormAct(Experts):
    """Experts whose outputs are normalised, each expert's over its own rows of the batch, and activated.

    With batch norm and SiLU these are the experts of HoME (Wang et al. 2024, section 3.1): all speak at one
    scale, so that a gate compares like with like, and none falls silent. Without the norm and with ReLU they
    are those of MMoE and PLE as they are usually built.

    In training an expert with fewer than two rows in a batch is normalised by its running statistics, as all
    are in evaluation. Where a layer dispatches densely, an expert's rows are those of all tokens; under
    expert parallelism, those of all ranks.

    Args:
        block: the experts; outputs are vectors.
        width: O, that of the outputs.
        norm: whether to normalise.
        act: "silu" or "relu".

    Shapes:
        x (A, \\*item) -> (A, O).

    Raises:
        ValueError: an unknown activation, or a width below 1.

    >>> from collegium.experts import MLP
    >>> block = NormAct(MLP(16, 4, hidden=32, out_dim=8), width=8)
    >>> block(torch.randn(12, 16), 3).shape
    torch.Size([12, 8])
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, block: Experts, width: int, norm: bool = True, act: Act = "silu") -> None:
        super().__init__(block.num_experts, block.item_ndim)
        if act not in get_args(Act) or width < 1:
            raise ValueError(f"NormAct wants an activation of {', '.join(get_args(Act))} and a width")
        self.block, self.dim, self.needs, self.act, self.norm = block, block.dim, block.needs, act, norm
        size = (block.num_experts, width)
        self.scale = nn.Parameter(torch.ones(size)) if norm else None
        self.shift = nn.Parameter(torch.zeros(size)) if norm else None
        if norm:
            self.register_buffer("mean", torch.zeros(size, dtype=torch.float32))
            self.register_buffer("variance", torch.ones(size, dtype=torch.float32))

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, \\*item) to (A, O)."""
        y: Tensor = self.block(x, counts, **side)
        return ACTS[self.act](self._normalised(y, counts) if self.norm else y)

    def parameters_each(self) -> list[float]:
        """(E) those of the block, scale and shift."""
        more = 0 if self.scale is None else 2 * self.scale.shape[1]
        return [size + more for size in self.block.parameters_each()]

    def _normalised(self, y: Tensor, counts: Tensor | int) -> Tensor:
        assert self.scale is not None
        assert self.shift is not None
        here = len(self.scale)  # of E experts those that this rank holds
        rows = torch.as_tensor(counts, device=y.device).expand(here)
        expert = torch.arange(here, device=y.device).repeat_interleave(rows, output_size=len(y))
        wide = y.to(torch.promote_types(y.dtype, torch.float32))
        mean, variance = self.mean.to(wide.dtype), self.variance.to(wide.dtype)
        if self.training:
            mean, variance = self._of_batch(wide, expert, rows, mean, variance)
        scale = self.scale * (variance + EPS).rsqrt()
        return (wide * scale[expert] + (self.shift - mean * scale)[expert]).to(y.dtype)

    def _of_batch(
        self, y: Tensor, expert: Tensor, rows: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(E, O) mean and variance of each expert's rows, which the running ones follow."""
        enough, n = (rows > 1)[:, None], rows.clamp(min=1)[:, None].to(y.dtype)
        empty = torch.zeros_like(mean)
        first = empty.index_add(0, expert, y) / n
        second = empty.index_add(0, expert, (y - first[expert]).square()) / n
        with torch.no_grad():
            unbiased = second * n / (n - 1).clamp(min=1)
            for running, new in ((self.mean, first), (self.variance, unbiased)):
                running.copy_(torch.where(enough, running.lerp(new.to(running.dtype), MOMENTUM), running))
        return torch.where(enough, first, mean), torch.where(enough, second, variance)
