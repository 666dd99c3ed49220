"""Experts shared out over the ranks of a device mesh, tokens sent to them and back (expert parallelism).

Legend: R ranks, E experts, L = E / R of them on each rank.
"""

from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.func import functional_call

from collegium.dispatch.exchange import Exchange
from collegium.experts import ExpertGroups, ExpertList, Experts
from collegium.layer import MoE


def expert_parallel(model: nn.Module, mesh: DeviceMesh) -> set[nn.Parameter]:
    """Share the experts of every MoE layer of ``model`` out over a mesh, in place.

    In ``ExpertGroups`` each block is shared out for itself; blocks without parameters (Zero, Copy) stay whole
    on every rank, and so does all else: average its gradients over the ranks, with DDP or FSDP2. Names in the
    state dict stay the same. A model whose experts are shared out already is left as it is.

    Args:
        model: the same on every rank; the experts' weights are taken from the first rank of the mesh.
        mesh: one dim of R ranks, each of which sees other tokens.

    Returns:
        The parameters of the experts, which FSDP2 has to leave alone:
        ``fully_shard(model, mesh=mesh, ignored_params=expert_parallel(model, mesh))``.

    Raises:
        ValueError: see ``ExpertParallel``.
    """
    done: dict[Experts, Experts] = {}

    def shared_out(block: Experts) -> Experts:
        if isinstance(block, ExpertGroups):
            for i, part in enumerate(block.blocks):
                block.blocks[i] = shared_out(cast(Experts, part))
        elif not isinstance(block, ExpertParallel) and any(True for _ in block.parameters()):
            if block not in done:  # two layers may hold one block
                done[block] = ExpertParallel(block, mesh)
            return done[block]
        return block

    for layer in model.modules():
        if isinstance(layer, MoE):
            layer.experts = shared_out(layer.experts)
    blocks = [module for module in model.modules() if isinstance(module, ExpertParallel)]
    return {parameter for block in blocks for parameter in block.parameters()}


class ExpertParallel(Experts):
    """A block of which every rank of a mesh runs E / R neighbouring experts, for the rows of all ranks.

    Every rank must call it equally often, with or without rows. Its parameters and buffers are DTensors,
    ``Shard(0)`` on the mesh, under the names they have in the block, so that ``torch.distributed.checkpoint``
    writes and loads them sharded and whole. Gradients are those of one process whose loss is the mean of the
    ranks' losses, as under DDP and FSDP2: an expert's are summed over all ranks' rows and divided by R.

    Args:
        block: experts whose every parameter and buffer is stacked, (E, ...), such as ``experts.MLP``. Its
            parameters and buffers are replaced; do not use it alone afterwards.
        mesh: one dim of R ranks.

    Raises:
        ValueError: the mesh has several dims, R does not divide E, or something is not stacked over experts.
    """

    def __init__(self, block: Experts, mesh: DeviceMesh) -> None:
        _check(block, mesh)
        super().__init__(block.num_experts, block.item_ndim)
        self.dim, self.needs = block.dim, block.needs
        self.mesh = mesh
        self._whole = (block,)  # no submodule, which would change the names in the state dict
        shards = {
            parameter: nn.Parameter(_sharded(parameter, mesh), parameter.requires_grad)
            for parameter in block.parameters()
        }
        for module in block.modules():
            for name, parameter in module._parameters.items():
                module._parameters[name] = None if parameter is None else shards[parameter]
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else _sharded(buffer, mesh)
        # One set of tables for both, so that whatever moves, casts or loads the one does so for the other.
        self._parameters, self._buffers, self._modules = block._parameters, block._buffers, block._modules
        self._non_persistent_buffers_set = block._non_persistent_buffers_set

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        """Rows (A, \\*item) of this rank, sorted by expert, to (A, \\*out)."""
        if not isinstance(counts, Tensor):
            counts = torch.full((self.num_experts,), counts, device=x.device)
        exchange = Exchange(counts, self.mesh.get_group())
        sides = {name: exchange.send(value) for name, value in side.items()}
        y: Tensor = functional_call(self._block, self._own(), (exchange.send(x), exchange.counts), sides)
        return exchange.send_back(y)

    def train(self, mode: bool = True) -> "ExpertParallel":
        """Set the mode of the block too."""
        self._block.train(mode)
        super().train(mode)
        return self

    def parameters_each(self) -> list[float]:
        """(E) those of the block."""
        return self._block.parameters_each()

    def extra_repr(self) -> str:
        """What is shared out, for print(model)."""
        return f"{type(self._block).__name__}, {self.num_experts} experts on {self.mesh.size()} ranks"

    @property
    def _block(self) -> Experts:
        return self._whole[0]

    def _own(self) -> dict[str, Tensor]:
        """The parts (L, ...) of this rank, by name; what the block writes into a buffer stays."""
        own: dict[str, Tensor] = {name: _local(buffer) for name, buffer in self.named_buffers()}
        for name, parameter in self.named_parameters():
            own[name] = _Averaged.apply(_local(parameter), self.mesh.size())
        return own


class _Averaged(torch.autograd.Function):
    """A tensor as it is, its gradient divided by the number of ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.ranks, None


def _sharded(whole: Tensor, mesh: DeviceMesh) -> DTensor:
    return distribute_tensor(whole.detach().to(mesh.device_type), mesh, [Shard(0)])


def _local(shared: Tensor) -> Tensor:
    assert isinstance(shared, DTensor)
    return shared.to_local()


def _check(block: Experts, mesh: DeviceMesh) -> None:
    E, R, name = block.num_experts, mesh.size(), type(block).__name__
    if mesh.ndim != 1:
        raise ValueError(f"expert parallelism wants a mesh of one dim, not of {mesh.ndim}: slice it by name")
    if E % R:
        raise ValueError(
            f"the {E} experts of {name} cannot be shared out evenly over {R} ranks: "
            "let the number of ranks divide that of experts"
        )
    listed = any(isinstance(module, ExpertList | ExpertGroups) for module in block.modules())
    tensors = chain(block.named_parameters(), block.named_buffers())
    apart = [key for key, tensor in tensors if listed or tensor.shape[:1] != (E,)]
    if apart:
        raise ValueError(
            f"{name} cannot be shared out over ranks, as {apart[0]} is not stacked over its {E} experts: "
            "use a block that stacks all its weights, such as MLP"
        )
