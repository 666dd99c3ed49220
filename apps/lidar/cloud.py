"""Depth maps as clouds of points."""

from importlib import import_module
from pathlib import Path

import numpy as np
from matplotlib import colormaps

from apps.common.errors import UserError
from apps.common.files import replacing


def check_cloud(path: Path) -> None:
    """Raise UserError where no cloud can be written to a path."""
    if path.suffix != ".ply":
        raise UserError(f"{path}: a cloud is written as PLY, so give a name that ends in .ply.")
    try:
        import_module("open3d")
    except (ImportError, OSError) as error:
        raise UserError(
            f"{path}: a cloud needs open3d, which cannot be imported ({error}): pip install open3d, and "
            "libusb-1.0-0 from the system's packages, or leave --cloud out."
        ) from error


def write_cloud(path: Path, depth: np.ndarray, error: np.ndarray, pitch: float = 1.0) -> None:
    """Write a PLY of the pixels of a depth map (H, W) in mm, below a surface at 0, coloured by their error.

    Pixels are `pitch` mm apart; those without a depth are left out. There must be one that has.
    """
    import open3d  # heavy, and absent on most machines

    known = np.isfinite(depth)
    row, column = np.nonzero(known)
    points = open3d.geometry.PointCloud()
    places = np.stack([pitch * column, -pitch * row, -depth[known]], axis=1).astype(float)
    points.points = open3d.utility.Vector3dVector(places)
    of_error = error[known] - error[known].min()
    share = of_error / max(float(of_error.max()), 1e-12)
    points.colors = open3d.utility.Vector3dVector(colormaps["viridis"](share)[:, :3])
    with replacing(path) as temporary:
        named = temporary.with_suffix(".ply")  # by which open3d knows the format
        if not open3d.io.write_point_cloud(str(named), points):
            raise UserError(f"{path} could not be written: is there room, and may you write there?")
        named.replace(temporary)
