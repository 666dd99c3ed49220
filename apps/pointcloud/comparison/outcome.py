"""What an arm achieved on test scans, with pieces of them as units of the intervals.

Legend: C classes, U units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apps.common.compare import Cost, Outcome, Value
from apps.common.compare.arms import Place
from apps.pointcloud.comparison.sets import Set
from apps.pointcloud.data import Data
from apps.pointcloud.features import Scan
from apps.pointcloud.metrics import accuracy, confusion, iou
from apps.pointcloud.sheet import Sheet
from apps.pointcloud.tiles import tiles
from apps.pointcloud.told import ALL, Told, counts_of, meanings

LEAST = 100
"""Points that a class must have, both to learn from and to measure, for its IoU to count."""
PIECES = 24
"""Units of each domain, about: scans are cut into tiles that have as many points."""


def outcome(told: Told, found: Set, cost: Cost) -> Outcome:
    """Mean IoU and accuracy of each domain and of all, and points a second of CPU once features are known.

    Of an unseen domain all of that is of what classes mean. A class of fewer than `LEAST` points, in training
    or in test, is left out of the mean IoU: nobody could learn it, or measure it.

    Args:
        told: test scans.
        found: the set.
        cost: of the arm.
    """
    sheet = found.test.sheet
    counts = counts_of_units(told, found)
    values: list[Value] = []
    units: dict[Place, np.ndarray] = {}
    learned = learned_points(found)
    of_domains = {sheet.domains[number].name: np.stack(each) for number, each in counts.items()}
    for number, (domain, each) in zip(counts, of_domains.items(), strict=True):
        units[domain, "miou"] = miou_units(each, is_measured(each.sum(0), learned[number]))
        values.append(Value(domain, "miou", float(units[domain, "miou"].mean()), True))
        values.append(Value(domain, "accuracy", accuracy(each.sum(0)), True))
    if len(of_domains) > 1:
        units[ALL, "miou"] = mean_units([units[domain, "miou"] for domain in of_domains])
        values.append(Value(ALL, "miou", float(units[ALL, "miou"].mean()), True))
        right = [accuracy(each.sum(0)) for each in of_domains.values()]
        values.append(Value(ALL, "accuracy", float(np.mean(right)), True))
    values.append(Value(ALL, "points_per_second", told.points / told.seconds, True))
    return Outcome(values, units, cost)


def counts_of_units(told: Told, found: Set) -> dict[int, list[np.ndarray]]:
    """Confusion of the points of each unit, by number of the domain; those without a known point are none."""
    sheet = found.test.sheet
    number_of = {
        domain: sum(scan.domain == domain for scan in told.scans) for domain in range(len(sheet.domains))
    }
    counts: dict[int, list[np.ndarray]] = {}
    for scan, label in zip(told.scans, told.labels, strict=True):
        truth, classes = scan.truth, len(sheet.classes)
        if found.unseen:
            truth, label = meanings(sheet, truth, label)
            classes = len(sheet.meanings)
        for rows in pieces_of(scan, -(-PIECES // number_of[scan.domain])):
            own = confusion(truth[rows], label[rows], classes)
            if own.sum():
                counts.setdefault(scan.domain, []).append(own)
    return counts


def pieces_of(scan: Scan, number: int) -> list[np.ndarray]:
    """Numbers of the points of about so many pieces of a scan."""
    cells = list(tiles(scan.xyz, -(-len(scan) // number)))
    owner = np.empty(len(scan), dtype=np.int64)
    for place, rows in enumerate(cells):
        owner[rows] = place
    of_point = owner[scan.of_point]
    return [np.flatnonzero(of_point == place) for place in range(len(cells))]


def learned_points(found: Set) -> list[np.ndarray]:
    """Points (C,) to learn from, of the classes of each domain that is measured or of what they mean."""
    sheet = found.train.sheet
    points = points_of_classes(found.train.part("train"), sheet)
    if not found.unseen:
        return list(points)
    own = sheet.shared >= 0
    return [np.bincount(sheet.shared[own], points.sum(0)[own], len(sheet.meanings))]


def points_of_classes(scans: Sequence[Scan], sheet: Sheet) -> np.ndarray:
    """(D, C) points of each class in scans of each domain."""
    found = np.zeros((len(sheet.domains), len(sheet.classes)), dtype=np.int64)
    for scan in scans:
        found[scan.domain] += np.bincount(scan.truth[scan.truth >= 0], minlength=len(sheet.classes))
    return found


def is_measured(counts: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """(C,) whether a class has points enough.

    Args:
        counts: (C, C + 1) confusion.
        learned: (C,) points to learn from.
    """
    return np.asarray((counts.sum(1) >= LEAST) & (learned >= LEAST))


def miou_units(counts: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(U,) what each unit adds to the mean IoU, so that their mean is it: it, linearised about the whole.

    Of the ratio of hits to union of a class, the influence of a unit is its hits less the ratio times its
    union, over the mean union (the delta method).

    Args:
        counts: (U, C, C + 1) confusion of each.
        there: (C,) which classes count.
    """
    hits = np.diagonal(counts[:, :, :-1], axis1=1, axis2=2).astype(float)
    union = counts.sum(2) + counts[:, :, :-1].sum(1) - hits
    ratio = hits[:, there].sum(0) / union[:, there].sum(0)
    influence = (hits[:, there] - ratio * union[:, there]) / union[:, there].mean(0)
    return np.asarray(ratio.mean() + influence.mean(1))


def mean_units(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Units of a mean over domains, of those of each: their mean is the mean of the means."""
    whole = float(np.mean([part.mean() for part in parts]))
    number = sum(len(part) for part in parts)
    each = [(part - part.mean()) * number / (len(parts) * len(part)) for part in parts]
    return whole + np.concatenate(each)


def score(told: Told, data: Data) -> float:
    """One less the mean over domains of the mean IoU, by which settings are chosen.

    Args:
        told: validation scans.
        data: of the domains.
    """
    learned = points_of_classes(data.part("train"), data.sheet)
    counts = counts_of(told, data.sheet).values()
    each = [np.mean(iou(own)[is_measured(own, points)]) for own, points in zip(counts, learned, strict=True)]
    return 1 - float(np.mean(each))
