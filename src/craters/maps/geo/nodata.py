"""Separate no-data regions from isolated no-data pixels (deep shadow); sums over boxes.

- no-data region: missing pixels within `size` pixels (along rows and columns) of a square of
  `size` x `size` missing pixels inside the image.
- isolated no-data pixel: every other missing pixel.

The result for a pixel depends only on pixels at most 2 * `size` away. It is therefore the same for
every division of an image into blocks.
"""

from __future__ import annotations

import numpy as np


def find_nodata_regions(missing: np.ndarray, size: int) -> np.ndarray:
    """Return which missing pixels belong to no-data regions, as the module defines them.

    Parameters
    ----------
    missing : ndarray, shape (H, W), bool
    size : int
        Side of the smallest square that forms a no-data region, in pixels.

    Returns
    -------
    ndarray, shape (H, W), bool

    Examples
    --------
    >>> missing = np.zeros((9, 9), bool)
    >>> missing[:4, :4] = missing[4, 3] = missing[8, 8] = True
    >>> find_nodata_regions(missing, 4).sum() == 17  # without the isolated pixel in the corner
    np.True_
    """
    if min(missing.shape) < size or not missing.any():
        return np.zeros(missing.shape, bool)
    if missing.all():
        return missing.copy()
    squares = box_sums(missing, size) == size * size
    if not squares.any():
        return np.zeros(missing.shape, bool)
    # A pixel is near a square if the corner of any square is within reach.
    reach = 2 * size - 1
    padded = np.pad(squares, reach)
    return missing & (box_sums(padded, reach + size + 1) > 0)


def box_sums(
    values: np.ndarray, side: int, step: int = 1, dtype: type[np.integer] = np.int32
) -> np.ndarray:
    """Sum the values in every `side` x `side` box, at offsets of multiples of `step`.

    Parameters
    ----------
    values : ndarray, shape (H, W), bool or int
    side, step : int
        Pixels.
    dtype : type
        Of the sums; must hold the sum of all values.

    Returns
    -------
    ndarray, shape ((H - side) // step + 1, (W - side) // step + 1)
    """
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1), dtype)
    np.cumsum(values, axis=0, dtype=dtype, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    top, bottom = sums[:-side:step], sums[side::step]
    return bottom[:, side::step] - bottom[:, :-side:step] - top[:, side::step] + top[:, :-side:step]
