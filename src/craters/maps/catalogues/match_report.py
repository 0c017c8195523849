"""Write the result folder of `craters match`: tables, GIS layers, a figure, a summary."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import StrPath, files
from craters.evaluation import Interval, save_figure
from craters.maps.catalogues import curves
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.curves import Bin, Curve, FalseRate
from craters.maps.catalogues.match_figure import draw
from craters.maps.catalogues.matching import (
    COUNTED,
    CRATER_STATES,
    DETECTION_STATES,
    FALSE,
    HIT,
    IGNORED,
    OUTSIDE,
    Matching,
    MatchRule,
)
from craters.maps.geo import Planet, map_files

_GRID = (0.0, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99)  # thresholds of a table
_FEW_IMAGES = 20
_RATE_KEYS = {
    "image": "false_per_image",
    "1,000 km2": "false_per_1000_km2",
    "megapixel": "false_per_megapixel",
}

_GREEN, _RED, _BLUE, _GRAY = "27,120,55,255", "200,40,30,255", "40,90,160,255", "120,120,120,200"
STYLES = {  # of the layers of match.gpkg, for QGIS
    "hits": map_files.point_style(_GREEN),
    "false_detections": map_files.point_style(_RED, shape="cross2"),
    "missed_craters": map_files.point_style(_BLUE, shape="diamond", size=5),
    "found_craters": map_files.point_style(_GREEN, shape="diamond", size=5),
    "ignored_detections": map_files.point_style(_GRAY, size=3),
    "ignored_craters": map_files.point_style(_GRAY, shape="diamond", size=3),
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

    @property
    def scale(self) -> float:
        """Internal length units per displayed unit: metres per km, or 1 for pixels."""
        return 1000.0 if self.planet.is_known else 1.0

    @property
    def unit(self) -> str:
        """Displayed unit of diameters."""
        return "km" if self.planet.is_known else "px"


def write_all(
    out: StrPath,
    outcome: MatchOutcome,
    *,
    rate: FalseRate,
    bins: str,
    seed: int,
    inputs: dict[str, str],
) -> dict[str, Any]:
    """Write the result folder, atomically.

    Parameters
    ----------
    out : path-like
    outcome : MatchOutcome
    rate : FalseRate
        Rate of false detections at which recall is stated.
    bins : str
        Edges of the diameter bins as given, or empty.
    seed : int
        Seed of the bootstrap.
    inputs : dict of str to str
        SHA-256 of the input files, by name.

    Returns
    -------
    dict
        Content of summary.json.
    """
    out = Path(out)
    curve = curves.make_curve(outcome.matching, outcome.detections)
    threshold = curves.threshold_at_rate(curve, rate.value, rate.total)
    counted = outcome.matching.target_crater[outcome.matching.target_state == COUNTED]
    edges = curves.bin_edges(
        bins, outcome.rule.smallest, outcome.rule.largest, outcome.catalogue.diameters[counted],
        outcome.scale,
    )  # fmt: skip
    by_size = {
        name: curves.recall_by_diameter(
            outcome.matching, outcome.detections, outcome.catalogue, edges, value
        )
        for name, value in (("all", 0.0), ("at_rate", threshold))
    }
    content = summarize(outcome, curve, by_size, rate=rate, seed=seed)
    content |= {"inputs": inputs, "version": __version__}
    with files.new_folder(out) as folder:
        files.write_text(folder / "detections.csv", _csv(detection_columns(outcome)))
        files.write_text(folder / "craters.csv", _csv(crater_columns(outcome)))
        files.write_text(folder / "recall_by_diameter.csv", _csv(_bin_columns(by_size, outcome)))
        files.write_text(folder / "curve.csv", _csv(_curve_columns(outcome, curve)))
        if outcome.planet.is_known:
            parts = [iter([layer]) for layer in layers(outcome)]
            map_files.write_layers(folder / "match.gpkg", parts, outcome.planet, STYLES)
        figure = draw(curve, by_size, content["at_rate"], rate, outcome.scale, outcome.unit)
        save_figure(folder / "match.png", figure)
        files.write_json(folder / "summary.json", content)
    return content


def summarize(
    outcome: MatchOutcome,
    curve: Curve,
    by_size: dict[str, list[Bin]],
    *,
    rate: FalseRate,
    seed: int,
) -> dict[str, Any]:
    """Return the content of summary.json; proportions are 0..1, None if undefined."""
    matching = outcome.matching
    threshold = curves.threshold_at_rate(curve, rate.value, rate.total)
    rated, everything = curves.bootstrap_rates(
        matching, outcome.detections, [rate.value, math.inf], rate.amounts, seed=seed
    )
    states, has_area = matching.detection_state, math.isfinite(curve.area)
    content: dict[str, Any] = {
        "images": curve.n_images,
        "area_km2": curve.area if has_area and outcome.planet.is_known else None,
        "area_megapixels": curve.area if has_area and not outcome.planet.is_known else None,
        "detections": {
            "all": len(states),
            "hits": int((states == HIT).sum()),
            "false": int((states == FALSE).sum()),
            "ignored": int((states == IGNORED).sum()),
            "outside": int((states == OUTSIDE).sum()),
        },
        "craters": {
            word: int((matching.target_state == state).sum())
            for state, word in enumerate(("counted", "ignored_size", "ignored_border"))
        },
        "rule": _rule_words(outcome),
        "all_detections": _point(outcome, curve, len(curve.threshold) - 1, everything),
        "at_rate": {
            "asked_rate": rate.value,
            "asked_per": rate.unit,
            "asked_false_per_image": rate.value * rate.total / curve.n_images,
            **_point(outcome, curve, curve.at(threshold), rated),
        },
        "recall_by_diameter": {
            name: [_bin_dict(size_bin, outcome.scale) for size_bin in bins]
            for name, bins in by_size.items()
        },
        "unit": outcome.unit,
        "thresholds": [
            {**_point(outcome, curve, curve.at(value), None), "threshold": value} for value in _GRID
        ],
    }
    return content | {"notes": _notes(outcome, curve, rate, rated)}


def _rule_words(outcome: MatchOutcome) -> dict[str, Any]:
    rule, scale = outcome.rule, outcome.scale
    return {
        "half_window": rule.half_window / scale,
        "smallest": rule.smallest / scale,
        "largest": rule.largest / scale if math.isfinite(rule.largest) else None,
        "border": rule.border / scale if outcome.has_edges else None,
        "unit": outcome.unit,
    }


def _notes(
    outcome: MatchOutcome, curve: Curve, rate: FalseRate, rated: Interval | None
) -> list[str]:
    notes = []
    if rate.unit == "image" and not curve.area > 0:
        notes.append("The scanned area is not known: false detections are stated per image")
    if 0 < rate.value * rate.total < 1:
        notes.append(
            f"{rate.words} is less than one in the whole scan, so no false detection is allowed; "
            "--false-per-area sets another rate"
        )
    if not curve.n_craters:
        notes.append("No crater counts: check the size range, the border and the footprint")
    if rated is None:
        notes.append(
            "With craters in fewer than two images there is no interval over images; Wilson "
            "intervals assume independent craters, and are somewhat too narrow"
        )
    elif curve.n_images < _FEW_IMAGES:
        notes.append(f"The interval over {curve.n_images} images is too narrow; 20 are few")
    if not outcome.has_edges:
        notes.append("No footprint: craters outside the scanned area count as missed")
    if not outcome.planet.is_known:
        notes.append("Pixels have no position on a body: there is no match.gpkg")
    catalogue = outcome.catalogue
    notes += outcome.detections.notes + catalogue.notes
    return [*notes, *catalogue.source_notes(outcome.matching.images)]


def _point(
    outcome: MatchOutcome, curve: Curve, row: int, interval: Interval | None
) -> dict[str, Any]:
    """Describe one row of the curve; row -1 stands for no detections."""
    hits = int(curve.hits[row]) if row >= 0 else 0
    false = int(curve.false[row]) if row >= 0 else 0
    n, both = curve.n_craters, hits + false
    in_km2, has_area = outcome.planet.is_known, curve.area > 0
    return {
        "threshold": float(curve.threshold[row]) if row >= 0 else None,
        "hits": hits,
        "false": false,
        "missed": n - hits,
        "recall": hits / n if n else None,
        "recall_wilson": _limits(curves.wilson(hits, n)),
        "recall_bootstrap": _limits(interval),
        "precision": hits / both if both else None,
        "precision_wilson": _limits(curves.wilson(hits, both)),
        "f1": 2 * hits / (both + n) if both + n else None,
        "false_per_image": false / curve.n_images,
        "false_per_1000_km2": 1000 * false / curve.area if has_area and in_km2 else None,
        "false_per_megapixel": false / curve.area if has_area and not in_km2 else None,
    }


def _limits(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _bin_dict(size_bin: Bin, scale: float) -> dict[str, Any]:
    return {
        "low": size_bin.low / scale,
        "high": size_bin.high / scale,
        "craters": size_bin.n,
        "found": size_bin.found,
        "recall": size_bin.recall,
        "interval": _limits(size_bin.interval),
    }


def detection_columns(outcome: MatchOutcome) -> dict[str, np.ndarray]:
    """Return the columns of detections.csv: all detections in file order, with their matches."""
    matching, catalogue = outcome.matching, outcome.catalogue
    target, matched = matching.detection_target, matching.detection_target >= 0
    crater, diameter = np.full(len(target), -1), np.full(len(target), np.nan)
    crater[matched] = matching.target_crater[target[matched]]
    diameter[matched] = catalogue.diameters[crater[matched]] / outcome.scale
    images = np.array([*matching.images, ""])  # index -1: no image
    return {
        **_place_columns(outcome, outcome.detections.places),
        "probability": outcome.detections.probability,
        "source": images[matching.detection_image],
        "state": np.array(DETECTION_STATES)[matching.detection_state],
        "crater_row": np.where(matched, catalogue.file_rows(crater), -1),
        f"diameter_{outcome.unit}": diameter,
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
    """Return the layers of match.gpkg: hits, false detections, missed craters, ignored ones."""
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
        listed.append(
            map_files.Layer(
                name=name,
                kind="Point",
                shapes=shapely.points(kept["lon"], kept["lat"]),
                columns=kept,
            )
        )
    return listed


def _curve_columns(outcome: MatchOutcome, curve: Curve) -> dict[str, np.ndarray]:
    columns = {
        "threshold": curve.threshold,
        "hits": curve.hits,
        "false": curve.false,
        "recall": curve.recall,
        "precision": curve.precision,
        "false_per_image": curve.false_per_image,
    }
    if curve.area > 0:
        unit = "1,000 km2" if outcome.planet.is_known else "megapixel"
        columns[_RATE_KEYS[unit]] = curve.false / (curve.area / outcome.scale)
    return columns


def _bin_columns(by_size: dict[str, list[Bin]], outcome: MatchOutcome) -> dict[str, np.ndarray]:
    rows = [
        {"detections": name, **_bin_dict(size_bin, outcome.scale)}
        for name, bins in by_size.items()
        for size_bin in bins
    ]
    names = ("detections", "low", "high", "craters", "found", "recall")
    columns = {name: np.array([row[name] for row in rows], object) for name in names}
    for index, name in enumerate(("recall_low", "recall_high")):
        limits = [row["interval"] for row in rows]
        columns[name] = np.array([pair and pair[index] for pair in limits], object)
    return columns


def _csv(columns: dict[str, np.ndarray]) -> str:
    """Format columns as CSV with all digits; missing numbers become empty fields."""
    values = [column.tolist() for column in columns.values()]
    rows = (
        ["" if value is None or value != value else value for value in row]  # noqa: PLR0124
        for row in zip(*values, strict=True)
    )
    return files.to_csv([columns, *rows])


def lines(content: dict[str, Any]) -> list[str]:
    """Summarize the matching in a few lines for the terminal."""
    craters, detections, rated = content["craters"], content["detections"], content["at_rate"]
    ignored, unit = craters["ignored_size"] + craters["ignored_border"], rated["asked_per"]
    summary = [
        f"Craters that count: {craters['counted']} in {content['images']} image(s); ignored: "
        f"{craters['ignored_size']} by size, {craters['ignored_border']} by the border.",
        f"Detections: {detections['all']}; {detections['hits']} hits, {detections['false']} false, "
        f"{detections['ignored']} match one of the {ignored} ignored craters, "
        f"{detections['outside']} outside.",
        f"All detections: {_words(content['all_detections'], unit)}.",
        f"At {rated['asked_rate']:g} false {curves.RATE_UNITS[unit]}: {_words(rated, unit)}.",
    ]
    return summary + [f"Note: {note}." for note in content["notes"]]


def _words(point: dict[str, Any], unit: str) -> str:
    if point["recall"] is None:
        return "nothing to find"
    limits, method = point["recall_bootstrap"], "over images"
    if limits is None:
        limits, method = point["recall_wilson"], "Wilson"
    text = f"recall {point['recall']:.3f} "
    text += f"(95 % interval {limits[0]:.3f} to {limits[1]:.3f}, {method})"
    if point["precision"] is not None:
        text += f", precision {point['precision']:.3f}"
    text += f", {point[_RATE_KEYS[unit]]:.2f} false {curves.RATE_UNITS[unit]}"
    if point["threshold"] is None:
        return f"{text}; no detection is left"
    return f"{text}, threshold {point['threshold']:.5g}"
