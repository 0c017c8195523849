"""Write the result folder of `craters match`: tables, GIS layers, figures, a summary, a report."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import Steps, StrPath, files
from craters.evaluation import Interval, save_figure
from craters.maps.catalogues.matching import curves
from craters.maps.catalogues.matching import tables as match_tables
from craters.maps.catalogues.matching.curves import Bin, Curve, FalseRate
from craters.maps.catalogues.matching.diameters import (
    DiameterAccuracy,
    RatioGroup,
    measure_diameters,
)
from craters.maps.catalogues.matching.figure import draw, draw_diameters
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    FALSE,
    HIT,
    IGNORED,
    NEAR_EDGE,
    OTHER_SIZE,
    OUTSIDE,
)
from craters.maps.catalogues.matching.registration import ORIGINS, Shift, measure_shift
from craters.maps.catalogues.matching.report import html_report, rule_words
from craters.maps.catalogues.matching.tables import MatchOutcome, to_csv
from craters.maps.geo import map_files

_GRID = (0.0, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99)  # thresholds of a table
_FEW_IMAGES = 20
_SHIFTED = 0.05  # diameters: a shift that a note is about
COSTS = {"measure": 22.0, "summarize": 8.0, "tables": 10.0, "layers": 45.0, "figures": 10.0}
"""Of the steps of `write_all`, as measured with 100,000 craters: relative to each other."""

_PRECISION = 0.8  # at which recall is stated


@dataclasses.dataclass(frozen=True)
class _Statistics:
    """What tables, figures and summary state about an outcome.

    `recalls` and `precisions` are by diameter, at the thresholds of `all`, `at_rate` and, with
    diameters, `best_f1`.
    """

    curve: Curve
    threshold: float
    recalls: dict[str, list[Bin]]
    precisions: dict[str, list[Bin]]
    accuracy: DiameterAccuracy | None
    shift: Shift | None


def write_all(
    out: StrPath,
    outcome: MatchOutcome,
    *,
    rate: FalseRate,
    bins: str,
    seed: int,
    inputs: dict[str, str],
    steps: Steps | None = None,
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
    steps : Steps, optional
        With those of `COSTS`; are advanced.

    Returns
    -------
    dict
        Content of summary.json.
    """
    steps = steps or Steps(None, COSTS)
    statistics = _measure(outcome, rate, bins, seed)
    steps.finish("measure")
    content = _summarize(outcome, statistics, rate=rate, seed=seed)
    steps.finish("summarize")
    content |= {"inputs": inputs, "version": __version__}
    tables = _tables(outcome, statistics)
    with files.new_folder(Path(out)) as folder:
        for name, columns in tables.items():
            files.write_text(folder / name, to_csv(columns))
        steps.finish("tables")
        if outcome.planet.is_known:
            parts = [iter([layer]) for layer in match_tables.layers(outcome)]
            steps.advance("layers", 0.6)
            by_diameter = outcome.rule.by_diameter
            styles = match_tables.RIM_STYLES if by_diameter else match_tables.POINT_STYLES
            map_files.write_layers(folder / "match.gpkg", parts, outcome.planet, styles)
        steps.finish("layers")
        figure = draw(
            statistics.curve, statistics.recalls, content["at_rate"], rate, outcome.scale,
            outcome.unit,
        )  # fmt: skip
        save_figure(folder / "match.png", figure)
        pictures = [folder / "match.png"]
        if statistics.accuracy is not None:
            figure = draw_diameters(
                outcome, statistics.recalls["best_f1"], statistics.precisions["best_f1"],
                statistics.accuracy,
            )  # fmt: skip
            save_figure(folder / "diameters.png", figure)
            pictures.append(folder / "diameters.png")
        steps.finish("figures")
        files.write_json(folder / "summary.json", content)
        page = html_report(content, tables["images.csv"], [path.read_bytes() for path in pictures])
        files.write_text(folder / "report.html", page)
    return content


def _measure(outcome: MatchOutcome, rate: FalseRate, bins: str, seed: int) -> _Statistics:
    """Compute the statistics of an outcome."""
    matching, detections, catalogue = outcome.matching, outcome.detections, outcome.catalogue
    rule, scale = outcome.rule, outcome.scale
    curve = curves.make_curve(matching, detections)
    threshold = curves.threshold_at_rate(curve, rate.value, rate.total)
    counted = catalogue.diameters[matching.target_crater[matching.target_state == COUNTED]]
    edges = curves.bin_edges(bins, rule.smallest, rule.largest, counted, scale)
    thresholds = {"all": 0.0, "at_rate": threshold}
    if rule.by_diameter:
        best = float(curve.threshold[curve.best]) if curve.best >= 0 else math.nextafter(1.0, 2.0)
        thresholds["best_f1"] = best
    recalls = {
        name: curves.recall_by_diameter(matching, detections, catalogue, edges, value)
        for name, value in thresholds.items()
    }
    precisions, accuracy = {}, None
    if rule.by_diameter:
        precisions = {
            name: curves.precision_by_diameter(matching, detections, edges, value)
            for name, value in thresholds.items()
        }
        accuracy = measure_diameters(matching, detections, catalogue, edges)
    return _Statistics(
        curve=curve,
        threshold=threshold,
        recalls=recalls,
        precisions=precisions,
        accuracy=accuracy,
        shift=measure_shift(matching, detections, catalogue, outcome.space, seed=seed),
    )


