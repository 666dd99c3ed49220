"""check_experts catches what is broken, and says so."""

import pytest
import torch
from collegium import experts
from collegium.experts import Experts
from collegium.testing import check_experts
from torch import Tensor, nn


class Scale(Experts):
    """A sound block for the broken ones below to differ from in one thing."""

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(num_experts)
        self.scale = nn.Parameter(torch.randn(num_experts, dim))

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        if not isinstance(counts, Tensor):
            counts = torch.full((self.num_experts,), counts)
        return x * self.rows(counts)

    def rows(self, counts: Tensor) -> Tensor:
        return self.scale.repeat_interleave(counts, dim=0)


class OffByOne(Scale):
    def rows(self, counts: Tensor) -> Tensor:
        return super().rows(counts).roll(1, 0)


class Mixing(Scale):
    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        return super().forward(x, counts) + x.sum(0)


class WrongGradient(Scale):
    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        return super().forward(x.detach() if len(x) > 1 else x, counts)


class EvenOnly(Scale):
    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        y = super().forward(x, counts)
        return y if isinstance(counts, Tensor) else y + 1


class Skipping(Experts):
    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(num_experts)
        self.experts = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_experts))

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        rows = counts.tolist() if isinstance(counts, Tensor) else [counts] * self.num_experts
        parts = zip(self.experts, x.split(rows), strict=True)
        return torch.cat([x[:0], *(expert(part) for expert, part in parts if len(part))])


class Overflowing(Scale):
    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        return super().forward(x, counts) * (torch.inf if torch.is_autocast_enabled("cpu") else 1)


class Forgetful(Scale):
    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.shift = torch.randn(dim, dtype=torch.float64)  # a buffer that no state dict knows

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        return super().forward(x, counts) + self.shift.to(x.dtype)


class Careless(Scale):
    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, max(num_experts, 1))


BROKEN = {
    OffByOne: "must give what each row gives alone",
    Mixing: "must give what each row gives alone",
    WrongGradient: "gradients of rows",
    EvenOnly: "counts=3 must equal a tensor of 3s",
    Skipping: "must get a gradient, of zeros",
    Overflowing: "under autocast must be finite",
    Forgetful: "the block that the state dict brings back",
    Careless: "num_experts=0 must be refused",
}


def test_a_sound_block_passes() -> None:
    check_experts(Scale)
    check_experts(Scale, dim=5, num_experts=7)


@pytest.mark.parametrize("block", BROKEN)
def test_a_broken_block_is_caught(block: type[Experts]) -> None:
    with pytest.raises(AssertionError, match=BROKEN[block]) as caught:
        check_experts(block)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{block.__name__}, ")


def test_items_of_a_given_shape() -> None:
    def flat(dim: int, num_experts: int) -> Experts:
        modules = [nn.Sequential(nn.Flatten(1), nn.Linear(2 * dim, 3)) for _ in range(num_experts)]
        return experts.ExpertList(modules, item_ndim=2)

    check_experts(flat, item=(2, 8))
