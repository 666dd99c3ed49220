"""Layers of other libraries, at equal active compute and otherwise as they come.

Gated experts have three matrices, so their hidden width is two thirds, rounded to a multiple of 8.
"""

from importlib.metadata import PackageNotFoundError, version

from torch import Tensor, nn

from benchmarks.grid import Point
from benchmarks.layers import CannotRunError


def transformers_eager(point: Point) -> nn.Module:
    return _mixtral(point, "eager")


def transformers_grouped_mm(point: Point) -> nn.Module:
    return _mixtral(point, "grouped_mm")


def _mixtral(point: Point, implementation: str) -> nn.Module:
    _installed("transformers")
    from transformers.models.mixtral.configuration_mixtral import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=point.width,
        intermediate_size=round(point.hidden * 2 / 3 / 8) * 8,
        num_local_experts=point.experts,
        num_experts_per_tok=point.k,
        hidden_act="gelu",
    )
    config._experts_implementation = implementation
    block: nn.Module = MixtralSparseMoeBlock(config)
    for parameter in block.parameters():  # the block leaves this to the whole model
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return block


class OutputAlone(nn.Module):
    """The first of the values that a layer returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)[0]
        return y


def st_moe_pytorch(point: Point) -> nn.Module:
    _installed("st-moe-pytorch")
    if point.k < 2:
        raise CannotRunError("routes every token to two experts or more")
    from st_moe_pytorch import MoE

    return OutputAlone(MoE(point.width, point.experts, gating_top_n=point.k))


def mixture_of_experts(point: Point) -> nn.Module:
    _installed("mixture-of-experts")
    if point.k != 2:
        raise CannotRunError("routes every token to two experts")
    from mixture_of_experts import MoE

    return OutputAlone(MoE(point.width, point.experts, hidden_dim=point.hidden))


def _installed(package: str) -> None:
    try:
        version(package)
    except PackageNotFoundError:
        raise CannotRunError(f"{package} is not installed: use `make bench`") from None
