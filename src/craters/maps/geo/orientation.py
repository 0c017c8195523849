"""Orientation of a stored raster: from pixels as stored to pixels as they look on a map.

On a north-up map, rows count southwards and columns eastwards. Many rasters are stored otherwise:
south up, east to the left, or turned by a right angle. These eight orientations are exact: the
array is transposed and flipped.
"""

from __future__ import annotations

import dataclasses

import numpy as np

Transform = tuple[float, float, float, float, float, float]
Span = tuple[float, float]

_STRAIGHT = 0.1  # pixels by which a skew may displace the far corner and still be ignored


@dataclasses.dataclass(frozen=True)
class Orientation:
    """One of eight right-angle orientations: transpose the stored array, then flip it."""

    transposed: bool = False
    rows_flipped: bool = False
    cols_flipped: bool = False

    def turn(self, stored: np.ndarray) -> np.ndarray:
        """Return an array as it looks on a north-up map.

        Examples
        --------
        >>> Orientation(transposed=True, rows_flipped=True).turn(np.array([[1, 2], [3, 4]]))
        array([[2, 4],
               [1, 3]])
        """
        array = stored.T if self.transposed else stored
        if self.rows_flipped:
            array = array[::-1]
        return array[:, ::-1] if self.cols_flipped else array

    def to_stored(self, rows: Span, cols: Span, height: int, width: int) -> tuple[Span, Span]:
        """Convert a window of the north-up map to rows and columns of the stored raster.

        Parameters
        ----------
        rows, cols : tuple
            First row or column, and the one after the last; may be fractions.
        height, width : int
            Size of the whole raster on the north-up map.
        """
        if self.rows_flipped:
            rows = height - rows[1], height - rows[0]
        if self.cols_flipped:
            cols = width - cols[1], width - cols[0]
        return (cols, rows) if self.transposed else (rows, cols)

    def swap(self, height: int, width: int) -> tuple[int, int]:
        """Convert a size from the stored raster to the north-up map, or back."""
        return (width, height) if self.transposed else (height, width)


AS_STORED = Orientation()


def find_orientation(transform: tuple[float, ...], height: int, width: int) -> Orientation | None:
    """Return how a raster is stored; None if its rows are oblique to the axes of the map.

    Parameters
    ----------
    transform : tuple of float
        Affine coefficients a, b, c, d, e, f, as in `Image`.
    height, width : int
        As stored.

    Examples
    --------
    >>> find_orientation((100, 0, 0, 0, 100, 0), 20, 30)  # south up
    Orientation(transposed=False, rows_flipped=True, cols_flipped=False)
    >>> find_orientation((100, 20, 0, 20, -100, 0), 20, 30) is None
    True
    """
    a, b, _, d, e, _ = transform[:6]
    if abs(b) * height <= _STRAIGHT * abs(a) and abs(d) * width <= _STRAIGHT * abs(e):
        return Orientation(rows_flipped=e > 0, cols_flipped=a < 0)
    if abs(a) * width <= _STRAIGHT * abs(b) and abs(e) * height <= _STRAIGHT * abs(d):
        return Orientation(transposed=True, rows_flipped=d > 0, cols_flipped=b < 0)
    return None


def north_up_grid(
    transform: tuple[float, ...], height: int, width: int
) -> tuple[Transform, int, int]:
    """Return transform, height and width of a raster on the north-up map.

    The grid of an oblique raster encloses it; its square pixels have the area of a stored pixel.
    """
    a, b, c, d, e, f = transform[:6]
    orientation = find_orientation(transform, height, width)
    if orientation is None:
        side = float(np.sqrt(abs(a * e - b * d)))
        x = c + a * np.array([0, width, 0, width]) + b * np.array([0, 0, height, height])
        y = f + d * np.array([0, width, 0, width]) + e * np.array([0, 0, height, height])
        grid = side, 0.0, float(x.min()), 0.0, -side, float(y.max())
        return grid, int(np.ceil(np.ptp(y) / side)), int(np.ceil(np.ptp(x) / side))
    across, down = (b, d) if orientation.transposed else (a, e)
    height, width = orientation.swap(height, width)
    if orientation.cols_flipped:
        across, c = -across, c + across * width
    if orientation.rows_flipped:
        down, f = -down, f + down * height
    return (across, 0.0, c, 0.0, down, f), height, width
