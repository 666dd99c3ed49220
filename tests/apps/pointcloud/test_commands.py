"""From scans to a run, its figures, and labelled points, when the scans are gone."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from apps.common.discovery import project_root
from apps.common.main import main
from apps.pointcloud import predict as predicting
from apps.pointcloud.files import pieces
from apps.pointcloud.ply import Writer
from apps.pointcloud.simulate import KINDS, simulate
from apps.pointcloud.task import Task
from tests.apps.common.helpers import differing_weights, whole_and_broken

CONFIG = str(project_root() / "configs" / "pointcloud" / "default.yaml")
SHORT = ["--data.crops", "48", "--data.points", "1024", "--trainer.max_epochs", "4"]
SHORT += ["--model.network.init_args.dims", "[16, 32]", "--model.learning_rate", "0.006"]


def save(path: Path, kind: str, number: int) -> None:
    cloud = simulate(kind, number)
    x, y, z = cloud.where().T
    values = {"x": x, "y": y, "z": z, "label": cloud.label}
    if cloud.intensity is not None:
        values["intensity"] = cloud.intensity
    kinds = {name: "u1" if name == "label" else "f8" if name in "xyz" else "f4" for name in values}
    writer = Writer(path, len(cloud), kinds)
    writer.put(slice(None), values)  # type: ignore[arg-type]
    writer.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two domains of PLY files that are gone afterwards."""
    folder = tmp_path_factory.mktemp("runs")
    domains = {}
    for kind in ("rooms", "towns"):
        for number in range(3):
            save(folder / f"{kind}_{number}.ply", kind, number)
        classes = dict(enumerate(KINDS[kind].classes))
        parts = {"validation": [f"{kind}_1"], "test": [f"{kind}_2"]}
        domains[kind] = {"files": f"{kind}_*.ply", "classes": classes, **parts}
    shared = {"building": ["wall", "building"], "ground": ["floor", "ground"]}
    sheet = folder / "sheet.yaml"
    sheet.write_text(yaml.safe_dump({"domains": domains, "shared": shared}, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["pointcloud", "fit", "--config", CONFIG, *SHORT, "--data.sheet", str(sheet)]) == 0
        assert main(["pointcloud", "evaluate"]) == 0
    for file in (*folder.glob("*.ply"), sheet):
        file.unlink()
    return folder / "pointcloud" / "default" / "1"


def test_a_run_that_broke_off_ends_as_the_whole_one(tmp_path: Path) -> None:
    """Crops are drawn anew in every epoch, and the same ones after a break."""
    rng = np.random.default_rng(0)
    for number in range(3):
        where = rng.uniform(0, 4, (600, 3))
        writer = Writer(tmp_path / f"{number}.ply", 600, {"x": "f8", "y": "f8", "z": "f8", "label": "u1"})
        writer.put(slice(None), {**dict(zip("xyz", where.T, strict=True)), "label": (where[:, 2] > 2)})
        writer.close()
    domain = {"files": "*.ply", "classes": {0: "low", 1: "high"}, "validation": ["1"], "test": ["2"]}
    sheet = tmp_path / "sheet.yaml"
    sheet.write_text(yaml.safe_dump({"domains": {"cubes": domain}}, sort_keys=False))
    short = [
        "--data.crops",
        "6",
        "--data.points",
        "128",
        "--data.batch_size",
        "2",
        "--trainer.max_epochs",
        "3",
    ]
    options = ["--config", CONFIG, "--data.sheet", str(sheet), *short]
    options += ["--model.network.init_args.dims", "[16, 32]"]
    whole, broken = whole_and_broken("pointcloud", Task, options, 4, tmp_path)
    assert differing_weights(whole, broken) == []


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    save(tmp_path / "scan.ply", "towns", 9)
    return tmp_path / "scan.ply"


def test_a_run_learns_and_is_measured_by_domain_class_and_meaning(run: Path) -> None:
    found = json.loads((run / "evaluation/validation/metrics.json").read_text())
    rows = {row["slice"]: row for row in found["rows"]}
    assert list(rows) == ["all", "rooms", "towns"]
    assert rows["towns"]["accuracy"] > 0.8
    assert rows["rooms"]["accuracy"] > 0.5
    assert rows["all"]["miou"] == pytest.approx((rows["rooms"]["miou"] + rows["towns"]["miou"]) / 2, rel=1e-4)
    right = {row["class"]: row["towns"] for row in found["right"]}
    assert right["ground"] > 0.8
    by_class = {row["class"]: row for row in found["classes"]}
    assert by_class["ground"]["rooms"] is None
    assert by_class["ground"]["towns"] > 0.8
    assert {row["class"] for row in found["shared"]} == {"building", "ground"}
    assert all(0 <= row["domain"] <= 1 for row in found["experts"])
    page = (run / "evaluation/validation/report.html").read_text(encoding="utf-8")
    for title in ("Scans", "Confusion", "Experts by domain and class"):
        assert title in page


def predicted(run: Path, scan: Path, out: Path, *options: str) -> dict[str, np.ndarray]:
    given = ["--input", str(scan), "--out", str(out), "--run", str(run), *options]
    assert main(["pointcloud", "predict", *given]) == 0
    (found,) = pieces(out)
    return found


def test_every_point_is_labelled_in_its_place(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predicted(run, scan, tmp_path / "out.ply", "--domain", "towns")
    (given,) = pieces(scan)
    assert np.array_equal(found["xyz"], given["xyz"])
    names = [*KINDS["rooms"].classes, *(c for c in KINDS["towns"].classes if c not in KINDS["rooms"].classes)]
    said = np.array(names)[found["code"]]
    truth = np.array(KINDS["towns"].classes)[given["code"]]
    assert (said == truth).mean() > 0.8
    assert set(said) <= set(KINDS["towns"].classes)
    assert len(np.unique(found["colour"], axis=0)) == len(set(said))
    head = (tmp_path / "out.ply").read_bytes()[:600]
    assert b"comment class 0 floor" in head
    assert "ground" in capsys.readouterr().out


def test_blocks_change_little(run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted(run, scan, tmp_path / "one.ply", "--side", "0.7")
    monkeypatch.setattr(predicting, "BLOCK", 9000)
    parts = predicted(run, scan, tmp_path / "two.ply", "--side", "0.7")
    assert (whole["code"] == parts["code"]).mean() > 0.95


def test_other_classes_may_be_told_where_no_domain_is_named(run: Path, scan: Path, tmp_path: Path) -> None:
    assert len(predicted(run, scan, tmp_path / "out.ply")["code"]) == len(next(pieces(scan))["xyz"])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--domain", "moons"], "the run has no domain 'moons': name one of rooms, towns"),
        (["--out", "labels.csv"], "give a name that ends in .ply"),
        (["--input", "none.ply"], "there is no such file"),
        (["--side", "-1"], "m, and not of -1: mend `side`"),
        (["--side", "0"], "scan.ply: its points ask for cells of"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_and_writes_nothing(
    run: Path,
    scan: Path,
    tmp_path: Path,
    options: list[str],
    fault: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--input", str(scan), "--out", "labels.ply", "--run", str(run), *options]
    assert main(["pointcloud", "predict", *given]) == 2
    assert fault in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"scan.ply"}


def test_a_checkpoint_of_other_classes_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    best = str(run / "checkpoints" / "best.ckpt")
    narrow = ["--model.network.init_args.dims", "[16, 32]", "--data.domains", "[rooms, streets]"]
    assert main(["pointcloud", "validate", "--config", CONFIG, *narrow, "--ckpt_path", best]) == 2
    assert "the domains are rooms, streets, and those of training rooms, towns" in capsys.readouterr().err
    sheet = tmp_path / "sheet.yaml"
    domain = {"files": "scan.ply", "classes": {0: "floor", 1: "moon"}, "cut": "x"}
    sheet.write_text(yaml.safe_dump({"domains": {"rooms": domain}}))
    save(tmp_path / "scan.ply", "rooms", 3)
    assert main(["pointcloud", "evaluate", "--run", str(run), "--sheet", str(sheet)]) == 2
    assert "the run knows no class 'moon': its classes are floor, " in capsys.readouterr().err


def test_another_sheet_may_name_domains_and_classes_in_another_order(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = yaml.safe_load((run / "config.yaml").read_text())
    options["data"]["shares"] = {"towns": 2.0}  # of domains that the other sheet has not
    (run / "config.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
    names = list(KINDS["towns"].classes)
    domains = {
        "village": {
            "files": "towns_*.ply",
            "classes": {number: names[number] for number in reversed(range(len(names)))},
            "validation": ["towns_11"],
            "test": ["towns_12"],
        }
    }
    for number in (10, 11, 12):
        save(tmp_path / f"towns_{number}.ply", "towns", number)
    (tmp_path / "sheet.yaml").write_text(yaml.safe_dump({"domains": domains}, sort_keys=False))
    assert main(["pointcloud", "evaluate", "--run", str(run), "--sheet", str(tmp_path / "sheet.yaml")]) == 0
    (found,) = run.glob("evaluation/sheet/*/metrics.json")
    rows = {row["slice"]: row for row in json.loads(found.read_text())["rows"]}
    assert rows["village"]["accuracy"] > 0.8
