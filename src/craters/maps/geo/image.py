"""The image that a scan reads: its size, georeferencing and scaling, as plain values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.maps.geo.planet import Planet


@dataclasses.dataclass(frozen=True)
class Image:
    """An image and its georeferencing, as plain values that can be sent to any process.

    Parameters
    ----------
    path, name : str
        Path, and name in results.
    height, width : int
        Size in pixels, after resampling if `resampled`.
    transform : tuple of float
        Affine coefficients a, b, c, d, e, f: x = a * col + b * row + c, y = d * col + e * row + f,
        where whole numbers are the corners of pixels.
    planet : Planet
    dtype : str
        Type of the stored pixels.
    scale : tuple of float
        Stored values that become 0 and 255; linear between, clipped beyond.
    scale_rule : str
        How the scale was chosen, in words.
    gap : int
        Side of the smallest square no-data region, in pixels.
    resolution : float or None
        Metres per pixel along a column; None if unknown.
    native : tuple of int
        Height and width as stored.
    resampled : bool
    in_strips : bool
        Whether the file is stored in strips of whole rows.
    band : int
    fingerprint : str
        Hash of the sizes, modification times and samples of all its files.
    fill : int
        Grey level of no-data regions and of pixels outside the image.
    """

    path: str
    name: str
    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    planet: Planet
    dtype: str
    scale: tuple[float, float]
    scale_rule: str
    gap: int
    resolution: float | None
    native: tuple[int, int]
    resampled: bool
    in_strips: bool
    band: int
    fingerprint: str
    fill: int = 125

    @property
    def reach(self) -> int:
        """Distance in pixels up to which other pixels decide what kind of no-data a pixel is."""
        return 2 * self.gap

    def to_xy(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert pixels (0, 0 is the centre of the first) to map coordinates."""
        a, b, c, d, e, f = self.transform
        row, col = np.asarray(row, np.float64) + 0.5, np.asarray(col, np.float64) + 0.5
        return a * col + b * row + c, d * col + e * row + f

    def to_pixel(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert map coordinates to row and column; the inverse of `to_xy`."""
        a, b, c, d, e, f = self.transform
        x, y = np.asarray(x, np.float64) - c, np.asarray(y, np.float64) - f
        scale = a * e - b * d
        return (a * y - d * x) / scale - 0.5, (e * x - b * y) / scale - 0.5
