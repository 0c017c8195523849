"""Which missing pixels are a gap, and which are specks of deep shadow; and sums over boxes.

- gap: a missing pixel within `size` pixels (along rows and columns) of a square of `size` x `size`
  missing pixels that lies inside the image.
- speck: every other missing pixel.

The rule looks less than 2 * `size` pixels far, so it never depends on how an image is cut.
"""

from __future__ import annotations

import numpy as np


def find_gaps(missing: np.ndarray, size: int) -> np.ndarray:
    """Tell gaps from specks among missing pixels; see the head of the module.

    Parameters
    ----------
    missing : ndarray, shape (H, W), bool
    size : int
        Side of the square of missing pixels that makes a gap.

    Returns
    -------
    ndarray, shape (H, W), bool

    Examples
    --------
    >>> missing = np.zeros((9, 9), bool)
    >>> missing[:4, :4] = missing[4, 3] = missing[8, 8] = True
    >>> find_gaps(missing, 4).sum() == 17  # the speck in the corner is 4 pixels away and more
    np.True_
    """
    if min(missing.shape) < size or not missing.any():
        return np.zeros(missing.shape, bool)
    if missing.all():
        return missing.copy()
    squares = box_sums(missing, size) == size * size
    if not squares.any():
        return np.zeros(missing.shape, bool)
    # A pixel is near a square when any square's corner is within reach of it.
    reach = 2 * size - 1
    padded = np.pad(squares, reach)
    return missing & (box_sums(padded, reach + size + 1) > 0)


def box_sums(mask: np.ndarray, side: int, step: int = 1) -> np.ndarray:
    """Count what is set in every box of `side` x `side`, at offsets that are multiples of `step`.

    Returns
    -------
    ndarray, shape ((H - side) // step + 1, (W - side) // step + 1), int32
    """
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    np.cumsum(mask, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    top, bottom = sums[:-side:step], sums[side::step]
    return bottom[:, side::step] - bottom[:, :-side:step] - top[:, side::step] + top[:, :-side:step]
