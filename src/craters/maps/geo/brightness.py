"""Scale stored pixels to the 8 bits of training patches."""

from __future__ import annotations

import numpy as np

FILL = 125  # 0.49 * 255, zero after the networks' standardization
MEAN, SPREAD = 0.49 * 255, 0.157 * 255  # mean and standard deviation of training patches
LOW, HIGH = MEAN - 2.326 * SPREAD, MEAN + 2.326 * SPREAD  # 1st and 99th percentile


def to_bytes(values: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scale stored values to 0..255: linear between the ends of `scale`, clipped; NaN is 0."""
    if values.dtype == np.uint8 and scale == (0.0, 255.0):
        return values
    precise = values.dtype.itemsize > 4 or values.dtype in (np.int32, np.uint32)
    wide: np.ndarray = values.astype(np.float64 if precise else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = (wide - scale[0]) * (255 / (scale[1] - scale[0]))
    return np.rint(np.clip(np.nan_to_num(wide, nan=0.0), 0, 255)).astype(np.uint8)
