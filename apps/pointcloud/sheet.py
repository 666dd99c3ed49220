"""Domains: scans of one sensor and what their labels mean, as a sheet (YAML) says.

```yaml
domains:
  town:
    files: town/*.laz               # beside the sheet
    classes: {2: ground, 6: building}   # codes of the files; others are not known
    validation: [tile_07]           # names of scans, without ending; may have *
    test: [tile_08, tile_09]
    gap: 1                          # metres left out along the edges of these
  room:
    files: room.ply
    classes: {0: floor, 1: wall}
    cut: x                          # one scan, cut 60:20:20 along an axis (-x: from its end), or azimuth
    gap: 0.1                        # metres (or degrees) left out between the parts
shared:                             # classes of several domains that mean one thing
  building: [wall, building]
  ground: [floor, ground]
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from apps.common.errors import UserError
from apps.common.mistakes import check_config
from apps.pointcloud.cloud import UNKNOWN, Cloud, cloud_of, refuse_degrees
from apps.pointcloud.files import READERS, pieces
from apps.pointcloud.simulate import KINDS, simulate
from apps.pointcloud.units import Units

APP = "pointcloud"
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
HELD_OUT = PARTS[1:]
CUTS = ("x", "y", "-x", "-y", "azimuth")
SHARES = (0.6, 0.8)
"""Shares of a scan's points up to which it is for training, and for validation."""
SIMULATED = {"train": 6, "validation": 2, "test": 4}
"""Scans of each simulated domain."""
MEANS = {
    "ground": ("floor", "road", "sidewalk", "terrain", "ground"),
    "building": ("ceiling", "wall", "door", "building"),
    "vegetation": ("vegetation", "trunk"),
    "car": ("car",),
}
"""Classes of the simulated domains that mean one thing."""


@dataclass(frozen=True)
class Domain:
    """Scans of one sensor. See the head of this file; without files they are simulated.

    start: degrees from which an azimuth is cut, counted from the axis of x towards that of y.
    """

    name: str
    classes: dict[int, str]
    files: str = ""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    cut: str = ""
    gap: float = 0.0
    start: float = -180.0


@dataclass(frozen=True)
class Sheet:
    """Domains, the classes of all of them, and what of these means one thing.

    classes: names, in order; shared: (C,) the number of what a class means, `UNKNOWN` for a class of its own;
    meanings: names of these; folder: where files lie.
    """

    domains: tuple[Domain, ...]
    classes: tuple[str, ...]
    shared: np.ndarray
    meanings: tuple[str, ...]
    folder: Path

    def of(self, domain: Domain) -> np.ndarray:
        """(C,) bool, the classes of a domain."""
        return np.isin(self.classes, list(domain.classes.values()))

    def among(self, classes: Sequence[str]) -> Sheet:
        """The same domains, their classes being some of those of a network.

        Raises UserError for a class that is not.
        """
        for name in self.classes:
            if name not in classes:
                raise UserError(f"the run knows no class {name!r}: its classes are {', '.join(classes)}.")
        own = {name: int(number) for name, number in zip(self.classes, self.shared, strict=True)}
        shared = np.array([own.get(name, UNKNOWN) for name in classes])
        return replace(self, classes=tuple(classes), shared=shared)

    def only(self, names: Sequence[str]) -> Sheet:
        """Some domains; classes stay as they are. Raises UserError for one that there is not."""
        known = [domain.name for domain in self.domains]
        for name in names:
            if name not in known:
                raise UserError(f"there is no domain {name!r}: name some of {', '.join(known)}.")
        some = tuple(domain for domain in self.domains if domain.name in names)
        return Sheet(some, self.classes, self.shared, self.meanings, self.folder)


def simulated() -> Sheet:
    """Rooms, streets and towns."""
    domains = [Domain(name, dict(enumerate(kind.classes))) for name, kind in KINDS.items()]
    return _sheet(domains, MEANS, Path())


