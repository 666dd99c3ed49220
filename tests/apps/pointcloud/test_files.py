"""Scans of every format, whole and by pieces, and damaged ones."""

import struct
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np
import pytest
from pypcd4.pypcd4 import PointCloud

from apps.common.errors import UserError
from apps.pointcloud.files import pieces
from apps.pointcloud.ply import Writer
from apps.pointcloud.units import Units

N = 57
RANDOM = np.random.default_rng(0)
XYZ = RANDOM.uniform(-50, 50, (N, 3)).round(3)
LIGHT = RANDOM.integers(0, 60_000, N)
COLOUR = RANDOM.integers(0, 256, (N, 3)).astype(np.uint8)
CODE = RANDOM.integers(0, 9, N)
ECHO = np.stack([RANDOM.integers(1, 3, N), np.full(N, 3)], 1).astype(np.uint8)


def ply(path: Path, order: str = "<") -> set[str]:
    form = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}[order]
    names = ["x", "y", "z", "intensity", "red", "green", "blue", "label"]
    kinds = ["double"] * 3 + ["float"] + ["uchar"] * 3 + ["int"]
    head = ["ply", f"format {form} 1.0", "comment made here", f"element vertex {N}"]
    head += [f"property {kind} {name}" for kind, name in zip(kinds, names, strict=True)]
    head += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    rows = [
        (*p, float(i), *c.tolist(), int(k))
        for p, i, c, k in zip(XYZ.tolist(), LIGHT, COLOUR, CODE, strict=True)
    ]
    if order:
        body = b"".join(struct.pack(order + "dddfBBBi", *row) for row in rows) + struct.pack(
            order + "Biii", 3, 0, 1, 2
        )
    else:
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode() + b"3 0 1 2\n"
    path.write_bytes("\n".join(head).encode() + body)
    return {"intensity", "colour", "code"}


def las(path: Path) -> set[str]:
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = [0.001] * 3, [0.0] * 3
    file = laspy.LasData(header)
    file.x, file.y, file.z = XYZ.T
    file.intensity, file.classification = LIGHT, CODE
    file.return_number, file.number_of_returns = ECHO.T
    file.red, file.green, file.blue = COLOUR.T.astype(np.uint16) * 257
    file.write(path)
    return {"intensity", "colour", "code", "echo"}


def pcd(path: Path) -> set[str]:
    fields, kinds = ("x", "y", "z", "intensity", "label"), (np.float32,) * 4 + (np.int32,)
    values = [*XYZ.T.astype(np.float32), LIGHT.astype(np.float32), CODE.astype(np.int32)]
    PointCloud.from_points(values, fields, kinds).save(path)
    return {"intensity", "code"}


def kitti(path: Path) -> set[str]:
    np.concatenate([XYZ, LIGHT[:, None]], 1).astype("<f4").tofile(path)
    (CODE + (7 << 16)).astype("<u4").tofile(path.with_suffix(".label"))  # with numbers of instances above
    return {"intensity", "code"}


def npz(path: Path) -> set[str]:
    np.savez(
        path,
        xyz=XYZ - [10, 0, 0],
        offset=np.array([10.0, 0, 0]),
        rgb=COLOUR,
        label=CODE,
        intensity=LIGHT,
        return_number=ECHO[:, 0],
        number_of_returns=ECHO[:, 1],
        instance=np.zeros((N, 2)),
    )
    return {"intensity", "colour", "code", "echo"}


WRITERS: dict[str, tuple[str, Callable[[Path], set[str]]]] = {
    "ply": ("ply", ply),
    "ply, big end first": ("ply", lambda path: ply(path, ">")),
    "ply, text": ("ply", lambda path: ply(path, "")),
    "las": ("las", las),
    "laz": ("laz", las),
    "pcd": ("pcd", pcd),
    "kitti": ("bin", kitti),
    "npz": ("npz", npz),
}


@pytest.mark.parametrize("size", [10, N, 1000])
@pytest.mark.parametrize("name", list(WRITERS))
def test_what_was_written_is_read(name: str, size: int, tmp_path: Path) -> None:
    ending, write = WRITERS[name]
    told = write(tmp_path / f"scan.{ending}")
    parts = list(pieces(tmp_path / f"scan.{ending}", size))
    assert [len(part["xyz"]) for part in parts] == [size] * (N // size) + [N % size] * (N % size > 0)
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    assert set(whole) == {"xyz", *told}
    assert np.abs(whole["xyz"] - XYZ).max() < (1e-9 if ending in ("ply", "npz") else 6e-4)
    assert np.array_equal(whole["intensity"].astype(int), LIGHT)
    assert np.array_equal(whole["code"].astype(int), CODE)
    if "colour" in told:
        assert np.array_equal(Units.of(whole).apply(whole)["colour"], COLOUR)
    if "echo" in told:
        assert np.array_equal(whole["echo"], ECHO)


@pytest.mark.parametrize("name", ["ply", "ply, text", "las", "laz", "pcd", "kitti", "npz"])
def test_a_file_that_was_cut_off_is_one_sentence(name: str, tmp_path: Path) -> None:
    ending, write = WRITERS[name]
    path = tmp_path / f"scan.{ending}"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5 + 1])
    with pytest.raises(UserError) as caught:
        list(pieces(path, 10))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("scan.ply", b"no ply", "is no PLY file"),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int i\nend_header\n",
            "face comes before",
        ),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
            "has no field y",
        ),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n1\n",
            "of type half",
        ),
        ("scan.bin", b"1234567", "no whole points"),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement vertex many\nproperty float x\nend_header\n1\n",
            "says 'many' for the number of points",
        ),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement vertex -5\nproperty float x\nend_header\n",
            "says '-5'",
        ),
        (
            "scan.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nend_header\n",
            "twice, or none",
        ),
        (
            "scan.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty int x\nproperty int x\nend_header\n1 1\n",
            "twice, or none",
        ),
        ("scan.npz", b"\x93NUMPY\x01\x00", "damaged or no NPZ file"),
        (
            "scan.pcd",
            b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\n"
            b"DATA ascii\n1 2 3\n",
            "damaged or no PCD file|ends after",
        ),
        (
            "scan.pcd",
            b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\n"
            b"DATA binary_compressed\n12",
            "damaged or no PCD file",
        ),
        ("scan.pcd", b"hello", "damaged or no PCD file"),
        ("scan.las", b"LASFhello", "damaged or no LAS file"),
        ("scan.txt", b"1 2 3", "cannot tell the format"),
    ],
)
def test_what_is_no_scan_is_one_sentence(name: str, content: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=fault) as caught:
        list(pieces(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"xyz": XYZ, "offset": np.zeros(2)},
        {"x": np.array(1.0), "y": np.array(1.0), "z": np.array(1.0)},
        {"xyz": np.full((4, 3), "here")},
    ],
)
def test_arrays_that_are_no_points_are_one_sentence(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"scan.npz"):
        list(pieces(tmp_path / "scan.npz"))


