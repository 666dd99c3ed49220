"""What is pretrained on: shares, held-out series and rows, resumption, and forecasts of what is unseen."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.common.catalogue import Entry
from apps.common.errors import UserError
from apps.common.main import main
from apps.common.runs import Run
from apps.timeseries import data as data_module
from apps.timeseries import pretraining as pretraining_module
from apps.timeseries.data import Data
from apps.timeseries.evaluate import load_run
from apps.timeseries.pretraining import Mixed, Pretraining
from apps.timeseries.priors import PRIORS, draw
from apps.timeseries.windows import Batch

ROWS = {"small": 500, "large": 1300}
"""Two made-up sets of the catalogue; series a counts its rows, series b counts down from -1."""


@pytest.fixture(autouse=True)
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in ROWS.items():
        dates = pd.date_range("2024-01-01", periods=rows, freq="h")
        frame = pd.DataFrame({"date": dates, "a": np.arange(rows), "b": -1 - np.arange(rows)})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    entry = Entry(file="", url="", sha256="", licence="", citation="", split="ratio")
    for module in (data_module, pretraining_module):
        monkeypatch.setattr(module, "describe", lambda app, name: entry)
        monkeypatch.setattr(module, "fetch", lambda app, name: tmp_path / f"{name}.csv")


def ready(context: int = 24, horizon: int = 8, **options: object) -> Data:
    given = {"series": 20, "rows": 100, **{k: options.pop(k) for k in ("priors", "sets") if k in options}}
    data = Data(
        pretraining=Pretraining(**given),  # type: ignore[arg-type]
        context=context,
        horizon=horizon,
        **options,  # type: ignore[arg-type]
    )
    data.setup()
    return data


def touched(data: Data, batch: Batch) -> dict[str, np.ndarray]:
    """The rows of its file (windows, context + horizon) that windows of each set show, read off values."""
    series = torch.cat([batch["context"], batch["target"]], 1)
    units = data.restore(series.double(), batch["channel"]).round().long()
    rows = torch.where(units < 0, -1 - units, units)
    sets = [name.partition("/")[0] for name in data.names]
    found = {}
    for name in set(sets) & set(ROWS):
        channels = torch.tensor([channel for channel, of in enumerate(sets) if of == name])
        found[name] = rows[torch.isin(batch["channel"], channels)].numpy()
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    context=st.integers(4, 60),
    horizon=st.integers(1, 30),
    weights=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    seed=st.integers(0, 99),
)
def test_no_row_of_a_sets_other_parts_is_ever_trained_on(
    context: int, horizon: int, weights: tuple[float, float], seed: int
) -> None:
    data = ready(
        context, horizon, priors={"regimes": 1.0}, sets=dict(zip(ROWS, weights, strict=True)), seed=seed
    )
    last = dict.fromkeys(ROWS, 0)
    for batch in data.train_dataloader():
        for name, rows in touched(data, batch).items():
            assert (np.diff(rows) == 1).all()
            last[name] = max([last[name], *rows[:, -1]])
    assert last == {name: int(0.7 * rows) - 1 for name, rows in ROWS.items()}


def test_validation_rows_are_those_of_the_split_and_touch_no_test_row() -> None:
    data = ready(sets={"small": 1.0})
    rows = np.concatenate([touched(data, batch)["small"] for batch in data.val_dataloader()[0]])
    assert set(rows[:, 24:].ravel()) == set(range(350, 400))
    assert rows.min() == 350 - 24


def test_no_window_touches_two_synthetic_series_and_held_out_ones_are_not_trained_on() -> None:
    data = ready(priors={"compositions": 1.0, "regimes": 1.0})
    spans = {"train": (0, 14), "validation": (14, 16), "test": (16, 20)}
    for part, (first, end) in spans.items():
        windows = data.windows(part)  # type: ignore[arg-type]
        of = windows.start // 100
        assert torch.equal(of, (windows.start + 24 + 8 - 1) // 100)
        for channel in (0, 1):
            assert sorted(set(of[windows.channel == channel].tolist())) == list(range(first, end))
        assert len(windows) == 2 * (end - first) * (100 - 32 + 1)


def test_windows_show_the_series_of_their_prior() -> None:
    data = ready(priors={"compositions": 1.0, "regimes": 2.0})
    batch = data.windows("validation").__getitems__([0, 200])
    for row, prior in enumerate(("compositions", "regimes")):
        channel, start = int(batch["channel"][row]), int(batch["start"][row])
        assert data.names[channel] == prior
        expected = draw(prior, 20, 100, 0).ravel()[start : start + 24]
        units = data.restore(batch["context"], batch["channel"])[row]
        np.testing.assert_allclose(units, expected, rtol=1e-4, atol=1e-5)


def test_windows_come_in_the_shares_asked_for_and_none_is_left_out() -> None:
    weights = {"compositions": 1.0, "regimes": 3.0, "large": 2.0}
    data = ready(priors={k: weights[k] for k in ("compositions", "regimes")}, sets={"large": 2.0})
    mixed = data.train_dataloader().dataset
    assert isinstance(mixed, Mixed)
    times = Counter(mixed.rows.tolist())
    assert len(times) == len(mixed.windows) == len(data.windows("train"))
    share: Counter[str] = Counter()
    for row, count in times.items():
        share[data.names[mixed.windows.channel[row]].partition("/")[0]] += count
    for name, weight in weights.items():
        assert share[name] / len(mixed) == pytest.approx(weight / 6, abs=1e-3)
        own = [n for row, n in times.items() if data.names[mixed.windows.channel[row]].startswith(name)]
        assert max(own) - min(own) <= 1


def test_the_order_is_a_function_of_seed_and_epoch_and_resumes_anywhere() -> None:
    def pairs(loader: object) -> list[list[tuple[int, int]]]:
        return [
            list(zip(b["channel"].tolist(), b["start"].tolist(), strict=True))
            for b in loader  # type: ignore[attr-defined]
        ]

    options = {"sets": {"small": 1.0}, "batch_size": 64, "max_windows_per_epoch": 500}
    loader = ready(seed=5, **options).train_dataloader()
    loader.sampler.set_epoch(1)
    whole = pairs(loader)
    assert len(whole) == 8
    again = ready(seed=5, **options).train_dataloader()
    again.load_state_dict({"epoch": 1, "batch": 3})
    again.sampler.set_epoch(1)
    assert pairs(again) == whole[3:]
    other = ready(seed=6, **options).train_dataloader()
    other.sampler.set_epoch(1)
    assert pairs(other) != whole


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(UserError, match="knows no prior 'waves': choose among gaussian_processes, "):
        Pretraining(priors={"waves": 1.0}).check()
    with pytest.raises(UserError, match="a positive weight"):
        Pretraining(priors={}, sets={}).check()
    with pytest.raises(UserError, match="a positive weight"):
        Pretraining(sets={"small": 0.0}).check()
    with pytest.raises(UserError, match="series must be 10 or more"):
        Data(pretraining=Pretraining(series=9))
    with pytest.raises(UserError, match="both pretraining and small were given"):
        Data(name="small", pretraining=Pretraining())
    with pytest.raises(UserError, match="leave joint out"):
        Data(pretraining=Pretraining(), joint=True)
    with pytest.raises(UserError, match="rows is 100, and context 90 and horizon 20 need 110"):
        ready(90, 20)


CONFIG = """
seed_everything: 0
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu}
model:
  network:
    class_path: apps.timeseries.networks.SMETimes
    init_args:
      dim: 16
      depth: 1
      heads: 2
      patch: 8
      feed_forward: {class_path: apps.timeseries.networks.smetimes.LinearMixture, init_args: {num_experts: 4}}
