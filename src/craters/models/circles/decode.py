"""From maps of the circle network to circles: one circle for each crater."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from craters.evaluation import sigmoid

CIRCLE_DTYPE = np.dtype(
    [
        ("row", "f8"),
        ("col", "f8"),
        ("diameter", "f8"),
        ("error", "f8"),
        ("logit", "f8"),
        ("level", "i8"),
    ]
)
"""Circles: centre and diameter in pixels (the centre of the first pixel is 0, 0), the error of the
diameter in pixels (one standard deviation), the logit of "is a crater", and the level of the image
pyramid that found it (0: full size)."""

LEAST_LOGIT = -2.0  # of a candidate: the network gives it a probability of .12
CALIBRATED = 10.0  # px: diameter from which circles are calibrated by a catalogue
LEVEL_RANGE = 6.5, 26.0  # px: diameters that the network measures at one level

# Two circles are one crater if the distance of their centres, in diameters of the smaller one, and
# the ratio of their diameters are below both numbers of one pair.
_SAME = ((0.35, 2.0), (0.5, 1.5))


def find_peaks(
    maps: np.ndarray, own: tuple[int, int, int, int], *, stride: int, usual_diameter: float
) -> np.ndarray:
    """Find the circles in the maps of one image: local maxima of the logit over 3 x 3 places.

    Parameters
    ----------
    maps : ndarray, shape (5, h, w)
        Logit; offset of the centre down and right, in places; log of the diameter over the usual
        one; log of its relative error.
    own : tuple of int
        Places that may have a circle: first row and the one after the last, first column and the
        one after the last. The maps reach beyond them by a place on each side at least.
    stride : int
        Pixels between places.
    usual_diameter : float

    Returns
    -------
    ndarray, shape (K,), `CIRCLE_DTYPE`
        By row and column of their places, in pixels from the first of these places; all of level 0.
    """
    logit = maps[0]
    top, bottom, left, right = own
    inner = logit[top:bottom, left:right]
    is_peak = inner > LEAST_LOGIT
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            beside = logit[top + down : bottom + down, left + across : right + across]
            # Of equal neighbours the first is the peak.
            if (down, across) < (0, 0):
                is_peak &= beside < inner
            elif (down, across) > (0, 0):
                is_peak &= beside <= inner
    row, col = np.nonzero(is_peak)
    circles = np.zeros(len(row), CIRCLE_DTYPE)
    values = maps[:, row + top, col + left].astype(np.float64)
    circles["row"] = (row + 0.5 + values[1]) * stride - 0.5
    circles["col"] = (col + 0.5 + values[2]) * stride - 0.5
    circles["diameter"] = usual_diameter * np.exp(values[3])
    circles["error"] = circles["diameter"] * np.exp(values[4])
    circles["logit"] = values[0]
    low, high = LEVEL_RANGE
    return circles[(circles["diameter"] >= low) & (circles["diameter"] < high)]


def merge_circles(circles: np.ndarray) -> np.ndarray:
    """Keep one circle of each crater: the one with the highest logit.

    Circles are taken by falling logit, and each suppresses later ones of the same crater. Ties are
    broken by the other properties, so that the result does not depend on the order of the input.

    Parameters
    ----------
    circles : ndarray, shape (K,), `CIRCLE_DTYPE`

    Returns
    -------
    ndarray, shape (M,), `CIRCLE_DTYPE`
        By falling logit.
    """
    (merged,) = merge_parts([(circles, math.inf)])
    return merged


def merge_parts(parts: Iterable[tuple[np.ndarray, float]]) -> Iterator[np.ndarray]:
    """Merge circles part by part: in total, keep those that `merge_circles` keeps of all.

    A circle is kept or suppressed as soon as all circles that may be of its crater are there, and
    it is known which of them are kept. Until then it waits, so that only circles near the later
    parts are in memory.

    Parameters
    ----------
    parts : iterable of (ndarray, float)
        Circles of `CIRCLE_DTYPE`, and a row that no circle of a later part is above.

    Yields
    ------
    ndarray, shape (M,), `CIRCLE_DTYPE`
        The circles that are kept of this part and of those that waited, by falling logit.
    """
    waiting = np.zeros(0, CIRCLE_DTYPE)
    for circles, later in parts:
        together = np.concatenate([waiting, circles])
        keys = [together[name] for name in ("error", "diameter", "col", "row", "level")]
        ordered = together[np.lexsort((*keys, -together["logit"]))]
        is_kept, is_waiting = _judge(ordered, later)
        yield ordered[is_kept]
        waiting = ordered[is_waiting]


def _judge(circles: np.ndarray, later: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which circles, by falling logit, are kept, and which wait for those of later rows."""
    reach = max(distance for distance, _ in _SAME) * circles["diameter"]
    is_waiting = circles["row"] + reach > later - 1  # a pixel covers errors of rounding
    is_suppressed = np.zeros(len(circles), bool)
    first, second = _same_craters(circles)
    for place, other in zip(first.tolist(), second.tolist(), strict=True):
        if is_suppressed[place]:
            continue
        if is_waiting[place]:
            is_waiting[other] = True
        else:
            is_suppressed[other] = True
    return ~is_waiting & ~is_suppressed, is_waiting & ~is_suppressed


def _same_craters(circles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of circles of one crater, by the first and then the second."""
    from scipy.spatial import KDTree

    pairs = [np.zeros((0, 2), np.int64)]
    places = np.stack([circles["row"], circles["col"]], 1)
    octave = np.floor(np.log2(circles["diameter"])).astype(int)
    for number in np.unique(octave):  # circles of one crater are of one or two octaves in a row
        members = np.flatnonzero((octave == number) | (octave == number + 1))
        reach = max(distance for distance, _ in _SAME) * 2.0 ** (number + 1)
        near = KDTree(places[members]).query_pairs(reach, output_type="ndarray")
        pairs.append(members[near])
    pairs_found = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    first, second = pairs_found.T
    distance = np.hypot(*(places[first] - places[second]).T)
    sizes = circles["diameter"][pairs_found]
    smaller, larger = sizes.min(axis=1), sizes.max(axis=1)
    same = np.zeros(len(first), bool)
    for most_distant, most_unlike in _SAME:
        same |= (distance < most_distant * smaller) & (larger < most_unlike * smaller)
    return first[same], second[same]


def size_strata(circles: np.ndarray) -> np.ndarray:
    """Return 1 for circles of at least `CALIBRATED` pixels and 0 for smaller ones.

    Smaller circles are of other shares of craters, and catalogues seldom say which are.
    """
    return (circles["diameter"] >= CALIBRATED).astype(int)


def raw_probability(circles: np.ndarray) -> np.ndarray:
    """Return the network's own probability of each circle, not calibrated."""
    return sigmoid(circles["logit"])
