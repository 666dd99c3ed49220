"""What is told of the rig and of the tissue, and what does not fit it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.common.main import main
from apps.common.runs import find_run
from apps.lidar.evaluate import load_run
from apps.lidar.instrument import Clock, measured
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import histograms
from tests.apps.lidar.conftest import CLOCK, CONFIG, image
from tests.apps.lidar.test_simulate import seeded


def test_a_rig_with_a_measured_response_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A response with a long tail: a run that was trained on it reads it and its clock, and says when it is
    another."""
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    monkeypatch.setattr("apps.lidar.limits.NUMBER", 40)
    time = np.arange(0, 6, 0.032)
    tailed = np.where(time > 0.5, np.exp(-(time - 0.5) / 0.4), 0)
    pd.DataFrame({"time": time, "counts": 1e4 * tailed}).to_csv(tmp_path / "irf.csv", index=False)
    short = ["--data.scenes", "3000", "--data.held_out", "300", "--trainer.max_epochs", "2"]
    told = ["--data.irf", str(tmp_path / "irf.csv")]
    assert main(["lidar", "fit", "--config", str(CONFIG), *short, *told]) == 0
    response = tuple(time.tolist()), tuple((1e4 * tailed).tolist())
    scenes = Ranges(photons=(5000.0, 20_000.0)).draw(40, seeded(8))
    centre = measured(response, CLOCK)[1]
    rig = Rig(replace(CLOCK, flash=centre), response=response)
    counts = histograms(scenes, rig, seeded(9)).numpy()
    tissue = {name: getattr(scenes, name).numpy() for name in ("scattering", "absorption")}
    np.savez(tmp_path / "rows.npz", counts=counts, **tissue)
    ask = ["lidar", "predict", "--input", str(tmp_path / "rows.npz")]
    assert main([*ask, "--out", str(tmp_path / "own.csv")]) == 0
    assert "note" not in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "own.csv", keep_default_na=False)
    assert (found["flag"] == "").mean() > 0.8
    off = np.abs(found["depth_mm"].astype(float) - scenes.depth.numpy())
    assert off.mean() < 1.8  # to say the middle would be 2.25
    assert main([*ask, "--flash", str(centre - 0.2), "--out", str(tmp_path / "late.csv")]) == 0
    late = pd.read_csv(tmp_path / "late.csv")["depth_mm"] - found["depth_mm"].astype(float)
    assert late.mean() > 0.3
    assert main([*ask, "--width", "0.2", "--out", str(tmp_path / "other.csv")]) == 0
    assert "elsewhere than in training" in capsys.readouterr().out
    assert (pd.read_csv(tmp_path / "other.csv")["flag"] != "").all()


def test_an_odd_pixel_of_the_tissue_is_flagged_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, irf, _ = image(tmp_path)
    with np.load(file) as kept:
        arrays = dict(kept)
    arrays["scattering"][1, 0], arrays["scattering"][1, 1], arrays["scattering"][1, 2] = 3.0, np.nan, 0.0
    arrays["absorption"] = np.array(0.02)
    np.savez(tmp_path / "odd.npz", **arrays)
    ask = ["--input", str(tmp_path / "odd.npz"), "--irf", str(irf), "--out", str(tmp_path / "o.npz")]
    assert main(["lidar", "predict", *ask]) == 0
    with np.load(tmp_path / "o.npz") as maps:
        assert maps["flag"][1, :3].tolist() == ["beyond training", "no tissue", "no tissue"]
        assert np.isnan(maps["depth_mm"][1, 1])
        assert (maps["flag"][2:] == "").mean() > 0.7
    assert "the tissue of 1 histograms" in capsys.readouterr().out


