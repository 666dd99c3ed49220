"""Small networks of Moirai-MoE, and windows for them."""

from collections.abc import Callable

import pytest
import torch
from collegium import gates, routers
from torch import nn

from apps.common.controls import MixtureFFN
from apps.timeseries.networks import MixtureHead, MoiraiMoE, QuantileHead
from apps.timeseries.scaler import Scaler
from apps.timeseries.simulate import simulate
from apps.timeseries.windows import Batch, Windows, as_line

LEVELS = torch.tensor([0.1, 0.5, 0.9])


def nearest(dim: int) -> MixtureFFN:
    def router(dim: int, num_experts: int) -> routers.Router:
        return routers.TopK(dim, num_experts, k=2, renormalize=True, gate=gates.Centroid)

    return MixtureFFN(dim, 4, router=router)


def sampled(dim: int, patch: int) -> MixtureHead:
    return MixtureHead(dim, patch, samples=12)


def direct(dim: int, patch: int) -> QuantileHead:
    return QuantileHead(dim, patch, patches=2, levels=[0.1, 0.5, 0.9])


HEADS = pytest.mark.parametrize("head", [sampled, direct])


def small(
    head: Callable[..., nn.Module] = sampled, feed_forward: Callable[[int], nn.Module] = nearest, **options
) -> MoiraiMoE:
    torch.manual_seed(0)
    net = MoiraiMoE(dim=16, depth=2, heads=2, patch=4, feed_forward=feed_forward, head=head, **options)
    for block in net.layers:
        nn.init.normal_(block.attention.same_other)
    return net.eval()


def windows(length: int = 24, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    values = torch.randn(batch, length).cumsum(1)
    return values, torch.ones_like(values, dtype=torch.bool)


def batch_of(length: int = 24, horizon: int = 10, batch: int = 4) -> Batch:
    values, observed = windows(length + horizon, batch)
    rows = torch.arange(batch)
    return Batch(
        context=values[:, :length],
        context_mask=observed[:, :length],
        target=values[:, length:],
        target_mask=observed[:, length:],
        channel=rows,
        start=rows,
        hour=rows,
        weekday=rows,
        group=rows,
    )


def out(net: MoiraiMoE, values: torch.Tensor, observed: torch.Tensor, group=None) -> torch.Tensor:
    return net(values, observed, group)[0]


PAIRS = torch.tensor([5, 5, 2, 2])


def series(rows: int = 600) -> Windows:
    table = simulate(rows, per_group=1, missing=0.02)
    scaler = Scaler.fit([table], [(0, rows)])
    return Windows(as_line([table], scaler), [(0, rows)] * 4, 24, 8, tables=[0] * 4)
