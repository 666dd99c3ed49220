"""Chances of every task for a user's own impressions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from apps.common.files import check_out, replacing
from apps.common.runs import find_run
from apps.common.trained import task_of
from apps.recsys.data import APP, Data
from apps.recsys.files import read_log
from apps.recsys.task import Task

CHUNK = 8192


def predict(
    input: Path,
    out: Path = Path("predictions.csv"),
    run: Path | None = None,
    users: Path | None = None,
    items: Path | None = None,
) -> None:
    """Write the chance of every task for every row of a file.

    Args:
        input: CSV, parquet or an atomic file with the columns of training; labels are not needed.
        out: CSV to write, one row for each row of the input: its user and item, where there are any, and a
            chance for each task.
        run: a folder runs/recsys/<config>/<n>; the newest by default.
        users, items: tables with a row a user, or an item, joined by their first column.
    """
    check_out(out, input)
    found = find_run(APP, run)
    task, checkpoint = task_of(found, Task)
    data = Data.from_state(checkpoint["Data"])
    frame = read_log(input, users, items).frame
    parts = np.array_split(np.arange(len(frame)), -(-len(frame) // CHUNK))
    batches = (data.encode(frame.iloc[rows], str(input)) for rows in parts)
    with torch.no_grad():
        chances = [
            task.network(batch).sigmoid().numpy()
            for batch in track(batches, "Rows", total=len(parts), transient=True)
        ]
    names = task.network.tasks
    table = pd.DataFrame(np.concatenate(chances), columns=pd.Index([f"p_{name}" for name in names]))
    for place, column in enumerate(name for name in (data.schema.user, data.schema.item) if name):
        table.insert(place, column, frame[column].to_numpy())
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    unseen = data.unseen(frame)
    told = f" ({', '.join(f'{share:.0%} of {name} unseen in training' for name, share in unseen.items())})"
    print(f"{len(table)} rows{told if unseen else ''}, by {found.path}: {out}")