def test_a_record_that_ends_early_is_flagged(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = Ranges(
        response=(0.2, 0.2), photons=(500.0, 5000.0), scattering=(0.9, 1.1), absorption=(0.009, 0.011)
    )
    counts = histograms(scenes.draw(10, seeded(6)), Rig(Clock(200, 0.025)), seeded(7)).numpy()
    np.savez(tmp_path / "short.npz", counts=counts, bin_width=0.025)
    ask = ["--input", str(tmp_path / "short.npz"), "--width", "0.2", "--out", str(tmp_path / "o.csv")]
    assert main(["lidar", "predict", *ask, "--scattering", "1", "--absorption", "0.01"]) == 0
    assert "what is missing reads as dark" in capsys.readouterr().out
    assert (pd.read_csv(tmp_path / "o.csv")["flag"] == "beyond training").all()


def test_what_does_not_vary_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rig without background, and tissue of one absorption and scattering."""
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    monkeypatch.setattr("apps.lidar.limits.NUMBER", 40)
    short = ["--data.scenes", "1024", "--data.held_out", "100", "--trainer.max_epochs", "2"]
    fixed = {"background": "[0, 0]", "absorption": "[0.01, 0.01]", "scattering": "[1, 1]"}
    ranges = [word for name, span in fixed.items() for word in (f"--data.ranges.{name}", span)]
    assert main(["lidar", "fit", "--config", str(CONFIG), *short, *ranges]) == 0
    assert main(["lidar", "evaluate"]) == 0
    found = json.loads((tmp_path / "lidar/default/1/evaluation/validation/metrics.json").read_text())
    assert not any("scattering" in row["slice"] for row in found["rows"])
    assert all(row["ratio_to_bound_depth"] > 1 for row in found["limit"])
    assert found["rows"][0]["nrmse_depth"] < 0.4  # what is said of tissue is no large number
    (tmp_path / "more").mkdir()
    assert main(["lidar", "fit", "--config", str(CONFIG), *short, "--data.ranges.lifetime", "[1, 1]"]) == 2


def test_a_histogram_that_no_target_makes_is_a_poor_fit(runs: Path, tmp_path: Path) -> None:
    """A decay in the reverse of its order, whose light all comes after the flash."""
    file, irf, _ = image(tmp_path)
    with np.load(file) as kept:
        arrays = dict(kept)
    begin = int(CLOCK.flash / CLOCK.width) + 10
    arrays["counts"][3, :, :begin] = 0
    arrays["counts"][3, :, begin:] = arrays["counts"][3, :, begin:][:, ::-1]
    np.savez(tmp_path / "odd.npz", **arrays)
    ask = ["--input", str(tmp_path / "odd.npz"), "--irf", str(irf), "--out", str(tmp_path / "o.npz")]
    assert main(["lidar", "predict", *ask]) == 0
    with np.load(tmp_path / "o.npz") as maps:
        assert set(maps["flag"][3]) <= {"poor fit", "beyond training"}
        assert "poor fit" in maps["flag"][3]
        assert "poor fit" not in maps["flag"][[1, 2, 4, 5]]


def test_wide_bins_are_no_poor_fit_and_are_told_on_their_own_clock(runs: Path, tmp_path: Path) -> None:
    """Laid onto finer bins their counts are smeared, which is nobody's misfit."""
    file, irf, depth = image(tmp_path)
    with np.load(file) as kept:
        arrays = dict(kept)
    arrays["counts"] = arrays["counts"].reshape(6, 5, 64, 4).sum(3)
    arrays["bin_width"] = 4 * arrays["bin_width"]
    np.savez(tmp_path / "wide.npz", **arrays)
    ask = ["--input", str(tmp_path / "wide.npz"), "--irf", str(irf), "--out", str(tmp_path / "o.npz")]
    assert main(["lidar", "predict", *ask]) == 0
    with np.load(tmp_path / "o.npz") as maps:
        assert "poor fit" not in maps["flag"]
        assert np.nanmean(np.abs(maps["depth_mm"] - depth)) < 1.5


def test_a_rightly_told_clock_is_not_held_against_its_histograms(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flash at another time, and bins of another width, leave a little of the window of training dark."""
    scenes = Ranges(response=(0.2, 0.2), photons=(5000.0, 20_000.0)).draw(60, seeded(4))
    tissue = {name: getattr(scenes, name).numpy() for name in ("scattering", "absorption")}
    found = {}
    for name, clock in (("own", CLOCK), ("late", Clock(flash=1.3)), ("fine", Clock(width=0.029))):
        counts = histograms(scenes, Rig(clock), seeded(5)).numpy()
        np.savez(tmp_path / f"{name}.npz", counts=counts, bin_width=clock.width, **tissue)
        told = ["--input", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / f"{name}.csv")]
        assert main(["lidar", "predict", *told, "--width", "0.2", "--flash", str(clock.flash)]) == 0
        assert ("reads as dark" in capsys.readouterr().out) is (name != "own")
        table = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False)
        assert (table["flag"] == "poor fit").mean() < 0.05  # so little training leaves some estimate far off
        assert (table["flag"] == "").mean() > 0.8
        found[name] = np.sqrt(np.mean((table["depth_mm"].astype(float) - scenes.depth.numpy()) ** 2))
    assert max(found.values()) < 1.15 * found["own"] + 0.05


def test_a_flash_that_nobody_tells_is_told_to_them(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, irf, _ = image(tmp_path)
    ask = ["lidar", "predict", "--input", str(file), "--out", str(tmp_path / "o.csv")]
    for options, told in (
        (["--width", "0.2"], True),
        (["--width", "0.2", "--flash", "1"], False),
        (["--irf", str(irf)], False),
    ):
        assert main([*ask, *options]) == 0
        said = capsys.readouterr().out
        assert ("the flash is taken to come 1 ns after" in said) is told
        assert "1 empty" in said


def test_times_that_head_a_table_tell_the_width_of_its_bins(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = np.full((2, 512), 10)
    told = ["--width", "0.2", "--scattering", "1", "--absorption", "0.01", "--out", str(tmp_path / "o.csv")]
    for names, width, sentence in (
        (0.016 * np.arange(512), None, None),
        (0.016 * np.arange(512), "0.032", "says bins of 0.016 ns"),
        (16 * np.arange(512), None, "in ns, not ps"),
        (np.arange(512), None, "has 512 bins along its last axis"),
    ):
        pd.DataFrame(counts, columns=names).to_csv(tmp_path / "t.csv", index=False)
        options = [] if width is None else ["--bin_width", width]
        code = main(["lidar", "predict", "--input", str(tmp_path / "t.csv"), *told, *options])
        said = capsys.readouterr().err
        assert code == (0 if sentence is None else 2)
        assert sentence is None or sentence in said


def test_a_short_window_with_a_measured_response_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flash comes before that of other runs would, and after its own window ends there is nothing."""
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    monkeypatch.setattr("apps.lidar.limits.NUMBER", 40)
    time = np.arange(0, 0.9, 0.01)
    light = 1e4 * np.exp(-(((time - 0.2) / 0.02) ** 2))
    pd.DataFrame({"time": time, "counts": light}).to_csv(tmp_path / "irf.csv", index=False)
    clock = ["--data.bins", "90", "--data.bin_width", "0.01", "--model.network.init_args.bins", "90"]
    short = ["--data.scenes", "300", "--data.held_out", "60", "--trainer.max_epochs", "1"]
    told = ["--config", str(CONFIG), *clock, *short, "--data.irf", str(tmp_path / "irf.csv")]
    assert main(["lidar", "fit", *told]) == 0
    task, data = load_run(find_run("lidar", tmp_path / "lidar/default/1"))
    assert data.clock.flash == pytest.approx(0.2, abs=0.01)
    assert task.network.bins == 90
