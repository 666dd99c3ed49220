"""What one of several processes computes with experts shared out over all; results are left in a file."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from collegium import MoE, experts, routers
from collegium.experts import Experts
from collegium.parallel import ExpertParallel, expert_parallel
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

D, E, STEPS = 6, 8, 3
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Timed(Experts):
    """Maps by a matrix of each expert, scaled by the row's time where the row is not masked."""

    needs = ("time", "mask")

    def __init__(self) -> None:
        super().__init__(E)
        self.weight = nn.Parameter(torch.randn(E, D, 3))

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        assert isinstance(counts, Tensor)
        parts = zip(x.split(counts.tolist()), self.weight.unbind(), strict=True)
        y = torch.cat([x_e @ weight for x_e, weight in parts])
        return y * side["time"][:, None] * side["mask"][:, None]


class Case(NamedTuple):
    """A block, and the rows of each expert on each rank: (R, E), or one int for all."""

    block: Experts
    counts: Tensor | int


def cases(world: int) -> dict[str, Case]:
    """Uneven loads of all kinds; expert 2 gets nothing."""
    generator = torch.Generator().manual_seed(2)
    uneven = torch.randint(0, 6, (world, E), generator=generator)
    uneven[:, 2] = 0
    silent, crowd = uneven.clone(), torch.zeros_like(uneven)
    silent[1] = 0
    crowd[:, E - 1] = torch.arange(world) * 3
    torch.manual_seed(0)
    swiglu = experts.MLP(D, E, hidden=4, activation="swiglu", out_dim=3)
    by_row = experts.RowExperts(experts.MLP(D, E, hidden=4), [e % 3 for e in range(E)])
    gated = experts.FeatureGate(experts.MLP(D, E, hidden=4), D, rank=2)
    with torch.no_grad():
        gated.widen.normal_()
    normed = experts.NormAct(experts.MLP(D, E, hidden=4, out_dim=3), 3)
    normed.mean.normal_()
    normed.variance.uniform_(0.5, 2)
    return {
        "uneven": Case(experts.MLP(D, E, hidden=4), uneven),
        "a rank without rows": Case(swiglu, silent),
        "all to the last expert": Case(experts.MLP(D, E, hidden=4), crowd),
        "nobody has rows": Case(experts.MLP(D, E, hidden=4), torch.zeros_like(uneven)),
        "equal": Case(experts.MLP(D, E, hidden=4), 3),
        "constant": Case(experts.Constant(D, E), silent),
        "items of rows": Case(by_row, uneven),
        "context by row": Case(Timed(), silent),
        "gated features": Case(gated, silent),
        "normed by what ran before": Case(normed.eval(), silent),
    }


def inputs(case: Case, rank: int) -> tuple[Tensor, Tensor | int, dict[str, Tensor]]:
    """Rows, counts and context of a rank."""
    generator = torch.Generator().manual_seed(rank)
    counts = case.counts if isinstance(case.counts, int) else case.counts[rank]
    size = counts * E if isinstance(counts, int) else int(counts.sum())
    item = (3, D) if case.block.item_ndim == 2 else (D,)
    x = torch.randn(size, *item, generator=generator, dtype=torch.float64).requires_grad_()
    side = {"time": torch.rand(size, generator=generator), "mask": torch.arange(size) % 3 > 0}
    return x, counts, {name: side[name] for name in case.block.needs}


def loss_of(y: Tensor, x: Tensor) -> Tensor:
    """Values and slopes, so that gradients of gradients come into it."""
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    return y.sin().sum() + slope.square().sum()


