"""Pixels for the circle detector: brightness standardized by its surroundings, and half size."""

from __future__ import annotations

import numpy as np

CELL = 8  # px: statistics are of squares of this side, which start at multiples of it
REACH = 8  # cells to each side over which the statistics are taken
FLOOR = 3.0  # grey levels added to the standard deviation, so that flat ground stays flat
LIMIT = 3.0  # standard deviations that brightness approaches
MARGIN = CELL * (REACH + 1)  # px around a pixel on which its value depends, at most

_BAND = 16  # cells that are standardized at once
# Of the next cell in the pixels from the middle of a cell to that of the next.
_WEIGHTS = ((np.arange(CELL, dtype=np.float32) + np.float32(0.5)) / CELL)[:, None]


def standardize(pixels: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Standardize brightness by the mean and spread of the surroundings of each pixel.

    The statistics are those of the cells within `REACH`, interpolated between the middles of the
    cells. So neither shading across an image nor the seams of a mosaic change a crater's look, and
    a part of an image gives the values of the whole, `MARGIN` away from its edges, if it starts at
    a multiple of `CELL`. Extremes are compressed: values approach `LIMIT`.

    Parameters
    ----------
    pixels : ndarray, shape (H, W)
        Grey levels; H and W are multiples of `CELL`.
    missing : ndarray of bool, shape (H, W)

    Returns
    -------
    ndarray, shape (H, W), float32
        0 where pixels are missing.
    """
    valid = (~missing).astype(np.float32) if missing.any() else None
    values = _without(pixels, valid)
    if valid is None:
        count = np.full((values.shape[0] // CELL, values.shape[1] // CELL), float(CELL * CELL))
    else:
        count = _cells(valid)
    sums = (count, _cells(values), _cells(values * values))
    count, total, squares = (_around(cells) for cells in sums)
    count = np.maximum(count, 1)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean * mean, 0)) + FLOOR
    mean, spread = (_between_columns(cells) for cells in (mean, spread))
    for first in range(0, len(count) + 1, _BAND):  # a band stays in the cache of the processor
        start = CELL * first - CELL // 2  # of the ramp from the cell before to the first one
        band = np.s_[max(start, 0) : start + CELL * _BAND]
        result = values[band]
        rows = np.s_[max(-start, 0) : max(-start, 0) + len(result)]
        result -= _ramps(mean[first : first + _BAND + 1])[rows]
        result /= _ramps(spread[first : first + _BAND + 1])[rows]
        limit = result / LIMIT
        limit *= limit
        limit += 1
        result /= np.sqrt(limit, out=limit)
        if valid is not None:
            result *= valid[band]
    return values


def _without(pixels: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return pixels as float32, 0 where they are missing; None: none is."""
    if valid is None:
        return pixels.astype(np.float32)
    return np.multiply(pixels, valid, dtype=np.float32)


def _cells(array: np.ndarray) -> np.ndarray:
    """Sum the pixels of each cell."""
    height, width = array.shape
    rows = array.reshape(height // CELL, CELL, width).sum(1)
    sums = rows.reshape(len(rows), width // CELL, CELL).sum(2, dtype=np.float64)
    return np.asarray(sums)


def _around(cells: np.ndarray) -> np.ndarray:
    """Sum the cells within `REACH` of each, along rows and columns."""
    for _ in range(2):  # transposed twice
        wide = np.pad(cells, ((REACH + 1, REACH), (0, 0))).cumsum(axis=0)
        cells = (wide[2 * REACH + 1 :] - wide[: -2 * REACH - 1]).T
    return cells


def _between_columns(cells: np.ndarray) -> np.ndarray:
    """Interpolate along rows, from the middles of cells to columns of pixels.

    Parameters
    ----------
    cells : ndarray, shape (R, C)

    Returns
    -------
    ndarray, shape (R + 2, CELL * C), float32
        The first and the last row twice, as for `_ramps`.
    """
    padded = np.pad(cells.astype(np.float32), 1, mode="edge")
    wide = _ramps(padded.T)[CELL // 2 : -(CELL // 2)]
    return np.ascontiguousarray(wide.T)


def _ramps(cells: np.ndarray) -> np.ndarray:
    """Interpolate linearly from the middle of each cell to that of the next.

    Parameters
    ----------
    cells : ndarray, shape (R, W), float32

    Returns
    -------
    ndarray, shape (CELL * (R - 1), W), float32
    """
    ramps: np.ndarray = (cells[1:] - cells[:-1])[:, None] * _WEIGHTS
    ramps += cells[:-1, None]
    return ramps.reshape(-1, cells.shape[1])


def halve(pixels: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image at half its size: means of 2 x 2 pixels.

    Parameters
    ----------
    pixels : ndarray, shape (H, W)
        Grey levels; H and W are even.
    missing : ndarray of bool, shape (H, W)

    Returns
    -------
    pixels : ndarray, shape (H / 2, W / 2), float32
        Means of the pixels that are not missing.
    missing : ndarray of bool, shape (H / 2, W / 2)
        Where more than two of the four pixels are missing.
    """
    if not missing.any():
        return _pairs(pixels) / 4, np.zeros((len(pixels) // 2, pixels.shape[1] // 2), bool)
    valid = (~missing).astype(np.float32)
    count = _pairs(valid)
    return _pairs(_without(pixels, valid)) / np.maximum(count, 1), count < 2


def _pairs(array: np.ndarray) -> np.ndarray:
    """Sum squares of 2 x 2 pixels as float32."""
    rows = np.add(array[::2], array[1::2], dtype=np.float32)
    sums: np.ndarray = rows[:, ::2] + rows[:, 1::2]
    return sums
