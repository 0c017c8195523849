"""Figures of circles that were found in images with known craters, by the rule of `match`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from circles.plan import CircleRule
from craters.detection import LabeledImage
from craters.detection.circle_training.matching import match_circles
from craters.maps.catalogues import (
    Catalogue,
    Detections,
    Matching,
    MatchRule,
    make_curve,
    measure_diameters,
    precision_by_diameter,
    recall_by_diameter,
)
from craters.maps.catalogues.matching.curves import threshold_at_rate
from craters.maps.catalogues.matching.pairing import FALSE as IS_FALSE
from craters.maps.catalogues.matching.pairing import HIT
from harness import Row

FALSE = 0.5  # detections an image, at which recall is stated
PRECISION = 0.8
FIGURES = (
    "recall_at_rate", "recall_at_precision", "average_precision", "best_f1", "precision",
    "expected_precision", "recall", "f1", "false_per_megapixel", "diameter_ratio",
    "diameter_scatter", "within_error", "distance_px",
)  # fmt: skip
EDGES = np.array([8.0, 12.0, 24.0, np.inf])  # px


def match_rule(rule: CircleRule) -> MatchRule:
    """Return the rule of `match` by which the craters of a set count."""
    return MatchRule(smallest=rule.least, largest=rule.largest, border=rule.border)


def matched(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: CircleRule,
) -> tuple[Detections, Catalogue, Matching]:
    """Match the circles of images with the craters that count, one to one."""
    counted = [
        dataclasses.replace(image, craters=image.craters[image.craters["counted"]])
        for image in images
    ]
    done = match_circles(counted, found, probability, match_rule(rule))
    return done.detections, done.catalogue, done.matching


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
