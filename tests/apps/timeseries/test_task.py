"""Losses: what each token is asked for, and on which scale."""

from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from apps.common.errors import UserError
from apps.timeseries.data import Data
from apps.timeseries.model import huber
from apps.timeseries.networks import BesideRidge, DLinear, TimeMoE
from apps.timeseries.networks.tokens import following
from apps.timeseries.task import Task


def network(**options: object) -> TimeMoE:
    torch.manual_seed(0)
    return TimeMoE(dim=16, depth=1, heads=2, patch=4, horizons=(4, 8), **options)


def batch(length: int = 24, horizon: int = 8, size: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(1)
    series = torch.randn(size, length + horizon).cumsum(1)
    mask = torch.ones_like(series, dtype=torch.bool)
    return {
        "context": series[:, :length],
        "context_mask": mask[:, :length],
        "target": series[:, length:],
        "target_mask": mask[:, length:],
    }


@pytest.mark.parametrize(("length", "horizon"), [(8, 4), (7, 4), (8, 9), (3, 2)])
def test_following_gives_each_token_what_comes_after_it(length: int, horizon: int) -> None:
    patch, future = 4, 6
    series = torch.arange(1.0, length + future + 1)[None]
    found = following(series[:, :length], series[:, length:], patch, horizon)
    tokens = -(-length // patch)
    for n in range(tokens):
        end = length - (tokens - 1 - n) * patch
        expected = [series[0, i].item() if i < length + future else 0.0 for i in range(end, end + horizon)]
        assert found[0, n].tolist() == expected


def test_huber_by_hand() -> None:
    error = torch.tensor([[0.5, -3.0, 99.0]])
    mask = torch.tensor([[True, True, False]])
    expected = (0.5 * 0.25 + 2.0 * (3.0 - 1.0)) / 2
    assert huber(error, torch.zeros(1, 3), mask, delta=2.0).item() == pytest.approx(expected)
    assert huber(error, torch.full((1, 3), torch.nan), mask & False, delta=2.0).item() == 0.0


def test_small_errors_cost_half_their_square() -> None:
    error = torch.rand(4, 6)
    everything = torch.ones(4, 6, dtype=torch.bool)
    assert torch.allclose(huber(error, torch.zeros(4, 6), everything, 2.0), 0.5 * error.square().mean())


def test_the_last_token_learns_to_forecast_as_it_will_be_used() -> None:
    """With one head and one token, the loss is the Huber loss of `forecast` in deviations of the window."""
    net = TimeMoE(dim=16, depth=1, heads=2, patch=4, horizons=(8,), loss_on="last").eval()
    data = batch()
    loss, _ = net.loss(data)
    forecast = net.forecast(data["context"], data["context_mask"], 8)
    scale = data["context"].std(1, correction=0, keepdim=True)
    expected = huber(forecast / scale, data["target"] / scale, data["target_mask"], 2.0)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_in_a_suffix_the_scale_knows_nothing_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = network(loss_on="suffix").eval(), batch()
    monkeypatch.setattr(net, "_first_token", lambda tokens: 3)
    seen = 16  # points up to the end of token 3

    forward = net.forward

    def loss_of_first_token(values: Tensor) -> Tensor:
        captured: list[Tensor] = []
        monkeypatch.setattr(net, "forward", lambda v, m, last: (captured.append(v), forward(v, m, last))[1])
        net.loss({**data, "context": values})
        return captured[0][:, :seen]

    later = data["context"].clone()
    later[:, seen:] += 10.0
    torch.testing.assert_close(loss_of_first_token(data["context"]), loss_of_first_token(later))


def test_missing_targets_have_no_share_in_the_loss() -> None:
    net, data = network(loss_on="every").eval(), batch()
    data["target_mask"] = data["target_mask"].clone()
    data["target_mask"][:, 3:] = False
    changed = {**data, "target": data["target"].masked_fill(~data["target_mask"], 1e6)}
    torch.testing.assert_close(net.loss(data)[0], net.loss(changed)[0])


@pytest.mark.parametrize("loss_on", ["suffix", "every", "last"])
def test_training_lowers_the_loss(loss_on: str) -> None:
    task, data = Task(network(loss_on=loss_on), learning_rate=1e-2), batch(size=16)
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        torch.manual_seed(0)
        (loss, _), penalty = task.with_balance(task.network.loss, data)
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_an_unknown_loss_on_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown loss_on 'all': choose one of suffix, every, last$"):
        network(loss_on="all")


def test_dlinear_learns_from_half_the_squares_of_its_forecast() -> None:
    net, data = DLinear(24, 8), batch()
    data["target_mask"] = torch.rand(5, 8) < 0.5
    loss, (forecast,) = net.loss(data)
    assert torch.equal(forecast, net.forecast(data["context"], data["context_mask"], 8))
    wanted = (forecast - data["target"])[data["target_mask"]].square().mean() / 2
    torch.testing.assert_close(loss, wanted)


def validated(task: Task, *batches: dict[str, Tensor]) -> dict[str, float]:
    """What validation logs of batches."""
    logged: dict[str, float] = {}
    task.log = lambda name, value, **_: logged.__setitem__(name, float(value))  # type: ignore[assignment,method-assign]
    for number, part in enumerate(batches):
        task.validation_step(part, 0, number)
    task.on_validation_epoch_end()
    return logged


def shorter(data: dict[str, Tensor], steps: int) -> dict[str, Tensor]:
    return {**data, "target": data["target"][:, :steps], "target_mask": data["target_mask"][:, :steps]}


def test_validation_averages_over_its_horizons_however_many_windows_they_have() -> None:
    task, data = Task(network(), balance={}).eval(), batch()
    few = {name: part[:2] for name, part in data.items()}
    logged = validated(task, shorter(few, 4), data, data)
    errors = []
    for horizon, part in ((4, few), (8, data)):
        forecast = task.network.forecast(part["context"], part["context_mask"], horizon)
        errors.append((forecast - part["target"][:, :horizon]).square().mean().item())
    assert logged["val/loss"] == logged["val/mse"] == pytest.approx(sum(errors) / 2, rel=1e-5)
    assert validated(task, data)["val/mse"] == pytest.approx(errors[1], rel=1e-5)


def test_a_batch_without_observed_targets_has_no_share_in_validation() -> None:
    task, data = Task(network(), balance={}).eval(), batch()
    short = shorter(data, 4)
    whole = validated(task, short, data)["val/mse"]
    nothing = {**data, "target_mask": torch.zeros_like(data["target_mask"])}
    found = validated(task, short, data, nothing, shorter(nothing, 4))
    assert found["val/mse"] == pytest.approx(whole, rel=1e-6)
    later = validated(task, shorter(nothing, 4), data)  # nothing is observed at the shorter horizon
    assert later["val/mse"] == pytest.approx(validated(task, data)["val/mse"], rel=1e-5)


def test_disagreement_is_half_the_squared_distance_a_mean_over_heads() -> None:
    task, nothing = Task(network()), torch.zeros(())
    first, other = [torch.zeros(2, 3), torch.ones(1, 4)], [torch.full((2, 3), 2.0), torch.ones(1, 4)]
    assert float(task.disagreement((nothing, first), (nothing, other))) == 1.0


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_network_of_another_context_than_the_data_is_refused(stage: str) -> None:
    task = Task(DLinear(24, 8))
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(horizon=8, context=32))
    with pytest.raises(UserError, match=r"reads 24 rows and data\.context is 32: make the two alike"):
        task.setup(stage)
    task.trainer.datamodule.context = 24
    task.setup(stage)


def test_shares_are_settled_while_it_trains_and_not_where_it_is_only_measured() -> None:
    data = Data(rows=800, context=24, horizon=8, max_windows_per_epoch=64)
    inner = TimeMoE(dim=16, depth=1, heads=2, patch=4, horizons=(8,))
    task = Task(BesideRidge(inner, 24, 8))
    plain = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trained = Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **plain)
    trained.fit(task, data)
    settled = task.network.shares.clone()
    assert float(trained.callback_metrics["val/share_8"]) == pytest.approx(settled[0].item())
    again = BesideRidge(inner.eval(), 24, 8)
    again.weight.data.copy_(task.network.weight)
    again.settle(data.windows("validation"))
    assert torch.equal(settled, again.shares)
    task.network.shares.fill_(0.25)
    Trainer(accelerator="cpu", **plain).validate(task, data, verbose=False)
    assert (task.network.shares == 0.25).all()


def test_a_network_that_does_not_reach_the_horizon_of_the_data_is_refused_before_it_trains() -> None:
    task = Task(BesideRidge(network(), 24, 8))
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(horizon=12, context=24))
    with pytest.raises(UserError, match=r"forecasts 8 steps and data\.horizon is 12"):
        task.setup("fit")
