"""Search blocks of images that a map projection stretches, in pixels that are not stretched.

A block is resampled to square pixels on the ground, as wide as the longer side of its own pixels in
its middle; circles that are found there are moved back.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.models.circles.detector import (
    LEVELS,
    STAGE,
    CircleBlock,
    CircleDetector,
    Read,
    reduce_block,
)

LEAST_STRETCH = 1.05  # longest over shortest side of a pixel, from which blocks are resampled
MOST_STRETCH = 4.0  # that is corrected; beyond it, a block would need pixels from far away

_SLACK = 2.0  # px: circles so far outside a block are kept, as its neighbours differ in shape


def conformal_shape(pixel: np.ndarray) -> np.ndarray | None:
    """Return the matrix from the pixels of an image to conformal ones.

    Parameters
    ----------
    pixel : ndarray, shape (2, 2)
        Metres east and north of a step by a row, and by a column.

    Returns
    -------
    ndarray, shape (2, 2), or None
        Symmetric; it maps rows and columns. None if the stretch is below `LEAST_STRETCH`, or the
        pixel is not on the body.

    Examples
    --------
    >>> conformal_shape(np.array([[0, -100.0], [50, 0]])).round(3).tolist()
    [[1.0, 0.0], [0.0, 0.5]]
    """
    if not np.isfinite(pixel).all():
        return None
    _, lengths, axes = np.linalg.svd(pixel.T)
    if lengths[0] < LEAST_STRETCH * lengths[1]:
        return None
    shorter = max(lengths[1] / lengths[0], 1 / MOST_STRETCH)
    return np.asarray(axes.T @ np.diag([1.0, shorter]) @ axes)


@dataclasses.dataclass(frozen=True)
class ConformalBlock:
    """A block of a stage in conformal pixels.

    Parameters
    ----------
    block : CircleBlock
    shape : ndarray, shape (2, 2)
        As `conformal_shape` returns it.
    """

    block: CircleBlock
    shape: np.ndarray

    @property
    def corner(self) -> np.ndarray:
        """Upper left corner of the conformal pixels, from that of the block."""
        return np.floor(self._corners(self.block.height, self.block.width).min(axis=0))

    @property
    def searched(self) -> CircleBlock:
        """The block that is searched: that of the conformal pixels."""
        corners = self._corners(self.block.height, self.block.width)
        height, width = np.ceil(corners.max(axis=0) - self.corner).astype(int).tolist()
        return dataclasses.replace(
            self.block, stage=0, row=0, col=0, height=max(1, height), width=max(1, width)
        )

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Pixels of the stage that are read: first row and column, height and width."""
        row, col, height, width = self.searched.window
        corners = np.array([[row, col], [row, col + width], [row + height, col],
                            [row + height, col + width]]) + self.corner  # fmt: skip
        places = corners @ np.linalg.inv(self.shape).T
        first = np.floor(np.minimum(places.min(axis=0), 0)).astype(int) - 2
        last = np.ceil(places.max(axis=0)).astype(int) + 2
        least = [-(-side // STAGE) * STAGE for side in (self.block.height, self.block.width)]
        last = np.maximum(last, least)  # for the image of the next stage
        start = first + np.array([self.block.row, self.block.col])
        return int(start[0]), int(start[1]), *(last - first).tolist()

    def _corners(self, height: int, width: int) -> np.ndarray:
        corners = np.array([[0, 0], [0, width], [height, 0], [height, width]], float)
        return corners @ self.shape.T


def search_conformal(
    detector: CircleDetector, read: Read, conformal: ConformalBlock, azimuth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the candidates of a block, as `CircleDetector.search` does, in conformal pixels.

    Parameters
    ----------
    detector : CircleDetector
    read : callable
        Reads the image of the block's stage; called once, with `conformal.window`.
    conformal : ConformalBlock
    azimuth : float
        Of the light.

    Returns
    -------
    circles : ndarray, shape (K,), `CIRCLE_DTYPE`
        In pixels of the image at full size; the diameter is that of a circle of the same area.
    reduced : ndarray of uint8
        As of `CircleDetector.search`.
    """
    block, window = conformal.block, conformal.window
    pixels, missing = read(*window)
    origin = np.array([block.row - window[0], block.col - window[1]])
    values, valid = _smoothed(pixels, missing, conformal.shape)

    def resample(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        corner = conformal.corner + np.array([row, col])
        return _resampled(values, valid, conformal.shape, corner, origin, (height, width))

    circles, _ = detector.search(resample, conformal.searched, azimuth)
    places = np.stack([circles["row"], circles["col"]], 1) + 0.5 + conformal.corner
    places = places @ np.linalg.inv(conformal.shape).T
    inside = (places >= -_SLACK) & (places < np.array([block.height, block.width]) + _SLACK)
    keep = inside.all(axis=1)
    circles, places = circles[keep], places[keep] + np.array([block.row, block.col])
    scale = float(STAGE**block.stage)
    circles["row"], circles["col"] = (places * scale - 0.5).T
    size = scale / np.sqrt(np.linalg.det(conformal.shape))
    circles["diameter"] *= size
    circles["error"] *= size
    circles["level"] += LEVELS * block.stage
    return circles, reduce_block(pixels, missing, block, (int(origin[0]), int(origin[1])))


def make_conformal(
    pixels: np.ndarray, missing: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resample a small image to conformal pixels.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), uint8
    missing : ndarray of bool, shape (H, W)
    shape : ndarray, shape (2, 2)
        As `conformal_shape` returns it.

    Returns
    -------
    pixels : ndarray, uint8
    missing : ndarray of bool
    corner : ndarray, shape (2,)
        Row and column of the upper left corner, in conformal pixels from that of the image.
    """
    height, width = pixels.shape
    ends = np.array([[0, 0], [0, width], [height, 0], [height, width]], float) @ shape.T
    corner = np.floor(ends.min(axis=0))
    rows, columns = np.ceil(ends.max(axis=0) - corner).astype(int).tolist()
    values, valid = _smoothed(pixels, missing, shape)
    found, gone = _resampled(values, valid, shape, corner, np.zeros(2), (rows, columns))
    return np.clip(np.rint(found), 0, 255).astype(np.uint8), gone, corner


def _smoothed(
    pixels: np.ndarray, missing: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Blur along the axes that are resampled to fewer pixels; return values and valid shares."""
    from scipy.ndimage import gaussian_filter

    valid = (~missing).astype(np.float32)
    values = pixels.astype(np.float32) * valid
    steps = np.abs(np.linalg.inv(shape)).sum(axis=1)
    spread = 0.5 * np.sqrt(np.maximum(steps**2 - 1, 0))
    return tuple(gaussian_filter(each, spread, truncate=3) for each in (values, valid))


def _resampled(
    values: np.ndarray,
    valid: np.ndarray,
    shape: np.ndarray,
    corner: np.ndarray,
    origin: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate the conformal pixels from a corner on; return them and which are missing."""
    from scipy.ndimage import affine_transform

    back = np.linalg.inv(shape)
    offset = back @ (corner + 0.5) - 0.5 + origin
    found, weight = (
        affine_transform(each, back, offset, size, order=1, cval=0.0) for each in (values, valid)
    )
    return found / np.maximum(weight, 1e-6), weight < 0.5
