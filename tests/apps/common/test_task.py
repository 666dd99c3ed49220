"""The balance penalty, the optimiser and its schedule, and what a checkpoint keeps of a task."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from collegium import MoE, Routing, balance, experts, record, routers
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from apps.common.errors import UserError
from apps.common.task import MoETask


class Task(MoETask):
    def __init__(self, network: nn.Module, width: int = 3, **options: Any) -> None:
        super().__init__(network, **options)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        y, penalty = self.forward_with_balance(batch[0])
        return y.square().mean() + penalty


def mixture() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(4), MoE(routers.TopK(4, 3), experts.MLP(4, 3, hidden=4)))


def train(task: Task, steps: int) -> Trainer:
    loader = DataLoader(TensorDataset(torch.randn(4 * steps, 4)), batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(task, loader)
    return trainer


def twice_the_layers(routings: dict[str, list[Routing]]) -> Tensor:
    return torch.tensor(2.0 * len(routings))


def test_the_penalty_is_the_weighted_sum() -> None:
    task, x = Task(mixture(), balance={"load_balance": 0.5, "z_loss": 0.25}), torch.randn(6, 4)
    output, penalty = task.forward_with_balance(x)
    with record(task.network) as routings:
        expected = task.network(x)
    assert torch.equal(output, expected)
    torch.testing.assert_close(
        penalty, 0.5 * balance.load_balance(routings) + 0.25 * balance.z_loss(routings)
    )
    penalty.backward()
    assert task.network[1].router.gate.weight.grad.abs().sum() > 0


def test_a_term_of_ones_own_is_given_by_its_path() -> None:
    task = Task(mixture(), balance={f"{__name__}.twice_the_layers": 3.0})
    assert float(task.forward_with_balance(torch.randn(2, 4))[1]) == 6.0


def test_a_network_without_mixture_has_no_penalty() -> None:
    output, penalty = Task(nn.Linear(4, 2)).forward_with_balance(torch.randn(3, 4))
    assert output.shape == (3, 2)
    assert float(penalty) == 0.0


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("z_los", "z_loss"),
        ("nowhere.heterogeneus", "heterogeneous"),
        ("collegium.balance.nothing", "load_balance"),
    ],
)
def test_an_unknown_term_is_refused(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"names '{name}', which does not exist: use .* such as {near}, or"):
        Task(mixture(), balance={name: 1.0})


def test_terms_are_logged_by_their_short_name() -> None:
    path = f"{__name__}.twice_the_layers"
    trainer = train(Task(mixture(), balance={path: 0.0, "load_balance": 0.1}), steps=1)
    assert set(trainer.callback_metrics) == {"balance/twice_the_layers", "balance/load_balance"}


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    rates: list[float] = []

    class Watched(Task):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            rates.append(self.optimizers().param_groups[0]["lr"])

    train(Watched(mixture(), learning_rate=0.8, warmup_steps=3, final_fraction=0.1), steps=13)
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[8] == pytest.approx(0.8 * 0.55)  # half of the cosine
    assert all(later < earlier for earlier, later in pairwise(rates[3:]))
    assert rates[-1] > 0.08


def test_without_an_end_the_rate_stays() -> None:
    task = Task(mixture(), warmup_steps=2)
    task._total_steps = lambda: float("inf")  # type: ignore[method-assign]
    assert [task._rate_factor(step) for step in (2, 1000)] == [1.0, 1.0]


def test_only_matrices_decay_and_frozen_parameters_are_left_out() -> None:
    task = Task(mixture(), weight_decay=0.3)
    task.network[1].router.requires_grad_(False)
    task.trainer = Trainer(max_steps=10, logger=False, accelerator="cpu")
    chosen: Any = task.configure_optimizers()
    groups = {group["weight_decay"]: group["params"] for group in chosen["optimizer"].param_groups}
    block, norm = task.network[1].experts, task.network[0]
    assert {id(p) for p in groups[0.3]} == {id(block.up), id(block.down)}
    assert {id(p) for p in groups[0.0]} == {id(norm.weight), id(norm.bias)}


def test_a_checkpoint_of_a_task_built_in_python_holds_plain_values(tmp_path: Path) -> None:
    task = Task(mixture(), width=5, learning_rate=0.25)
    train(task, steps=1).save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]
    assert (kept["width"], kept["learning_rate"], "network" in kept) == (5, 0.25, False)
    again = Task.load_from_checkpoint(tmp_path / "a.ckpt", network=mixture(), weights_only=True)
    torch.testing.assert_close(again.state_dict(), task.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_a_configured_task_rebuilds_it(fit: Any) -> None:
    from apps.common.discovery import app_module

    path = (
        fit("--trainer.max_epochs=1", "--model.network.init_args.num_experts=5") / "checkpoints" / "last.ckpt"
    )
    task = app_module("moons", "task").Task.load_from_checkpoint(path, map_location="cpu")
    assert task.network.mixture.experts.num_experts == 5
    saved = torch.load(path, weights_only=True)["state_dict"]
    torch.testing.assert_close(dict(task.state_dict()), dict(saved), rtol=0, atol=0)


def test_a_term_takes_arguments_beside_its_weight() -> None:
    options = {"heterogeneous": {"weight": 0.5, "cheap": 1, "tau": 0.5}}
    task, x = Task(mixture(), balance=options), torch.randn(6, 4)
    _, penalty = task.forward_with_balance(x)
    with record(task.network) as routings:
        task.network(x)
    torch.testing.assert_close(penalty, 0.5 * balance.heterogeneous(routings, cheap=1, tau=0.5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"latency_cv": {"latency": [1, 2, 3]}}, "gives latency_cv no weight"),
        ({"latency_cv": {"weight": 1.0, "latencies": [1, 2, 3]}}, "which it does not take: it takes latency"),
        ({"z_loss": {"weight": 1.0, "x": 1}}, "it takes nothing"),
        (
            {"heterogeneous": 0.01},
            r"no cheap: write heterogeneous: {weight: ..., cheap: ...}",
        ),
        ({"latency_cv": 0.1}, "gives latency_cv no latency: write"),
        ({f"{__name__}.Scaled": 0.1}, "Scaled no by: write"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Task(mixture(), balance=options)


class Scaled:
    """A term of a user's own, whose call names its argument as it likes."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, calls: dict[str, list[Routing]]) -> Tensor:
        return torch.tensor(self.by * len(calls))


