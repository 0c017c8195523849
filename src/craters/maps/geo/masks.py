"""Which pixels of one band of an open raster are missing: by masks, and by their values."""

from __future__ import annotations

from typing import Any

import numpy as np

# Products of floats mark missing pixels by values such as -3.4e38 and often do not declare them. No
# brightness is so large; one such pixel would take the whole scaling.
_HUGE = 1e30


def read_missing(
    dataset: Any, band: int, window: Any = None, out_shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Read which pixels of a band its own mask, or the alpha band, calls missing.

    Not the mask of all bands together: that has a pixel as data where any band has.

    Parameters
    ----------
    dataset : rasterio dataset, or a warped view of one
    band : int
    window : rasterio Window, optional
    out_shape : tuple of int, optional
        Rows and columns to shrink to; the nearest pixel is taken.

    Returns
    -------
    ndarray of bool
    """
    missing: np.ndarray = dataset.read_masks(band, window=window, out_shape=out_shape) == 0
    alpha = alpha_band(dataset)
    flags = [flag.name for flag in dataset.mask_flag_enums[band - 1]] if alpha else []
    if alpha not in (0, band) and "alpha" not in flags:  # GDAL lets nodata hide the alpha band
        missing |= dataset.read(alpha, window=window, out_shape=out_shape) == 0
    return missing


def no_values(values: np.ndarray) -> np.ndarray:
    """Tell which stored values stand for no brightness: NaN, infinite, or huge."""
    if values.dtype.kind != "f":
        return np.zeros(values.shape, bool)
    found: np.ndarray = ~(np.abs(values) <= _HUGE)
    return found


def alpha_band(dataset: Any) -> int:
    """Return the number of the alpha band, or 0."""
    from rasterio.enums import ColorInterp

    if dataset.count == 1:
        return 0
    kinds = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return next((int(index) for index, kind in kinds if kind == ColorInterp.alpha), 0)
