"""Describe patches by statistics of brightness and texture that ignore how a patch is turned."""

from __future__ import annotations

import itertools

import numpy as np

BRIGHTNESS = 8  # of the columns of `describe_patches`, the last ones

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LAGS = (1, 2, 4)
_BANDS = np.array([0.0, 0.06, 0.1, 0.15, 0.21, 0.28, 0.36, 0.5])  # cycles per pixel
_BLOCK = 6  # px: side of the blocks whose means and spreads are compared


def describe_patches(images: np.ndarray) -> np.ndarray:
    """Describe patches by numbers that are equal for a patch turned or mirrored.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S)

    Returns
    -------
    ndarray, shape (N, F)
        Of patches brought to mean 0 and standard deviation 1: quantiles, higher moments, roughness
        at several scales along and across, power by frequency and its direction, unevenness of
        blocks. The last `BRIGHTNESS` columns: mean, standard deviation and range of the grey
        levels, shares of black, white and even ones, and how many there are.
    """
    pixels = images.astype(np.float32)
    mean, spread = pixels.mean((1, 2)), pixels.std((1, 2))
    plain = (pixels - mean[:, None, None]) / np.maximum(spread, 1)[:, None, None]
    columns = [
        *np.quantile(plain.reshape(len(plain), -1), _QUANTILES, axis=1),
        (plain**3).mean((1, 2)),
        (plain**4).mean((1, 2)),
        *_roughness(plain),
        *_power(plain),
        *_blocks(plain),
        mean,
        spread,
        pixels.min((1, 2)),
        pixels.max((1, 2)),
        (images == 0).mean((1, 2)),
        (images == 255).mean((1, 2)),
        (images % 2 == 0).mean((1, 2)),
        np.array([len(np.unique(image)) for image in images]),
    ]
    return np.stack(columns, axis=1)


def _roughness(plain: np.ndarray) -> list[np.ndarray]:
    """Return the spread and the peakedness of differences, the smaller direction first."""
    found = []
    for lag in _LAGS:
        steps = [
            plain[:, lag:] - plain[:, :-lag],
            plain[:, :, lag:] - plain[:, :, :-lag],
        ]
        spread = np.sort([each.std((1, 2)) for each in steps], axis=0)
        peaked = np.mean([(each**4).mean((1, 2)) for each in steps], axis=0)
        found += [*np.log(spread + 1e-3), np.log(peaked + 1e-6) - 4 * np.log(spread[1] + 1e-3)]
    diagonal = [
        plain[:, 1:, 1:] - plain[:, :-1, :-1],
        plain[:, 1:, :-1] - plain[:, :-1, 1:],
    ]
    return [*found, *np.sort([np.log(each.std((1, 2)) + 1e-3) for each in diagonal], axis=0)]


def _power(plain: np.ndarray) -> list[np.ndarray]:
    """Return the logarithm of the power by frequency, and how much of it lies along the axes."""
    side = plain.shape[1]
    window = np.hanning(side + 2)[1:-1]
    power = np.abs(np.fft.fft2(plain * window[:, None] * window)) ** 2
    down, right = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    frequency, along = np.hypot(down, right), np.cos(4 * np.arctan2(down, right))
    found = []
    for low, high in itertools.pairwise(_BANDS):
        inside = (frequency > low) & (frequency <= high)
        band = power[:, inside]
        total = band.sum(1) + 1e-6
        found += [np.log(total / inside.sum()), (band * along[inside]).sum(1) / total]
    return found


def _blocks(plain: np.ndarray) -> list[np.ndarray]:
    """Return the spread of the means of blocks, and that of the logarithms of their spreads."""
    count, rest = divmod(plain.shape[1], _BLOCK)
    inside = slice(rest // 2, rest // 2 + count * _BLOCK)
    blocks = plain[:, inside, inside].reshape(len(plain), count, _BLOCK, count, _BLOCK)
    return [
        blocks.mean((2, 4)).std((1, 2)),
        np.log(blocks.std((2, 4)) + 1e-2).std((1, 2)),
    ]