def _tables(outcome: MatchOutcome, statistics: _Statistics) -> dict[str, dict[str, np.ndarray]]:
    """Return the columns of all CSV files by file name."""
    scale, recalls = outcome.scale, statistics.recalls
    tables = {
        "detections.csv": match_tables.detection_columns(outcome),
        "craters.csv": match_tables.crater_columns(outcome),
        "images.csv": match_tables.image_columns(outcome, statistics.threshold),
        "recall_by_diameter.csv": match_tables.bin_columns(
            recalls, ("craters", "found", "recall"), scale
        ),
        "curve.csv": match_tables.curve_columns(outcome, statistics.curve),
    }
    if statistics.accuracy is not None:
        precisions = match_tables.bin_columns(
            statistics.precisions, ("judged", "hits", "precision"), scale
        )
        precisions["f1"] = np.array(
            [
                curves.harmonic_mean(recall.share, precision.share)
                for name in recalls
                for recall, precision in zip(
                    recalls[name], statistics.precisions[name], strict=True
                )
            ],
            object,
        )
        tables["precision_by_diameter.csv"] = precisions
        tables["diameter_ratio.csv"] = match_tables.accuracy_columns(statistics.accuracy, scale)
    return tables


def _summarize(
    outcome: MatchOutcome, statistics: _Statistics, *, rate: FalseRate, seed: int
) -> dict[str, Any]:
    """Return the content of summary.json; proportions are 0..1, None if undefined."""
    matching, curve = outcome.matching, statistics.curve
    rated, everything = curves.bootstrap_rates(
        matching, outcome.detections, [rate.value, math.inf], rate.amounts, seed=seed
    )
    has_area = math.isfinite(curve.area)
    content: dict[str, Any] = {
        "images": curve.n_images,
        "area_km2": curve.area if has_area and outcome.planet.is_known else None,
        "area_megapixels": curve.area if has_area and not outcome.planet.is_known else None,
        "detections": _state_counts(outcome),
        "craters": {
            word: int((matching.target_state == state).sum())
            for state, word in enumerate(_crater_words(outcome))
        },
        "rule": _rule_dict(outcome),
        "all_detections": _point(outcome, curve, len(curve.threshold) - 1, everything),
        "at_rate": {
            "asked_rate": rate.value,
            "asked_per": rate.unit,
            "asked_false_per_image": rate.value * rate.total / curve.n_images,
            **_point(outcome, curve, curve.at(statistics.threshold), rated),
        },
        "best_f1": _point(outcome, curve, curve.best, None),
        "at_precision": {
            "asked_precision": _PRECISION,
            **_point(outcome, curve, curve.at_precision(_PRECISION), None),
        },
        "recall_by_diameter": {
            name: [_bin_dict(size_bin, outcome.scale) for size_bin in bins]
            for name, bins in statistics.recalls.items()
        },
        "precision_by_diameter": {
            name: [_precision_dict(size_bin, outcome.scale) for size_bin in bins]
            for name, bins in statistics.precisions.items()
        },
        "diameters": _accuracy_dict(statistics.accuracy, outcome.scale),
        "shift": _shift_dict(outcome, statistics.shift),
        "registration": _registration_dict(outcome),
        "unit": outcome.unit,
        "thresholds": [
            {**_point(outcome, curve, curve.at(value), None), "threshold": value} for value in _GRID
        ],
    }
    return content | {"notes": _notes(outcome, statistics, rate, rated)}


def _crater_words(outcome: MatchOutcome) -> tuple[str, ...]:
    """Name the states of craters; those that are not counted only if the catalogue has any."""
    words = ("counted", "ignored_size", "ignored_border")
    return words if outcome.catalogue.counted is None else (*words, "ignored_uncertain")


def _state_counts(outcome: MatchOutcome) -> dict[str, int]:
    """Count the detections by state; those ignored by size or border only with diameters."""
    words = {"hits": HIT, "false": FALSE, "ignored": IGNORED, "outside": OUTSIDE}
    if outcome.rule.by_diameter:
        words |= {"ignored_size": OTHER_SIZE, "ignored_border": NEAR_EDGE}
    states = outcome.matching.detection_state
    counts = {word: int((states == state).sum()) for word, state in words.items()}
    return {"all": len(states), **counts}


