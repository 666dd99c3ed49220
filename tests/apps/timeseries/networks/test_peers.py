"""The peers of neuralforecast behave as forecasters of this app."""

import pytest
import torch

from apps.common.errors import UserError
from apps.timeseries.networks import peers
from apps.timeseries.networks.peers import Peer, absolutes, nhits, patchtst
from apps.timeseries.windows import Batch

pytest.importorskip("neuralforecast", reason="the extra `peers` is not installed")

FACTORIES = [patchtst, nhits]


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def peer(request: pytest.FixtureRequest) -> Peer:
    torch.manual_seed(0)
    return request.param(48, 24, hidden=32).eval()


def waves(windows: int = 64, missing: float = 0.0) -> Batch:
    """Sines of period 12 at any phase and level, 48 rows of context and 24 of target."""
    generator = torch.Generator().manual_seed(1)
    phase, level = (
        12 * torch.rand(windows, 1, generator=generator),
        torch.randn(windows, 1, generator=generator),
    )
    values = torch.sin((torch.arange(72) + phase) * torch.pi / 6) + level
    mask = torch.rand(windows, 72, generator=generator) >= missing
    whole = torch.zeros(windows, dtype=torch.long)
    return Batch(
        context=values[:, :48].where(mask[:, :48], 0.0),
        context_mask=mask[:, :48],
        target=values[:, 48:].where(mask[:, 48:], 0.0),
        target_mask=mask[:, 48:],
        channel=whole,
        start=whole,
        hour=whole,
        weekday=whole,
    )


def test_a_shorter_forecast_is_the_beginning_of_the_whole_and_a_longer_one_is_refused(peer: Peer) -> None:
    batch = waves(5)
    whole = peer.forecast(batch["context"], batch["context_mask"], 24)
    assert whole.shape == (5, 24)
    assert torch.equal(peer.forecast(batch["context"], batch["context_mask"], 7), whole[:, :7])
    with pytest.raises(UserError, match="forecasts 24 steps, not 25"):
        peer.forecast(batch["context"], batch["context_mask"], 25)


def test_what_is_missing_is_not_read(peer: Peer) -> None:
    batch = waves(5, missing=0.3)
    context, mask = batch["context"], batch["context_mask"]
    spoilt = context.masked_fill(~mask, 99.0)
    torch.testing.assert_close(peer.forecast(spoilt, mask, 24), peer.forecast(context, mask, 24))


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_errors_of_all_horizons_count_alike(factory) -> None:
    batch, horizons = waves(5), [6, 24]
    torch.manual_seed(0)
    network = factory(48, 24, hidden=32, horizons=horizons).eval()
    loss, (forecast,) = network.loss(batch)
    alone = [
        network.objective(forecast[:, :h], batch["target"][:, :h], batch["target_mask"][:, :h])
        for h in horizons
    ]
    torch.testing.assert_close(loss, sum(alone) / 2)


def test_missing_targets_have_no_share_in_the_loss(peer: Peer) -> None:
    batch = waves(5, missing=0.3)
    spoilt = Batch(**batch | {"target": batch["target"].masked_fill(~batch["target_mask"], 99.0)})
    torch.testing.assert_close(peer.loss(spoilt)[0], peer.loss(batch)[0])


def test_windows_are_forecast_one_by_one(peer: Peer) -> None:
    batch = waves(5)
    together = peer.forecast(batch["context"], batch["context_mask"], 24)
    alone = peer.forecast(batch["context"][3:4], batch["context_mask"][3:4], 24)
    torch.testing.assert_close(together[3:4], alone, atol=1e-5, rtol=1e-5)


def test_training_learns_the_waves(peer: Peer) -> None:
    batch = waves()
    optimizer = torch.optim.Adam(peer.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss, _ = peer.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_patchtst_moves_and_stretches_with_its_window() -> None:
    torch.manual_seed(0)
    network, batch = patchtst(48, 24).eval(), waves(5)
    plain = network.forecast(batch["context"], batch["context_mask"], 24)
    moved = network.forecast(10 * batch["context"] + 3, batch["context_mask"], 24)
    torch.testing.assert_close(moved, 10 * plain + 3, atol=1e-3, rtol=1e-3)


def test_patchtst_normalises_by_the_mean_and_not_by_the_last_value() -> None:
    assert patchtst(48, 24).model.model.revin_layer.subtract_last is False


def test_nhits_interpolates_between_its_coefficients() -> None:
    torch.manual_seed(0)
    network = nhits(48, 24, pooling=[4], downsampling=[24]).eval()  # one coefficient for the whole horizon
    batch = waves(5)
    forecast = network.forecast(batch["context"], batch["context_mask"], 24)
    torch.testing.assert_close(forecast, forecast[:, :1].expand(-1, 24))
    with pytest.raises(ValueError, match="pooling has 2 stacks and downsampling 1"):
        nhits(48, 24, pooling=[4, 2], downsampling=[24])


@pytest.mark.parametrize("factory", FACTORIES)
def test_weights_follow_the_seed_of_the_caller(factory) -> None:
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in factory(48, 24, hidden=32).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_absolutes_by_hand() -> None:
    forecast, target = torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[3.0, float("nan"), 1.0]])
    mask = torch.tensor([[True, False, True]])
    assert absolutes(forecast, target, mask).item() == pytest.approx(1.5)
    assert absolutes(forecast, target, torch.zeros_like(mask)).item() == 0


def test_without_the_package_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(peers, "import_module", missing)
    with pytest.raises(UserError, match="make peers"):
        patchtst(48, 24)
