"""Classify the rows of a user's own file from a checkpoint, without the data it was trained on."""

from pathlib import Path

import pandas as pd
import torch

from apps.common.files import check_out, replacing
from apps.common.frames import read_frame
from apps.common.runs import find_run
from apps.common.template.data import APP, Data
from apps.common.template.task import Task
from apps.common.trained import task_of


def predict(input: Path, out: Path = Path("predictions.csv"), run: Path | None = None) -> None:
    """Write the class of every row of a CSV, and the probability of each class.

    Args:
        input: CSV with the columns of training; a class column is not needed.
        out: CSV to write, one row for each row of the input.
        run: a folder runs/template/<config>/<n>; the newest by default.
    """
    check_out(out, input)
    found = find_run(APP, run)
    task, checkpoint = task_of(found, Task)
    data = Data.from_state(checkpoint["Data"])
    x = data.read_rows(read_frame(input), str(input))
    with torch.no_grad():
        probs = task.network(x).softmax(-1)
    table = pd.DataFrame(probs.numpy(), columns=[f"p_{name}" for name in data.classes])
    table.insert(0, "prediction", [data.classes[i] for i in probs.argmax(-1)])
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{len(table)} rows, by {found.path}: {out}")
