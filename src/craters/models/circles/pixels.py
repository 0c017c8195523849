"""Pixels for the circle detector: brightness standardized by its surroundings, and half size."""

from __future__ import annotations

import numpy as np

CELL = 8  # px: statistics are of squares of this side, which start at multiples of it
REACH = 8  # cells to each side over which the statistics are taken
FLOOR = 3.0  # grey levels added to the standard deviation, so that flat ground stays flat
LIMIT = 3.0  # standard deviations that brightness approaches
MARGIN = CELL * (REACH + 1)  # px around a pixel on which its value depends, at most

_BAND = 16 * CELL  # rows that are standardized at once


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
    valid = (~missing).astype(np.float32)
    values = np.multiply(pixels, valid, dtype=np.float32)
    count, total, squares = (_around(_cells(array)) for array in (valid, values, values * values))
    count = np.maximum(count, 1)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean * mean, 0)) + FLOOR
    mean, spread = (_between(array.T).T for array in (mean, spread))  # along columns
    for start in range(0, len(values), _BAND):  # a band stays in the cache of the processor
        band = np.s_[start : start + _BAND]
        result = values[band]
        result -= _between(mean, start, len(result))
        result /= _between(spread, start, len(result))
        result /= np.sqrt(1 + (result / LIMIT) ** 2)
        result *= valid[band]
    return values


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


def _between(cells: np.ndarray, start: int = 0, count: int | None = None) -> np.ndarray:
    """Interpolate linearly from the middles of cells to rows of pixels.

    Parameters
    ----------
    cells : ndarray, shape (R, W)
    start, count : int
        First row of pixels, and their number; all by default.
    """
    count = len(cells) * CELL if count is None else count
    values = cells.astype(np.float32, copy=False)
    place = (np.arange(start, start + count) - (CELL - 1) / 2) / CELL
    first = np.clip(np.floor(place).astype(int), 0, len(values) - 1)
    second = np.minimum(first + 1, len(values) - 1)
    weight = np.clip(place - first, 0, 1).astype(np.float32)[:, None]
    result = values[first]
    result += (values[second] - result) * weight
    return result


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
    valid = (~missing).astype(np.float32)
    count = _pairs(valid)
    total = _pairs(np.multiply(pixels, valid, dtype=np.float32))
    return total / np.maximum(count, 1), count < 2


def _pairs(array: np.ndarray) -> np.ndarray:
    """Sum squares of 2 x 2 pixels."""
    rows = array[::2] + array[1::2]
    sums: np.ndarray = rows[:, ::2] + rows[:, 1::2]
    return sums