def test_coordinates_that_were_rounded_by_their_type_are_refused(tmp_path: Path) -> None:
    far = XYZ + np.array([654_321, 6_861_234, 35])
    np.savez(tmp_path / "far.npz", xyz=far)
    assert len(list(pieces(tmp_path / "far.npz"))) == 1
    np.savez(tmp_path / "far.npz", xyz=far.astype(np.float32))
    np.column_stack([far, LIGHT]).astype("<f4").tofile(tmp_path / "far.bin")
    far_ply(tmp_path / "far.ply", far, ">")
    for name in ("far.npz", "far.bin", "far.ply"):
        with pytest.raises(UserError, match=r"in 32 bits, are known to 0.5 m only: write them in 64 bits"):
            list(pieces(tmp_path / name))


def far_ply(path: Path, xyz: np.ndarray, order: str) -> None:
    form = "binary_big_endian" if order else "ascii"
    head = ["ply", f"format {form} 1.0", f"element vertex {len(xyz)}"]
    head += [*(f"property float {name}" for name in "xyz"), "end_header", ""]
    lines = "".join(" ".join(map(repr, row)) + "\n" for row in xyz.tolist()).encode()
    path.write_bytes("\n".join(head).encode() + (xyz.astype(">f4").tobytes() if order else lines))


def test_text_keeps_the_digits_that_stand_there(tmp_path: Path) -> None:
    far = XYZ + np.array([654_321, 6_861_234, 35])
    far_ply(tmp_path / "far.ply", far, "")
    [found] = pieces(tmp_path / "far.ply")
    assert np.array_equal(found["xyz"], far)


def test_a_missing_file_and_labels_of_other_points_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        list(pieces(tmp_path / "scan.ply"))
    kitti(tmp_path / "scan.bin")
    np.zeros(3, "<u4").tofile(tmp_path / "scan.label")
    with pytest.raises(UserError, match="57 points and 3 labels"):
        list(pieces(tmp_path / "scan.bin"))
    np.savez(tmp_path / "scan.npz", xyz=XYZ, label=np.zeros(3))
    with pytest.raises(UserError, match=r"label has the shape \[3\], for 57 points"):
        list(pieces(tmp_path / "scan.npz"))


@pytest.mark.parametrize("scale", [1.0, 1 / 255, 257.0])
def test_colours_of_any_scale_are_bytes(scale: float) -> None:
    kind = np.uint16 if scale > 1 else np.float64
    colour = (COLOUR.astype(np.float64) * scale).round(12).astype(kind)
    assert np.array_equal(Units.of({"colour": colour}).apply({"colour": colour})["colour"], COLOUR)


def test_a_colour_that_is_no_number_leaves_the_others_as_they_are() -> None:
    told = {"colour": np.array([[np.nan, 0, 0], [10.0, 20.0, 30.0]])}
    assert Units.of(told).apply(told)["colour"].tolist() == [[0, 0, 0], [10, 20, 30]]


def test_a_scan_that_is_black_has_no_colour() -> None:
    told = {"colour": np.zeros((4, 3), np.uint16), "code": np.arange(4)}
    assert set(Units.of(told).apply(told)) == {"code"}


def test_intensities_are_shares_and_those_that_are_no_number_nothing() -> None:
    light = np.array([np.nan, 0.0, 100.0, *[200.0] * 300, np.inf])
    found = Units.of({"intensity": light}).apply({"intensity": light})["intensity"]
    assert found[:4].tolist() == [0, 0, 0.5, 1]
    assert found[-1] == 0
    nothing = {"intensity": np.full(3, np.nan)}
    assert Units.of(nothing).apply(nothing)["intensity"].tolist() == [0, 0, 0]


def test_points_are_written_where_they_belong(tmp_path: Path) -> None:
    writer = Writer(
        tmp_path / "out.ply", N, {"x": "f8", "y": "f8", "z": "f8", "label": "u1"}, ["class 0 végétation"]
    )
    for rows in np.array_split(np.random.default_rng(1).permutation(N), 4):
        x, y, z = XYZ[rows].T
        writer.put(rows, {"x": x, "y": y, "z": z, "label": CODE[rows]})
    writer.close()
    (found,) = pieces(tmp_path / "out.ply")
    assert np.array_equal(found["xyz"], XYZ)
    assert np.array_equal(found["code"], CODE)
    assert "comment class 0 végétation".encode() in (tmp_path / "out.ply").read_bytes()[:200]
