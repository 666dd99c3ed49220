"""Domains of one's own: what a sheet says, how scans are parted, and what does not fit."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from apps.common.discovery import data_folder
from apps.common.errors import UserError
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.comparison.outcome import LEAST
from apps.pointcloud.sheet import PARTS, Sheet, files_of, read_sheet, scans, simulated

RANDOM = np.random.default_rng(0)
TOWN: dict[str, Any] = {"files": "town_*.npz", "classes": {2: "ground", 6: "building"}}
ROOM: dict[str, Any] = {"files": "room.npz", "classes": {0: "floor", 1: "wall"}, "cut": "x", "gap": 2}


def write(folder: Path, content: object) -> Path:
    for number in range(4):
        xyz = RANDOM.uniform(0, 30, (400, 3)) + np.array([1000 * number, 0, 0])
        np.savez(folder / f"town_{number}.npz", xyz=xyz, label=RANDOM.choice([2, 6, 7], 400))
    np.savez(folder / "room.npz", xyz=RANDOM.uniform(0, 40, (900, 3)), label=RANDOM.integers(0, 3, 900))
    (folder / "sheet.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "sheet.yaml"


def whole(folder: Path, **town: object) -> Sheet:
    content = {
        "domains": {
            "town": {**TOWN, "validation": ["*_1"], "test": ["town_2", "town_3"], **town},
            "room": ROOM,
        },
        "shared": {"building": ["building", "wall"], "ground": ["ground", "floor"]},
    }
    return read_sheet(write(folder, content))


def test_files_are_parted_by_name_and_labels_are_numbers_of_the_sheet(tmp_path: Path) -> None:
    sheet = whole(tmp_path)
    assert sheet.classes == ("ground", "building", "floor", "wall")
    assert sheet.shared.tolist() == [1, 0, 1, 0]
    town = sheet.domains[0]
    assert sheet.of(town).tolist() == [True, True, False, False]
    names = {part: [name for name, _ in scans(sheet, town, part)] for part in PARTS}
    assert names == {"train": ["town_0"], "validation": ["town_1"], "test": ["town_2", "town_3"]}
    ((_, cloud),) = scans(sheet, town, "train")
    code = np.load(tmp_path / "town_0.npz")["label"]
    assert cloud.label is not None
    assert cloud.label.tolist() == np.select([code == 2, code == 6], [0, 1], -1).tolist()


def test_files_may_stand_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    sheet = write(tmp_path, {"domains": {"town": {**TOWN, "files": str(tmp_path / "town_*.npz")}}})
    moved = read_sheet(sheet.rename(tmp_path / "elsewhere" / "sheet.yaml"))
    assert len(files_of(moved, moved.domains[0])) == 4


def test_held_out_files_lose_their_edges(tmp_path: Path) -> None:
    sheet = whole(tmp_path, gap=3)
    ((_, train),) = scans(sheet, sheet.domains[0], "train")
    ((_, held),) = scans(sheet, sheet.domains[0], "validation")
    assert len(train) == 400 > len(held)
    assert held.where()[:, :2].min() >= 3
    assert (held.where()[:, :2] - [1000, 0]).max() <= 27


@pytest.mark.parametrize(("cut", "start"), [("x", -180), ("-y", -180), ("azimuth", -180), ("azimuth", 30)])
def test_a_scan_is_cut_with_gaps_between_the_parts(cut: str, start: float, tmp_path: Path) -> None:
    room = {**ROOM, "cut": cut, "start": start}
    sheet = read_sheet(write(tmp_path, {"domains": {"room": room}}))
    parts = [next(scans(sheet, sheet.domains[0], part))[1].where() for part in PARTS]
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "x": lambda p: p[:, 0],
        "-y": lambda p: -p[:, 1],
        "azimuth": lambda p: (np.degrees(np.arctan2(p[:, 1], p[:, 0])) - start) % 360,
    }
    along = [ways[cut](p) for p in parts]
    assert along[0].max() + 2 <= along[1].min()
    assert along[1].max() + 2 <= along[2].min()
    assert sum(map(len, parts)) < 900
    assert len(parts[0]) > 2 * len(parts[1]) > 2


def test_the_simulated_sheet_has_a_partner_for_every_domain() -> None:
    for sheet in (simulated(), read_sheet(data_folder("pointcloud") / "real.yaml")):
        meant = [set(sheet.shared[sheet.of(domain)].tolist()) - {-1} for domain in sheet.domains]
        for place, own in enumerate(meant):
            assert own & set().union(*meant[:place], *meant[place + 1 :])


@pytest.mark.data
def test_every_real_domain_has_scans_for_every_part() -> None:
    if "COLLEGIUM_DATA" not in os.environ:
        pytest.skip("there is no COLLEGIUM_DATA")
    sheet = read_sheet(data_folder("pointcloud") / "real.yaml")
    for domain in sheet.domains:
        found = {part: list(scans(sheet, domain, part)) for part in PARTS}
        names = {part: [name for name, _ in own] for part, own in found.items()}
        assert all(names.values()), domain.name
        train, held = (points_of(sheet, [cloud for _, cloud in found[part]]) for part in ("train", "test"))
        few = ["permanent structure", "bridge", "person"]  # of which there are hardly any
        learned = {name for name, many in zip(sheet.classes, train, strict=True) if many >= LEAST}
        assert {n for n, many in zip(sheet.classes, held, strict=True) if many} <= {*learned, *few}
        if not domain.cut:
            every = [name for own in names.values() for name in own]
            assert len(every) == len(set(every)) == len(files_of(sheet, domain))


@pytest.mark.parametrize(
    ("town", "fault"),
    [
        ({"validation": ["town_2"], "test": ["town_9"]}, "no scan is called town_9, named for test"),
        ({"validation": ["town_2"], "test": ["town_?"]}, "is named for validation and for test"),
    ],
)
def test_scans_that_are_held_out_must_be_there_and_for_one_part(
    town: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    sheet = read_sheet(write(tmp_path, {"domains": {"town": {**TOWN, **town}}}))
    with pytest.raises(UserError, match=fault):
        list(scans(sheet, sheet.domains[0], "train"))


def test_a_part_without_a_known_label_is_refused(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, {"domains": {"room": ROOM}}))
    xyz = RANDOM.uniform(0, 40, (900, 3))
    np.savez(tmp_path / "room.npz", xyz=xyz, label=np.where(xyz[:, 0] < 20, 1, 9))
    assert len(list(scans(sheet, sheet.domains[0], "train"))) == 1
    with pytest.raises(UserError, match=r"room\.npz: no validation point has a class of the sheet"):
        list(scans(sheet, sheet.domains[0], "validation"))


def points_of(sheet: Sheet, clouds: Sequence[Cloud]) -> np.ndarray:
    label = np.concatenate([np.asarray(cloud.label) for cloud in clouds])
    return np.bincount(label[label >= 0], minlength=len(sheet.classes))


def test_parts_of_simulated_domains_share_no_scan() -> None:
    sheet = simulated()
    names = [name for part in PARTS for name, _ in scans(sheet.only(["rooms"]), sheet.domains[0], part)]
    assert len(names) == len(set(names)) == 12


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({}, "names no domains"),
        ({"domains": {"town": {"files": "*.npz"}}}, "domain town lacks `files` or `classes`"),
        ({"domains": {"town": {**TOWN, "label": 1}}}, "unknown key 'label'"),
        ({"domains": {"town": {**TOWN, "cut": "z"}}}, "is cut by 'z': use one of x, y, -x, -y, azimuth"),
        ({"domains": {"town": {**TOWN, "classes": {"a": "b"}}}}, "must be whole numbers"),
        ({"domains": {"town": TOWN}, "shared": {"a": ["tree"]}}, "there is no class 'tree'"),
        ({"domains": {"town": {**TOWN, "test": [77_055]}}}, "test of domain town is .77055.: make it a list"),
        ({"domains": {"town": {**TOWN, "validation": "town_1"}}}, "validation of domain town is 'town_1'"),
        ({"domains": {"town": {**TOWN, "gap": "1 m"}}}, "the gap of domain town is '1 m'"),
        ({"domains": {"town": {**TOWN, "gap": None}}}, "the gap of domain town is None"),
        ({"domains": {"room": {**ROOM, "start": "north"}}}, "the start of domain room is 'north': give deg"),
        ({"domains": {"town": {**TOWN, "classes": {}}}}, "domain town lacks `files` or `classes`"),
        ({"domains": {"town": {**TOWN, "classes": {1: None}}}}, "must be whole numbers, each with a name"),
        ({"domains": {"room": {**ROOM, "gap": -2}}}, "the gap of domain room is -2: give a number of 0"),
        ({"domains": {"room": {**ROOM, "test": ["room"]}}}, "is cut, and names held-out scans"),
        ({"domains": {"town": TOWN}, "shared": ["ground"]}, "`shared` is no mapping"),
        ({"domains": {"town": TOWN}, "shared": {"low": "ground"}}, "low below `shared` is 'ground'"),
        ({"domains": {"town": TOWN}, "shared": {"low": None}}, "low below `shared` is None"),
        ({"domains": {"town": TOWN}, "shared": {"a": ["ground"], "b": ["ground"]}}, "means two things"),
    ],
)
def test_sheets_that_do_not_fit_are_one_sentence(content: object, fault: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fault):
        read_sheet(write(tmp_path, content))


@pytest.mark.parametrize(
    ("town", "fault"),
    [
        ({"files": "none_*.npz"}, "no scan is called none_"),
        ({"classes": {3: "ground"}}, "no point has a class of the sheet: codes are 2, 6, 7, wanted 3"),
        ({"validation": ["*"], "gap": 20}, "a gap of 20 leaves no validation points"),
    ],
)
def test_scans_that_do_not_fit_are_one_sentence(town: dict[str, Any], fault: str, tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, {"domains": {"town": {**TOWN, **town}}}))
    with pytest.raises(UserError, match=fault):
        list(scans(sheet, sheet.domains[0], "validation" if "gap" in town else "train"))


def test_a_scan_without_labels_is_one_sentence(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, {"domains": {"town": TOWN}}))
    np.savez(tmp_path / "town_0.npz", xyz=np.ones((4, 3)))
    with pytest.raises(UserError, match=r"town_0.npz has no labels"):
        list(scans(sheet, sheet.domains[0], "train"))
