"""What must hold of a log before anything is learned from it.

Legend: N rows, K labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from apps.common.errors import UserError
from apps.recsys.columns import Schema
from apps.recsys.impressions import PARTS, Part


def fingerprint(frame: pd.DataFrame, schema: Schema) -> str:
    """A hash of a log, of the order of its rows, and of what its columns are taken for."""
    digest = hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    digest.update(json.dumps([[*map(str, frame)], dataclasses.asdict(schema)]).encode())
    return digest.hexdigest()


def check_split(why: str, given: Mapping[str, object]) -> None:
    """Raise UserError where options of the split are given that would not be followed.

    Args:
        why: how rows are split, and where they are from.
        given: those options, by name; None or False where one is not given.
    """
    for name, value in given.items():
        if value:
            raise UserError(f"{why}, and data.{name} would not be followed: leave it out.")


def check_labels(labels: np.ndarray, places: Mapping[Part, np.ndarray], schema: Schema, source: str) -> None:
    """Raise UserError where a label (N, K) has one value in all rows of training, or of validation."""
    for place, name in enumerate(schema.tasks):
        for part in PARTS[:2]:
            known = labels[places[part], place]
            if len(np.unique(known[~np.isnan(known)])) < 2:
                raise UserError(
                    f"{source}: all {part} rows have one value of the label {name}: take it out of the "
                    "schema, or give other rows for that part."
                )


def check_order(moment: np.ndarray, places: Mapping[Part, np.ndarray], source: str) -> None:
    """Raise UserError unless all rows of training (N,) come before those that are held out."""
    held = np.concatenate([places["validation"], places["test"]])
    if moment[places["train"]].max() > moment[held].min():
        raise UserError(
            f"{source}: held-out rows are no later than those of training, whose histories would tell their "
            "labels: leave out data.history."
        )
