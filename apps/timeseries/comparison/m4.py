"""M4 as a comparison: every series forecast once, beside the benchmarks of the competition."""

import numpy as np
import torch
from torch import Tensor

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.timeseries.comparison.measured import Measured
from apps.timeseries.data import Data
from apps.timeseries.m4 import PROTOCOLS, benchmark, errors, relative, targets

BENCHMARKS = {
    "naive2": "Naive2",
    "seasonal_naive": "SeasonalNaive",
    "auto_theta": "AutoTheta",
    "auto_ets": "AutoETS",
}
"""The benchmarks by the names of their arms."""


class MeasuredM4(Measured):
    """A forecaster after training; the test rows are read by ``test`` alone."""

    def test(self) -> Outcome:
        """sMAPE, MASE and OWA; the units are the series."""
        data = _series(self.data, context=self.budget["context"])
        latest = data.prediction_windows(data.tables)
        horizon = PROTOCOLS[self.data].horizon
        with torch.no_grad():
            parts = [self.forecast(batch, horizon) for batch in latest.windows.batches(512)]
        forecasts = latest.restore(torch.cat(parts), latest.windows.channel)
        return outcome(forecasts, data, self.cost)


class Benchmark(Arm):
    """A benchmark of the competition, each series by itself."""

    seeded = False

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Nothing: each series is fitted when it is forecast."""
        return FittedBenchmark(BENCHMARKS[self.name], data)


class FittedBenchmark(Fitted):
    """A benchmark, ready to forecast."""

    validation = float("nan")

    def __init__(self, kind: str, data: str) -> None:
        self.kind, self.data = kind, data

    def test(self) -> Outcome:
        """sMAPE, MASE and OWA; the units are the series."""
        data = _series(self.data)
        return outcome(benchmark(self.kind, _train(data), PROTOCOLS[self.data]), data, Cost())


def outcome(forecasts: Tensor, data: Data, cost: Cost) -> Outcome:
    """The errors of forecasts (S, H), in the units of the data."""
    assert data.name is not None
    protocol, train = PROTOCOLS[data.name], _train(data)
    target = targets(data.name, data.names)
    reference = errors(benchmark("Naive2", train, protocol), train, target, protocol.season)
    found = relative(errors(forecasts, train, target, protocol.season), reference)
    units = {("all", metric): error.double().numpy() for metric, error in found.items()}
    values = [Value(*place, float(error.mean()), False) for place, error in units.items()]
    return Outcome(values, units, cost)


def _series(name: str, context: int = 1) -> Data:
    data = Data(name=name, context=context, horizon=PROTOCOLS[name].horizon)
    data.prepare_data()
    data.setup()
    return data


def _train(data: Data) -> list[np.ndarray]:
    return [table.values[:, 0] for table in data.tables]
