"""Seeds, balancing by bias, and the count of what the routers did."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from collegium import Context, MoE, experts, inspection, record, routers
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from apps.common.callbacks import Annealing, BiasBalancing, Recorder, RoutingMonitor, SeedEachStep
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


class Labelled(nn.Module):
    """Calls its mixture with the sign of the first number as label."""

    def __init__(self) -> None:
        super().__init__()
        self.mixture = mixture()

    def forward(self, x: Tensor) -> Tensor:
        return self.mixture(x, Context(label=(x[:, 0] > 0).long()))


class Trained(Regression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.network(batch[0]).square().mean()


def test_the_monitor_keeps_its_tables_in_the_folder_and_in_the_checkpoint(tmp_path: Path) -> None:
    task, monitor = Trained(Labelled(), balance={}), RoutingMonitor(tmp_path)
    found = trainer(monitor, num_sanity_val_steps=2)
    found.fit(task, rows(24), rows(20))
    found.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["routing"]
    assert json.loads((tmp_path / "routing.json").read_text()) == kept
    assert kept["step"] == 3
    tables = kept["layers"]["mixture"]
    x = rows(20).dataset.tensors[0]
    with record(task.network) as routings, torch.no_grad():
        task.network(x)
    ((routing,),) = routings.values()
    label = routing.context.label
    assert tables["labels"]["label"]["table"] == inspection.expert_by_label(routing, label).tolist()
    assert tables["co_selection"] == pytest.approx(inspection.co_selection(routing).numpy(), rel=1e-5)
    assert tables["labels"]["label"]["value"] == pytest.approx(inspection.mutual_information(routing, label))


def followed(
    monitor: RoutingMonitor, task: Trained, epochs: int = 2
) -> tuple[list[dict[str, float]], Trainer]:
    """Train; return the figures about drift and locality that each validation logged."""

    class Look(Callback):
        def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
            names = ("drift_experts", "drift_probs", "srp", "sch")
            metrics = {name.rpartition("/")[2]: float(v) for name, v in trainer.callback_metrics.items()}
            seen.append({name: value for name, value in metrics.items() if name in names})

    seen: list[dict[str, float]] = []
    found = trainer(monitor, Look(), num_sanity_val_steps=2)
    found.fit_loop.max_epochs = epochs
    found.fit(task, rows(24), rows(20))
    return seen[1:]


def test_drift_is_zero_where_nothing_moves() -> None:
    still = Trained(Labelled(), balance={}, learning_rate=0.0, weight_decay=0.0)
    first, second = followed(RoutingMonitor(), still)
    assert (first, second) == ({}, {"drift_experts": 0, "drift_probs": 0})


def test_drift_is_what_moved_between_two_validations(tmp_path: Path) -> None:
    class Keep(Callback):
        def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
            with record(module.network) as routings, torch.no_grad():
                module.network(rows(20).dataset.tensors[0])
            seen.append(routings["mixture"][0])

    seen: list[Any] = []
    task, monitor = Trained(Labelled(), balance={}, learning_rate=0.3), RoutingMonitor(tmp_path)
    found = trainer(monitor, Keep(), num_sanity_val_steps=0)
    found.fit_loop.max_epochs = 2
    found.fit(task, rows(24), rows(20))
    wanted = inspection.drift(*seen)
    tables = monitor.tables["layers"]["mixture"]
    assert wanted.probs
    assert tables["drift"] == pytest.approx(wanted._asdict())
    assert float(found.callback_metrics["routing/mixture/drift_probs"]) == pytest.approx(wanted.probs)
    assert tables["locality"] == {"left_out": "no sequence has 4 tokens in a row"}


def test_a_restart_compares_with_the_validation_before_it() -> None:
    before, after, task = RoutingMonitor(), RoutingMonitor(), Trained(Labelled(), balance={})
    checkpoint: dict[str, Any] = {}
    found = trainer(before)
    found.validate(task, rows(20), verbose=False)
    before.on_save_checkpoint(found, task, checkpoint)
    found = trainer(after)
    after.on_load_checkpoint(found, task, checkpoint)
    found.validate(task, rows(20), verbose=False)
    assert float(found.callback_metrics["routing/mixture/drift_experts"]) == 0


class Sequences(nn.Module):
    """Takes each number of a row for a token, which its sign sends to an expert."""

    def __init__(self) -> None:
        super().__init__()
        self.mixture = MoE(routers.TopK(1, 4, k=1), experts.MLP(1, 4, hidden=4))

    def forward(self, x: Tensor) -> Tensor:
        return self.mixture(x[..., None])


def test_neighbours_are_looked_at_where_rows_are_sequences() -> None:
    task = Trained(Sequences(), balance={})
    (seen,) = followed(RoutingMonitor(), task, epochs=1)
    with record(task.network) as routings, torch.no_grad():
        task.network(rows(20).dataset.tensors[0])
    (routing,) = routings["mixture"]
    assert seen == {
        "srp": pytest.approx(inspection.segment_routing_best_performance(routing, 4)),
        "sch": pytest.approx(inspection.segment_cache_hit_rate(routing, 2, 4)),
    }


def test_the_monitor_keeps_nothing_without_a_folder() -> None:
    monitor = RoutingMonitor()
    trainer(monitor).validate(Trained(Labelled()), rows(8), verbose=False)
    assert monitor.tables == {}


def test_the_monitor_keeps_nothing_of_a_sanity_check(tmp_path: Path) -> None:
    class Look(Callback):
        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            seen.extend([monitor.tables, list(tmp_path.iterdir())])

    seen: list[Any] = []
    monitor = RoutingMonitor(tmp_path)
    monitor.tables = {"step": 4}  # as after a restart
    trainer(monitor, Look(), num_sanity_val_steps=2).fit(Trained(Labelled()), rows(8), rows(8))
    assert seen == [{"step": 4}, []]
    assert monitor.tables["step"] == 1


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
            self.seen.append(float(module.network.router.schedule.progress))

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
