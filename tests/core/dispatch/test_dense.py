"""Dense dispatch as such; that it equals the default is tested over the whole registry."""

import torch
from collegium import MoE, Routing
from collegium.dispatch import run_dense
from collegium.experts import Copy, ExpertList
from collegium.routers import TopK
from torch import Tensor, nn


def test_every_expert_sees_every_token_and_the_table_mixes() -> None:
    scale = [nn.Linear(2, 2, bias=False) for _ in range(3)]
    for e, linear in enumerate(scale):
        nn.init.eye_(linear.weight)
        linear.weight.data *= 10**e
    x, table = torch.randn(4, 2), torch.rand(4, 3)
    y = run_dense(x, Routing.dense(table), ExpertList(scale), {})
    torch.testing.assert_close(y, x * (table @ torch.tensor([1.0, 10.0, 100.0]))[:, None])


def test_rows_an_expert_do_not_depend_on_the_data() -> None:
    class Spy(Copy):
        def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
            assert counts == 6
            assert x.shape == (24, 3)
            return x

    assert MoE(TopK(3, 4), Spy(4), dispatch="dense")(torch.randn(6, 3)).shape == (6, 3)
