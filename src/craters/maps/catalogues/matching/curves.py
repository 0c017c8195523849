"""Statistics of a matching: precision and recall by threshold, and by diameter."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from craters.errors import ConfigError
from craters.evaluation import (
    Interval,
    bootstrap,
    decide,
    draw_counts,
    percentile_limits,
    wilson_limits,
)
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    FALSE,
    HIT,
    Matching,
    probability_order,
)

RATE_UNITS = {  # of false detections: the unit in a sentence
    "image": "an image",
    "1,000 km2": "per 1,000 km2",
    "megapixel": "per megapixel",
}

_DRAWS = 1000
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Curve:
    """Counts of hits and false detections at each distinct probability.

    Parameters
    ----------
    threshold : ndarray, shape (T,)
        Probabilities, descending; detections at or above count.
    hits, false : ndarray of int, shape (T,)
    n_craters, n_images : int
    area : float
        Square kilometres, or megapixels in a plane of pixels; NaN if unknown.
    """

    threshold: np.ndarray
    hits: np.ndarray
    false: np.ndarray
    n_craters: int
    n_images: int
    area: float

    @property
    def recall(self) -> np.ndarray:
        """Share of the counted craters that are detected; NaN if there are none."""
        return self.hits / self.n_craters if self.n_craters else np.full(len(self.hits), np.nan)

    @property
    def precision(self) -> np.ndarray:
        """Share of hits among hits and false detections; NaN if there are neither."""
        both = self.hits + self.false
        return np.where(both > 0, self.hits / np.maximum(both, 1), np.nan)

    @property
    def false_per_image(self) -> np.ndarray:
        """False detections per image."""
        return self.false / self.n_images

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall; NaN without craters and false detections."""
        total = self.hits + self.false + self.n_craters
        return np.where(total > 0, 2 * self.hits / np.maximum(total, 1), np.nan)

    @property
    def best(self) -> int:
        """Row of the best F1, the highest threshold of equal ones; -1 if nothing is detected."""
        return int(np.argmax(self.f1)) if self.hits.any() else -1

    def at_precision(self, least: float) -> int:
        """Return the row of the highest recall with a precision of at least `least`; -1 if none.

        Examples
        --------
        >>> hits, false = np.array([1, 1, 4]), np.array([0, 1, 1])
        >>> curve = Curve(np.array([0.9, 0.8, 0.7]), hits, false, 5, 1, 0)
        >>> curve.at_precision(0.8), curve.at_precision(0.9), curve.best
        (2, 0, 2)
        """
        enough = np.flatnonzero(self.hits >= least * (self.hits + self.false) - 1e-9)
        return int(enough[-1]) if len(enough) and self.hits[enough[-1]] else -1

    def at(self, threshold: float) -> int:
        """Return the row of the detections at or above `threshold`; -1 if none."""
        return int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class FalseRate:
    """A rate of false detections at which recall is stated.

    Parameters
    ----------
    value : float
        False detections per unit.
    unit : str
        A key of `RATE_UNITS`.
    amounts : ndarray, shape (I,)
        Number of units in each image.
    """

    value: float
    unit: str
    amounts: np.ndarray

    @property
    def total(self) -> float:
        """Number of units in all images."""
        return float(self.amounts.sum())

    @property
    def words(self) -> str:
        """The rate in words.

        Examples
        --------
        >>> FalseRate(value=0.5, unit="image", amounts=np.ones(2)).words
        '0.5 false an image'
        """
        return f"{self.value:g} false {RATE_UNITS[self.unit]}"


@dataclasses.dataclass(frozen=True)
class Bin:
    """A diameter bin [low, high): its craters, and how many are found; or detections and hits."""

    low: float
    high: float
    n: int
    found: int
    interval: Interval | None

    @property
    def share(self) -> float | None:
        """Recall of the craters, or precision of the detections; None if there are none."""
        return self.found / self.n if self.n else None


def make_curve(matching: Matching, detections: Detections) -> Curve:
    """Count hits and false detections by descending probability."""
    order = probability_order(detections)
    states = matching.detection_state[order]
    probability = detections.probability[order]
    ends = np.flatnonzero(np.diff(probability, append=-1.0))
    return Curve(
        threshold=probability[ends],
        hits=np.cumsum(states == HIT)[ends],
        false=np.cumsum(states == FALSE)[ends],
        n_craters=int((matching.target_state == COUNTED).sum()),
        n_images=len(matching.images),
        area=float(matching.areas.sum()),
    )


def threshold_at_rate(curve: Curve, rate: float, units: float | None = None) -> float:
    """Return the lowest threshold with at most `rate` false detections per unit.

    Parameters
    ----------
    curve : Curve
    rate : float
    units : float, optional
        Number of units, such as thousands of square kilometres. Default: the images.

    Returns
    -------
    float
        Above 1 if even the most probable detections are too many.

    Examples
    --------
    >>> curve = Curve(np.array([0.9, 0.8, 0.7]), np.array([1, 1, 2]), np.array([0, 1, 3]), 2, 2, 0)
    >>> threshold_at_rate(curve, 0.5), threshold_at_rate(curve, 0.5, units=6.0)
    (0.8, 0.7)
    """
    most = rate * (curve.n_images if units is None else units)
    fits = np.flatnonzero(curve.false <= most + 1e-9)
    return float(curve.threshold[fits[-1]]) if len(fits) else math.nextafter(1.0, 2.0)


def wilson(hits: int, n: int) -> Interval | None:
    """Return the 95 % Wilson score interval of a proportion; None if `n` is 0.

    It assumes independent craters, and is usable for a handful of them.
    """
    if n == 0:
        return None
    low, high = wilson_limits(hits, n)
    method = "Wilson score, craters as independent"
    return Interval(low=low, high=high, level=_LEVEL, method=method, n_groups=None)


