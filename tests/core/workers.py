"""What one of two processes computes; run in a process of its own, results left in a file."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from collegium import MoE, balance, experts, record, routers
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

D, E, STEPS = 6, 4, 3


class Net(nn.Module):
    """Stacked and listed experts, groups, a shared expert and bias balancing, in two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        listed = experts.ExpertList([nn.Linear(D, D) for _ in range(E)])
        grouped = experts.ExpertGroups([experts.MLP(D, E - 1, hidden=8), experts.Zero(1)])
        shared = experts.Shared(nn.Linear(D, D), D)
        self.first = MoE(routers.TopK(D, E, k=1, bias=True), listed, shared)
        self.second = MoE(routers.TopK(D, E, k=2, bias=True), grouped)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(x + self.first(x))


def batches(rank: int, world: int) -> Tensor:
    """(STEPS, n, D): this rank's share. The first feature, and with it the expert, follows the half."""
    x = torch.randn(STEPS, 40, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, :, 0] += torch.arange(40) // 20 * 6 - 3
    return x.chunk(world, dim=1)[rank]


def train(net: nn.Module, share: Tensor) -> dict[str, Any]:
    """Steps with a task loss and globally counted balance terms, and one step of bias balancing each."""
    counts, controller = balance.GlobalCounts(), balance.BiasBalance(net, rate=0.01)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    idle = 0
    for x in share:
        optimizer.zero_grad()
        with record(net) as routings:
            y = net(x)
        counts.observe(routings)
        controller.observe(routings)
        loss = (y - x.roll(1, -1)).square().mean() + balance.load_balance(routings, counts)
        loss.backward()
        optimizer.step()
        observed = dict(counts.observed)
        counts.step()
        controller.step()
        idle += sum(int((calls[0].row_counts() == 0).sum()) for calls in routings.values())
    return {"state": _plain(net).state_dict(), "observed": observed, "names": list(routings), "idle": idle}


def _plain(net: nn.Module) -> nn.Module:
    return net.module if isinstance(net, DistributedDataParallel) else net


def worker(rank: int, folder: str) -> None:
    """Train as one of two ranks, and save what came out."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    timeout = timedelta(minutes=3)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timeout)
    try:
        net = DistributedDataParallel(Net().double())
        torch.save(train(net, batches(rank, 2)), Path(folder) / f"rank{rank}.pt")
    finally:
        distributed.destroy_process_group()
