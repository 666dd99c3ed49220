"""Depth maps as clouds of points."""

from pathlib import Path

import numpy as np

from apps.common.errors import UserError
from apps.common.files import replacing


def write_cloud(path: Path, depth: np.ndarray, error: np.ndarray) -> None:
    """Write a PLY of the pixels of a depth map (H, W) in mm, below a surface at 0, coloured by their error.

    Pixels are 1 mm apart; those without a depth are left out. Raises UserError where open3d is absent.
    """
    try:
        import open3d
    except ImportError as error_:
        raise UserError(
            f"{path}: a cloud of points needs open3d: pip install open3d, or leave --cloud out."
        ) from error_
    from matplotlib import colormaps

    known = np.isfinite(depth)
    row, column = np.nonzero(known)
    points = open3d.geometry.PointCloud()
    points.points = open3d.utility.Vector3dVector(
        np.stack([column, -row, -depth[known]], axis=1).astype(float)
    )
    span = np.nanmax(error) - np.nanmin(error) if known.any() else 0.0
    share = (error[known] - np.nanmin(error)) / (span or 1.0)
    points.colors = open3d.utility.Vector3dVector(colormaps["viridis"](share)[:, :3])
    with replacing(path) as temporary:
        open3d.io.write_point_cloud(str(temporary), points)
