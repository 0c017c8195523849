"""The shift between a catalogue and images: measured from matched pairs, and removed.

Catalogues are drawn on other mosaics than the images and may be displaced by some pixels,
differently in each region. A shift is the position of detections relative to their craters: metres
east and north, or pixels right and down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from craters.evaluation import Interval, bootstrap, draw_counts, percentile_limits
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    Matching,
    MatchRule,
    find_candidates,
    match,
    probability_order,
)
from craters.maps.geo import Footprint, Space

LEAST_PAIRS = 10  # for a shift of one image
AGREEMENT = 0.2  # diameters: half of the pairs must be this close to a shift that is removed
ORIGINS = ("none", "all images", "image")  # of the shift of an image

_LEAST_IMAGES = 5  # for a bootstrap over images
_REACH = 1.0  # diameters: distance of candidates for the first estimate
_STARTS = 500  # candidates where the density of offsets is evaluated
_ROUNDS = 20
_STILL = 1e-3  # diameters: a change that ends the iteration
_DRAWS = 1000
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Shift:
    """Median offset of detections from their craters.

    Parameters
    ----------
    offset : tuple of float
        Metres east and north, or pixels right and down.
    n : int
        Number of pairs.
    intervals : tuple of Interval, or None
        Of both components; None for a single pair.
    """

    offset: tuple[float, float]
    n: int
    intervals: tuple[Interval, Interval] | None


@dataclasses.dataclass(frozen=True)
class Registration:
    """Shifts of a catalogue in each image, and the matching before and after.

    Parameters
    ----------
    shifts : ndarray, shape (I, 2)
        By which the craters are moved in each image.
    origin : ndarray of int, shape (I,)
        Index into `ORIGINS`: what the shift was estimated from.
    before, matching : Matching
        Without and with the shifts.
    """

    shifts: np.ndarray
    origin: np.ndarray
    before: Matching
    matching: Matching

    @property
    def recalls(self) -> tuple[float | None, float | None]:
        """Recall of all detections before and after; None without craters that count."""
        before, after = (_recall(matching) for matching in (self.before, self.matching))
        return before, after


def _recall(matching: Matching) -> float | None:
    counted = matching.target_state == COUNTED
    return float((matching.target_detection[counted] >= 0).mean()) if counted.any() else None


def _pair_counts(matching: Matching) -> np.ndarray:
    """Return the number of pairs of each image."""
    return np.bincount(
        matching.target_image[matching.target_detection >= 0], minlength=len(matching.images)
    )


def pair_offsets(
    matching: Matching, detections: Detections, catalogue: Catalogue, space: Space
) -> tuple[np.ndarray, np.ndarray]:
    """Return the detections with a crater, counted or ignored, and their offsets from it (P, 2).

    The offsets are those from the catalogued positions, also in a matching with shifts.
    """
    rows = np.flatnonzero(matching.detection_target >= 0)
    craters = matching.target_crater[matching.detection_target[rows]]
    return rows, space.offsets(catalogue.places[craters], detections.places[rows])


def measure_shift(
    matching: Matching,
    detections: Detections,
    catalogue: Catalogue,
    space: Space,
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> Shift | None:
    """Measure the median offset of all pairs, with bootstrap intervals of 95 %.

    Images are resampled if at least five have pairs, otherwise pairs.

    Returns
    -------
    Shift or None
        None without pairs.
    """
    rows, offsets = pair_offsets(matching, detections, catalogue, space)
    if not len(rows):
        return None
    east, north = np.median(offsets, axis=0).tolist()
    shift = Shift(offset=(east, north), n=len(rows), intervals=None)
    if len(rows) == 1:
        return shift
    names, units = np.unique(matching.detection_image[rows], return_inverse=True)
    over_images = len(names) >= _LEAST_IMAGES
    if not over_images:
        units = np.arange(len(rows))
    count = int(units.max()) + 1
    orders = np.argsort(offsets, axis=0, kind="stable").T

    def medians(counts: np.ndarray) -> list[float]:
        weights = counts[units]
        return [
            _weighted_median(offsets[order, axis], weights[order])
            for axis, order in enumerate(orders)
        ]

    drawn = bootstrap(lambda random: draw_counts(count, random), medians, draws=draws, seed=seed)
    low, high = percentile_limits(drawn, (1 - _LEVEL) / 2)
    first, second = (
        Interval(
            low=float(limits[0]),
            high=float(limits[1]),
            level=_LEVEL,
            method=f"percentile bootstrap over {'images' if over_images else 'pairs'}",
            n_groups=count if over_images else None,
        )
        for limits in zip(low, high, strict=True)
    )
    return dataclasses.replace(shift, intervals=(first, second))


def _weighted_median(ascending: np.ndarray, counts: np.ndarray) -> float:
    """Return the median of ascending values, each of which occurs `counts` times.

    Examples
    --------
    >>> _weighted_median(np.array([1.0, 2.0, 9.0]), np.array([1, 0, 3]))
    9.0
    >>> _weighted_median(np.array([1.0, 2.0, 9.0]), np.array([2, 1, 1]))
    1.5
    """
    ends = np.cumsum(counts)
    middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
    return float(ascending[middle].mean())


def image_shifts(
    matching: Matching, detections: Detections, catalogue: Catalogue, space: Space
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of pairs of each image (I,), and their median offsets (I, 2).

    An offset is NaN for fewer than ten pairs.
    """
    rows, offsets = pair_offsets(matching, detections, catalogue, space)
    image = matching.detection_image[rows]
    pairs = _pair_counts(matching)
    shifts = np.full((len(matching.images), 2), np.nan)
    for index in np.flatnonzero(pairs >= LEAST_PAIRS):
        shifts[index] = np.median(offsets[image == index], axis=0)
    return pairs, shifts


