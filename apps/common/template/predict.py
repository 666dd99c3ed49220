"""Classify the rows of a user's own file from a checkpoint, without the data it was trained on."""

from pathlib import Path

import pandas as pd
import torch

from apps.common.errors import UserError
from apps.common.files import replacing
from apps.common.runs import find_run, load_checkpoint
from apps.common.template.data import Data
from apps.common.template.evaluate import APP
from apps.common.template.table import read_table
from apps.common.template.task import Task


def predict(input: Path, out: Path = Path("predictions.csv"), run: Path | None = None) -> None:
    """Write the class of every row of a CSV, and the probability of each class.

    Args:
        input: CSV with the columns of training; a class column is not needed.
        out: CSV to write, one row for each row of the input.
        run: a folder runs/template/<config>/<n>; the newest by default.
    """
    if out.suffix != ".csv":
        raise UserError(f"{out}: predictions are written as CSV, so give a name that ends in .csv.")
    checkpoint = find_run(APP, run).best
    data = Data.from_state(load_checkpoint(checkpoint, APP)["Data"])
    x = data.read_rows(read_table(input), str(input))
    task = Task.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    with torch.no_grad():
        probs = task.network(x).softmax(-1)
    table = pd.DataFrame(probs.numpy(), columns=[f"p_{name}" for name in data.classes])
    table.insert(0, data.label, [data.classes[i] for i in probs.argmax(-1)])
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{len(table)} rows: {out}")
