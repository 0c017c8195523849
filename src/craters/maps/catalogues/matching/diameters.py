"""Accuracy of measured diameters, from the hits of a matching: bias, scatter, stated errors."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.matching.pairing import HIT, Matching

LATITUDE_EDGES = np.arange(-90.0, 91.0, 15.0)

_SPREAD = (16.0, 84.0)  # percentiles; of a normal distribution, two standard deviations apart


@dataclasses.dataclass(frozen=True)
class RatioGroup:
    """Ratios of detected to catalogued diameters in a range of diameters or latitudes.

    Parameters
    ----------
    low, high : float
    n : int
    median : float or None
        Above 1: detected diameters are too large. None without ratios.
    scatter : float or None
        Half the range from the 16th to the 84th percentile. None for fewer than two ratios.
    """

    low: float
    high: float
    n: int
    median: float | None
    scatter: float | None


@dataclasses.dataclass(frozen=True)
class DiameterAccuracy:
    """Accuracy of the diameters of hits.

    Parameters
    ----------
    overall : RatioGroup
    by_diameter : tuple of RatioGroup
        By catalogued diameter, in bins of recall.
    by_latitude : tuple of RatioGroup
        In bands of 15 degrees with hits; empty in a plane of pixels.
    within_error : float or None
        Share of catalogued diameters at most one stated standard deviation from the detected one
        (68 % for normal errors); None without stated errors, or without hits.
    distance : float or None
        Median distance of centres, metres or pixels; None without hits.
    """

    overall: RatioGroup
    by_diameter: tuple[RatioGroup, ...]
    by_latitude: tuple[RatioGroup, ...]
    within_error: float | None
    distance: float | None


def measure_diameters(
    matching: Matching,
    detections: Detections,
    catalogue: Catalogue,
    edges: np.ndarray,
) -> DiameterAccuracy:
    """Compare the diameters of all hits with those of their craters.

    Parameters
    ----------
    matching : Matching
    detections : Detections
        With diameters.
    catalogue : Catalogue
    edges : ndarray
        Edges of diameter bins in metres or pixels; the last edge belongs to the last bin.

    Examples
    --------
    >>> from craters.maps.catalogues.matching.pairing import MatchRule, match
    >>> from craters.maps.geo import Plane
    >>> places = np.array([[0.0, 0.0], [90.0, 0.0], [190.0, 0.0]])
    >>> catalogue = Catalogue(places, np.array([10.0, 20.0, 40.0]), in_pixels=True)
    >>> found = Detections(places + 1, np.full(3, 0.5), diameters=np.array([11.0, 24.0, 52.0]))
    >>> matching = match(found, catalogue, None, Plane(), MatchRule())
    >>> measure_diameters(matching, found, catalogue, np.array([10.0, 40.0])).overall.median
    1.2
    """
    assert detections.diameters is not None
    hits = np.flatnonzero(matching.detection_state == HIT)
    craters = matching.target_crater[matching.detection_target[hits]]
    detected, catalogued = detections.diameters[hits], catalogue.diameters[craters]
    ratios, within_error = detected / catalogued, None
    if detections.diameter_errors is not None and len(hits):
        errors = detections.diameter_errors[hits]
        within_error = float(np.mean(np.abs(detected - catalogued) <= errors))
    bands: tuple[RatioGroup, ...] = ()
    if not catalogue.in_pixels:
        bands = _groups(ratios, catalogue.places[craters, 1], LATITUDE_EDGES)
    low, high = (float(catalogued.min()), float(catalogued.max())) if len(hits) else (0.0, 0.0)
    return DiameterAccuracy(
        overall=_group(ratios, low, high),
        by_diameter=_groups(ratios, catalogued, edges),
        by_latitude=tuple(group for group in bands if group.n),
        within_error=within_error,
        distance=float(np.median(matching.distance[hits])) if len(hits) else None,
    )


def _groups(ratios: np.ndarray, values: np.ndarray, edges: np.ndarray) -> tuple[RatioGroup, ...]:
    """Group ratios by values in bins [low, high), the last one with its upper edge."""
    groups = []
    for low, high in itertools.pairwise(edges.tolist()):
        inside = (values >= low) & (values < high)
        if high == edges[-1]:
            inside |= values == high
        groups.append(_group(ratios[inside], low, high))
    return tuple(groups)


def _group(ratios: np.ndarray, low: float, high: float) -> RatioGroup:
    n, median, scatter = len(ratios), None, None
    if n:
        median = float(np.median(ratios))
    if n > 1:
        ends = np.percentile(ratios, _SPREAD)
        scatter = float(ends[1] - ends[0]) / 2
    return RatioGroup(low=low, high=high, n=n, median=median, scatter=scatter)
