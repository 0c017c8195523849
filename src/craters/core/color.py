"""Convert colors to gray, by the same rule for arrays, pictures and maps."""

from __future__ import annotations

from typing import Any

import numpy as np

_RED, _GREEN, _BLUE = 19595, 38470, 7471  # ITU-R BT.601 in 1/65536, as in Pillow


def luminance(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """Compute the gray value of colors (ITU-R BT.601), equal to mode "L" of Pillow for 8 bits.

    Parameters
    ----------
    red, green, blue : ndarray
        Of one shape and type.

    Returns
    -------
    ndarray
        Of the same shape and type; where red = green = blue, that value.

    Examples
    --------
    >>> luminance(*np.array([[255, 0, 7], [0, 255, 7], [0, 0, 7]], np.uint8))
    array([ 76, 150,   7], dtype=uint8)
    """
    red, green, blue = np.asarray(red), np.asarray(green), np.asarray(blue)
    total: Any
    if red.dtype.kind == "f":
        total = red.astype(np.float64) * (_RED / 65536)
        total += green * np.float64(_GREEN / 65536)
        total += blue * np.float64(_BLUE / 65536)
        return np.where((red == green) & (green == blue), red, total).astype(red.dtype)
    total = red.astype(np.int32 if red.dtype.itemsize == 1 else np.int64) * _RED
    total += green * total.dtype.type(_GREEN)
    total += blue * total.dtype.type(_BLUE)
    total += 1 << 15
    total >>= 16
    gray: np.ndarray = total.astype(red.dtype)
    return gray
