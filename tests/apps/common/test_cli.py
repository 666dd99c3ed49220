"""What a training leaves in its run folder, and how mistakes are told."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.common.main import main
from tests.apps.common.helpers import TOY, checkpoint

Fit = Callable[..., Path]
ROOT = Path(__file__).parents[3]
Change = Callable[[dict[str, Any]], Any]
NET = "toys.moons.model.Net"
GATE = "--model.network.init_args.router.init_args.gate"


def test_a_run_folder_holds_everything(fit: Fit) -> None:
    run = fit()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    others = {path.name for path in run.iterdir() if "tfevents" not in path.name}
    assert others == {"checkpoints", "config.yaml", "metrics.csv", "routing.json"}
    assert json.loads((run / "routing.json").read_text()) == checkpoint(run)["routing"]


def test_checkpoints_say_whose_they_are(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=1")
    for name in ("best", "last"):
        mark = checkpoint(run, name)["collegium"]
        assert (mark["app"], mark["config"]) == ("moons", "default")
    assert checkpoint(run)["Data"] == {"rows": 60}


def test_the_kept_configuration_is_whole_and_runs_again(fit: Fit, toys: Path) -> None:
    run = fit("--model.learning_rate=0.01", "--trainer.max_epochs=1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["learning_rate"] == 0.01
    assert config["data"]["batch_size"] == 8
    again = fit("--config", str(run / "config.yaml"))
    assert again == toys / "moons" / "default" / "2"
    assert (again / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("option", "balance"),
    [
        (["--model.balance.entropy", "0.1"], {"load_balance": 0.01, "z_loss": 0.001, "entropy": 0.1}),
        (["--model.balance.z_loss=0.1"], {"load_balance": 0.01, "z_loss": 0.1}),
        (["--model.balance", "{}"], {}),
        (["--model.balance", "{z_loss: 0.1}"], {"z_loss": 0.1}),
    ],
)
def test_options_add_a_balance_term_or_replace_all(
    option: list[str], balance: dict[str, float], fit: Fit
) -> None:
    """As configs/README.md has it."""
    config = yaml.safe_load((fit("--trainer.max_epochs=1", *option) / "config.yaml").read_text())
    assert config["model"]["balance"] == balance


def test_the_best_checkpoint_is_the_best_validation(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=6")
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/loss"]]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert checkpoint(run, "best")["global_step"] == int(best["step"]) + 1
    worst = max(rows, key=lambda row: float(row["val/loss"]))
    other = fit("--trainer.max_epochs=6", "--best_checkpoint.mode=max")
    assert checkpoint(other, "best")["global_step"] == int(worst["step"]) + 1


def test_how_experts_were_used_is_logged(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=1")
    row = next(row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/loss"])
    loads = [float(row[f"routing/mixture/load_{expert}"]) for expert in range(4)]
    assert sum(loads) == pytest.approx(1)
    assert float(row["routing/mixture/max_violation"]) == pytest.approx(4 * max(loads) - 1)
    assert 0 <= float(row["routing/mixture/entropy"]) <= 1


def test_a_trial_run_leaves_nothing(toys: Path) -> None:
    assert main(["moons", "fit", "--trainer.fast_dev_run", "2"]) == 0
    assert not toys.exists()


def test_a_training_without_a_step_leaves_nothing(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moons", "fit", "--trainer.max_epochs", "0"]) == 2
    assert "holds no checkpoint yet: train it longer" in capsys.readouterr().err
    assert not list(toys.rglob("default/*"))


def test_validate_measures_the_newest_run(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit()
    best = checkpoint(run, "best")
    capsys.readouterr()
    assert main(["moons", "validate"]) == 0
    told = float(re.findall(r"val/loss\D+([\d.]+)", capsys.readouterr().out)[0])
    assert told == pytest.approx(best["callbacks"]["BestCheckpoint"]["best"], rel=1e-4)


def test_another_checkpoint_can_be_measured_and_gone_on_from(fit: Fit, toys: Path) -> None:
    last = str(fit() / "checkpoints" / "last.ckpt")
    assert main(["moons", "validate", "--ckpt_path", last]) == 0
    longer = fit("--ckpt_path", last, "--trainer.max_epochs", "4")
    assert checkpoint(longer)["global_step"] == 32
    assert longer.name == "2"


def test_a_run_is_gone_on_with_by_its_folder(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    first = fit("--trainer.max_epochs=1")
    fit()
    steps = checkpoint(first)["global_step"]
    assert main(["moons", "fit", "--run", str(first), "--trainer.max_epochs=2"]) == 0
    assert checkpoint(first)["global_step"] == 2 * steps
    capsys.readouterr()
    assert main(["moons", "fit", "--run", str(first)]) == 0
    assert f"{first} was complete" in capsys.readouterr().out


def test_a_run_without_a_checkpoint_says_that_it_starts_anew(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("--trainer.max_epochs=1")
    (run / "checkpoints" / "last.ckpt").unlink()
    fit("--resume")
    assert f"{run} has no checkpoint yet: it starts anew" in capsys.readouterr().out


def test_a_user_logger_and_callback_join_the_own(fit: Fit, tmp_path: Path) -> None:
    run = fit(
        "--trainer.max_epochs=1",
        "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
        f"--trainer.logger.save_dir={tmp_path / 'extra'}",
        "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor",
    )
    assert list((tmp_path / "extra").rglob("metrics.csv"))
    assert "lr-AdamW" in (run / "metrics.csv").read_text().partition("\n")[0]


def changed(tmp_path: Path, change: Change) -> Path:
    """Write the toy configuration with a change, as mine.yaml."""
    content = yaml.safe_load((TOY / "configs" / "moons" / "default.yaml").read_text())
    change(content)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


MISTAKES: dict[str, tuple[Change, str]] = {
    "trainer": (
        lambda c: c["trainer"].update(max_epoch=3),
        "unknown key 'trainer.max_epoch': did you mean 'trainer.max_epochs'?",
    ),
    "top": (lambda c: c.update(modle={"a": 1}), "unknown key 'modle': did you mean 'model'?"),
    "task": (
        lambda c: c["model"].update(learning_rat=1),
        "unknown key 'model.learning_rat': did you mean 'model.learning_rate'?",
    ),
    "network": (
        lambda c: c["model"]["network"]["init_args"].update(num_expert=1),
        f"unknown key 'num_expert' of {NET}: did you mean 'num_experts'?",
    ),
    "router": (
        lambda c: c["model"]["network"]["init_args"]["router"]["init_args"].update(nois=1),
        "unknown key 'nois' of collegium.routers.TopK: did you mean 'noise'?",
    ),
    "a router that is none yet": (
        lambda c: c["model"]["network"]["init_args"].update(router="collegium.routers.Router"),
        "Can't instantiate abstract class Router",
    ),
    "gate": (
        lambda c: c["model"]["network"]["init_args"]["router"]["init_args"].update(
            gate={"class_path": "collegium.gates.Cosine", "init_args": {"dimm": 4}}
        ),
        "unknown key 'dimm' of collegium.gates.Cosine: did you mean 'dim'?",
    ),
    "callback": (
        lambda c: c["trainer"].update(
            callbacks={
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitr": "x"},
            }
        ),
        "did you mean 'monitor'?",
    ),
    "far": (lambda c: c["data"].update(zzzzzz=1), "unknown key 'data.zzzzzz': remove it."),
    "type": (lambda c: c["data"].update(rows="many"), "data.rows is 'many': give a whole number."),
    "union": (
        lambda c: c["trainer"].update(max_epochs="three"),
        "trainer.max_epochs is 'three': give a whole number or null.",
    ),
    "literal": (
        lambda c: c.update(best_checkpoint={"mode": "low"}),
        "best_checkpoint.mode is 'low': give one of 'min', 'max'.",
    ),
    "class": (
        lambda c: c["model"]["network"].update(class_path="toys.moons.model.Nett"),
        "model.network: toys.moons.model has no 'Nett': choose another one.",
    ),
    "router class": (
        lambda c: c["model"]["network"]["init_args"]["router"].update(class_path="collegium.routers.TopZ"),
        "router: collegium.routers has no 'TopZ': choose TopP, TopK.",
    ),
    "list": (lambda c: c["data"].update(columns="a"), "data.columns is 'a': give a list such as [a,b]"),
    "missing": (lambda c: c["model"].pop("network"), "model.network is missing: give it a value."),
    "value": (
        lambda c: c["model"]["network"]["init_args"]["router"]["init_args"].update(k=9),
        "TopK: k=9 must lie between 1 and num_experts=4.",
    ),
    "balance": (lambda c: c["model"].update(balance={"load": 1.0}), "model.balance names 'load'"),
    "interval": (
        lambda c: c.update(last_checkpoint={"every_n_steps": 0}),
        "every_n_steps is 0: use 1 or more.",
    ),
    "device": (lambda c: c["trainer"].update(accelerator="abacus"), "accelerator='abacus'"),
}


@pytest.mark.parametrize(("change", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_in_a_configuration_is_one_sentence(
    change: Change, sentence: str, toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(tmp_path, lambda content: (content.setdefault("data", {}), change(content)))
    assert main(["moons", "fit", "--config", str(path)]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"error: {path}: ")
    assert sentence in told
    assert not list(toys.rglob("mine/*"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.max_epoch", "3"], "unknown key 'trainer.max_epoch': did you mean 'trainer.max_epochs'?"),
        (["--data.rows=many"], "data.rows is 'many': give a whole number."),
        (["--foo"], "unknown key 'foo': remove it."),
        (
            ["--model.network.init_args.router.init_args.nois", "2"],
            "unknown key 'nois' of collegium.routers.TopK: did you mean 'noise'?",
        ),
        (
            [f"{GATE}=collegium.gates.Cosine", f"{GATE}.init_args.dimm=4"],
            "unknown key 'dimm' of collegium.gates.Cosine: did you mean 'dim'?",
        ),
        (["--model.network.init_args.router.init_args.k", "x"], "k is 'x': give a whole number."),
        (
            ["--model.network.init_args.router.init_args.k=9"],
            "TopK: k=9 must lie between 1 and num_experts=4.",
        ),
        (["--model.network.init_args", '{"dimm": 3}'], f"unknown key 'dimm' of {NET}: did you mean 'dim'?"),
        (
            ["--trainer.strategy", "expert_paralel"],
            "trainer.strategy is 'expert_paralel', which does not exist: choose expert_parallel.",
        ),
        (
            ["--trainer.strategy", "abacus"],
            "trainer.strategy is 'abacus', which does not exist: choose auto, ddp, expert_parallel.",
        ),
        (["again"], "unknown key 'again': remove it."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    options: list[str], sentence: str, toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["moons", "fit", *options]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"error: command line: {sentence}"
    assert not list(toys.rglob("default/*"))


def test_the_file_is_named_where_the_command_line_is_sound(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(tmp_path, MISTAKES["value"][0])
    sound = ["--model.network.init_args.router.init_args.noise=0.2", "--trainer.max_epochs", "1"]
    assert main(["moons", "fit", "--config", str(path), *sound]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {path}: TopK: k=9")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("trainer: {max_epochs: 3\nmodel: [", r"is not valid YAML \(line 2, column 6\)"),
        ("- a\n- b", "is not a mapping of keys to values"),
        ("", "is not a mapping of keys to values"),
        (None, r"does not exist: .* holds other\.yaml"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(
    content: str | None, sentence: str, toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text("a: 1")
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    assert main(["moons", "fit", "--config", str(tmp_path / "mine.yaml")]) == 2
    told = capsys.readouterr().err.strip()
    assert re.fullmatch(rf"error: {tmp_path}/mine\.yaml {sentence}[^\n]*", told)
    assert not toys.exists()


def test_bad_data_leaves_no_run_folder(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moons", "fit", "--data.broken", "true"]) == 2
    told = capsys.readouterr()
    assert "error: points.csv is empty: give a file with rows." in told.err
    assert "Run:" not in told.out
    assert not list(toys.rglob("default/*"))


def test_a_router_without_a_routing_is_one_sentence(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = "--model.network.init_args.router=toys.moons.model.Lazy"
    assert main(["moons", "fit", router]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: model.network: Lazy.route must return a Routing or a SlotRouting")
    assert not list(toys.rglob("default/*"))


def test_an_unknown_metric_for_the_best_checkpoint_is_one_sentence(
    toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["moons", "fit", "--best_checkpoint.monitor", "val/accuracy"]) == 2
    assert "best_checkpoint.monitor is 'val/accuracy', but validation logs" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["fit", "--resume"], ["validate"], ["test"]])
def test_commands_that_need_a_run_say_so(
    args: list[str], toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["moons", *args]) == 2
    assert "holds no run yet: train one first" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_resumed_from(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--trainer.max_epochs=1")
    last, best = (run / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    metrics = (run / "metrics.csv").read_text()
    last.write_bytes(last.read_bytes()[:1000])
    assert main(["moons", "fit", "--resume"]) == 2
    told = capsys.readouterr().err
    assert f"error: {last} is damaged" in told
    assert f"go on from {best} with --ckpt_path" in told
    assert (run / "metrics.csv").read_text() == metrics
    assert fit("--resume", "--ckpt_path", str(best), "--trainer.max_epochs=2") == run
    assert checkpoint(run)["global_step"] == 16


@pytest.mark.slow
def test_two_processes_share_one_run(toys: Path) -> None:
    """Each sees other rows; what is logged of a validation is that of all of them."""
    two = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "apps", "moons", "fit", *two]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = (toys / "moons" / "default").iterdir()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert checkpoint(run)["global_step"] == 12
    assert (run / "report.html").is_file()
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/loss"]]
    assert [int(row["step"]) for row in rows] == [3, 7, 11]
    for row in rows:
        assert float(row["val/loss"]) == pytest.approx(float(row["val/error"]), rel=1e-5)
    assert "sync_dist" not in done.stderr


@pytest.mark.slow
def test_two_processes_tell_a_mistake_once(toys: Path) -> None:
    two = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "expert_parallel"]
    wrong = ["--model.network.init_args.num_experts", "5"]
    command = [sys.executable, "-m", "apps", "moons", "fit", *two, *wrong]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("cannot be shared out evenly over 2 ranks") == 1
