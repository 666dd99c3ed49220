"""Agreement of two passes."""

import torch
from collegium import MoE, balance, experts
from collegium.routers import Random
from torch import nn
from torch.nn import functional as F


def test_it_is_the_mean_of_both_divergences() -> None:
    a, b = torch.randn(2, 7, 5, dtype=torch.float64)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    forward = F.kl_div(q, p, log_target=True, reduction="batchmean")
    backward = F.kl_div(p, q, log_target=True, reduction="batchmean")
    torch.testing.assert_close(balance.consistency(a, b), (forward + backward) / 2)


def test_it_is_zero_where_all_experts_are_equal_and_not_else() -> None:
    torch.manual_seed(0)
    layer = MoE(Random(6, 4), experts.ExpertList([nn.Linear(6, 3) for _ in range(4)]))
    x = torch.randn(20, 6)
    assert balance.consistency(layer(x), layer(x)) > 1e-3
    for expert in layer.experts.experts:
        expert.load_state_dict(layer.experts.experts[0].state_dict())
    assert float(balance.consistency(layer(x), layer(x)).detach()) < 1e-12