def read_sheet(path: Path) -> Sheet:
    """Raises UserError where the file is absent or does not fit, or a domain is told in part."""
    content = check_config(path)
    domains = content.get("domains")
    if not isinstance(domains, dict) or not domains:
        raise UserError(f"{path} names no domains: list them below `domains:`.")
    known = set(Domain.__dataclass_fields__) - {"name"}
    found = []
    for name, said in domains.items():
        classes = said.get("classes") if isinstance(said, dict) else None
        if not classes or not isinstance(classes, dict) or not said.get("files"):
            raise UserError(f"{path}: domain {name} lacks `files` or `classes`: give both.")
        wrong = sorted(set(said) - known)
        if wrong:
            raise UserError(f"{path}: domain {name} has the unknown key {wrong[0]!r}: mend it.")
        if said.get("cut", "") not in ("", *CUTS):
            raise UserError(f"{path}: domain {name} is cut by {said['cut']!r}: use one of {', '.join(CUTS)}.")
        gap, start = said.get("gap", 0.0), said.get("start", -180.0)
        if not isinstance(gap, int | float) or not 0 <= gap < np.inf:
            raise UserError(f"{path}: the gap of domain {name} is {gap!r}: give a number of 0 or more.")
        if not isinstance(start, int | float) or not -360 <= start <= 360:
            raise UserError(f"{path}: the start of domain {name} is {start!r}: give degrees.")
        if said.get("cut") and (said.get("validation") or said.get("test")):
            raise UserError(f"{path}: domain {name} is cut, and names held-out scans: keep one of the two.")
        if not all(isinstance(code, int) and isinstance(one, str) for code, one in classes.items()):
            raise UserError(f"{path}: classes of domain {name} must be whole numbers, each with a name.")
        lists = {key: _names(said.get(key) or [], f"{path}: {key} of domain {name}") for key in HELD_OUT}
        found.append(
            Domain(
                str(name),
                classes,
                str(said["files"]),
                **lists,
                cut=said.get("cut", ""),
                gap=gap,
                start=start,
            )
        )
    means = content.get("shared") or {}
    if not isinstance(means, dict):
        raise UserError(f"{path}: `shared` is no mapping of meanings to lists of classes: mend it.")
    shared = {str(name): _names(said, f"{path}: {name} below `shared`") for name, said in means.items()}
    return _sheet(found, shared, path.resolve().parent)


def _names(said: object, where: str) -> tuple[str, ...]:
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        raise UserError(f"{where} is {said!r}: make it a list of names, those of digits in quotes.")
    return tuple(said)


def scans(sheet: Sheet, domain: Domain, part: Part, seed: int = 0) -> Iterator[tuple[str, Cloud]]:
    """Names and clouds of one part of a domain, labels being numbers of the sheet's classes.

    Raises UserError where there is no file, no label, or none of a class that is known.
    """
    number = {name: place for place, name in enumerate(sheet.classes)}
    codes = {code: number[name] for code, name in domain.classes.items()}
    if not domain.files:
        begin = sum(SIMULATED[other] for other in PARTS[: PARTS.index(part)])
        for scan in range(begin, begin + SIMULATED[part]):
            cloud = simulate(domain.name, scan, seed)
            yield f"{domain.name} {scan}", _coded(cloud, cloud.label, codes, domain.name)
        return
    for path, own in parts_of(sheet, domain).items():
        if domain.cut or own == part:
            cloud = read_cloud(path, codes)
            cloud = cut(cloud, part, domain) if domain.cut else trimmed(cloud, part, domain)
            if cloud.label is None or (cloud.label == UNKNOWN).all():
                raise UserError(f"{path}: no {part} point has a class of the sheet: hold out others.")
            yield path.stem, cloud


def files_of(sheet: Sheet, domain: Domain) -> list[Path]:
    """Scans of a domain, beside the sheet or below $COLLEGIUM_DATA. Raises UserError where there are none."""
    root = os.environ.get("COLLEGIUM_DATA")
    folders = [sheet.folder, *([Path(root) / APP] if root else [])]
    for folder in folders:
        whole = folder.resolve() / domain.files
        paths = Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))
        found = sorted(path for path in paths if path.suffix.lower() in READERS)
        if found:
            return found
    where = " or ".join(str(folder) for folder in folders)
    raise UserError(f"domain {domain.name}: no scan is called {domain.files} in {where}: check the path.")


