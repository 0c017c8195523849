"""Find the missing pixels of a raster band; separate no-data regions from isolated pixels.

Missing are: what the masks of the file say, values that cannot be brightness (`no_values`), and
values that the image itself shows to be no brightness (`Undeclared`).

- no-data region: missing pixels within `size` pixels (along rows and columns) of a square of
  `size` x `size` missing pixels inside the image.
- isolated no-data pixel: every other missing pixel.

The result for a pixel depends only on pixels at most 2 * `size` away. It is therefore the same for
every division of an image into blocks.
"""

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


def mean_of_neighbours(
    pixels: np.ndarray, valid: np.ndarray, wanted: np.ndarray, *, most: int, otherwise: int
) -> np.ndarray:
    """Replace pixels by the mean of the valid pixels in the smallest box around them that has any.

    The boxes reach 1, 2, 4, ... and at most `most` pixels in each direction.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), uint8
    valid, wanted : ndarray, shape (H, W), bool
        Pixels that are averaged; pixels that are replaced.
    most : int
        Pixels.
    otherwise : int
        Value of replaced pixels without a valid one in reach.

    Returns
    -------
    ndarray, shape (H, W), uint8

    Examples
    --------
    >>> pixels = np.array([[10, 20, 0, 0]], np.uint8)
    >>> mean_of_neighbours(pixels, pixels > 0, pixels == 0, most=1, otherwise=125)
    array([[ 10,  20,  20, 125]], dtype=uint8)
    """
    means = np.where(wanted, np.uint8(otherwise), pixels)
    todo, reach = wanted.copy(), 1
    while todo.any():
        counts, sums = (
            box_sums(np.pad(values, reach), 2 * reach + 1, dtype=np.int64)
            for values in (valid, np.where(valid, pixels, 0))
        )
        known = todo & (counts > 0)
        means[known] = np.rint(sums[known] / counts[known])
        todo &= ~known
        if reach >= most:
            break
        reach = min(2 * reach, most)
    return means
