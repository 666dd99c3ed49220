"""torch.compile and torch.export take a layer with dense dispatch, whole, for routers of static shape."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from collegium import Context, MoE, balance, experts, gates, record, routers
from collegium.testing import exported
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
    "NoisyTopK": routers.NoisyTopK,
    "TopK sigmoid": partial(routers.TopK, score="sigmoid", renormalize=True),
    "TopK capacity": partial(routers.TopK, capacity_factor=0.8),
    "TopK cosine": partial(routers.TopK, gate=gates.Cosine),
    "TopK centroid": partial(routers.TopK, gate=gates.Centroid),
    "TopK by label": partial(routers.TopK, gate=partial(gates.Conditioned, by="label", values=9)),
    "TopK own gate": partial(routers.TopK, gate=partial(gates.Conditioned, values=9, own_gate=True)),
    "TopK by time": partial(routers.TopK, gate=partial(gates.Conditioned, by="time")),
    "TopK residual": partial(routers.TopK, gate=gates.Residual),
    "TopK similar": partial(routers.TopK, gate=gates.Similar),
    "TopK attended": partial(routers.TopK, gate=gates.Attended),
    "TopP": routers.TopP,
    "GroupLimited": partial(routers.GroupLimited, bias=True),
    "EqualPerGroup": routers.EqualPerGroup,
    "RandomPartition": routers.RandomPartition,
    "DSelectK": routers.DSelectK,
    "Comet": routers.Comet,
    "Comet search": partial(routers.Comet, search=0.5),
    "DenseToSparse": routers.DenseToSparse,
    "Base": routers.Base,
    "Sinkhorn": routers.Sinkhorn,
    "Recurrent": routers.Recurrent,
    "ProductKey": routers.ProductKey,
    "MultiGate": routers.MultiGate,
    "WholeSegment": routers.WholeSegment,
    "WholeSegment Hash": partial(routers.WholeSegment, router=routers.Hash),
    "Lookup": routers.Lookup,
    "Lookup table": partial(routers.Lookup, table=[[value % E] for value in range(9)]),
    "FixedPlusRouted": routers.FixedPlusRouted,
    "FixedPlusRouted TopP": partial(routers.FixedPlusRouted, router=routers.TopP),
    "SoftSlots": routers.SoftSlots,
}


def test_every_router_of_the_core_is_compiled() -> None:
    compiled = {type(make(D, E)) for make in STATIC.values()}
    assert set(exported(routers, routers.Router).values()) <= compiled


class Net(nn.Module):
    """A layer whose context is built inside, as exporting wants tensors for arguments."""

    def __init__(self, router: routers.Router) -> None:
        super().__init__()
        blocks = [experts.MLP(D, E - 1, hidden=5), experts.Copy(1)]
        self.moe = MoE(router, experts.ExpertGroups(blocks), dispatch="dense")

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        affinity = (x @ x.transpose(1, 2)).softmax(-1)
        return self.moe(x, Context(label=label, task=label, time=label.float(), affinity=affinity))


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3, D), torch.randint(9, (size, 3))


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


def counting(net: nn.Module) -> tuple[Any, list[torch.fx.GraphModule]]:
    """The network compiled whole, and the graphs that were made for it so far."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(graph)
        return graph.forward

    return torch.compile(net, backend=backend, fullgraph=True), graphs


@pytest.mark.parametrize("name", STATIC)
def test_one_graph_holds_the_layer_and_recording_recompiles_nothing(name: str) -> None:
    net = Net(STATIC[name](D, E))
    compiled, graphs = counting(net)
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


@pytest.mark.parametrize("name", ["DenseToSparse", "Comet search"])
def test_a_schedule_costs_two_graphs_one_on_each_side_of_its_end(name: str) -> None:
    net = Net(STATIC[name](D, E))
    compiled, graphs = counting(net)
    outputs = []
    for progress in (0.0, 0.1, 0.2, 0.3, 0.4, 1.0, 1.0):
        net.moe.router.anneal(progress)
        x, label = torch.randn(4, 3, D), torch.randint(9, (4, 3))
        torch.manual_seed(1)
        wanted = net(x, label)
        torch.manual_seed(1)
        outputs.append(compiled(x, label))
        torch.testing.assert_close(outputs[-1], wanted)
    assert len(graphs) == 2


class Deep(nn.Module):
    """Two layers, the second of which hears of the first."""

    def __init__(self, router: RouterFactory) -> None:
        super().__init__()
        block = partial(experts.MLP, D, E, hidden=5)
        self.first, self.second = (MoE(router(D, E), block(), dispatch="dense") for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y, routing = self.first(x, return_routing=True)
        return self.second(x + y, None, routing)


LOOKING_BACK: dict[str, RouterFactory] = {
    "TopK": partial(routers.TopK, gate=gates.Residual),
    "Recurrent": routers.Recurrent,
    "WholeSegment": partial(routers.WholeSegment, router=partial(routers.TopK, gate=gates.Residual)),
    "FixedPlusRouted": partial(routers.FixedPlusRouted, router=routers.Recurrent),
}


@pytest.mark.parametrize("name", LOOKING_BACK)
def test_one_graph_holds_layers_that_hear_of_one_another(name: str) -> None:
    net, x = Deep(LOOKING_BACK[name]), torch.randn(4, 3, D)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))
    second = net.second(x)
    assert not torch.allclose(net.second(x, None, net.first(x, return_routing=True)[1]), second)


EXPORTED = ("TopK", "TopK k=3", "Switch", "Hash", "AllExperts", "TopP", "MultiGate", "SoftSlots")


@pytest.mark.parametrize("name", EXPORTED)
def test_export_takes_any_batch_size(name: str) -> None:
    net = Net(STATIC[name](D, E)).eval()
    size = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, batch(4), dynamic_shapes=(size, size), strict=True).module()
    for other in (4, 7):
        inputs = batch(other)
        torch.testing.assert_close(program(*inputs), net(*inputs))


def test_a_program_takes_a_context_of_any_batch_size_and_is_read_again(tmp_path: Path) -> None:
    gate = partial(gates.Conditioned, by="label", values=9)
    layer = MoE(routers.TopK(D, E, gate=gate), experts.MLP(D, E, hidden=5), dispatch="dense").eval()

    def inputs(size: int) -> tuple[Tensor, Context]:
        x, label = batch(size)
        return x, Context(mask=torch.rand(size, 3) < 0.6, label=label)

    size = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(layer, inputs(4), dynamic_shapes=(size, [size, size]), strict=True)
    torch.export.save(program, tmp_path / "layer.pt2")
    for module in (program.module(), torch.export.load(tmp_path / "layer.pt2").module()):
        given = inputs(7)
        torch.testing.assert_close(module(*given), layer(*given))


def test_functions_of_a_dense_layer_are_differentiated_and_mapped() -> None:
    layer = MoE(routers.TopK(D, E), experts.MLP(D, E, hidden=5), dispatch="dense").double()
    x = torch.randn(3, 4, D, dtype=torch.float64, requires_grad=True)

    def energy(x: Tensor) -> Tensor:
        return layer(x).square().sum()

    (slope,) = torch.autograd.grad(energy(x), x)
    torch.testing.assert_close(torch.func.grad(energy)(x), slope)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(energy))(x), slope)
    _, moved = torch.func.jvp(energy, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(moved, slope.sum())


def test_grouped_dispatch_compiles_with_breaks() -> None:
    layer, x = MoE(routers.TopP(D, E), experts.MLP(D, E, hidden=8)), torch.randn(5, D)
    torch.testing.assert_close(torch.compile(layer, backend="eager")(x), layer(x))
