"""Training, measuring and predicting from the command line, and the comparison's arms."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.main import main
from apps.lidar.task import Task
from tests.apps.common.helpers import checkpoint, differing_weights, whole_and_broken
from tests.apps.lidar.conftest import CONFIG, image


def test_a_run_learns_and_is_measured(runs: Path) -> None:
    assert main(["lidar", "evaluate"]) == 0
    folder = runs / "lidar/default/1/evaluation/validation"
    found = json.loads((folder / "metrics.json").read_text())
    whole = found["rows"][0]
    assert whole["slice"] == "all"
    assert whole["nrmse_depth"] < 0.15  # to say the middle of the range would be 0.289
    assert whole["nrmse_lifetime"] < 0.15
    assert any("untrained" in row["slice"] for row in found["rows"])
    assert found["limit"][0]["ratio_to_bound_depth"] > 1
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("Histograms", "Errors by condition", "Whom the mixture trusts", "A phantom"):
        assert title in page


def test_predict_flags_bad_pixels_and_finds_the_others(runs: Path, tmp_path: Path) -> None:
    file, irf, depth = image(tmp_path)
    for out in ("maps.npz", "rows.csv"):
        told = ["--input", str(file), "--irf", str(irf), "--out", str(tmp_path / out)]
        assert main(["lidar", "predict", *told]) == 0
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["flag"][0, :3].tolist() == ["empty", "negative", "not finite"]
        bad = np.isnan(maps["depth_mm"])
        assert bad.sum() == 3
        assert bad[0, :3].all()
        assert (maps["flag"] == "").mean() > 0.8  # so little training leaves some estimate beyond its range
        assert np.abs(maps["depth_mm"] - depth)[~bad].mean() < 1.5
        assert (maps["depth_error_mm"][~bad] > 0).all()
        assert ((maps["lifetime_quality"][~bad] > 0) & (maps["lifetime_quality"][~bad] < 1)).all()
        table = pd.read_csv(tmp_path / "rows.csv")
        np.testing.assert_allclose(table["depth_mm"].to_numpy().reshape(6, 5), maps["depth_mm"], rtol=1e-4)
    assert table[["row", "column"]].to_numpy()[7].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        (
            {"counts": np.ones((6, 5, 100)), "bin_width": None},
            [],
            "has 100 bins along its last axis and the run was trained on 256",
        ),
        ({}, ["--width", "0.2"], "tell the response twice"),
        ({"counts": np.ones(256)}, [], "has the shape (256,)"),
        ({"bin_width": 0.05}, ["--bin_width", "0.032"], "says bins of 0.05 ns"),
        ({"bin_width": 32.0}, [], "in ns, not ps"),
        ({"bin_width": 32.0}, ["--bin_width", "0.032"], "correct the file"),
        ({"scattering": None}, ["--scattering", "1"], "give --scattering and --absorption"),
        ({}, ["--scattering", "1", "--absorption", "0.01"], "leave the options out"),
        ({"scattering": np.ones((5, 6))}, [], "has the shape (5, 6) and the histograms (6, 5)"),
        ({"counts": np.ones((2, 6, 5, 256))}, [], "has the shape (2, 6, 5, 256)"),
        ({}, ["--out", "x.txt"], "ends in .csv or .npz"),
        ({}, ["--cloud", "c.txt"], "ends in .ply"),
        ({}, ["--flash", ".nan"], "is no time"),
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
    np.savez(tmp_path / "flat.npz", counts=np.ones((4, 256)))
    for module, rows, sentence in (
        (None, file, "needs open3d"),  # as where it is not installed
        (SimpleNamespace(), tmp_path / "flat.npz", "holds no image"),
    ):
        monkeypatch.setitem(sys.modules, "open3d", module)
        assert main(["lidar", "predict", "--input", str(rows), *told]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "o.csv").exists()
    dark = tmp_path / "dark.npz"
    np.savez(dark, counts=np.zeros((2, 2, 256)), scattering=1.0, absorption=0.01)
    assert main(["lidar", "predict", "--input", str(dark), *told]) == 0
    assert "no pixel has a depth" in capsys.readouterr().out
    assert not (tmp_path / "c.ply").exists()


def test_a_full_detector_is_told_by_its_integers(runs: Path, tmp_path: Path) -> None:
    """Of 16 bits the greatest number, of other files what `--saturation` says."""
    counts = np.full((2, 256), 40)
    counts[1, 60] = np.iinfo(np.uint16).max
    for kind, options, flags in (
        (np.uint16, [], ["", "saturated"]),
        (np.float32, ["--saturation", "65535"], ["", "saturated"]),
    ):
        np.savez(tmp_path / "full.npz", counts=counts.astype(kind), scattering=1.0, absorption=0.01)
        told = ["--input", str(tmp_path / "full.npz"), "--width", "0.2", "--out", str(tmp_path / "o.csv")]
        assert main(["lidar", "predict", *told, *options]) == 0
        found = pd.read_csv(tmp_path / "o.csv")["flag"].fillna("")
        assert [flag == "saturated" for flag in found] == [flag == "saturated" for flag in flags]


def test_cubes_of_h5_and_tables_are_told_as_those_of_npz(runs: Path, tmp_path: Path) -> None:
    import h5py

    file, irf, _ = image(tmp_path)
    with np.load(file) as kept, h5py.File(tmp_path / "image.h5", "w") as other:
        for name in kept.files:
            other[name] = kept[name]
        good = kept["counts"].reshape(30, -1)[5:]
        pd.DataFrame(good).to_csv(tmp_path / "rows.csv", index=False)
        one = ["--scattering", "1", "--absorption", "0.01"]
        np.savez(tmp_path / "rows.npz", counts=good)
    found = {}
    for name, options in (("image.npz", []), ("image.h5", []), ("rows.npz", one), ("rows.csv", one)):
        out = tmp_path / f"{name}.csv"
        ask = ["--input", str(tmp_path / name), "--irf", str(irf), "--out", str(out)]
        assert main(["lidar", "predict", *ask, *options]) == 0
        found[name] = pd.read_csv(out)
    pd.testing.assert_frame_equal(found["image.npz"], found["image.h5"])
    pd.testing.assert_frame_equal(found["rows.npz"], found["rows.csv"])


def test_a_run_is_measured_on_other_light(runs: Path) -> None:
    assert main(["lidar", "evaluate", "--light", "monte_carlo"]) == 0
    folder = runs / "lidar/default/1/evaluation"
    found = json.loads((folder / "monte_carlo/validation/metrics.json").read_text())
    assert found["light"] == "monte_carlo"
    (beyond,) = [row for row in found["rows"] if row["slice"].startswith("depth 10-")]
    assert 0 < beyond["histograms"] < 1000  # those deeper than the tables are left out


def test_a_run_that_broke_off_ends_as_the_whole_one(tmp_path: Path) -> None:
    """Photons are drawn anew in every epoch, and the same ones after a break; stages go on."""
    short = ["--data.scenes", "1024", "--data.held_out", "100", "--trainer.max_epochs", "3"]
    options = ["--config", str(CONFIG), *short, "--model.stages", "[0.4, 0.5, 0.6]"]
    whole, broken = whole_and_broken("lidar", Task, options, 7, tmp_path)
    assert checkpoint(whole)["global_step"] == 12
    assert differing_weights(whole, broken) == []


def test_a_state_of_before_the_mixture_has_learned_is_told(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, irf, _ = image(tmp_path)
    copy = tmp_path / "lidar/default/1"
    shutil.copytree(runs / "lidar/default/1", copy)
    (best,) = (copy / "checkpoints").glob("best*.ckpt")
    ask = ["--input", str(file), "--irf", str(irf), "--out", str(tmp_path / "o.csv"), "--run", str(copy)]
    for stage, told in (("experts", True), ("critics", True), ("mixture", False), ("joint", False)):
        torch.save(torch.load(best, weights_only=True) | {"stage": stage}, best)
        assert main(["lidar", "predict", *ask]) == 0
        assert ("before its mixture was trained" in capsys.readouterr().out) is told
