"""Recall and precision of detections in complete random fields, with intervals.

A crater or detection belongs to the field that its centre is in. Detections match craters one to
one, as `craters match` does: at most a quarter of the crater's diameter away, the larger diameter
at most 1.5 times the smaller one. Intervals weight whole fields at random (Bayesian bootstrap);
half a circle that is right is added, and half a one that is not.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from craters.evaluation import bootstrap, percentile_limits, random_weights
from craters.labels import Circle, Place
from craters.maps.catalogues import Catalogue, Detections, MatchRule, match
from craters.maps.geo import Plane
from craters.review.circles.fields import field_of

LEAST_DIAMETER = 8.0  # px: of a crater that counts; detectors measure smaller ones badly
LEAST_FIELDS = 5  # complete, to show any figure
LEAST_CIRCLES = 20  # craters in them to show recall, detections to show precision
RULE = MatchRule(distance=0.25, ratio=1.5, smallest=LEAST_DIAMETER)

_DRAWS = 2000
_HIT, _COUNTED = 0, 0  # states of `match`
_FALSE = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Located:
    """Circles of named images, with probabilities.

    Parameters
    ----------
    image : ndarray of str, shape (N,)
    x, y, diameter, probability : ndarray of float, shape (N,)
    """

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    diameter: np.ndarray
    probability: np.ndarray

    def take(self, rows: np.ndarray) -> Located:
        """Return some of the circles."""
        return Located(**{name: values[rows] for name, values in vars(self).items()})

    @classmethod
    def of(cls, circles: Sequence[tuple[str, Circle]]) -> Located:
        """Make columns of craters, which are certain."""
        return cls(
            image=np.array([image for image, _ in circles], np.str_),
            x=np.array([circle.x for _, circle in circles], float),
            y=np.array([circle.y for _, circle in circles], float),
            diameter=np.array([circle.diameter for _, circle in circles], float),
            probability=np.ones(len(circles)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class FieldCounts:
    """Numbers in each of F fields.

    Parameters
    ----------
    craters, found : ndarray of int, shape (F,)
        Craters, and those of them that were found.
    detections, right : ndarray of int, shape (F,)
        Detections, and those of them that are craters.
    """

    craters: np.ndarray
    found: np.ndarray
    detections: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.craters)


def count_fields(fields: Sequence[Place], craters: Located, detections: Located) -> FieldCounts:
    """Match detections with the craters that people left, and count by field.

    Parameters
    ----------
    fields : sequence of Place
        Complete ones.
    craters : Located
        All craters known, also those outside the fields: a detection inside may be of one.
    detections : Located
    """
    names = sorted({field.image for field in fields})
    craters = craters.take(np.isin(craters.image, names))
    detections = detections.take(np.isin(detections.image, names))
    crater_field, detection_field = (
        _fields_of(fields, names, each) for each in (craters, detections)
    )
    counted, found = np.zeros(len(craters.x), bool), np.zeros(len(craters.x), bool)
    is_right, is_counted = (np.zeros(len(detections.x), bool) for _ in range(2))
    for name in names:
        mine, theirs = (np.flatnonzero(each.image == name) for each in (craters, detections))
        catalogue = Catalogue(
            places=np.column_stack([craters.x, craters.y])[mine],
            diameters=craters.diameter[mine],
            in_pixels=True,
        )
        matching = match(
            Detections(
                places=np.column_stack([detections.x, detections.y])[theirs],
                probability=detections.probability[theirs],
                diameters=detections.diameter[theirs],
            ),
            catalogue,
            None,
            Plane(),
            RULE,
        )
        targets = mine[matching.target_crater]
        counted[targets] = matching.target_state == _COUNTED
        found[targets] = matching.target_detection >= 0
        is_right[theirs] = matching.detection_state == _HIT
        is_counted[theirs] = np.isin(matching.detection_state, (_HIT, _FALSE))
    return FieldCounts(
        *(
            np.bincount(owner[rows & (owner >= 0)], minlength=len(fields))
            for owner, rows in (
                (crater_field, counted), (crater_field, counted & found),
                (detection_field, is_counted), (detection_field, is_counted & is_right),
            )
        )
    )  # fmt: skip


def _fields_of(fields: Sequence[Place], names: Sequence[str], circles: Located) -> np.ndarray:
    owner = np.full(len(circles.x), -1)
    for name in names:
        rows = np.flatnonzero(circles.image == name)
        owner[rows] = field_of(fields, name, circles.x[rows], circles.y[rows])
    return owner


def _ratio(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> float:
    """Return a weighted ratio; the last two weights are of the prior: a half, and another half."""
    rows, (right, wrong) = weights[:-2], weights[-2:]
    return float((part @ rows + right) / (whole @ rows + right + wrong))


def _f1(counts: FieldCounts, weights: np.ndarray) -> float:
    recall = _ratio(counts.found, counts.craters, weights)
    precision = _ratio(counts.right, counts.detections, weights)
    return 2 * recall * precision / (recall + precision)


def _draws(count: int) -> Any:
    return random_weights(np.arange(count), np.array([0.5, 0.5]))


def estimate(counts: FieldCounts) -> dict[str, Any]:
    """Return numbers, and recall and precision with 95 % intervals where there are enough."""
    content: dict[str, Any] = {
        "fields": len(counts),
        **{name: int(values.sum()) for name, values in vars(counts).items()},
    }
    for name, part, whole in (
        ("recall", counts.found, counts.craters),
        ("precision", counts.right, counts.detections),
    ):
        content[name] = content[f"{name}_interval"] = None
        if len(counts) >= LEAST_FIELDS and whole.sum() >= LEAST_CIRCLES:
            statistic = functools.partial(_ratio, part, whole)
            values = bootstrap(_draws(len(counts)), statistic, draws=_DRAWS)
            content[name] = float(part.sum() / whole.sum())
            low, high = percentile_limits(values)
            content[f"{name}_interval"] = [min(low, content[name]), max(high, content[name])]
    return content


def gain(before: FieldCounts, after: FieldCounts) -> dict[str, Any] | None:
    """Compare two catalogues on the same fields: paired differences with 95 % intervals.

    Returns
    -------
    dict or None
        `recall`, `precision`, `f1`, each with `_interval`; None if there are too few circles.
    """
    if (
        len(before) < LEAST_FIELDS
        or min(before.craters.sum(), before.detections.sum(), after.detections.sum())
        < LEAST_CIRCLES
    ):
        return None

    def differences(weights: np.ndarray) -> list[float]:
        return [
            _ratio(after.found, after.craters, weights)
            - _ratio(before.found, before.craters, weights),
            _ratio(after.right, after.detections, weights)
            - _ratio(before.right, before.detections, weights),
            _f1(after, weights) - _f1(before, weights),
        ]

    now = differences(np.array([*np.ones(len(before)), 0.0, 0.0]))
    low, high = percentile_limits(bootstrap(_draws(len(before)), differences, draws=_DRAWS))
    content: dict[str, Any] = {"fields": len(before)}
    for place, name in enumerate(("recall", "precision", "f1")):
        content[name] = now[place]
        content[f"{name}_interval"] = [
            min(float(low[place]), now[place]), max(float(high[place]), now[place])
        ]  # fmt: skip
    return content
