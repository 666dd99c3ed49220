"""The command `schema`: a first schema of a log, to be edited."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from apps.common.console import print_rows
from apps.common.files import check_out
from apps.recsys.columns import Schema
from apps.recsys.files import read_log
from apps.recsys.metrics import auc

TELLING = 0.95
"""A number that alone has such an AUC for a label is likely an outcome."""


def schema(
    input: Path,
    tasks: Sequence[str],
    out: Path = Path("schema.yaml"),
    users: Path | None = None,
    items: Path | None = None,
) -> None:
    """Guess what the columns of a log are, and write it as YAML for `--data.schema`.

    Args:
        input: CSV, parquet or an atomic file.
        tasks: the columns of the labels, 0 and 1.
        out: YAML to write.
        users: table with a row a user, joined by its first column.
        items: table with a row an item, joined by its first column.
    """
    check_out(out, input, (".yaml",))
    log = read_log(input, users, items)
    found = Schema.infer(log, tasks, str(input))
    labels = found.labels(log.frame, str(input))
    rows = [
        {
            "column": name,
            "kind": kind,
            "values": int(log.frame[name].nunique()),
            "blank": int(log.frame[name].isna().sum()),
        }
        for name, kind in found.features.items()
    ]
    print_rows(
        rows, f"{input}: {len(log.frame)} rows; user {found.user}, item {found.item}, time {found.time}"
    )
    found.save(out)
    warn(log.frame, found, labels, str(out))
    print(f"{out}: edit it, and train with --data.path {input} --data.schema {out}")


def telling(frame: pd.DataFrame, found: Schema, labels: np.ndarray) -> list[tuple[str, str]]:
    """Features that by themselves order a label's rows almost without a fault, each with such a label.

    Of a category or of tags by the share of positives among rows of the same cell, as half of the rows tell
    it to the other half.
    """
    suspects = []
    for name, kind in found.features.items():
        for place, task in enumerate(found.tasks):
            known = np.flatnonzero(~np.isnan(labels[:, place]))
            label, cells = labels[known, place], frame[name].iloc[known]
            if kind == "number":
                area = auc(pd.to_numeric(cells, errors="coerce").fillna(0).to_numpy(), label)
            else:
                half = np.arange(len(label)) % 2 == 0
                share = pd.Series(label[half]).groupby(cells[half].astype(str).to_numpy()).mean()
                said = cells[~half].astype(str).map(share).fillna(label[half].mean())
                area = auc(said.to_numpy(), label[~half])
            if max(area, 1 - area) > TELLING:
                suspects.append((name, task))
                break
    return suspects


def warn(frame: pd.DataFrame, found: Schema, labels: np.ndarray, where: str) -> None:
    """Print what was guessed, and which features look like outcomes, and where to mend that."""
    print(f"note: {found.told()}; if that is not so, say what is in {where}.")
    for name in found.features:
        if set(frame[name].dropna().unique()) <= {0, 1}:
            print(
                f"note: {name} holds 0 and 1 alone and is read as a feature: if it is an outcome, name it "
                f"among the tasks, or move it from features to outcomes in {where}."
            )
    for name, task in telling(frame, found, labels):
        print(
            f"note: {name} alone tells {task} almost surely: if it is known only afterwards, move it from "
            f"features to outcomes in {where}."
        )
