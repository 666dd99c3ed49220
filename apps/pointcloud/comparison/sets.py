"""What is compared on: all domains of a sheet together, or all but one, on which is then measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.common.discovery import data_folder
from apps.common.errors import UserError
from apps.pointcloud.data import APP, Data
from apps.pointcloud.sheet import PARTS, Sheet, read_sheet, scans, simulated

UNSEEN = "unseen_"
SKEWED = "skewed"
REAL = "joint"


class Set(NamedTuple):
    """Domains to train on, and to measure.

    sheet: of all; train: the module of those that are trained on; test: that of those that are measured;
    classes: (D, C) what a network may say in each of these; unseen: whether they are others.
    """

    train: Data
    test: Data
    classes: np.ndarray
    unseen: bool


def sheet_of(name: str) -> Sheet:
    """The sheet of a set: of `simulated`, of `joint`, or that which has the domain of `unseen_<domain>`."""
    whole = [simulated(), read_sheet(real())]
    if name in ("simulated", f"simulated_{SKEWED}"):
        return whole[0]
    if name in (REAL, f"{REAL}_{SKEWED}"):
        return whole[1]
    for sheet in whole:
        if name.removeprefix(UNSEEN) in [domain.name for domain in sheet.domains]:
            return sheet
    raise UserError(f"there is no set {name!r} to compare on.")


def real() -> Path:
    """The sheet of the real domains."""
    return data_folder(APP) / "real.yaml"


def set_of(name: str, budget: Mapping[str, Any], seed: int = 0) -> Set:
    """A set of the comparison; every seed has the same scans in other crops."""
    sheet = sheet_of(name)
    names = [domain.name for domain in sheet.domains]
    out = name.removeprefix(UNSEEN) if name.startswith(UNSEEN) else ""
    made = [domain.name for domain in sheet.domains if not domain.files]
    options: dict[str, Any] = {key: budget[key] for key in ("crops", "points", "batch_size")}
    options |= {"sheet": None if made else real(), "batch_seed": seed}
    if name.endswith(SKEWED):
        options["shares"] = {one: budget["skew"] ** -place for place, one in enumerate(names)}
    train = Data(domains=[one for one in names if one != out], **options)
    test = Data(domains=[out], **options) if out else train
    classes = np.asarray(train.classes.any(0))[None] if out else test.classes
    return Set(train, test, classes, bool(out))


def sha256_of(name: str) -> str:
    """The hash of all that is known of a set: its scans by part, whose they are, and what classes mean."""
    digest, sheet = hashlib.sha256(), sheet_of(name)
    digest.update(repr((name, sheet.classes, sheet.shared.tolist(), sheet.meanings)).encode())
    for domain in sheet.domains:
        for part in PARTS:
            for scan, cloud in scans(sheet, domain, part):
                digest.update(f"{domain.name} {part} {scan} {cloud.offset.tolist()}".encode())
                for what, values in cloud.told().items():
                    digest.update(what.encode() + values.tobytes())
    return digest.hexdigest()
