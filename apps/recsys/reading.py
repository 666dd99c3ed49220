"""A log read as users' items in order: windows of each part, and what is known of users and items."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from apps.common.errors import UserError
from apps.recsys.columns import Schema
from apps.recsys.encoding import Encoded, Encoder, Vocabulary, coded
from apps.recsys.impressions import PARTS, Part
from apps.recsys.sequences import (
    HELD_OUT,
    SHORTEST,
    Walks,
    constant_within,
    in_order,
    split_last,
    walk_of,
    windows,
)
from apps.recsys.times import moments


class Read(NamedTuple):
    """Items by id, what turns users' features into numbers, what is known of each item, and the windows."""

    catalogue: Vocabulary
    encoder: Encoder
    contents: Encoded
    walks: dict[Part, Walks]


def read_walks(
    frame: pd.DataFrame,
    schema: Schema,
    liked: np.ndarray,
    history: int,
    fit: Callable[[pd.DataFrame, Schema], Encoder],
    source: str,
) -> Read:
    """Read a log for training; ids and quantiles are those of training rows.

    Args:
        frame, schema: the log and its columns.
        liked: (N,) the label of each row.
        history: items of a window but the last.
        fit: rows and columns -> an encoder.
        source: of the log, for messages.

    Raises:
        UserError: no user or item in the schema, or too few items of each user.
    """
    if not schema.user or not schema.item:
        raise UserError(f"{source}: the next item wants a user and an item: name them in a schema.")
    user = coded(frame[schema.user])[0].astype(np.int64)
    parts = split_last(in_order(user, coded(frame[schema.item])[0], order_of(frame, schema, source)))
    if not parts["test"]:
        raise UserError(f"{source}: no user has {SHORTEST} items, one to learn from and two to tell.")
    train = frame.iloc[np.concatenate(parts["train"])]
    catalogue = Vocabulary.of(train[schema.item])
    item = catalogue.encode(frame[schema.item])
    of_user, of_item = (
        fit(train, Schema({}, {name: schema.features[name] for name in constant}))
        for constant in (
            constant_within(frame, key, list(schema.features)) for key in (schema.user, schema.item)
        )
    )
    profile = of_user.encode(frame, source)
    walks: dict[Part, Walks] = {}
    for part in PARTS:
        rows = windows(parts[part], history) if part == "train" else parts[part]
        if not rows:
            raise UserError(
                f"{source}: no user has {SHORTEST + 1} items, so nothing can be learned: add some."
            )
        first = np.array([own[0] for own in rows])
        who = profile.take(torch.from_numpy(first))
        walk = walk_of(rows, item, liked, who, history, measured=part in HELD_OUT)
        activity = np.array([len(parts["train"][one]) for one in user[first]])
        walks[part] = Walks(walk, user[first], activity)
    contents = of_item.encode(train, source).take(first_rows(item[train.index], len(catalogue)))
    return Read(catalogue, of_user, contents, walks)


def asked_walks(
    frame: pd.DataFrame, schema: Schema, encoder: Encoder, catalogue: Vocabulary, history: int, source: str
) -> tuple[list[str], Walks]:
    """The users of a log, and what they took, in order; behind it comes nothing yet.

    Args:
        frame: the log; its time may be left out where rows are in order.
        schema: of training.
        encoder, catalogue: of training.
        history: items of a window but the last.
        source: of the log, for messages.

    Raises:
        UserError: a column is absent or holds something else than in training, or nobody is named.
    """
    features = {name: kind for name, kind in schema.features.items() if name in encoder.names}
    time = schema.time if schema.time in frame else None
    asked = Schema({}, features, schema.user, schema.item, time)
    asked.check([*map(str, frame)], source)
    codes, names = coded(frame[asked.user])
    rows = in_order(codes.astype(np.int64), coded(frame[asked.item])[0], order_of(frame, asked, source))
    if (codes < 0).all():
        raise UserError(f"{source}: {schema.user} is blank in every row: say whose items these are.")
    named = np.flatnonzero(codes >= 0)
    who, first = np.unique(codes[named], return_index=True)
    profile = encoder.encode(frame, source).take(torch.from_numpy(named[first]))
    taken = [rows[one] if one < len(rows) else np.zeros(0, dtype=np.int64) for one in who]
    item = np.append(catalogue.encode(frame[asked.item]), 0)  # the item to come is none
    to_come = [np.append(own, len(frame)) for own in taken]
    unknown = np.full(len(item), np.nan, dtype=np.float32)
    walk = walk_of(to_come, item, unknown, profile, history, measured=True)
    return [names[one] or "" for one in who], Walks(walk, who, np.array([len(own) for own in taken]))


def order_of(frame: pd.DataFrame, schema: Schema, source: str) -> np.ndarray:
    """Numbers of the rows, the earliest first."""
    return np.argsort(moments_of(frame, schema, source), kind="stable")


def moments_of(frame: pd.DataFrame, schema: Schema, source: str) -> np.ndarray:
    """(N,) when each row was; its place where there is no time."""
    return np.arange(len(frame)) if schema.time is None else moments(frame[schema.time], source)


def first_rows(item: np.ndarray, items: int) -> torch.Tensor:
    """(items,) the first row of each id; of an id without one, as the first ids are, the first of all."""
    first = np.zeros(items, dtype=np.int64)
    ids, rows = np.unique(item, return_index=True)
    first[ids] = rows
    return torch.from_numpy(first)
