"""BesideRidge: a network and a ridge, averaged."""

from functools import partial

import pandas as pd
import pytest
import torch

from apps.common.controls import MixtureFFN
from apps.common.errors import UserError
from apps.timeseries.baselines import PENALTIES, Ridge
from apps.timeseries.model import Forecaster
from apps.timeseries.networks import (
    BesideRidge,
    DistributionBesideRidge,
    DLinear,
    MoiraiMoE,
    QuantileHead,
    TimeMoE,
)
from apps.timeseries.networks.ridge_moe import HALVINGS, POWERS
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Batch, Windows, as_line
from tests.apps.timeseries.networks.test_ridge_moe import H, L, batch, two_rules


def blend(share: float | None, **options: object) -> BesideRidge:
    torch.manual_seed(0)
    inner = TimeMoE(dim=16, depth=1, heads=2, patch=6, horizons=[H])
    return BesideRidge(inner, L, H, share=share, **options).eval()


def test_it_lies_between_the_ridge_and_the_network() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    data = validation.__getitems__(torch.arange(40))
    x, observed = data["context"], data["context_mask"]
    forecasts = {}
    for share in (0.0, 0.3, 1.0):
        network = blend(share)
        network.prepare(train, validation)
        forecasts[share] = network.forecast(x, observed, H)
        torch.testing.assert_close(network.forecast_batch(data, H), forecasts[share])
    ridge = Ridge.fit(train, validation, PENALTIES, POWERS, HALVINGS)
    torch.testing.assert_close(forecasts[0.0], ridge(x, observed))
    torch.testing.assert_close(forecasts[1.0], network.network.forecast(x, observed, H))
    torch.testing.assert_close(forecasts[0.3], 0.7 * forecasts[0.0] + 0.3 * forecasts[1.0])


def test_its_tokens_are_those_of_the_network() -> None:
    assert BesideRidge(MoiraiMoE(dim=16, depth=1, heads=2, patch=12), 48, 24).patch == 12
    assert BesideRidge(DLinear(48, 24), 48, 24).patch == 48


def test_the_network_learns_by_its_own_loss() -> None:
    network = blend(0.5)
    torch.manual_seed(1)
    loss, _ = network.train().loss(batch())
    torch.manual_seed(1)
    own, _ = network.network.loss(batch())
    assert loss == own
    loss.backward()
    assert network.weight.grad is None


def test_a_short_forecast_is_that_of_its_own_ridge() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    network = blend(0.0, horizons=[2])
    network.prepare(train, validation)
    data = validation.__getitems__(torch.arange(20))
    short = Ridge.fit(train.of_horizon(2), validation.of_horizon(2), PENALTIES, POWERS, HALVINGS)
    wanted = short(data["context"], data["context_mask"])
    torch.testing.assert_close(network.forecast(data["context"], data["context_mask"], H)[:, :2], wanted)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        blend(1.5)
    with pytest.raises(ValueError, match="between 1 and horizon"):
        blend(0.5, horizons=[H + 1])
    network = blend(0.5)
    x = torch.zeros(2, L)
    with pytest.raises(UserError, match="ask for fewer"):
        network.forecast(x, x == 0, H + 1)
    with pytest.raises(UserError, match="make model and data alike"):
        network.prepare(two_rules().of_horizon(2), two_rules().of_horizon(2))


