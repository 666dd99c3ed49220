"""The report of a run: what every run has to tell, and the app's own sections."""

from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import collegium
import torch
import yaml
from collegium.layer import moe_layers
from lightning import LightningDataModule, Trainer

from apps.common.cost import Cost, measure_cost
from apps.common.discovery import app_module, has_module
from apps.common.experts import experts_section
from apps.common.metrics_file import Curve, Row, read_curves, read_rows
from apps.common.plots import curves
from apps.common.report import Section, write_report
from apps.common.runs import Run, load_checkpoint
from apps.common.shuffle import shuffled_routing
from apps.common.steadiness import steadiness_section
from apps.common.task import MoETask

STAGES = {"train": "in training", "val": "in validation", "test": "in test"}


def write_run_report(
    run: Run, task: MoETask, data: LightningDataModule, split: Literal["validation", "test"] = "validation"
) -> Path:
    """Write report.html of a run from its best checkpoint, and return its path.

    Args:
        run: the run.
        task: is given the weights of the best checkpoint.
        data: as it was set up for training.
        split: which rows the app's sections look at.
    """
    checkpoint = load_checkpoint(run.best, run.app)
    task.load_state_dict(checkpoint["state_dict"])
    task.eval()
    rows = read_rows(run.metrics_file)
    bought = what_routing_bought(task, data) if split == "validation" else None
    page = app_module(run.app, "report") if has_module(run.app, "report") else None
    own = page.sections(task, data, split) if page else []
    covered = getattr(page, "ROWS", f"{split} rows")
    layers = checkpoint.get("routing", {}).get("layers", {})
    common = [
        bought,
        learning_section(rows),
        experts_section(rows, checkpoint["global_step"], layers),
        steadiness_section(rows, layers),
        what_was_run(run, measure_cost(task, data), checkpoint["collegium"].get("commit")),
    ]
    told = f"{run.best.name}, after {checkpoint['global_step']:,} steps; {covered}"
    write_report(run.path / "report.html", run.name, [*own, *(s for s in common if s)], told)
    return run.path / "report.html"


def what_routing_bought(task: MoETask, data: LightningDataModule) -> Section | None:
    """Measure the network on the validation rows as it routes, and with its tokens' routings exchanged."""
    if not moe_layers(task.network):
        return None
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    found = {}
    for name, manner in (("as learned", nullcontext()), ("exchanged among tokens", shuffled_routing(task))):
        with manner:
            trainer = Trainer(**quiet, enable_progress_bar=False, callbacks=[])
            metrics, *_ = trainer.validate(task, datamodule=data, verbose=False)  # of each loader the same
        found[name] = {key.removeprefix("val/"): value for key, value in metrics.items()}
    text = (
        "Validation metrics with the routing as learned, and with every token given the experts of another "
        "one: each expert then has the load that it had, and what is lost is what the routers know of the "
        "tokens. What a model without experts, trained from scratch, would have reached is another question: "
        "`make compare` answers it."
    )
    return Section(
        "What routing bought", text, table=[{"routing": name, **row} for name, row in found.items()]
    )


def what_was_run(run: Run, cost: Cost, commit: str | None) -> Section:
    """Tell the command, the code, what the network costs and the settings.

    Args:
        run: the run.
        cost: of its network.
        commit: of the code that trained it, where the checkpoint tells.
    """
    text = run.config_file.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    facts = {
        "command": text.partition("\n")[0].removeprefix("# "),
        "parameters": f"{cost.total:,} in all, {cost.active:,} active for one token",
        "FLOPs": (
            "not known: validation does not call the network"
            if cost.flops is None
            else f"{cost.flops:,.0f} a row of the network's input, in the matrix products of a forward pass"
        ),
        "commit": commit or "not known",
        "versions": f"collegium {collegium.__version__}, torch {torch.__version__}",
        "seed": config["seed_everything"],
        **_flat({key: config[key] for key in ("model", "data", "trainer")}),
    }
    return Section(
        "What was run", table=[{"setting": name, "value": str(value)} for name, value in facts.items()]
    )


def learning_section(rows: list[Row]) -> Section | None:
    """Draw every metric over the steps: training and validation together, balance terms in one panel.

    Where the validation loss is a metric that has a panel of its own, it is not drawn beside the training
    loss, which is another.
    """
    groups: dict[str, dict[str, Curve]] = defaultdict(dict)
    found = read_curves(rows)
    if any(found.get("val/loss") == found[name] for name in found if name != "val/loss"):
        del found["val/loss"]
    for name, curve in sorted(found.items()):
        stage, _, metric = name.partition("/")
        title, line = ("balance", metric) if stage == "balance" else (metric or name, stage)
        groups[title][line] = curve
    if not groups:
        return None
    first = ("objective", "loss")
    order = sorted(groups.items(), key=lambda each: (each[0] not in first, each[0] == "balance"))
    ordered = {_with_stage(title, lines): lines for title, lines in order}
    return Section("Learning curves", "Each metric over the optimiser steps.", [curves(ordered)])


def _with_stage(title: str, lines: dict[str, Curve]) -> str:
    """The title of a panel, which says of a single line when it was measured."""
    (first, *others) = lines
    return title if others or first not in STAGES else f"{title} {STAGES[first]}"


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return dotted name -> value of nested settings that are not null."""
    if not isinstance(settings, dict):
        return {} if settings is None else {prefix: settings}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        found |= _flat(value, name)
    return found