def register(
    detections: Detections,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    space: Space,
    rule: MatchRule,
) -> Registration:
    """Estimate the shift of the catalogue in each image, remove it, and match again.

    The first estimate is the densest offset of all pairs of similar diameters that are at most a
    diameter apart, matched or not. It is then replaced by the median offset of the matched pairs
    until it does not change. An image with fewer than ten pairs, or half of whose pairs are more
    than a fifth of a diameter from their median, gets the shift of all images; or none, if that
    does not agree either or loses pairs in this image. So a shift needs many craters that confirm
    it, and cannot be longer than their diameters.

    Parameters
    ----------
    detections, catalogue, footprints, space
        As for `match`.
    rule : MatchRule
        By diameters.

    Raises
    ------
    DataError
        As `match`.
    """
    inputs = detections, catalogue, footprints, space
    before = match(*inputs, rule)
    shifts = _first_shifts(detections, catalogue, footprints, space, rule)
    still = _STILL * float(np.median(catalogue.diameters)) if len(catalogue) else 0.0
    for _ in range(_ROUNDS):
        matching = match(*inputs, rule, shifts)
        settled, origin = _agreed_shifts(matching, detections, catalogue, space)
        change = float(np.abs(settled - shifts).max())
        shifts = settled
        if change <= still:
            break
    matching = match(*inputs, rule, shifts)
    lost = _pair_counts(matching) < _pair_counts(before)
    if (worse := lost & (origin == ORIGINS.index("all images"))).any():
        shifts[worse], origin[worse] = 0.0, 0
        matching = match(*inputs, rule, shifts)
    return Registration(shifts=shifts, origin=origin, before=before, matching=matching)


def _first_shifts(
    detections: Detections,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    space: Space,
    rule: MatchRule,
) -> np.ndarray:
    """Return the densest offset of each image with enough craters near detections, or of all."""
    tolerant = dataclasses.replace(rule, distance=max(_REACH, rule.distance))
    pairs = find_candidates(detections, catalogue, footprints, space, tolerant)
    ranks = np.empty(len(detections), int)
    ranks[probability_order(detections)] = np.arange(len(detections))
    order = np.argsort(ranks[pairs.detection], kind="stable")
    target, detection = pairs.target[order], pairs.detection[order]
    craters, image = pairs.target_crater[target], pairs.target_image[target]
    offsets = space.offsets(catalogue.places[craters], detections.places[detection])
    widths = AGREEMENT * catalogue.diameters[craters]
    shifts = np.tile(_densest(offsets, widths), (len(pairs.images), 1))
    for index in range(len(shifts)):
        mine = image == index
        if len(np.unique(target[mine])) >= LEAST_PAIRS:
            shifts[index] = _densest(offsets[mine], widths[mine])
    return shifts


def _densest(offsets: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the offset, of the first ones, with the most others within their widths."""
    if not len(offsets):
        return np.zeros(2)
    starts = offsets[:_STARTS]
    density = [
        np.maximum(1 - ((offsets - start) ** 2).sum(axis=1) / widths**2, 0).sum()
        for start in starts
    ]
    return starts[int(np.argmax(density))]


def _agreed_shifts(
    matching: Matching, detections: Detections, catalogue: Catalogue, space: Space
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift of each image that its pairs, or those of all images, agree on.

    Also return its origin.
    """
    rows, offsets = pair_offsets(matching, detections, catalogue, space)
    image = matching.detection_image[rows]
    diameters = catalogue.diameters[matching.target_crater[matching.detection_target[rows]]]
    common = _agreed(offsets, diameters)
    shifts = np.zeros((len(matching.images), 2))
    origin = np.zeros(len(shifts), int)
    for index in range(len(shifts)):
        mine = image == index
        own = _agreed(offsets[mine], diameters[mine])
        for value, kind in ((own, 2), (common, 1)):
            if value is not None:
                shifts[index], origin[index] = value, kind
                break
    return shifts, origin


def _agreed(offsets: np.ndarray, diameters: np.ndarray) -> np.ndarray | None:
    """Return the median offset, if there are enough pairs and half of them are close to it."""
    if len(offsets) < LEAST_PAIRS:
        return None
    middle = np.median(offsets, axis=0)
    apart = np.hypot(*(offsets - middle).T) / diameters
    return middle if float(np.median(apart)) <= AGREEMENT else None
