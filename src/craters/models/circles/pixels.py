"""Pixels for the circle detector: brightness standardized by its surroundings, and half size."""

from __future__ import annotations

import numpy as np

CELL = 8  # px: statistics are of squares of this side, which start at multiples of it
REACH = 8  # cells to each side over which the statistics are taken
FLOOR = 3.0  # grey levels added to the standard deviation, so that flat ground stays flat
LIMIT = 3.0  # standard deviations that brightness approaches
MARGIN = CELL * (REACH + 1)  # px around a pixel on which its value depends, at most


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
    values = pixels.astype(np.float32) * valid
    count, total, squares = (_around(_cells(array)) for array in (valid, values, values * values))
    count = np.maximum(count, 1)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean * mean, 0)) + FLOOR
    result = (values - _between(mean)) / _between(spread)
    result /= np.sqrt(1 + (result / LIMIT) ** 2)
    result *= valid
    return result


def _cells(array: np.ndarray) -> np.ndarray:
    """Sum the pixels of each cell."""
    height, width = array.shape
    sums = array.reshape(height // CELL, CELL, width // CELL, CELL).sum((1, 3), dtype=np.float64)
    return np.asarray(sums)


def _around(cells: np.ndarray) -> np.ndarray:
    """Sum the cells within `REACH` of each, along rows and columns."""
    for _ in range(2):  # transposed twice
        wide = np.pad(cells, ((REACH + 1, REACH), (0, 0))).cumsum(axis=0)
        cells = (wide[2 * REACH + 1 :] - wide[: -2 * REACH - 1]).T
    return cells


def _between(cells: np.ndarray) -> np.ndarray:
    """Interpolate linearly from the middles of cells to pixels, along rows and columns."""
    values = cells.astype(np.float32)
    for _ in range(2):  # transposed twice
        place = (np.arange(len(values) * CELL) - (CELL - 1) / 2) / CELL
        first = np.clip(np.floor(place).astype(int), 0, len(values) - 1)
        second = np.minimum(first + 1, len(values) - 1)
        weight = np.clip(place - first, 0, 1).astype(np.float32)[:, None]
        values = (values[first] * (1 - weight) + values[second] * weight).T
    return values


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
    height, width = pixels.shape
    shape = (height // 2, 2, width // 2, 2)
    valid = (~missing).astype(np.float32)
    count = valid.reshape(shape).sum((1, 3))
    total = (pixels.astype(np.float32) * valid).reshape(shape).sum((1, 3))
    return total / np.maximum(count, 1), count < 2
