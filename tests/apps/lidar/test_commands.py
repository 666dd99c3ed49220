"""Training, measuring and predicting from the command line, and the comparison's arms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from apps.common.compare.arms import check_outcome
from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.common.main import main
from apps.lidar import compare
from apps.lidar.estimates import edges
from apps.lidar.evaluate import of_output
from apps.lidar.files import read_cube, rebinned
from apps.lidar.flags import doubtful, unusable
from apps.lidar.instrument import TO_DEVIATION, Clock
from apps.lidar.metrics import excess_area, rank_correlation, risk_by_coverage
from apps.lidar.model import OUTPUTS
from apps.lidar.readings import Scale
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import histograms
from tests.apps.lidar.test_simulate import seeded

CONFIG = project_root() / "configs/lidar/default.yaml"
CLOCK = Clock()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run of known tissue."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setenv("COLLEGIUM_RUNS", str(folder))
    short = ["--data.scenes", "4000", "--data.held_out", "500", "--trainer.max_epochs", "3"]
    assert main(["lidar", "fit", "--config", str(CONFIG), *short]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "runs" in request.fixturenames:
        monkeypatch.setenv("COLLEGIUM_RUNS", str(request.getfixturevalue("runs")))


def test_a_run_learns_and_is_measured(runs: Path) -> None:
    assert main(["lidar", "evaluate"]) == 0
    folder = runs / "lidar/default/1/evaluation/validation"
    found = json.loads((folder / "metrics.json").read_text())
    whole = found["Metrics"][0]
    assert whole["slice"] == "all"
    assert whole["nrmse_depth"] < 0.15  # to say the middle of the range would be 0.289
    assert whole["nrmse_lifetime"] < 0.15
    assert any("untrained" in row["slice"] for row in found["Metrics"])
    assert found["Physical limit"][0]["depth_ratio"] > 1
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("Histograms", "Errors by condition", "Who is trusted when", "A phantom"):
        assert title in page


def image(folder: Path, **changes: object) -> tuple[Path, Path, np.ndarray]:
    """An image of 6 by 5 histograms with three bad pixels, its response, and its depths."""
    scenes = Ranges(response=(0.2, 0.2), photons=(5000.0, 20_000.0)).draw(30, seeded(4))
    counts = histograms(scenes, CLOCK, seeded(5)).numpy().reshape(6, 5, -1)
    counts[0, 0], counts[0, 1, 3], counts[0, 2, 4] = 0, -1, np.nan
    tissue = {name: getattr(scenes, name).numpy().reshape(6, 5) for name in ("scattering", "absorption")}
    np.savez(folder / "image.npz", **{"counts": counts, "bin_width": CLOCK.width, **tissue, **changes})
    time = CLOCK.centres.numpy() + CLOCK.flash
    light = 1e4 * np.exp(-(((time - CLOCK.flash) / (0.2 * TO_DEVIATION)) ** 2) / 2)
    pd.DataFrame({"time": time, "counts": light}).to_csv(folder / "irf.csv", index=False)
    return folder / "image.npz", folder / "irf.csv", scenes.depth.numpy().reshape(6, 5)


def test_predict_flags_bad_pixels_and_finds_the_others(runs: Path, tmp_path: Path) -> None:
    file, irf, depth = image(tmp_path)
    for out in ("maps.npz", "rows.csv"):
        told = ["--input", str(file), "--irf", str(irf), "--out", str(tmp_path / out)]
        assert main(["lidar", "predict", *told]) == 0
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["flag"][0, :3].tolist() == ["empty", "negative", "not finite"]
        bad = maps["flag"] != ""
        assert bad.sum() == 3
        assert np.isnan(maps["depth_mm"][bad]).all()
        assert np.abs(maps["depth_mm"] - depth)[~bad].mean() < 1.5
        assert (maps["depth_error_mm"][~bad] > 0).all()
        assert ((maps["lifetime_quality"][~bad] > 0) & (maps["lifetime_quality"][~bad] < 1)).all()
        table = pd.read_csv(tmp_path / "rows.csv")
        np.testing.assert_allclose(table["depth_mm"].to_numpy().reshape(6, 5), maps["depth_mm"], rtol=1e-4)
    assert table[["row", "column"]].to_numpy()[7].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({"counts": np.ones((6, 5, 100))}, [], "has 100 bins and the run was trained on 256"),
        ({"counts": np.ones(256)}, [], "has the shape (256,)"),
        ({"bin_width": 0.05}, ["--bin_width", "0.032"], "says bins of 0.05 ns"),
        ({}, ["--scattering", "1"], "say --scattering and --absorption"),
        ({}, ["--width", "0.2"], "say how the instrument answers"),
        ({}, ["--out", "x.txt"], "ends in .csv or .npz"),
        ({}, ["--cloud", "c.txt"], "ends in .ply"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    runs: Path,
    changes: dict[str, object],
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, irf, _ = image(tmp_path, **changes)
    out = [] if "--out" in options else ["--out", str(tmp_path / "o.csv")]
    assert main(["lidar", "predict", "--input", str(file), "--irf", str(irf), *out, *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o.csv").exists()


def test_a_cloud_is_of_an_image_and_wants_open3d(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, irf, _ = image(tmp_path)
    told = ["--irf", str(irf), "--out", str(tmp_path / "o.csv"), "--cloud", str(tmp_path / "c.ply")]
    for found, rows, sentence in (
        (None, file, "needs open3d"),
        (True, tmp_path / "flat.npz", "holds no image"),
    ):
        np.savez(tmp_path / "flat.npz", counts=np.ones((4, 256)))
        monkeypatch.setattr("apps.lidar.cloud.find_spec", lambda name, found=found: found)
        assert main(["lidar", "predict", "--input", str(rows), *told]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "o.csv").exists()


def test_files_of_every_format_hold_the_same(tmp_path: Path) -> None:
    import h5py

    counts = np.random.default_rng(0).poisson(3, (4, 16)).astype(float)
    np.savez(tmp_path / "a.npz", counts=counts)
    pd.DataFrame(counts).to_csv(tmp_path / "a.csv", index=False)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts"] = counts
    for name in ("a.npz", "a.csv", "a.h5"):
        cube = read_cube(tmp_path / name)
        parts = list(cube.rows(3))
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), counts)
        assert [rows.start for rows, _ in parts] == [0, 3]


def test_other_bins_are_laid_on_the_clock() -> None:
    """Twice as many bins of half the width, flashed half a nanosecond later, hold the same light."""
    clock, fine = Clock(64, 0.1, 1.0), Clock(160, 0.05, 1.5)
    scenes = Ranges().draw(6, seeded())
    counts = histograms(scenes, fine, seeded(1))
    found = rebinned(counts, fine.width, fine.flash, clock)
    pairs = counts[:, 10:138].reshape(6, 64, 2).sum(2)
    torch.testing.assert_close(found, pairs)
    assert rebinned(found, clock.width, clock.flash, clock) is found


def test_flags_by_hand() -> None:
    counts = np.full((5, 4), 20.0)
    counts[1] = 0
    counts[2, 0], counts[3, 0], counts[4, 0] = -1, np.inf, 255
    assert unusable(counts, full=255).tolist() == ["", "empty", "negative", "not finite", "saturated"]
    scale = Scale.of(Ranges())
    physical = {"depth": np.array([5.0, 5.0, 5.0, 12.0]), "lifetime": np.full(4, 1.0)}
    seen, there = np.array([100.0, 20.0, 40.0, 100.0]), np.array([150.0, 30.0, 100.0, 100.0])
    found = doubtful(seen, there, physical, scale, known=True).tolist()
    assert found == ["", "few photons", "outside window", "beyond training"]
    assert doubtful(seen, there, physical, scale, known=False)[0] == "beyond training"


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"counts": np.array([["a", "b"]])}, "real numbers"),
        ({"counts": np.ones((2, 3), dtype=complex)}, "real numbers"),
        ({"counts": np.ones((2, 3)), "bin_width": np.ones(3)}, "bin_width"),
        ({"counts": np.ones((2, 3)), "bin_width": np.nan}, "bin_width"),
        ({"counts": np.ones((2, 3)), "scattering": np.ones(3), "absorption": np.ones(2)}, "scattering"),
        ({"counts": np.ones((2, 3)), "scattering": np.array([1, np.nan]), "absorption": 1}, "scattering"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(arrays: dict[str, Any], word: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=word) as told:
        read_cube(tmp_path / "a.npz")
    assert "a.npz" in str(told.value)


def test_risk_by_hand() -> None:
    error, quality = np.array([1.0, -3.0, 2.0]), np.array([0.9, 0.1, 0.5])
    np.testing.assert_allclose(risk_by_coverage(error, quality), [1, np.sqrt(5 / 2), np.sqrt(14 / 3)])
    assert excess_area(error, quality) == pytest.approx(0)
    assert excess_area(error, -quality) > 1
    assert rank_correlation(quality, error) == pytest.approx(1)


def test_a_table_of_one_output_has_short_names() -> None:
    rows = [{"slice": "all", "nrmse_depth": 1, "nrmse_depth_mean": 2, "lifetime_rank": 3, "depth_rank": 4}]
    assert of_output(rows, "depth") == [{"slice": "all", "nrmse": 1, "nrmse_mean": 2, "rank": 4}]
    assert of_output(rows, "lifetime") == [{"slice": "all", "rank": 3}]


def test_parts_of_a_range_are_of_equal_width() -> None:
    assert edges("depth", Ranges()).tolist() == pytest.approx([1, 4, 7, 10])
    ends = edges("photons", Ranges())
    np.testing.assert_allclose(ends[1:] / ends[:-1], np.full(4, 100**0.25))


PROFILES = yaml.safe_load((project_root() / "configs/lidar/compare.yaml").read_text())["profiles"]
BUDGET = {**PROFILES["quick"]["budget"], "scenes": 3000, "held_out": 60, "epochs": 6}


@pytest.mark.parametrize("name", PROFILES["full"]["arms"])
def test_every_arm_gives_an_outcome_that_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"depth": [0.36, 0.09, 0.04, 0.01], "lifetime": [0.0036, 0.0009, 0.0004, 0.0001]}
    monkeypatch.setattr(compare, "bounds", lambda *usual: limits)
    arm = compare.arms(BUDGET)[name]
    fitted = arm.fit(
        "monte_carlo_unknown" if name == "routed_on_diffusion" else "diffusion", dict(arm.trials[0]), 0
    )
    outcome = fitted.test()
    check_outcome(outcome)
    values = {value.metric: value.value for value in outcome.values if value.slice == "all"}
    assert {f"{metric}_{output}" for metric in ("nrmse", "ratio_to_bound") for output in OUTPUTS} <= set(
        values
    )
    assert np.isfinite(fitted.validation)
    assert values["nrmse_depth"] < 0.5
    assert values["ratio_to_bound_depth"] == pytest.approx(values["nrmse_depth"] * 9 / 0.125**0.5)
    few = {value.metric: value.value for value in outcome.values if value.slice == "photons 200-632"}
    assert few["ratio_to_bound_depth"] == pytest.approx(few["nrmse_depth"] * 9 / 0.6)


def test_sets_differ_by_light_and_seeds_by_order_alone() -> None:
    assert len({compare.data_sha256(name) for name in compare.SETS}) == 2
    first, other = (compare.data_for("diffusion", BUDGET, seed) for seed in (0, 1))
    assert torch.equal(first.part("train").light, other.part("train").light)
    assert first.order != other.order
