"""The layer: shapes, refusals, recording, copying, checkpointing."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from collegium import Context, MoE, Routing, balance, check_causal, check_needs, experts, record, routers
from collegium.layer import moe_layers
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from tests.core.reference import plain_moe

D, E = 6, 4


def layer(**options: object) -> MoE:
    return MoE(routers.TopK(D, E), experts.MLP(D, E, hidden=5), **options)  # type: ignore[arg-type]


class Net(nn.Module):
    """Two MoE layers, the second called twice, the routing of the first handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([layer(), layer()])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        y, routing = first(x, return_routing=True)
        return second(x + second(x + y, None, routing))


def test_any_leading_dims_are_tokens() -> None:
    moe, x = layer(), torch.randn(2, 3, 5, D)
    y = moe(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y.view(-1, D), moe(x.view(-1, D)))
    torch.testing.assert_close(moe(x[1, 2, 3]), y[1, 2, 3])


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
@pytest.mark.parametrize("shape", [(0, D), (3, 0, D), (0, 4, D)])
def test_no_tokens_give_no_tokens(shape: tuple[int, ...], dispatch: str) -> None:
    x = torch.randn(shape, requires_grad=True)
    moe = layer(dispatch=dispatch)
    y = moe(x)
    assert y.shape == shape
    y.sum().backward()
    assert not any(p.grad.any() for p in moe.parameters())


@pytest.mark.parametrize(
    ("router", "dispatch"),
    [(routers.TopK, "dense"), (routers.AllExperts, "auto"), (routers.SoftSlots, "auto")],
)
def test_shapes_are_known_on_the_meta_device(router: type[routers.Router], dispatch: str) -> None:
    with torch.device("meta"):
        moe = MoE(router(D, E), experts.MLP(D, E, hidden=5, out_dim=2), dispatch=dispatch)
        y = moe(torch.randn(2, 3, D))
        y.sum().backward()
    assert (y.shape, y.is_meta) == ((2, 3, 2), True)
    assert all(p.grad is not None for p in moe.parameters())


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
def test_a_batch_of_masked_tokens_gives_zeros(dispatch: str) -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert not layer(dispatch=dispatch)(torch.randn(2, 3, D), Context(mask=mask)).any()


def test_shared_is_added_for_every_token_masked_ones_too() -> None:
    shared, x = nn.Linear(D, D), torch.randn(2, 3, D)
    moe = layer(shared=shared)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    routed = MoE(moe.router, moe.experts)(x, Context(mask=mask))
    torch.testing.assert_close(moe(x, Context(mask=mask)), routed + shared(x.where(mask[..., None], 0)))


def test_a_combiner_replaces_the_weighted_sum() -> None:
    class Stacked(nn.Module):
        def forward(self, y: Tensor, routing: Routing, x: Tensor) -> Tensor:
            return routing.stack(y)

    block = experts.MLP(D, E, hidden=5, out_dim=3)
    moe, x = MoE(routers.AllExperts(D, E), block, combiner=Stacked()), torch.randn(2, 3, D)
    y, routing = moe(x, return_routing=True)
    assert y.shape == (2, 3, E, 3)
    mixed = torch.einsum("...eo,...e->...o", y, routing.probs.view(2, 3, E))
    torch.testing.assert_close(mixed, MoE(moe.router, block)(x))


def test_items_of_two_dims_reach_the_router_flat() -> None:
    block = experts.ExpertList([nn.Linear(D, 2) for _ in range(E)], item_ndim=2)
    moe, x = MoE(routers.TopK(3 * D, E), block).double(), torch.randn(5, 7, 3, D, dtype=torch.float64)
    y, routing = moe(x, return_routing=True)
    assert y.shape == (5, 7, 3, 2)
    torch.testing.assert_close(y.flatten(0, 1), plain_moe(x.flatten(0, 1), routing, block, (3, 2)))


