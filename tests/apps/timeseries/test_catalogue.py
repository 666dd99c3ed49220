"""The public sets: what the catalogue says of them, and what is measured on the real files where they are."""

import os
from pathlib import Path

import pytest
import torch
import yaml

from apps.timeseries.baselines import Ridge, repeat_last
from apps.timeseries.data import Data
from apps.timeseries.metrics import average, mae, mse

CATALOGUE = Path(__file__).parents[3] / "data" / "timeseries" / "catalogue.yaml"
NAMES = ("ETTh1", "ETTh2", "ETTm1", "exchange", "illness")
M4 = ("m4_hourly", "m4_hourly_test", "m4_weekly", "m4_weekly_test")


def real(name: str, **options) -> Data:
    """The module of a set, or a skipped test where the file is not below COLLEGIUM_DATA."""
    entry = yaml.safe_load(CATALOGUE.read_text())[name]
    root = os.environ.get("COLLEGIUM_DATA")
    if not root or not list((Path(root) / "timeseries").glob(f"{entry['file']}*")):
        pytest.skip(f"{entry['file']} is not below COLLEGIUM_DATA")
    data = Data(name=name, **options)
    data.setup()
    return data


def test_every_set_has_a_pinned_address_a_checksum_and_a_citation():
    entries = yaml.safe_load(CATALOGUE.read_text())
    assert tuple(entries) == NAMES + M4
    for entry in entries.values():
        assert entry["url"].startswith("https://")
        assert any(len(part) == 40 for part in entry["url"].split("/")), "the commit is written out"
        assert len(entry["sha256"]) == 64
        assert entry["split"] in ("ett", "ratio", "last")
        assert entry["licence"]
        assert entry["citation"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "series", "frequency", "borders"),
    [
        ("ETTh1", 17420, 7, "h", (8640, 11520, 14400)),
        ("ETTh2", 17420, 7, "h", (8640, 11520, 14400)),
        ("ETTm1", 69680, 7, "15min", (34560, 46080, 57600)),
        ("exchange", 7588, 8, None, (5311, 6071, 7588)),
        ("illness", 966, 7, "W-TUE", (676, 773, 966)),
    ],
)
def test_sets_have_their_published_shape_and_borders(name, rows, series, frequency, borders):
    data = real(name, context=36, horizon=24)
    (table,) = data.tables
    assert table.values.shape == (rows, series)
    assert (table.frequency, data.borders[0]) == (frequency, borders)
    for part, begin, end in (("validation", borders[0], borders[1]), ("test", borders[1], borders[2])):
        windows = data.windows(part)
        assert len(windows) == series * (end - begin - 24 + 1)
        assert int(windows.start.min()) + 36 == begin


@pytest.mark.data
def test_baselines_land_on_the_measured_errors_of_etth1():
    data = real("ETTh1", context=336, horizon=96)
    ridge = Ridge.fit(data.windows("train"), data.windows("validation"))
    errors: dict[str, list[torch.Tensor]] = {"ridge mse": [], "ridge mae": [], "last mse": []}
    for batch in data.test_dataloader()[0]:
        past, target = (batch["context"], batch["context_mask"]), batch["target"]
        errors["ridge mse"].append(mse(ridge(*past), target))
        errors["ridge mae"].append(mae(ridge(*past), target))
        errors["last mse"].append(mse(repeat_last(*past, 96), target))
    found = {name: average(torch.cat(values)).item() for name, values in errors.items()}
    assert found["ridge mse"] == pytest.approx(0.3696, rel=0.01)
    assert found["ridge mae"] == pytest.approx(0.3912, rel=0.01)
    assert found["last mse"] == pytest.approx(1.2944, abs=5e-4)
