"""Centroids for the gates of a network, from the tokens of the same network with dense blocks.

Source: Moirai-MoE (Liu et al. 2024), section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from collegium.gates import Centroid
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from apps.common.controls import DenseFFN
from apps.common.errors import UserError
from apps.common.runs import load_checkpoint
from apps.timeseries.windows import Batch, Groups, Windows

if TYPE_CHECKING:
    from apps.timeseries.networks.moirai_moe import MoiraiMoE

RATE, WINDOWS, CLUSTERED = 2e-3, 64, 2048
"""Learning rate and windows a step of the twin's training, and windows whose tokens are clustered."""


def place_centroids(network: MoiraiMoE, windows: Windows) -> None:
    """Fill each Centroid gate of the network, as its arguments say.

    Without such a gate, or with ``placed=False``, and without a warm start nothing is done.

    Everything drawn is a function of the network's seed, or else of torch's, and the global generators are
    left as they were.

    Raises:
        UserError: a checkpoint that does not fit, or fewer tokens than centroids.
    """
    if not wants_twin(network):
        return
    seed = torch.initial_seed() if network.seed is None else network.seed
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if network.dense_twin is None:
            twin = dense_twin(network)
            train(twin, windows, network.twin_steps)
        else:
            twin = load_twin(network, network.dense_twin)
        for gates, tokens in zip(centroid_gates(network), inputs(twin, windows), strict=True):
            for gate in gates:
                gate.centroids.copy_(centres(tokens, gate.num_experts, seed))
    if network.warm_start:
        shared = {name: value for name, value in twin.state_dict().items() if ".feed_forward." not in name}
        network.load_state_dict(shared, strict=False)


def wants_twin(network: MoiraiMoE) -> bool:
    """Whether anything of the network comes from a dense twin."""
    return network.warm_start or any(centroid_gates(network))


def centroid_gates(network: MoiraiMoE) -> list[list[Centroid]]:
    """The gates of each layer whose centroids are to be placed."""
    return [
        [part for part in block.modules() if isinstance(part, Centroid) and network.placed]
        for block in network.layers
    ]


def dense_twin(network: MoiraiMoE, hidden: int | None = None) -> MoiraiMoE:
    """The same network, weights and all, with a dense block of that hidden width (4 D) in every layer."""
    twin = deepcopy(network)
    for block in twin.layers:
        weight = block.feed_forward_norm.weight
        block.feed_forward = DenseFFN(len(weight), hidden).to(weight)
    return twin


def load_twin(network: MoiraiMoE, checkpoint: Path) -> MoiraiMoE:
    """The dense twin in a checkpoint of this app. Raises UserError where it is none."""
    prefix = "network."
    state = {
        name.removeprefix(prefix): value
        for name, value in load_checkpoint(checkpoint, "timeseries")["state_dict"].items()
        if name.startswith(prefix)
    }
    down = state.get("blocks.0.feed_forward.expert.down")
    twin = dense_twin(network, None if down is None else down.shape[1])
    try:
        twin.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint} is no dense twin of this network: train one with the same sizes and head, and "
            "apps.common.controls.DenseFFN as feed_forward."
        ) from error
    return twin


def train(twin: MoiraiMoE, windows: Windows, steps: int) -> None:
    """Train by AdamW, the rate falling to zero, on batches drawn from the global generator."""
    optimiser = torch.optim.AdamW(twin.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, max(1, steps))
    losses = []
    for batch in batches(windows, steps, twin):
        loss, _ = twin.train().loss(batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    few = max(1, len(losses) // 10)
    if losses:
        first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
        print(f"Dense twin for the centroids: {steps} steps, loss {first:.3f} to {last:.3f}", flush=True)


@torch.no_grad()
def inputs(twin: MoiraiMoE, windows: Windows) -> list[Tensor]:
    """What enters the feed-forward block of each layer, (tokens, D), wholly missing tokens left out."""
    found: list[list[Tensor]] = [[] for _ in twin.layers]

    def keep(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            x, context = args
            found[layer].append(x.flatten(0, 1) if context.mask is None else x[context.mask])

        return hook

    hooks = [b.feed_forward.register_forward_pre_hook(keep(i)) for i, b in enumerate(twin.layers)]
    for batch in batches(windows, CLUSTERED // WINDOWS, twin.eval()):
        twin.loss(batch)
    for hook in hooks:
        hook.remove()
    return [torch.cat(parts).float() for parts in found]


def centres(tokens: Tensor, number: int, seed: int) -> Tensor:
    """(number, D) centres of clusters of the tokens (T, D). Raises UserError where T is less than number."""
    if len(tokens) < number:
        raise UserError(
            f"{len(tokens)} tokens cannot have {number} centroids: use fewer experts, or more data."
        )
    means = MiniBatchKMeans(number, random_state=seed % 2**32, n_init=3).fit(tokens.cpu().numpy())
    return torch.from_numpy(means.cluster_centers_).to(tokens)


def batches(windows: Windows, number: int, like: nn.Module) -> Iterator[Batch]:
    """So many batches of whole groups drawn at random, on the device of a network."""
    groups = Groups(windows)
    device = next(like.parameters()).device
    for _ in range(number):
        chosen = torch.randperm(len(groups))[: groups.holding(WINDOWS)]
        batch: dict[str, Any] = dict(groups.__getitems__(chosen))
        yield cast(Batch, {name: value.to(device) for name, value in batch.items()})