class Off(Forecaster):
    """Forecasts the targets of some windows, off by given errors (W,)."""

    def __init__(self, windows: Windows, errors: torch.Tensor) -> None:
        super().__init__()
        data = windows.__getitems__(torch.arange(len(windows)))
        wrong = data["target"] + errors[:, None]
        self.forecasts = {x.numpy().tobytes(): y for x, y in zip(data["context"], wrong, strict=True)}

    def forecast(self, context: torch.Tensor, observed: torch.Tensor, horizon: int) -> torch.Tensor:
        return torch.stack([self.forecasts[x.numpy().tobytes()] for x in context])[:, :horizon]

    def loss(self, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return batch["target"].mean(), []


def settled(errors: torch.Tensor, share: float | None = None) -> BesideRidge:
    """Beside a network with such errors a ridge of zero weights, which repeats the last value, settled on as
    many windows of a line that rises by 1 a row, with a little noise: steps H late are off by H."""
    rows = len(errors) + L + H - 1
    values = torch.arange(rows) + 0.01 * torch.rand(rows, generator=torch.Generator().manual_seed(0))
    table = Table(values.double().numpy().reshape(-1, 1), pd.RangeIndex(rows), ("line",), None)
    scaler = Scaler(("line",), torch.zeros(1).double(), torch.ones(1).double())
    windows = Windows(as_line([table], scaler), [(0, rows)], L, H)
    network = BesideRidge(Off(windows, errors), L, H, share=share)
    network.settle(windows)
    return network


def test_the_share_is_the_least_within_one_standard_error_of_the_best() -> None:
    steps = torch.arange(1.0, H + 1)
    errors = torch.tensor([2.0, 4.0, 3.0]).repeat_interleave(H)  # three blocks, each a horizon long
    found = settled(errors).shares
    shares = torch.linspace(0, 1, 11)
    block = torch.tensor([2.0, 4.0, 3.0])[:, None, None]
    wrong = -(1 - shares)[None, :, None] * steps + shares[None, :, None] * block
    by_block = wrong.square().mean(dim=2)
    excess = by_block - by_block[:, [by_block.mean(0).argmin()]]
    within = excess.mean(0) <= excess.std(0) / 3**0.5
    wanted = shares[within].min()
    assert 0 < wanted < shares[by_block.mean(0).argmin()]
    torch.testing.assert_close(found, wanted.expand(H))


@pytest.mark.parametrize(("error", "wanted"), [(0.0, 1.0), (100.0, 0.0)])
def test_of_two_forecasters_one_of_which_is_always_better_that_one_is_taken(
    error: float, wanted: float
) -> None:
    assert settled(torch.full((4 * H,), error)).shares.tolist() == [wanted] * H


def test_less_than_two_blocks_leave_the_ridge_alone() -> None:
    assert settled(torch.zeros(2 * H)).shares.tolist() == [1.0] * H
    assert settled(torch.zeros(2 * H - 1)).shares.tolist() == [0.0] * H


def test_where_nothing_follows_series_are_what_is_independent() -> None:
    """The last horizon of many series, as in M4."""
    values = torch.arange(L + H)[:, None] + torch.rand(L + H, 9, generator=torch.Generator().manual_seed(0))
    names = tuple("abcdefghi")
    table = Table(values.double().numpy(), pd.RangeIndex(L + H), names, None)
    scaler = Scaler(names, torch.zeros(9).double(), torch.ones(9).double())
    windows = Windows(as_line([table], scaler), [(0, L + H)] * 9, L, H)
    for error, wanted in ((0.0, 1.0), (100.0, 0.0)):
        network = BesideRidge(Off(windows, torch.full((9,), error)), L, H)
        assert network.settle(windows) == {f"share_{H}": wanted}
    assert BesideRidge(Off(windows, torch.zeros(9)), L, H, share=0.5).settle(windows) == {}


def test_a_share_that_was_given_stays() -> None:
    torch.testing.assert_close(settled(torch.zeros(4 * H), share=0.25).shares, torch.full((H,), 0.25))


def test_each_horizon_has_a_share_of_its_own() -> None:
    network, windows = blend(None, horizons=[2]), two_rules()
    network.settle(windows)
    assert len(set(network.shares[:2].tolist())) == len(set(network.shares[2:].tolist())) == 1
    alone = BesideRidge(network.network, L, 2)
    alone.settle(windows.of_horizon(2))
    assert torch.equal(network.shares[:2], alone.shares)
    x = windows.__getitems__(torch.arange(5))["context"]
    ridge, other = (blend(share, horizons=[2]).forecast(x, x == x, H) for share in (0.0, 1.0))
    torch.testing.assert_close(network.forecast(x, x == x, H), torch.lerp(ridge, other, network.shares))


def test_quantiles_move_with_the_average() -> None:
    torch.manual_seed(0)
    head = partial(QuantileHead, patches=1)
    block = partial(MixtureFFN, num_experts=4, hidden=8)
    inner = MoiraiMoE(dim=16, depth=1, heads=2, patch=6, head=head, feed_forward=block)
    network = DistributionBesideRidge(inner, L, H, share=0.3).eval()
    torch.nn.init.normal_(network.weight, std=0.1)
    data, levels = two_rules().__getitems__(torch.arange(7)), torch.tensor([0.1, 0.5, 0.9])
    found = network.quantiles_batch(data, H, levels)
    torch.testing.assert_close(found[..., 1], network.forecast_batch(data, H))
    torch.testing.assert_close(found.diff(dim=2), inner.quantiles_batch(data, H, levels).diff(dim=2))
    alone = network.quantiles(data["context"], data["context_mask"], H, levels)
    torch.testing.assert_close(alone, found)