def bin_edges(
    text: str, smallest: float, largest: float, diameters: np.ndarray, scale: float
) -> np.ndarray:
    """Return the edges of the diameter bins: as given, or in steps of at most the root of two.

    Parameters
    ----------
    text : str
        Edges such as "1.5,2,3,4.5"; empty for the default.
    smallest, largest : float
        Range of diameters that count; an open end stops at the diameters that occur.
    diameters : ndarray, shape (N,)
        Diameters of the counted craters.
    scale : float
        Metres (or pixels) per unit of `text`.

    Raises
    ------
    ConfigError
        If `text` is not an ascending list of numbers.
    """
    if text:
        try:
            edges = np.array([float(part) for part in text.split(",")]) * scale
        except ValueError:
            edges = np.empty(0)
        if len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise ConfigError(f"--bins is {text!r}, expected ascending numbers, e.g. 1.5,2,3,4.5")
        return edges
    low = smallest if smallest > 0 else float(diameters.min(initial=np.inf))
    high = largest if largest < np.inf else float(diameters.max(initial=0.0))
    if not 0 < low < high < np.inf:
        return np.array([low, high]) if low == high else np.empty(0)
    steps = max(1, math.ceil(2 * math.log2(high / low) - 1e-9))
    edges = np.geomspace(low, high, steps + 1)
    edges[[0, -1]] = low, high
    return edges


def recall_by_diameter(
    matching: Matching,
    detections: Detections,
    catalogue: Catalogue,
    edges: np.ndarray,
    threshold: float,
) -> list[Bin]:
    """Count the craters of each bin, and those detected at a threshold; include the last edge."""
    counted = matching.target_state == COUNTED
    diameters = catalogue.diameters[matching.target_crater[counted]]
    return _count_bins(diameters, is_found(matching, detections, threshold)[counted], edges)


def precision_by_diameter(
    matching: Matching, detections: Detections, edges: np.ndarray, threshold: float
) -> list[Bin]:
    """Count hits among hits and false detections at a threshold, by detected diameter."""
    assert detections.diameters is not None
    states = matching.detection_state
    judged = (states == HIT) | (states == FALSE)
    judged &= decide(detections.probability, threshold) == 1
    return _count_bins(detections.diameters[judged], states[judged] == HIT, edges)


def _count_bins(diameters: np.ndarray, found: np.ndarray, edges: np.ndarray) -> list[Bin]:
    """Count rows, and those that are `found`, in each bin; include the last edge."""
    bins = []
    for index, (low, high) in enumerate(itertools.pairwise(edges.tolist())):
        inside = (diameters >= low) & (diameters < high)
        if index == len(edges) - 2:
            inside |= diameters == high
        n, hits = int(inside.sum()), int(found[inside].sum())
        bins.append(Bin(low=low, high=high, n=n, found=hits, interval=wilson(hits, n)))
    return bins


def harmonic_mean(recall: float | None, precision: float | None) -> float | None:
    """Return F1; None if recall or precision is undefined.

    Examples
    --------
    >>> harmonic_mean(0.5, 1.0), harmonic_mean(0.0, 0.0), harmonic_mean(None, 1.0)
    (0.6666666666666666, 0.0, None)
    """
    if recall is None or precision is None:
        return None
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def is_found(matching: Matching, detections: Detections, threshold: float) -> np.ndarray:
    """Return which targets are matched by a detection at or above a threshold."""
    detected = np.zeros(len(matching.target_crater), bool)
    matched = matching.target_detection >= 0
    rows = matching.target_detection[matched]
    detected[matched] = decide(detections.probability[rows], threshold)
    return detected


def bootstrap_rates(
    matching: Matching,
    detections: Detections,
    rates: Sequence[float],
    units: np.ndarray | None = None,
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> list[Interval | None]:
    """Bootstrap the recall at given false-detection rates, resampling whole images.

    Each draw chooses its own threshold, as an analyst with those images would.

    Parameters
    ----------
    rates : sequence of float
        False detections per unit; infinity: all detections.
    units : ndarray, shape (I,), optional
        Number of units in each image. Default: 1, so that rates are per image.
    seed, draws : int

    Returns
    -------
    list of Interval or None
        None if fewer than two images have counted craters.
    """
    images = len(matching.images)
    counted = matching.target_image[matching.target_state == COUNTED]
    craters = np.bincount(counted, minlength=images)
    if (craters > 0).sum() < 2:
        return [None for _ in rates]
    order = probability_order(detections)
    order = order[matching.detection_image[order] >= 0]
    image = matching.detection_image[order]
    amounts = np.ones(images) if units is None else units
    hit, false = (matching.detection_state[order] == state for state in (HIT, FALSE))
    ends = np.flatnonzero(np.diff(detections.probability[order], append=-1.0))

    def recalls(weight: np.ndarray) -> list[float] | None:
        if not (total := int(weight @ craters)):
            return None
        hits = np.append(0, np.cumsum(weight[image] * hit)[ends])
        false_alarms = np.append(0, np.cumsum(weight[image] * false)[ends])
        most = np.array(rates) * float(weight @ amounts) + 1e-9
        last = np.searchsorted(false_alarms, most, side="right") - 1
        return [float(hits[row] / total) for row in last]

    drawn = bootstrap(lambda random: draw_counts(images, random), recalls, draws=draws, seed=seed)
    low, high = percentile_limits(drawn, (1 - _LEVEL) / 2)
    return [
        Interval(
            low=float(limits[0]),
            high=float(limits[1]),
            level=_LEVEL,
            method="percentile bootstrap over images",
            n_groups=images,
            skipped=draws - len(drawn),
        )
        for limits in zip(low, high, strict=True)
    ]
