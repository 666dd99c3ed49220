"""Seeds, balancing by bias, and the count of what the routers did."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from collegium import Context, MoE, experts, record, routers
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from apps.common.callbacks import Annealing, BiasBalancing, Recorder, RoutingMonitor, SeedEachStep, Usage
from apps.common.errors import UserError
from apps.common.task import MoETask


def mixture(**options: Any) -> MoE:
    return MoE(routers.TopK(4, 3, k=1, **options), experts.MLP(4, 3, hidden=4))


class Regression(MoETask):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        y, penalty = self.forward_with_balance(batch[0])
        return y.square().mean() + penalty

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.network(batch[0]).square().mean())


def rows(count: int, batch: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(count, 4, generator=torch.manual_seed(0))), batch_size=batch)


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_model_summary=False,
        **quiet,
        callbacks=[*callbacks],
        **options,
    )


def draws(seed: int, epoch: int, batch: int, rank: int = 0) -> list[float]:
    torch.rand(7)
    at = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    SeedEachStep(seed).on_train_batch_start(cast(Trainer, at), cast(LightningModule, None), None, batch)
    return torch.rand(3).tolist()


def test_each_batch_draws_its_own_numbers_whatever_was_drawn_before() -> None:
    assert draws(1, 2, 3) == draws(1, 2, 3)
    others = [draws(2, 2, 3), draws(1, 3, 3), draws(1, 2, 4), draws(1, 2, 3, rank=1), draws(1, 3, 2)]
    assert len({tuple(numbers) for numbers in [draws(1, 2, 3), *others]}) == 6


def test_the_bias_moves_once_an_optimiser_step_by_all_its_micro_batches() -> None:
    network = mixture(bias=True)
    with torch.no_grad():
        network.router.gate.weight.copy_(torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0], [0, 0, 9.0, 0]]))
    # micro-batch 1: expert 0 twice; 2: expert 1 three times; together expert 2 is the one that is short
    x = torch.eye(4)[[0, 0, 1, 1, 1]]
    batches = DataLoader(TensorDataset(x), batch_sampler=[[0, 1], [2, 3, 4]])
    task = Regression(network, balance={}, learning_rate=0.0)
    trainer(BiasBalancing(rate=0.1), accumulate_grad_batches=2).fit(task, batches)
    assert network.router.bias.tolist() == pytest.approx([-0.1, -0.1, 0.1])


def test_a_router_without_a_bias_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"BiasBalancing cannot be used here: .*TopK\(bias=True\)"):
        trainer(BiasBalancing()).fit(Regression(mixture()), rows(8))


def test_the_monitor_counts_the_whole_validation() -> None:
    task, loader = Regression(mixture()), rows(20)
    found = trainer(RoutingMonitor())
    found.validate(task, loader, verbose=False)
    with record(task.network) as routings, torch.no_grad():
        task.network(loader.dataset.tensors[0])
    expected = routings[""][0].demand / 20
    loads = [float(found.callback_metrics[f"routing/network/load_{expert}"]) for expert in range(3)]
    assert loads == pytest.approx(expected.tolist())


def test_a_network_without_mixture_logs_no_routing() -> None:
    found = trainer(RoutingMonitor())
    found.validate(Regression(nn.Linear(4, 4)), rows(8), verbose=False)
    assert list(found.callback_metrics) == ["val/loss"]


def test_usage_by_hand() -> None:
    router = routers.TopK(2, 2, k=1)
    with torch.no_grad():
        router.gate.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    usage = Usage()
    usage.add([router(torch.tensor([[1.0, 0.0]] * 3)), router(torch.tensor([[0.0, 1.0]]))])
    nobody = Context(mask=torch.zeros(2, dtype=torch.bool))
    usage.add([router(torch.zeros(2, 2), nobody)])
    figures = usage.figures()
    assert (figures["load_0"], figures["load_1"], figures["max_violation"]) == (0.75, 0.25, 0.5)
    assert figures["entropy"] == pytest.approx(0, abs=1e-6)


def test_a_recorder_leaves_nothing_on_the_model() -> None:
    network, recorder = mixture(), Recorder()
    recorder.start(network)
    network(torch.randn(2, 4))
    assert len(recorder.stop()[""]) == 1
    network(torch.randn(2, 4))
    assert recorder.stop() == {}
    recorder.start(network)
    recorder.start(network)  # as after a batch that failed
    network(torch.randn(2, 4))
    assert len(recorder.stop()[""]) == 1


def test_schedules_end_before_training_does() -> None:
    class Watch(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
            self.seen.append(float(module.network.router.progress))

    layer, watch = MoE(routers.DenseToSparse(4, 3), experts.MLP(4, 3, hidden=4)), Watch()
    loader = DataLoader(TensorDataset(torch.randn(40, 4)), batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    callbacks = [Annealing(until=0.5), watch]
    Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, callbacks=callbacks, **quiet).fit(
        Regression(layer), loader
    )
    assert watch.seen == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="until=0"):
        Annealing(until=0)