def _rule_dict(outcome: MatchOutcome) -> dict[str, Any]:
    rule, scale = outcome.rule, outcome.scale
    if rule.half_window is None:
        how: dict[str, Any] = {"by": "diameter", "distance": rule.distance, "ratio": rule.ratio}
    else:
        how = {"by": "window", "half_window": rule.half_window / scale}
    return {
        **how,
        "smallest": rule.smallest / scale,
        "largest": rule.largest / scale if math.isfinite(rule.largest) else None,
        "border": rule.border / scale if outcome.has_edges else None,
        "unit": outcome.unit,
        "words": rule_words(outcome),
    }


def _accuracy_dict(accuracy: DiameterAccuracy | None, scale: float) -> dict[str, Any] | None:
    if accuracy is None:
        return None

    def group_dict(group: RatioGroup, per: float) -> dict[str, Any]:
        ends = {"low": group.low / per, "high": group.high / per}
        return ends | {
            "hits": group.n, "median_ratio": group.median, "scatter": group.scatter
        }  # fmt: skip

    return {
        "all": group_dict(accuracy.overall, scale),
        "by_diameter": [group_dict(group, scale) for group in accuracy.by_diameter],
        "by_latitude": [group_dict(group, 1.0) for group in accuracy.by_latitude],
        "within_error": accuracy.within_error,
        "median_distance": accuracy.distance,
    }


def _shift_dict(outcome: MatchOutcome, shift: Shift | None) -> dict[str, Any] | None:
    """Describe the shift in metres east and north, or in pixels right and down."""
    if shift is None:
        return None
    intervals: tuple[Interval | None, ...] = shift.intervals or (None, None)
    method = shift.intervals[0].method if shift.intervals else None
    return {
        **dict(zip(outcome.directions, shift.offset, strict=True)),
        **{
            f"{word}_interval": _limits(interval)
            for word, interval in zip(outcome.directions, intervals, strict=True)
        },
        "pairs": shift.n,
        "method": method,
    }


def _registration_dict(outcome: MatchOutcome) -> dict[str, Any] | None:
    made = outcome.registration
    if made is None:
        return None
    before, after = made.recalls
    return {
        "recall_before": before,
        "recall_after": after,
        "median_length": float(np.median(np.hypot(*made.shifts.T))),
        "images_by_origin": {
            word: int((made.origin == kind).sum()) for kind, word in enumerate(ORIGINS)
        },
    }


def _notes(
    outcome: MatchOutcome, statistics: _Statistics, rate: FalseRate, rated: Interval | None
) -> list[str]:
    curve, notes = statistics.curve, []
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
    if outcome.rule.by_diameter:
        notes += _size_note(outcome)
        notes += _shift_note(statistics.shift, outcome)
    catalogue = outcome.catalogue
    notes += outcome.detections.notes + catalogue.notes
    return [*notes, *catalogue.source_notes(outcome.matching.images)]


def _size_note(outcome: MatchOutcome) -> list[str]:
    """Note how many false detections are smaller than all craters, which the catalogue may lack."""
    matching, sizes = outcome.matching, outcome.detections.diameters
    counted = outcome.catalogue.diameters[matching.target_crater[matching.target_state == COUNTED]]
    if sizes is None or not len(counted) or outcome.rule.smallest > 0:
        return []
    smaller = int((sizes[matching.detection_state == FALSE] < counted.min()).sum())
    if not smaller:
        return []
    return [
        f"{smaller} false detection(s) smaller than all craters that count (from "
        f"{counted.min() / outcome.scale:.3g} {outcome.unit}): is the catalogue complete there? "
        "--diameters sets the range that counts"
    ]


def _shift_note(shift: Shift | None, outcome: MatchOutcome) -> list[str]:
    """Suggest to register a catalogue that is clearly displaced."""
    if outcome.registration is not None or shift is None or shift.intervals is None:
        return []
    clear = any(interval.low > 0 or interval.high < 0 for interval in shift.intervals)
    length = math.hypot(*shift.offset)
    if not clear or length < _SHIFTED * float(np.median(outcome.catalogue.diameters)):
        return []
    return [
        f"The catalogue is displaced by about {length:.3g} {outcome.space.unit}: --register takes "
        "this out"
    ]


def _point(
    outcome: MatchOutcome, curve: Curve, row: int, interval: Interval | None
) -> dict[str, Any]:
    """Describe one row of the curve; row -1 is no detections at all."""
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
        "recall": size_bin.share,
        "interval": _limits(size_bin.interval),
    }


def _precision_dict(size_bin: Bin, scale: float) -> dict[str, Any]:
    return {
        "low": size_bin.low / scale,
        "high": size_bin.high / scale,
        "judged": size_bin.n,
        "hits": size_bin.found,
        "precision": size_bin.share,
        "interval": _limits(size_bin.interval),
    }