def test_experts_get_the_context_they_need_by_row() -> None:
    class Timed(experts.Experts):
        needs = ("time",)

        def forward(self, x: Tensor, counts: Tensor | int, *, time: Tensor) -> Tensor:
            return x * time[:, None]

    time, x = torch.rand(2, 3), torch.randn(2, 3, D)
    for dispatch in ("auto", "dense"):
        moe = MoE(routers.TopK(D, E, renormalize=True), Timed(E), dispatch=dispatch)
        torch.testing.assert_close(moe(x, Context(time=time)), x * time[..., None])
        with pytest.raises(ValueError, match=r"Timed needs context\.time"):
            moe(x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"experts": experts.Copy(3)}, "chooses among 4 experts, the block has 3"),
        ({"dispatch": "padded"}, "unknown dispatch 'padded': choose 'auto' or 'dense'"),
        ({"dispatch": "dense", "combiner": nn.Identity()}, "leave combiner out"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MoE(**{"router": routers.TopK(D, E), "experts": experts.Copy(E), **options})  # type: ignore[arg-type]


def test_context_of_other_leading_dims_is_refused() -> None:
    with pytest.raises(ValueError, match=r"context\.mask has shape \(6,\).*leading dims \(2, 3\)"):
        layer()(torch.randn(2, 3, D), Context(mask=torch.ones(6, dtype=torch.bool)))


@pytest.mark.parametrize("shape", [(5, D + 1), (2, 0, D - 1), ()])
def test_tokens_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    given = shape[-1] if shape else 1
    words = rf"TopK expects tokens of width {D}, but the layer was given {given} "
    with pytest.raises(ValueError, match=words) as refusal:
        layer()(torch.randn(shape))
    assert f"(x is {shape})" in str(refusal.value)


def test_the_width_of_an_item_of_two_dims_is_their_product() -> None:
    block = experts.ExpertList([nn.Linear(D, 2) for _ in range(E)], item_ndim=2)
    with pytest.raises(ValueError, match=rf"width {3 * D}, but the layer was given {2 * D}"):
        MoE(routers.TopK(3 * D, E), block)(torch.randn(5, 2, D))


@pytest.mark.parametrize("found", [None, torch.zeros(5, E), ("routing", "loss")])
def test_a_router_that_returns_no_routing_is_named(found: object) -> None:
    class Lazy(routers.Router):
        def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
            return found  # type: ignore[return-value]

    told = "None" if found is None else type(found).__name__
    with pytest.raises(TypeError, match=rf"^Lazy\.route must return a Routing .*, not {told}: make one with"):
        MoE(Lazy(D, E), experts.Copy(E))(torch.randn(5, D))


def test_previous_reaches_the_router() -> None:
    class Follow(routers.Router):
        def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
            assert previous is not None
            return previous

    first, x = layer(), torch.randn(5, D)
    _, routing = first(x, return_routing=True)
    _, followed = MoE(Follow(D, E), experts.Copy(E))(x, None, routing, return_routing=True)
    assert followed.token is routing.token


def test_record_collects_every_call_by_layer() -> None:
    net, x = Net(), torch.randn(5, D)
    with record(net) as routings:
        net(x)
        net(x[:2])
    assert {name: [r.num_tokens for r in calls] for name, calls in routings.items()} == {
        "blocks.0": [5, 2],
        "blocks.1": [5, 5, 2, 2],
    }
    net(x)
    assert len(routings["blocks.0"]) == 2


def test_record_gives_what_the_layer_used() -> None:
    moe, x = layer(), torch.randn(5, D)
    with record(moe) as routings:
        _, routing = moe(x, return_routing=True)
    assert routings[""] == [routing]


def test_records_nest_and_leave_nothing_behind() -> None:
    net, x = Net(), torch.randn(5, D)
    with record(net) as outer:
        net(x)
        with record(net.blocks[0]) as inner:
            net(x)
        net(x)
    assert [len(calls) for calls in outer.values()] == [3, 6]
    assert [len(calls) for calls in inner.values()] == [1]
    assert not any(block._sinks for block in net.blocks)


def test_record_ends_with_an_exception() -> None:
    net = Net()
    with pytest.raises(ValueError, match="of width"), record(net) as routings:
        net(torch.randn(5, D + 1))
    assert not any(block._sinks for block in net.blocks)
    assert list(routings.values()) == [[], []]


def test_names_are_the_same_behind_wrappers(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = Net()
        compiled = torch.compile(net)
        checkpointed = nn.ModuleDict({"blocks": nn.ModuleList(map(checkpoint_wrapper, net.blocks))})
        replicas = DistributedDataParallel(net), DistributedDataParallel(compiled)
        for wrapped in (compiled, checkpointed, *replicas):
            assert list(moe_layers(wrapped)) == ["blocks.0", "blocks.1"]
    finally:
        torch.distributed.destroy_process_group()


def test_a_layer_behind_a_part_called_module_has_a_name_of_its_own() -> None:
    net = nn.ModuleDict({"ffn": layer(), "module": nn.ModuleDict({"ffn": layer()})})
    assert list(moe_layers(net)) == ["ffn", "module.ffn"]
    x = torch.randn(3, D)
    with record(net) as routings:
        net["module"]["ffn"](net["ffn"](x))
    assert {name: len(calls) for name, calls in routings.items()} == {"ffn": 1, "module.ffn": 1}
    shared = MoE(routers.TopK(D, E), experts.Copy(E), experts.Shared(layer(), D))
    assert list(moe_layers(shared)) == ["", "shared.module"]


def test_a_layer_in_two_places_is_one_layer() -> None:
    moe = layer()
    with record(nn.Sequential(moe, moe)) as routings:
        moe(torch.randn(3, D))
    assert [len(calls) for calls in routings.values()] == [1]


def test_check_needs_names_the_layer_the_block_and_the_field() -> None:
    hashed = MoE(routers.Hash(D, E, by="domain"), experts.Copy(E))
    net = nn.ModuleDict({"first": layer(), "second": hashed})
    check_needs(net, ["domain"])
    with pytest.raises(ValueError, match=r"second\.router: Hash needs context\.domain.*gives mask, task"):
        check_needs(net, ["task", "mask"])
    with pytest.raises(ValueError, match="gives none"):
        check_needs(hashed, [])


def test_check_causal_names_the_layer_and_its_router() -> None:
    net = nn.ModuleDict({"first": layer(), "second": MoE(routers.ExpertChoice(D, E), experts.Copy(E))})
    check_causal(net["first"])
    with pytest.raises(ValueError, match=r"second\.router: ExpertChoice is not causal"):
        check_causal(net)
    with pytest.raises(ValueError, match="TopK is not causal"):
        check_causal(MoE(routers.TopK(D, E, capacity_factor=1.0), experts.Copy(E)))


def pickled(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("copier", [copy.deepcopy, pickled])
def test_copies_after_training_and_recording_compute_alike(copier: Callable[[nn.Module], nn.Module]) -> None:
    net, x = Net(), torch.randn(5, D)
    with record(net) as routings:
        (net(x).square().mean() + balance.load_balance(routings)).backward()
    twin = copier(net)
    assert torch.equal(twin(x), net(x))
    assert not any(block._sinks for block in twin.blocks)


def test_state_dict_keys_are_clean() -> None:
    block = experts.ExpertGroups([experts.MLP(D, 3, hidden=5), experts.Zero(1)])
    shared = experts.Shared(nn.Linear(D, D), D)
    moe = MoE(routers.TopK(D, E, bias=True), block, shared)
    assert set(moe.state_dict()) == {
        "router.gate.weight",
        "router.bias",
        "experts.blocks.0.up",
        "experts.blocks.0.down",
        "shared.module.weight",
        "shared.module.bias",
        "shared.gate.weight",
    }
    assert set(layer().state_dict()) == {"router.gate.weight", "experts.up", "experts.down"}


def test_checkpointing_gives_the_same_gradients_and_one_routing_a_call() -> None:
    net, x = Net(), torch.randn(5, D, requires_grad=True)
    found = []
    for run in (net, lambda x: checkpoint(net, x, use_reentrant=False)):
        with record(net) as routings:
            loss = run(x).square().mean() + balance.load_balance(routings)
        assert [len(calls) for calls in routings.values()] == [1, 2]
        found.append(torch.autograd.grad(loss, [x, *net.parameters()]))
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def narrow() -> experts.MLP:
    return experts.MLP(8, 4, hidden=4)


@pytest.mark.parametrize(
    "block",
    [
        narrow(),
        experts.Constant(8, 4),
        experts.NormAct(narrow(), 8),
        experts.FeatureGate(narrow(), 8),
        experts.ExpertGroups([experts.Zero(1), experts.MLP(8, 3, hidden=4)]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_router_and_experts_of_unlike_width_are_refused(block: experts.Experts) -> None:
    with pytest.raises(ValueError, match=r"reads tokens of width 16, the experts of width 8$"):
        MoE(routers.TopK(16, 4), block)


def test_the_rows_of_an_item_fill_its_width() -> None:
    block = experts.RowExperts(narrow(), [0, 1, 0, 1])
    assert MoE(routers.TopK(16, 4), block)(torch.randn(5, 2, 8)).shape == (5, 8)
    with pytest.raises(ValueError, match=r"reads tokens of width 12, the experts of width 8$"):
        MoE(routers.TopK(12, 4), block)


def test_a_block_that_knows_no_width_takes_any() -> None:
    block = experts.ExpertGroups([experts.Zero(1), experts.Copy(3)])
    assert block.dim is None
    assert MoE(routers.TopK(5, 4), block)(torch.randn(3, 5)).shape == (3, 5)


def test_router_and_experts_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a router and then experts, not MLP and TopK$"):
        MoE(experts.MLP(8, 4, hidden=4), routers.TopK(8, 4))