data:
  pretraining: {series: 20, rows: 120, sets: {small: 1.0}}
  context: 48
  horizon: 24
  max_windows_per_epoch: 256
  validation_stride: 20
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    (tmp_path / "pre.yaml").write_text(CONFIG, encoding="utf-8")
    assert main(["timeseries", "fit", "--config", str(tmp_path / "pre.yaml")]) == 0
    return tmp_path / "timeseries" / "pre" / "1"


def evaluated(run: Path, folder: Path, *options: str) -> dict[str, dict[str, float]]:
    assert main(["timeseries", "evaluate", "--run", str(run), *options]) == 0
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    return {row.pop("slice"): row for row in rows}


def test_a_pretrained_run_is_measured_on_and_forecasts_what_it_has_not_seen(
    run: Path, tmp_path: Path
) -> None:
    own = evaluated(run, run / "evaluation" / "validation")
    assert {*PRIORS, "small/a", "small/b"} <= set(own)

    named = evaluated(run, run / "evaluation" / "large" / "validation", "--name", "large")
    assert {"a", "b"} <= set(named)
    windows = 2 * len(range(910 - 48, 1040 - 72 + 1, 20))
    assert named["all"]["windows"] == windows

    by_path = evaluated(run, run / "evaluation/large/validation", "--path", str(tmp_path / "large.csv"))
    assert evaluated(run, run / "evaluation" / "validation") == own
    assert by_path["all"]["mse"] == pytest.approx(named["all"]["mse"], rel=1e-4)

    forecast = tmp_path / "next.csv"
    options = ["--run", str(run), "--input", str(tmp_path / "large.csv"), "--out", str(forecast)]
    assert main(["timeseries", "predict", *options]) == 0
    assert np.isfinite(pd.read_csv(forecast)[["a", "b"]].to_numpy()).all()


def test_a_set_of_the_same_names_is_measured_on_the_scale_of_its_own_training_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one set knows series a and b, on another scale."""
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    synthetic = "pretraining: {series: 20, rows: 120, sets: {small: 1.0}}"
    config = CONFIG.replace(synthetic, "name: small\n  joint: true")
    (tmp_path / "set.yaml").write_text(config, encoding="utf-8")
    assert main(["timeseries", "fit", "--config", str(tmp_path / "set.yaml")]) == 0
    own = Run(tmp_path / "timeseries" / "set" / "1", "timeseries")
    for name, rows in ROWS.items():
        _, data = load_run(own, name=name)
        data.setup()
        middle = (int(0.7 * rows) - 1) / 2
        assert data.scaler.mean.tolist() == pytest.approx([middle, -1 - middle])
        assert data.joint


def test_a_name_and_a_path_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"both path mine\.csv and name large were given"):
        load_run(Run(tmp_path, "timeseries"), path=Path("mine.csv"), name="large")
