"""Chances of every task for a user's own impressions, or the items to recommend to each user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from apps.common.errors import UserError
from apps.common.files import check_out, replacing
from apps.common.runs import find_run
from apps.common.trained import task_of
from apps.recsys.data import APP, Data
from apps.recsys.files import read_log
from apps.recsys.model import Ranker
from apps.recsys.onerec import OneRec
from apps.recsys.ranked import unseen_only
from apps.recsys.recommender import Recommender
from apps.recsys.task import Task

CHUNK = 8192
USERS = 256


def predict(
    input: Path,
    out: Path = Path("predictions.csv"),
    run: Path | None = None,
    users: Path | None = None,
    items: Path | None = None,
    top: int = 10,
) -> None:
    """Write the chance of every task for every row of a file; or the items to recommend to each of its users.

    Args:
        input: CSV, parquet or an atomic file with the columns of training; labels are not needed. For a
            recommender what users took so far, a row an item.
        out: CSV to write: for each row its user and item, where there are any, and a chance for each task;
            of a recommender for each user the best items, one a row, with their score.
        run: a folder runs/recsys/<config>/<n>; the newest by default.
        users: table with a row a user, joined by its first column.
        items: table with a row an item, joined by its first column.
        top: how many items to recommend.
    """
    check_out(out, input)
    if top < 1:
        raise UserError(f"--top is {top}: recommend one item at least.")
    found = find_run(APP, run)
    task, checkpoint = task_of(found, Task)
    data = Data.from_state(checkpoint["Data"])
    frame = read_log(input, users, items).frame
    network = task.network
    if isinstance(network, OneRec):
        network.beams = max(network.beams, top)
    unseen = data.unseen(frame)
    if isinstance(network, Recommender) and unseen.get(str(data.schema.item)) == 1:
        raise UserError(
            f"{input}: none of its {data.schema.item} was in training, so that nothing is known of these "
            "users: give a log of the same items, or name another run, --run."
        )
    if isinstance(network, Recommender):
        table = _recommended(network, data, frame, str(input), top)
        what = f"{table[data.schema.user].nunique()} users"
    else:
        table = _chances(network, data, frame, str(input))
        what = f"{len(table)} rows"
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    told = f" ({', '.join(f'{share:.0%} of {name} unseen in training' for name, share in unseen.items())})"
    print(f"{what}{told if unseen else ''}, by {found.path}: {out}")


@torch.no_grad()
def _chances(network: Ranker, data: Data, frame: pd.DataFrame, source: str) -> pd.DataFrame:
    parts = np.array_split(np.arange(len(frame)), -(-len(frame) // CHUNK))
    chances = [
        network(data.encode(frame.iloc[rows], source)).sigmoid().numpy()
        for rows in track(parts, "Rows", transient=True)
    ]
    table = pd.DataFrame(np.concatenate(chances), columns=pd.Index([f"p_{name}" for name in network.tasks]))
    for place, column in enumerate(name for name in (data.schema.user, data.schema.item) if name):
        table.insert(place, column, frame[column].to_numpy())
    return table


@torch.no_grad()
def _recommended(
    network: Recommender, data: Data, frame: pd.DataFrame, source: str, top: int
) -> pd.DataFrame:
    names, walks = data.encode_walks(frame, source)
    rows = []
    for places in track(torch.split(torch.arange(len(walks)), USERS), "Users", transient=True):
        walk = walks.__getitems__(places)
        scores = unseen_only(network.scores(walk), walk)
        best = scores.topk(min(top, scores.shape[1]), 1)
        for place, values, ids in zip(
            places.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
        ):
            rows += [
                {
                    str(data.schema.user): names[place],
                    "rank": rank,
                    str(data.schema.item): data.item_name(item),
                    "score": value,
                }
                for rank, (item, value) in enumerate(zip(ids, values, strict=True), 1)
                if value > -np.inf
            ]
    return pd.DataFrame(rows, columns=[str(data.schema.user), "rank", str(data.schema.item), "score"])
