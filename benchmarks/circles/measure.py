"""Figures of circles that were found in images with known craters, by the rule of `match`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from circles.plan import CircleRule
from craters.detection import LabeledImage
from craters.maps.catalogues import (
    Catalogue,
    Detections,
    Matching,
    MatchRule,
    make_curve,
    match,
    measure_diameters,
    precision_by_diameter,
    recall_by_diameter,
)
from craters.maps.catalogues.matching.curves import threshold_at_rate
from craters.maps.catalogues.matching.pairing import FALSE as IS_FALSE
from craters.maps.catalogues.matching.pairing import HIT
from craters.maps.geo import Footprint, Plane
from harness import Row

FALSE = 0.5  # detections an image, at which recall is stated
PRECISION = 0.8
FIGURES = (
    "recall_at_rate", "recall_at_precision", "average_precision", "best_f1", "precision",
    "expected_precision", "recall", "f1", "false_per_megapixel", "diameter_ratio",
    "diameter_scatter", "within_error", "distance_px",
)  # fmt: skip
EDGES = np.array([8.0, 12.0, 24.0, np.inf])  # px


def inputs(
    images: Sequence[LabeledImage], found: Sequence[np.ndarray], probability: Sequence[np.ndarray]
) -> tuple[Detections, Catalogue, list[Footprint], Plane]:
    """Return circles and craters of images as `match` and `register` take them.

    Parameters
    ----------
    images : sequence of LabeledImage
    found : sequence of ndarray, `CIRCLE_DTYPE`
        Of each image.
    probability : sequence of ndarray
    """
    names = [image.name for image in images]
    craters = [image.craters[image.craters["counted"]] for image in images]
    catalogue = Catalogue(
        _places(craters),
        np.concatenate([each["diameter"] for each in craters]).astype(float),
        np.repeat(names, [len(each) for each in craters]),
        in_pixels=True,
    )
    detections = Detections(
        _places(found),
        np.concatenate(probability),
        np.repeat(names, [len(each) for each in found]),
        diameters=np.concatenate([each["diameter"] for each in found]),
        diameter_errors=np.concatenate([each["error"] for each in found]),
    )
    areas = [
        Footprint(image.name, [shapely.box(0, 0, *image.pixels.shape[::-1])], Plane())
        for image in images
    ]
    return detections, catalogue, areas, Plane()


def match_rule(rule: CircleRule) -> MatchRule:
    """Return the rule of `match` by which the craters of a set count."""
    return MatchRule(smallest=rule.least, largest=rule.largest, border=rule.border)


def matched(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: CircleRule,
) -> tuple[Detections, Catalogue, Matching]:
    """Match the circles of images with their craters, one to one; see `inputs`."""
    given = inputs(images, found, probability)
    return given[0], given[1], match(*given, match_rule(rule))


def _places(circles: Sequence[np.ndarray]) -> np.ndarray:
    """Return x and y from the corner of the image."""
    return np.concatenate([np.stack([each["col"], each["row"]], 1) + 0.5 for each in circles])


def figures(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: CircleRule,
    called: Sequence[np.ndarray],
) -> Row:
    """Measure recall, precision and diameters of the circles of a set.

    Parameters
    ----------
    images, found, probability, rule
        As for `matched`.
    called : sequence of ndarray of bool
        Which circles of each image are detections at the operating point.
    """
    detections, _, matching = matched(images, found, probability, rule)
    curve = make_curve(matching, detections)
    rate = threshold_at_rate(curve, FALSE)
    at_rate, at_precision = curve.at(rate), curve.at_precision(PRECISION)
    row: Row = {
        "images": len(images),
        "craters": curve.n_craters,
        "recall_at_rate": _value(curve.recall, at_rate),
        "recall_at_precision": _value(curve.recall, at_precision),
        "best_f1": float(curve.f1[curve.best]),
        "average_precision": float(
            np.sum(np.diff(curve.recall, prepend=0.0) * np.nan_to_num(curve.precision))
        ),
    }
    detections, catalogue, matching = matched(
        images,
        [each[kept] for each, kept in zip(found, called, strict=True)],
        [each[kept] for each, kept in zip(probability, called, strict=True)],
        rule,
    )
    curve = make_curve(matching, detections)
    accuracy = measure_diameters(matching, detections, catalogue, EDGES)
    judged = np.isin(matching.detection_state, (HIT, IS_FALSE))
    megapixels = sum(image.pixels.size for image in images) / 1e6
    return row | {
        "diameter_ratio": accuracy.overall.median,
        "diameter_scatter": accuracy.overall.scatter,
        "within_error": accuracy.within_error,
        "distance_px": accuracy.distance,
        "recall": _value(curve.recall, len(curve.hits) - 1),
        "precision": _value(curve.precision, len(curve.hits) - 1),
        "f1": _value(curve.f1, len(curve.hits) - 1),
        "expected_precision": float(detections.probability[judged].mean()),
        "false_per_megapixel": int((matching.detection_state == IS_FALSE).sum()) / megapixels,
        "by_diameter": [
            {
                "from": low,
                "recall": recalled.share,
                "craters": recalled.n,
                "precision": precise.share,
                "detections": precise.n,
            }
            for low, recalled, precise in zip(
                EDGES[:-1].tolist(),
                recall_by_diameter(matching, detections, catalogue, EDGES, 0.0),
                precision_by_diameter(matching, detections, EDGES, 0.0),
                strict=True,
            )
        ],
    }


def _value(values: np.ndarray, place: int) -> float:
    """Return the value at a place of a curve; 0 without detections."""
    return float(values[place]) if place >= 0 else 0.0
