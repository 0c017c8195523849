"""Find the missing pixels of a raster band, from its masks and its values."""

from __future__ import annotations

from typing import Any

import numpy as np

# Float products often mark missing pixels by undeclared values such as -3.4e38. No brightness is so
# large, and one such pixel would dominate the scaling.
_HUGE = 1e30


def read_missing(
    dataset: Any, band: int, window: Any = None, out_shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Read which pixels of a band are missing, from its own mask and the alpha band.

    The dataset mask is not used, because it is valid wherever any band has data.

    Parameters
    ----------
    dataset : rasterio dataset, or a warped view of one
    band : int
    window : rasterio Window, optional
    out_shape : tuple of int, optional
        Rows and columns to downsample to, by nearest neighbour.

    Returns
    -------
    ndarray of bool
    """
    missing: np.ndarray = dataset.read_masks(band, window=window, out_shape=out_shape) == 0
    alpha = alpha_band(dataset)
    flags = [flag.name for flag in dataset.mask_flag_enums[band - 1]] if alpha else []
    if alpha not in (0, band) and "alpha" not in flags:  # GDAL prefers nodata to alpha
        missing |= dataset.read(alpha, window=window, out_shape=out_shape) == 0
    return missing


def no_values(values: np.ndarray) -> np.ndarray:
    """Return which stored values cannot be brightness: NaN, infinite, or above 1e30."""
    if values.dtype.kind != "f":
        return np.zeros(values.shape, bool)
    invalid: np.ndarray = ~(np.abs(values) <= _HUGE)
    return invalid


def alpha_band(dataset: Any) -> int:
    """Return the number of the alpha band, or 0."""
    from rasterio.enums import ColorInterp

    if dataset.count == 1:
        return 0
    kinds = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return next((int(index) for index, kind in kinds if kind == ColorInterp.alpha), 0)
