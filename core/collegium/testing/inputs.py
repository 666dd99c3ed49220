"""What the checks are made of: random inputs, plain references, one way to fail."""

import copy
import pickle
from collections.abc import Callable, Sequence
from inspect import isabstract
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from collegium.context import IDS, Context
from collegium.experts import Experts
from collegium.routers import RouteError

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


def exported(package: ModuleType, base: type[M]) -> dict[str, type[M]]:
    """Name -> class of every concrete ``base`` that a package exports: what is exported is tested.

    >>> from collegium import experts
    >>> "MLP" in exported(experts, experts.Experts)
    True
    """
    public = {name: getattr(package, name) for name in package.__all__}
    return {
        name: found
        for name, found in public.items()
        if isinstance(found, type) and issubclass(found, base) and not isabstract(found)
    }


def random_context(needs: Sequence[str], shape: tuple[int, ...]) -> Context:
    """A Context that holds the fields named in ``needs``, each of the shape given (leading dims)."""
    fields: dict[str, Any] = {
        name: torch.randint(5, shape) if name in IDS else torch.rand(shape) for name in needs
    }
    if "mask" in fields:
        fields["mask"] = fields["mask"] < 0.7
    if "affinity" in fields:
        fields["affinity"] = torch.rand(*shape, shape[-1])
    return Context(**fields)


def take(context: Context, index: Tensor) -> Context:
    """The same fields of some tokens of one sequence only."""
    fields: dict[str, Any] = {k: v[index] for k, v in vars(context).items() if isinstance(v, Tensor)}
    if context.affinity is not None:
        fields["affinity"] = fields["affinity"][:, index]
    return Context(**fields)


def crop(context: Context, sequences: Tensor, length: int) -> Context:
    """The same fields of the first tokens of some sequences."""
    fields: dict[str, Any] = {
        k: v[sequences, :length] for k, v in vars(context).items() if isinstance(v, Tensor)
    }
    if context.affinity is not None:
        fields["affinity"] = fields["affinity"][..., :length]
    return Context(**fields)


def row_by_row(experts: Experts, x: Tensor, expert: Tensor, context: Context) -> Tensor:
    """Rows (A, \\*item) through their experts (A,), each row on its own: the plainest reference."""
    y = []
    for row, chosen in enumerate(expert.tolist()):
        counts = torch.zeros(experts.num_experts, dtype=torch.int64)
        counts[chosen] = 1
        side = {name: getattr(context, name)[row : row + 1] for name in experts.needs}
        y.append(experts(x[row : row + 1], counts, **side))
    return torch.cat(y)


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    """Gradients, zero where there is none at all."""
    if not loss.requires_grad:
        return [torch.zeros_like(tensor) for tensor in of]
    return list(torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True))


def copies(module: M, fresh: M) -> dict[str, M]:
    """The module as its state dict, deepcopy and pickle bring it back; ``fresh`` takes the state dict.

    Pickle is left out where a class cannot be imported, such as one that is local to a function.
    """
    fresh.load_state_dict(module.state_dict())
    twins = {"the state dict": fresh.train(module.training)}
    try:
        twins["deepcopy"] = copy.deepcopy(module)
    except RuntimeError as error:
        raise AssertionError("deepcopy fails after a call: keep no routing on the module") from error
    if all(_importable(type(part)) for part in module.modules()):
        twins["pickle"] = pickle.loads(pickle.dumps(module))
    return twins


def _importable(cls: type) -> bool:
    try:
        pickle.dumps(cls)
    except (pickle.PicklingError, AttributeError):
        return False
    return True


def expect(holds: bool, sentence: str) -> None:
    """Raise an AssertionError with the sentence, also under ``python -O``."""
    if not holds:
        raise AssertionError(sentence)


def expect_close(found: Tensor, wanted: Tensor, sentence: str) -> None:
    """Raise an AssertionError with the sentence and what differs, unless equal to float tolerance."""
    torch.testing.assert_close(found, wanted, msg=lambda detail: f"{sentence}\n{detail}")


def expect_refusal(call: Callable[[], object], mention: str, sentence: str) -> None:
    """Raise an AssertionError unless the call raises a ValueError of one line that holds ``mention``."""
    try:
        call()
    except ValueError as error:
        text = str(error)
        expect(mention in text and "\n" not in text, f"{sentence}, in one line that mentions {mention!r}")
        return
    raise AssertionError(sentence)


def run(checks: Sequence[Callable[[C], None]], case: C, build: Callable[[], nn.Module], seed: int) -> None:
    """Run each check from the same seed, tell which one failed, and leave the caller's generator alone."""
    with torch.random.fork_rng(devices=[]):
        name = type(build()).__name__
        for check in checks:
            torch.manual_seed(seed)
            try:
                check(case)
            except (AssertionError, RouteError) as error:
                title = check.__name__.strip("_").replace("_", " ")
                raise AssertionError(f"{name}, {title}: {error}") from error
