"""Prepare images with a catalogue: remove its shift, and ignore what it may not list."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from craters.detection.circle_training.matching import catalogue_shifts, match_circles
from craters.detection.images import LabeledImage
from craters.maps.catalogues import COUNTED, HIT, MatchRule
from craters.models import raw_probability

CONFIDENT = 0.3  # raw probability of the circles that the shift of a catalogue is measured with
MARGIN = 1.15  # circles up to so many times the limit may be craters that are too small for it

_SURE = 0.5  # raw probability of the circles that the limit is measured with
_STEP = 2**0.25  # ratio of the edges of bins of diameters
_LEAST = 20  # circles of a bin, and above it
_LISTED = 0.8  # share of the circles of a bin that are listed, over that of all larger ones
_FIRST = 7.0  # px: smaller circles are too uncertain


@dataclasses.dataclass(frozen=True)
class Limit:
    """The diameters in which a catalogue is complete.

    Parameters
    ----------
    smallest, largest : float
        In the unit of the matching.
    origin : {"stated", "measured", "smallest"}
        Stated by the user; measured by sure circles; or the smallest crater that is listed, as
        there are too few circles to measure it.
    sentence : str
        The same in words.
    """

    smallest: float
    largest: float
    origin: str
    sentence: str


def register_images(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    rule: MatchRule,
    scales: Sequence[float] | None = None,
) -> tuple[list[LabeledImage], np.ndarray, np.ndarray]:
    """Move the craters of images by the shift between catalogue and image.

    The shift is estimated in each image, and from all of them where one has too few craters; so
    give the images of one region together.

    Parameters
    ----------
    images : sequence of LabeledImage
    found : sequence of ndarray, `CIRCLE_DTYPE`
        Circles of each image, of a detector that was not trained on them.
    rule : MatchRule
    scales : sequence of float, optional
        As for `match_inputs`.

    Returns
    -------
    images : list of LabeledImage
    shifts : ndarray, shape (I, 2)
        Pixels right and down by which the craters of each image were moved.
    origin : ndarray of int, shape (I,)
        As of `Registration`: what the shift was estimated from.
    """
    sure = [circles[raw_probability(circles) >= CONFIDENT] for circles in found]
    weights = [raw_probability(circles) for circles in sure]
    shifts, origin = catalogue_shifts(images, sure, weights, rule, scales)
    moved = []
    for image, (right, down) in zip(images, shifts, strict=True):
        craters = image.craters.copy()
        craters["col"] += right
        craters["row"] += down
        moved.append(dataclasses.replace(image, craters=craters))
    return moved, shifts, origin


def with_unlisted(
    image: LabeledImage, circles: np.ndarray, smallest: float, largest: float = math.inf
) -> LabeledImage:
    """Add circles that the catalogue may not list, as craters that do not count.

    Parameters
    ----------
    image : LabeledImage
    circles : ndarray, `CIRCLE_DTYPE`
        Of a detector that was not trained on the image.
    smallest, largest : float
        Pixels: circles outside of them may be craters too small or too large for the catalogue.
    """
    craters = image.craters
    others = circles[(circles["diameter"] < smallest) | (circles["diameter"] > largest)]
    distance = np.hypot(
        others["row"][:, None] - craters["row"], others["col"][:, None] - craters["col"]
    )
    ratio = others["diameter"][:, None] / np.maximum(craters["diameter"], 1)
    listed = (distance < np.maximum(craters["diameter"] / 2, 5)) & (ratio > 0.5) & (ratio < 2)
    others = others[~listed.any(axis=1)]
    added = np.zeros(len(others), craters.dtype)
    for name in ("row", "col", "diameter"):
        added[name] = others[name]
    return dataclasses.replace(image, craters=np.concatenate([craters, added]))


def within_limit(image: LabeledImage, smallest: float, largest: float) -> LabeledImage:
    """Return an image whose craters count only between two diameters, in pixels."""
    craters = image.craters.copy()
    craters["counted"] &= (craters["diameter"] >= smallest) & (craters["diameter"] <= largest)
    return dataclasses.replace(image, craters=craters)


def measure_limit(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    scales: Sequence[float],
    unit: tuple[str, float],
) -> Limit:
    """Measure the diameter from which a catalogue lists craters completely.

    Sure circles are counted in bins of diameter, a fourth of an octave wide. The limit is the
    lower edge of the smallest bin from which on the catalogue lists at least 0.8 times the share
    of circles that it lists of all larger ones.

    Parameters
    ----------
    images : sequence of LabeledImage
        Without the shift of the catalogue.
    found : sequence of ndarray, `CIRCLE_DTYPE`
    scales : sequence of float
        As for `match_inputs`.
    unit : tuple of str and float
        Name of the unit for sentences, and its length.
    """
    sure = [circles[raw_probability(circles) >= _SURE] for circles in found]
    raw = [raw_probability(each) for each in sure]
    matched = match_circles(images, sure, raw, MatchRule(), scales)
    diameters = matched.detections.diameters
    assert diameters is not None
    is_listed = matched.matching.detection_target >= 0
    first = _FIRST * max(scales)
    shares = _listed_shares(diameters, is_listed, first)
    if not shares:
        return _from_smallest(images, scales, unit)
    smallest = next((low * _STEP for low, share in reversed(shares) if share < _LISTED), first)
    name, length = unit
    words = f"the catalogue is complete from {smallest / length:.3g} {name} on: of smaller circles "
    words += "it lists far fewer than of larger ones"
    if smallest == first:
        words = "the catalogue lists circles of all diameters alike, down to the smallest that can "
        words += f"be measured, {first / length:.3g} {name}"
    return Limit(
        smallest=smallest, largest=math.inf, origin="measured", sentence=f"Measured: {words}"
    )


def _listed_shares(
    diameters: np.ndarray, is_listed: np.ndarray, first: float
) -> list[tuple[float, float]]:
    """Return lower edges of bins, and how often their circles are listed, over larger circles."""
    shares = []
    for low, high in _bins(diameters, first):
        inside, above = (diameters >= low) & (diameters < high), diameters >= high
        if inside.sum() >= _LEAST and above.sum() >= _LEAST:
            usual = max(float(is_listed[above].mean()), 1e-9)
            shares.append((low, float(is_listed[inside].mean()) / usual))
    return shares


def _from_smallest(
    images: Sequence[LabeledImage], scales: Sequence[float], unit: tuple[str, float]
) -> Limit:
    """Return the limit where there are too few circles to measure it."""
    diameters = np.concatenate(
        [
            image.craters["diameter"][image.craters["counted"]] * scale
            for image, scale in zip(images, scales, strict=True)
        ]
    )
    smallest = float(diameters.min(initial=np.inf))
    smallest = smallest if math.isfinite(smallest) else 0.0
    name, length = unit
    return Limit(
        smallest=smallest,
        largest=math.inf,
        origin="smallest",
        sentence="There are too few circles to measure where the catalogue is complete: it is "
        f"taken as complete from its smallest crater on, {smallest / length:.3g} {name}",
    )


def _bins(diameters: np.ndarray, first: float) -> list[tuple[float, float]]:
    if not len(diameters) or diameters.max() <= first:
        return []
    count = math.ceil(math.log(float(diameters.max()) / first, _STEP))
    return [(first * _STEP**number, first * _STEP ** (number + 1)) for number in range(count)]


def stated_limit(diameters: tuple[float, float | None], unit: tuple[str, float]) -> Limit:
    """Return the limit that the user stated, in the unit."""
    (low, high), (name, length) = diameters, unit
    words = f"from {low:g} {name} on" if low else "throughout"
    if high is not None:
        words = f"from {low:g} to {high:g} {name}"
    return Limit(
        smallest=low * length,
        largest=math.inf if high is None else high * length,
        origin="stated",
        sentence=f"Stated: the catalogue is complete {words}",
    )


def hit_share(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    rule: MatchRule,
    scales: Sequence[float],
) -> float:
    """Return the share of the craters that count with any circle, however unlikely."""
    matched = match_circles(images, found, [raw_probability(each) for each in found], rule, scales)
    counted = matched.matching.target_state == COUNTED
    hits = int((matched.matching.detection_state == HIT).sum())
    return hits / max(int(counted.sum()), 1)