class OfTwo:
    def __call__(self, routings: dict[str, list[Routing]], target: Tensor) -> Tensor:
        return target


def of_named_options(*, tau: float = 1.0) -> Tensor:
    return torch.tensor(tau)


def of_anything(x: dict[str, list[Routing]], **options: float) -> Tensor:
    return torch.tensor(options["tau"] * len(x))


NO_TERMS = ["GlobalCounts", "collegium.balance.losses.shares", "collegium.balance.losses"]
OWN_NO_TERMS = [f"{__name__}.{name}" for name in ("OfTwo", "of_named_options", "NO_TERMS")]


@pytest.mark.parametrize("name", [*NO_TERMS, *OWN_NO_TERMS])
def test_what_is_no_term_is_refused(name: str) -> None:
    words = f"model.balance names '{name}', which is no term: a term is a function of the recorded routings"
    with pytest.raises(ValueError, match=words):
        Task(mixture(), balance={name: 0.1})


def test_bias_balance_is_called_by_its_name_alone() -> None:
    with pytest.raises(ValueError, match=r"moves the routers' biases: call it BiasBalance$"):
        Task(mixture(), balance={"collegium.balance.BiasBalance": 0.1})


@pytest.mark.parametrize("value", [0.01, {"rate": 0.01, "rest": 0.0}])
def test_bias_balance_moves_biases_and_is_no_loss(value: Any) -> None:
    task = Task(mixture(), balance={"BiasBalance": value})
    router = task.network[1].router
    assert torch.equal(router.bias, torch.zeros(3))
    train(task, 2)
    assert float(router.bias.abs().max()) > 0
    assert float(router.bias.abs().max()) <= 0.02 + 1e-6
    assert float(task.forward_with_balance(torch.randn(2, 4))[1]) == 0.0


def test_bias_balance_leaves_a_bias_that_is_kept() -> None:
    network = mixture()
    network[1].router = routers.TopK(4, 3, bias=True)
    network[1].router.bias.fill_(0.5)
    assert Task(network, balance={"BiasBalance": 0.1}).network[1].router.bias.tolist() == [0.5] * 3


@pytest.mark.parametrize("router", [routers.Base, routers.Sinkhorn, routers.Hash, routers.TopP])
def test_bias_balance_of_a_router_without_a_bias_is_refused(router: Any) -> None:
    network = nn.Sequential(MoE(router(4, 3), experts.MLP(4, 3, hidden=4)))
    with pytest.raises(ValueError, match=f"{router.__name__} knows no selection bias"):
        Task(network, balance={"BiasBalance": 0.1})