class Net(nn.Module):
    """Two layers: perceptrons with batch norm, and perceptrons beside an expert that does nothing."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.enter = nn.Linear(D, D)
        normed = experts.NormAct(experts.MLP(D, E, hidden=8), D)
        self.first = MoE(routers.TopK(D, E, k=1), normed)
        grouped = experts.ExpertGroups([experts.MLP(D, E, hidden=8), experts.Zero(1)])
        self.second = MoE(routers.TopK(D, E + 1, k=2), grouped, experts.Shared(nn.Linear(D, D), D))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return x + self.second(x + self.first(x))


def batches(rank: int, world: int) -> Tensor:
    """(STEPS, n, D): this rank's share of 40 tokens."""
    x = torch.randn(STEPS, 40, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, :, 0] += torch.arange(40) // 20 * 6 - 3
    return x.chunk(world, dim=1)[rank]


def train(net: nn.Module, share: Tensor) -> None:
    """Steps of SGD; what is not shared out gets the mean of the ranks' gradients."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in share:
        optimizer.zero_grad()
        (net(x) - x.roll(1, -1)).square().mean().backward()
        for parameter in net.parameters():
            if distributed.is_initialized() and not isinstance(parameter, DTensor):
                distributed.all_reduce(parameter.grad)
                parameter.grad /= distributed.get_world_size()
        optimizer.step()


def worker(rank: int, world: int, folder: Path) -> None:
    """Compute everything as one of ``world`` ranks, and save what came out."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    timeout = timedelta(minutes=3)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timeout)
    try:
        mesh = init_device_mesh("cpu", (world,))
        blocks = {name: _block(case, mesh, rank) for name, case in cases(world).items()}
        found = {"blocks": blocks, "refusals": _refusals(mesh), **_model(mesh, rank, folder)}
        torch.save(found, folder / f"rank{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    os._exit(0)  # threads of the backend may outlive the interpreter, which then aborts


def _block(case: Case, mesh: DeviceMesh, rank: int) -> dict[str, Any]:
    block = ExpertParallel(case.block.double(), mesh)
    x, counts, side = inputs(case, rank)
    y = block(x, counts, **side)
    loss_of(y, x).backward()
    grads = {name: p.grad.full_tensor() for name, p in block.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, **grads}


def _model(mesh: DeviceMesh, rank: int, folder: Path) -> dict[str, Any]:
    net = Net(seed=rank)  # experts of the first rank are everybody's; so are the others after this
    own = expert_parallel(net, mesh)
    again = expert_parallel(net, mesh)
    for parameter in net.parameters():
        if not isinstance(parameter, DTensor):
            distributed.broadcast(parameter.data, 0)
    train(net, batches(rank, mesh.size()))
    dcp.save({"net": get_model_state_dict(net)}, checkpoint_id=folder / "sharded")
    state = get_model_state_dict(net, options=WHOLE)

    loaded = Net(seed=1 + rank)
    expert_parallel(loaded, mesh)
    parts = get_model_state_dict(loaded)
    dcp.load({"net": parts}, checkpoint_id=folder.parent / "whole")
    loaded.load_state_dict(parts)
    from_folder = get_model_state_dict(loaded, options=WHOLE)
    whole = torch.load(folder.parent / "whole.pt") if rank == 0 else {}
    other = Net(seed=1 + rank)
    expert_parallel(other, mesh)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(other, whole, options=options)
    return {
        "state": state,
        "from_folder": from_folder,
        "from_file": get_model_state_dict(other, options=WHOLE),
        "y": other.eval()(batches(0, 1)[0]).detach(),
        "own": sorted(name for name, p in net.named_parameters() if p in own),
        "again": own == again,
        "held": {name: p.to_local().shape[0] for name, p in net.named_parameters() if p in own},
    }


def _refusals(mesh: DeviceMesh) -> list[str]:
    square = experts.ExpertList(nn.Linear(E, E) for _ in range(E))
    told = []
    for block in (experts.MLP(D, E + 1, hidden=4), square, Half()):
        try:
            ExpertParallel(block, mesh)
        except ValueError as error:
            told.append(str(error))
    return told


class Half(Timed):
    """One of its parameters is the same for all experts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(D))