def parts_of(sheet: Sheet, domain: Domain) -> dict[Path, Part]:
    """What each scan of a domain is for, if it is not cut.

    Raises UserError where one that is to be held out is not there, or held out for both parts.
    """
    found: dict[Path, Part] = dict.fromkeys(files_of(sheet, domain), "train")
    for part, patterns in (("validation", domain.validation), ("test", domain.test)):
        for pattern in patterns:
            own = [path for path in found if fnmatch(path.stem, pattern)]
            if not own:
                raise UserError(
                    f"domain {domain.name}: no scan is called {pattern}, named for {part}: mend it."
                )
            for path in own:
                if found[path] not in ("train", part):
                    raise UserError(f"{path} is named for validation and for test: keep one of the two.")
                found[path] = part  # type: ignore[assignment]
    return found


def read_cloud(path: Path, codes: dict[int, int]) -> Cloud:
    """A labelled scan as a whole. Raises UserError where it has no labels, or none of the known codes."""
    parts = list(pieces(path))
    names = set.intersection(*(set(part) for part in parts)) if parts else set()
    values = {name: np.concatenate([part[name] for part in parts]) for name in names}
    if "code" not in values:
        raise UserError(f"{path} has no labels: give a scan with a field `label` or `classification`.")
    code = values.pop("code")
    xyz = values.pop("xyz", np.empty((0, 3)))
    cloud = cloud_of(xyz, str(path), Units.of(values).apply(values))
    refuse_degrees(xyz.min(0), xyz.max(0), len(xyz), str(path))
    return _coded(cloud, code, codes, str(path))


def cut(cloud: Cloud, part: Part, domain: Domain) -> Cloud:
    """The part of a scan beyond the guard gaps. Raises UserError where nothing is left."""
    where = cloud.where()
    turning = domain.cut == "azimuth"
    if turning:
        along = (np.degrees(np.arctan2(where[:, 1], where[:, 0])) - domain.start) % 360
    else:
        along = where[:, "xy".index(domain.cut[-1])] * (-1 if domain.cut[0] == "-" else 1)
    ends = np.quantile(along, [0.0, *SHARES, 1.0])
    place, half = PARTS.index(part), domain.gap / 2
    low = ends[place] + (half if place or turning else 0)
    high = ends[place + 1] - (half if place < 2 or turning else 0)
    rows = (along >= low) & (along <= high)
    if not rows.any():
        raise UserError(f"domain {domain.name}: a gap of {domain.gap} leaves no {part} points: lower it.")
    return cloud.take(rows)


def trimmed(cloud: Cloud, part: Part, domain: Domain) -> Cloud:
    """A held-out scan without its edges, which may adjoin a scan for training; raises as `cut` does."""
    if part == "train" or not domain.gap:
        return cloud
    flat = cloud.xyz[:, :2]
    rows = ((flat >= flat.min(0) + domain.gap) & (flat <= flat.max(0) - domain.gap)).all(1)
    if not rows.any():
        raise UserError(f"domain {domain.name}: a gap of {domain.gap} leaves no {part} points: lower it.")
    return cloud.take(rows)


def _coded(cloud: Cloud, code: np.ndarray | None, codes: dict[int, int], what: str) -> Cloud:
    assert code is not None
    label = np.full(len(cloud), UNKNOWN, dtype=np.int64)
    for own, number in codes.items():
        label[code == own] = number
    if (label == UNKNOWN).all():
        have = ", ".join(str(one) for one in np.unique(code)[:8])
        wanted = ", ".join(str(one) for one in codes)
        raise UserError(f"{what}: no point has a class of the sheet: codes are {have}, wanted {wanted}.")
    return Cloud(**{**vars(cloud), "label": label})


def _sheet(domains: Sequence[Domain], means: Mapping[str, Sequence[str]], folder: Path) -> Sheet:
    classes = tuple(dict.fromkeys(name for domain in domains for name in domain.classes.values()))
    shared = np.full(len(classes), UNKNOWN)
    for number, names in enumerate(means.values()):
        for name in names:
            if name not in classes:
                raise UserError(f"shared: there is no class {name!r}: name some of {', '.join(classes)}.")
            if shared[classes.index(name)] != UNKNOWN:
                raise UserError(f"shared: class {name} means two things: leave it in one of them.")
            shared[classes.index(name)] = number
    return Sheet(tuple(domains), classes, shared, tuple(means), folder)
