"""What each expert adds to a forecast."""

from functools import partial

import pytest
import torch
from collegium import record, routers

from apps.common.controls import MixtureFFN
from apps.timeseries.contributions import contributions
from apps.timeseries.model import window_scale
from apps.timeseries.networks import RidgeMoE, TimeMoE
from apps.timeseries.windows import Batch
from tests.apps.timeseries.networks.moirai import series

H = 6


def batch(context: int) -> Batch:
    windows = series()
    return windows.__getitems__(torch.arange(5)) | {
        "context": torch.randn(5, context),
        "context_mask": torch.ones(5, context, dtype=torch.bool),
    }


@pytest.mark.parametrize("router", [routers.TopK, routers.AllExperts])
def test_of_a_linear_head_they_sum_up_to_the_forecast(router: type[routers.Router]) -> None:
    torch.manual_seed(0)
    mixture = partial(MixtureFFN, num_experts=4, hidden=8, router=router)
    net, data = RidgeMoE(24, H, dim=8, feed_forward=mixture, share=0.7).eval(), batch(24)
    torch.nn.init.normal_(net.head.weight)
    x = data["context"]
    parts = contributions(net, net.mixture, data, H)
    mean, scale = window_scale(x, data["context_mask"])
    torch.testing.assert_close(parts[:-1].sum(0), parts[-1], rtol=1e-4, atol=1e-4)
    alone = 0.3 * net.ridge(x) + 0.7 * (mean + scale * net.head(net.embed((x - mean) / scale)))
    torch.testing.assert_close(alone + parts[-1], net.forecast_batch(data, H), rtol=1e-4, atol=1e-4)


def test_an_expert_that_is_not_chosen_adds_nothing_and_the_network_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    mixture = partial(MixtureFFN, num_experts=6, hidden=8, router=partial(routers.TopK, k=1))
    net = TimeMoE(16, 1, 2, patch=6, horizons=[H], feed_forward=mixture).eval()
    data, layer = batch(12), net.blocks[0].feed_forward
    before = net.forecast_batch(data, H)
    parts = contributions(net, layer, data, H)
    with record(net) as routings:
        assert torch.equal(net.forecast_batch(data, H), before)
    (routing,) = next(iter(routings.values()))
    chosen = torch.zeros(6, 5, dtype=torch.bool)
    last = routing.token % 2 == 1  # of two tokens a window: the other does not meet the head
    chosen[routing.expert[last], routing.token[last] // 2] = True
    assert chosen.any(1).sum() > 1
    assert torch.equal(parts[:-1].abs().amax(2) > 0, chosen)
    assert bool((parts[-1].abs().amax(1) > 0).all())
