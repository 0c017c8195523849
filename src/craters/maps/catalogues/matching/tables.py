"""The outcome of a matching as columns of tables and as GIS layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import shapely

from craters.core import files
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.matching import curves
from craters.maps.catalogues.matching.curves import Bin, Curve
from craters.maps.catalogues.matching.diameters import DiameterAccuracy, RatioGroup
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    CRATER_STATES,
    DETECTION_STATES,
    FALSE,
    HIT,
    IGNORED,
    Matching,
    MatchRule,
)
from craters.maps.catalogues.matching.registration import ORIGINS, Registration, image_shifts
from craters.maps.geo import Plane, Planet, Space, Sphere, map_files, rim_polygons

RATE_KEYS = {
    "image": "false_per_image",
    "1,000 km2": "false_per_1000_km2",
    "megapixel": "false_per_megapixel",
}

_GREEN, _RED, _BLUE, _GRAY = "27,120,55,255", "200,40,30,255", "40,90,160,255", "120,120,120,200"
POINT_STYLES = {  # of the layers of match.gpkg, for QGIS
    "hits": map_files.point_style(_GREEN),
    "false_detections": map_files.point_style(_RED, shape="cross2"),
    "missed_craters": map_files.point_style(_BLUE, shape="diamond", size=5),
    "found_craters": map_files.point_style(_GREEN, shape="diamond", size=5),
    "ignored_detections": map_files.point_style(_GRAY, size=3),
    "ignored_craters": map_files.point_style(_GRAY, shape="diamond", size=3),
}
RIM_STYLES = {  # where detections have diameters
    "hits": map_files.outline_style(_GREEN, 0.6),
    "false_detections": map_files.outline_style(_RED, 0.6),
    "missed_craters": map_files.outline_style(_BLUE, 0.6),
    "found_craters": map_files.outline_style(_GREEN, 0.2),
    "ignored_detections": map_files.outline_style(_GRAY, 0.4),
    "ignored_craters": map_files.outline_style(_GRAY, 0.2),
}


@dataclasses.dataclass(frozen=True)
class MatchOutcome:
    """A matching, with the data and the rule that it was made from."""

    matching: Matching
    detections: Detections
    catalogue: Catalogue
    rule: MatchRule
    planet: Planet
    has_edges: bool
    registration: Registration | None = None

    @property
    def scale(self) -> float:
        """Internal length units per displayed unit: metres per km, or 1 for pixels."""
        return 1000.0 if self.planet.is_known else 1.0

    @property
    def unit(self) -> str:
        """Displayed unit of diameters."""
        return "km" if self.planet.is_known else "px"

    @property
    def space(self) -> Space:
        """The sphere of the body, or the plane of pixels."""
        return Sphere(self.planet.radius) if self.planet.is_known else Plane()

    @property
    def directions(self) -> tuple[str, str]:
        """Names of both components of a shift, with its unit."""
        return ("east_m", "north_m") if self.planet.is_known else ("right_px", "down_px")


def detection_columns(outcome: MatchOutcome) -> dict[str, np.ndarray]:
    """Return the columns of detections.csv: all detections in file order, with their matches."""
    matching, catalogue, detections = outcome.matching, outcome.catalogue, outcome.detections
    target, matched = matching.detection_target, matching.detection_target >= 0
    crater, diameter = np.full(len(target), -1), np.full(len(target), np.nan)
    crater[matched] = matching.target_crater[target[matched]]
    diameter[matched] = catalogue.diameters[crater[matched]] / outcome.scale
    images = np.array([*matching.images, ""])  # index -1: no image
    own = {
        f"diameter_{outcome.unit}": detections.diameters,
        f"diameter_error_{outcome.unit}": detections.diameter_errors,
    }
    return {
        **_place_columns(outcome, detections.places),
        "probability": detections.probability,
        **{name: values / outcome.scale for name, values in own.items() if values is not None},
        "source": images[matching.detection_image],
        "state": np.array(DETECTION_STATES)[matching.detection_state],
        "crater_row": np.where(matched, catalogue.file_rows(crater), -1),
        f"crater_diameter_{outcome.unit}": diameter,
        "distance_m" if outcome.planet.is_known else "distance_px": matching.distance,
    }


def crater_columns(outcome: MatchOutcome) -> dict[str, np.ndarray]:
    """Return the columns of craters.csv: every crater in every image, with its detection."""
    matching, catalogue = outcome.matching, outcome.catalogue
    crater, matched = matching.target_crater, matching.target_detection >= 0
    states = np.array(CRATER_STATES)[matching.target_state].astype("U32")
    counted = matching.target_state == COUNTED
    states[counted] = np.where(matched[counted], "found", "missed")
    probability = np.full(len(crater), np.nan)
    rows = matching.target_detection[matched]
    probability[matched] = outcome.detections.probability[rows]
    return {
        **_place_columns(outcome, catalogue.places[crater]),
        f"diameter_{outcome.unit}": catalogue.diameters[crater] / outcome.scale,
        "source": np.array([*matching.images, ""])[matching.target_image],
        "state": states,
        "probability": probability,
        "crater_row": catalogue.file_rows(crater),
        "detection_row": np.where(matched, matching.target_detection + 2, -1),
    }


def _place_columns(outcome: MatchOutcome, places: np.ndarray) -> dict[str, np.ndarray]:
    names = ("lon", "lat") if outcome.planet.is_known else ("x_px", "y_px")
    return {name: places[:, axis] for axis, name in enumerate(names)}


def layers(outcome: MatchOutcome) -> list[map_files.Layer]:
    """Return the layers of match.gpkg: hits, false detections, missed craters, ignored ones.

    They are points, or the rims on the sphere if detections have diameters.
    """
    detections, craters = detection_columns(outcome), crater_columns(outcome)
    state = outcome.matching.detection_state
    parts = {
        "hits": (detections, state == HIT),
        "false_detections": (detections, state == FALSE),
        "missed_craters": (craters, craters["state"] == "missed"),
        "found_craters": (craters, craters["state"] == "found"),
        "ignored_detections": (detections, state >= IGNORED),
        "ignored_craters": (craters, outcome.matching.target_state != COUNTED),
    }
    listed = []
    for name, (columns, keep) in parts.items():
        kept = {
            key: values[keep].astype(object) if values.dtype.kind == "U" else values[keep]
            for key, values in columns.items()
        }
        kind, shapes = "Point", shapely.points(kept["lon"], kept["lat"])
        if outcome.rule.by_diameter:
            sphere = Sphere(outcome.planet.radius)
            places = np.column_stack([kept["lon"], kept["lat"]])
            diameters = kept[f"diameter_{outcome.unit}"] * outcome.scale
            kind, shapes = "Polygon", rim_polygons(sphere, places, diameters)
        listed.append(map_files.Layer(name=name, kind=kind, shapes=shapes, columns=kept))
    return listed


def image_columns(outcome: MatchOutcome, threshold: float) -> dict[str, np.ndarray]:
    """Return the columns of images.csv: counts at a threshold, and the shift of each image."""
    matching, space = outcome.matching, outcome.space
    n = len(matching.images)
    counted = matching.target_state == COUNTED
    detected = curves.is_found(matching, outcome.detections, threshold)
    judged = outcome.detections.probability >= threshold
    states, image = matching.detection_state, matching.detection_image
    craters = np.bincount(matching.target_image[counted], minlength=n)
    found = np.bincount(matching.target_image[counted & detected], minlength=n)
    false = np.bincount(image[judged & (states == FALSE)], minlength=n)
    pairs, shifts = image_shifts(matching, outcome.detections, outcome.catalogue, space)
    columns = {
        "source": np.array(matching.images, object),
        "area_km2" if outcome.planet.is_known else "area_megapixels": matching.areas,
        "craters": craters,
        "found": found,
        "false": false,
        "recall": _ratio(found, craters),
        "precision": _ratio(found, found + false),
        "pairs": pairs,
    }
    columns |= {f"shift_{word}": shifts[:, axis] for axis, word in enumerate(outcome.directions)}
    if (made := outcome.registration) is not None:
        before, _ = image_shifts(made.before, outcome.detections, outcome.catalogue, space)
        columns["pairs_unregistered"] = before
        columns["registered_by"] = np.array(ORIGINS, object)[made.origin]
        for axis, word in enumerate(outcome.directions):
            columns[f"registered_{word}"] = made.shifts[:, axis]
    return columns


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def curve_columns(outcome: MatchOutcome, curve: Curve) -> dict[str, np.ndarray]:
    """Return the columns of curve.csv."""
    columns = {
        "threshold": curve.threshold,
        "hits": curve.hits,
        "false": curve.false,
        "recall": curve.recall,
        "precision": curve.precision,
        "f1": curve.f1,
        "false_per_image": curve.false_per_image,
    }
    if curve.area > 0:
        unit = "1,000 km2" if outcome.planet.is_known else "megapixel"
        columns[RATE_KEYS[unit]] = curve.false / (curve.area / outcome.scale)
    return columns


def bin_columns(
    bins_of: dict[str, list[Bin]], names: tuple[str, str, str], scale: float
) -> dict[str, np.ndarray]:
    """Return a table of shares by diameter, for several sets of detections.

    Parameters
    ----------
    bins_of : dict of list of Bin
        By set.
    names : tuple of str
        Of the number, the successes and their share, such as craters, found and recall.
    scale : float
        Metres or pixels per displayed unit.
    """
    rows = [(name, one) for name, bins in bins_of.items() for one in bins]
    limits = [one.interval for _, one in rows]
    count, successes, share = names
    return {
        "detections": _objects(name for name, _ in rows),
        "low": _objects(one.low / scale for _, one in rows),
        "high": _objects(one.high / scale for _, one in rows),
        count: _objects(one.n for _, one in rows),
        successes: _objects(one.found for _, one in rows),
        share: _objects(one.share for _, one in rows),
        f"{share}_low": _objects(each and each.low for each in limits),
        f"{share}_high": _objects(each and each.high for each in limits),
    }


def accuracy_columns(accuracy: DiameterAccuracy, scale: float) -> dict[str, np.ndarray]:
    """Return the columns of diameter_ratio.csv: all hits, by diameter and by latitude."""
    parts: tuple[tuple[str, Sequence[RatioGroup], float], ...] = (
        ("all", (accuracy.overall,), scale),
        ("diameter", accuracy.by_diameter, scale),
        ("latitude", accuracy.by_latitude, 1.0),
    )
    rows = [(by, group, per) for by, groups, per in parts for group in groups]
    return {
        "by": _objects(by for by, _, _ in rows),
        "low": _objects(group.low / per for _, group, per in rows),
        "high": _objects(group.high / per for _, group, per in rows),
        "hits": _objects(group.n for _, group, _ in rows),
        "median_ratio": _objects(group.median for _, group, _ in rows),
        "scatter": _objects(group.scatter for _, group, _ in rows),
    }


def _objects(values: Iterable[Any]) -> np.ndarray:
    return np.array(list(values), object)


def to_csv(columns: dict[str, np.ndarray]) -> str:
    """Format columns as CSV with all digits; missing numbers become empty fields."""
    values = [column.tolist() for column in columns.values()]
    rows = (
        ["" if value is None or value != value else value for value in row]  # noqa: PLR0124
        for row in zip(*values, strict=True)
    )
    return files.to_csv([columns, *rows])
