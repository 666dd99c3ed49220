"""torch.compile and torch.export take a layer with dense dispatch, whole, for routers of static shape."""

from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, balance, experts, record, routers
from torch import Tensor, nn

from tests.core.blocks import RouterFactory

D, E = 8, 4
STATIC: dict[str, RouterFactory] = {
    "TopK": routers.TopK,
    "TopK k=3": partial(routers.TopK, k=3, renormalize=True, noise=0.1, bias=True),
    "Switch": partial(routers.Switch, capacity_factor=None, jitter=0.1),
    "ExpertChoice": routers.ExpertChoice,
    "Hash": routers.Hash,
    "Random": routers.Random,
    "AllExperts": routers.AllExperts,
}


class Net(nn.Module):
    """A layer whose context is built inside, as exporting wants tensors for arguments."""

    def __init__(self, router: routers.Router) -> None:
        super().__init__()
        blocks = [experts.MLP(D, E - 1, hidden=5), experts.Copy(1)]
        self.moe = MoE(router, experts.ExpertGroups(blocks), dispatch="dense")

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.moe(x, Context(label=label))


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3, D), torch.randint(9, (size, 3))


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("name", STATIC)
def test_one_graph_holds_the_layer_and_recording_recompiles_nothing(name: str) -> None:
    net = Net(STATIC[name](D, E))
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=backend, fullgraph=True)
    found = []
    for model in (net, compiled, compiled, compiled):
        torch.manual_seed(0)
        x, label = batch(4)
        with record(model) as routings:
            y = model(x, label)
            loss = y.square().mean() + balance.load_balance(routings)
        assert [len(calls) for calls in routings.values()] == [1]
        found.append((y, *torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)))
    assert len(graphs) == 1
    for run in found[1:]:
        for value, wanted in zip(run, found[0], strict=True):
            torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize("name", ["TopK", "TopK k=3", "Switch", "Hash", "AllExperts"])
def test_export_takes_any_batch_size(name: str) -> None:
    net = Net(STATIC[name](D, E)).eval()
    size = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, batch(4), dynamic_shapes=(size, size), strict=True).module()
    for other in (4, 7):
        inputs = batch(other)
        torch.testing.assert_close(program(*inputs), net(*inputs))


def test_grouped_dispatch_compiles_with_breaks() -> None:
    layer, x = MoE(routers.TopP(D, E), experts.MLP(D, E, hidden=8)), torch.randn(5, D)
    torch.testing.assert_close(torch.compile(layer, backend="eager")(x), layer(x))