@pytest.mark.parametrize("value", [-1.0, "fast", True, {"rate": 0.1, "tau": 1.0}])
def test_bias_balance_takes_a_rate(value: Any) -> None:
    with pytest.raises(ValueError, match=r"gives BiasBalance .*: give it a rate of 0 or more"):
        Task(mixture(), balance={"BiasBalance": value})


def test_every_term_of_the_core_is_one() -> None:
    needed = {"heterogeneous": {"cheap": 1}, "latency_cv": {"latency": [1, 2, 3]}}
    terms = set(balance.__all__) - {"BiasBalance", "GlobalCounts", "consistency"}
    options = {name: {"weight": 0.1, **needed.get(name, {})} for name in sorted(terms)}
    assert [term.name for term in Task(mixture(), balance=options).balance] == sorted(terms)


def test_terms_of_ones_own_name_their_arguments_as_they_like() -> None:
    options = {
        f"{__name__}.Scaled": {"weight": 1.0, "by": 3.0},
        f"{__name__}.of_anything": {"weight": 2.0, "tau": 5.0},
    }
    assert float(Task(mixture(), balance=options).forward_with_balance(torch.randn(2, 4))[1]) == 13.0


def test_a_term_that_counts_is_told_of_each_optimiser_step(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(mixture(), balance={"GlobalLoadBalance": 0.1})
    (term,) = task.balance
    micro_batches: list[int] = []
    monkeypatch.setattr(term.function, "step", lambda: micro_batches.append(len(demands)))
    demands: list[float] = []
    call = term.function.counts.observe
    monkeypatch.setattr(term.function.counts, "observe", lambda r: (demands.append(1.0), call(r)))
    loader = DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, accumulate_grad_batches=2, **quiet
    )
    trainer.fit(task, loader)
    assert micro_batches == [2, 4]  # of six, the last step has no batch after it


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ({"selector_entropy": 0.1}, "selector_entropy: .* for routers with selectors"),
        ({"latency_cv": {"weight": 0.1, "latency": [1.0]}}, "latency_cv: .* wants . positive latencies"),
    ],
)
def test_a_term_that_does_not_fit_the_router_is_told_in_one_sentence(term: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"model.balance: {words}"):
        Task(mixture(), balance=term).forward_with_balance(torch.randn(3, 4))


class Noisy(nn.Module):
    """A mixture of random experts whose calls are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.moe = MoE(routers.Random(4, 3), experts.MLP(4, 3, hidden=4))
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(x)
        y: Tensor = self.moe(x)
        return y


class Agreeing(Task):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        y, penalty = self.forward_with_balance(batch[0])
        return (y - 3 * batch[0]).square().mean() + penalty

    def disagreement(self, output: Tensor, other: Tensor) -> Tensor:
        self.seen = (output.detach(), other.detach())
        return balance.consistency(output, other)


def test_consistency_passes_each_training_batch_twice_and_penalises_the_distance() -> None:
    task = Agreeing(Noisy(), balance={"consistency": 2.0})
    trainer = train(task, 1)
    first, second = task.network.calls
    assert torch.equal(first, second)
    logged = float(trainer.callback_metrics["balance/consistency"])
    assert logged == pytest.approx(float(balance.consistency(*task.seen)))
    assert logged > 0


def test_random_experts_learn_to_agree() -> None:
    found = []
    for options in ({}, {"consistency": 10.0}):
        torch.manual_seed(1)
        task = Agreeing(Noisy(), balance=options, learning_rate=1e-2)
        train(task, 200)
        x = torch.randn(64, 4)
        task.network.train()
        with torch.no_grad():
            passes = [task.network(x) for _ in range(2)]
        found.append(float(balance.consistency(*passes)))
    assert found[1] < found[0] / 2


def test_outside_training_there_is_one_pass() -> None:
    task = Agreeing(Noisy(), balance={"consistency": 2.0})
    output, penalty = task.forward_with_balance(torch.randn(3, 4))
    assert output.shape == (3, 4)
    assert len(task.network.calls) == 1
    assert float(penalty) == 0


def test_consistency_of_an_app_without_a_distance_is_refused() -> None:
    with pytest.raises(UserError, match=r"take consistency out, or give Task a disagreement\(\)\.$"):
        train(Task(Noisy(), balance={"consistency": 1.0}), 1)


@pytest.mark.parametrize("value", [-1.0, "much", True, {"weight": 1.0, "tau": 2.0}, {"tau": 2.0}])
def test_consistency_takes_a_weight_alone(value: Any) -> None:
    with pytest.raises(ValueError, match=r"gives consistency .*: give it a weight of 0 or more, alone$"):
        Task(mixture(), balance={"consistency": value})
