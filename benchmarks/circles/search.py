"""Search real images for circles by each contender, and measure what is found."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import harness
from circles import images as real
from circles import measure, training
from circles.measure import FIGURES
from circles.plan import (
    FOLDS,
    NO_LABEL,
    PYCDA,
    RULES,
    SHIPPED,
    STRETCHED,
    SYNTHETIC,
    CircleRule,
    source_of,
)
from craters.core import Progress
from craters.detection import LabeledImage
from craters.detection.circle_training.validation import scene_probabilities
from craters.evaluation import operating_point
from craters.models import CIRCLE_DTYPE, CircleDetector
from harness import Row


def search(contender: str, name: str, data: Path, progress: Progress) -> Row:
    """Search the images of a set by a detector that saw none of their craters, and measure it."""
    if contender == PYCDA:
        return _by_pycda(name, data, progress)
    images, rule = real.load_images(source_of(name), data), RULES[source_of(name)]
    if contender == NO_LABEL:
        detector = training.load(SYNTHETIC)
        found = [training.detect(detector, image) for image in images]
        probability = scene_probabilities(found, training.load(SHIPPED).description.calibration)
        return figures(images, found, probability, rule)
    if not name.startswith("tiles"):
        detector = training.load(SHIPPED)
        found = [training.detect(detector, image) for image in images]
        probability = scene_probabilities(found, detector.description.calibration)
        return figures(images, found, probability, rule)
    return _folds(images, rule, is_stretched=name == STRETCHED)


def _by_pycda(name: str, data: Path, progress: Progress) -> Row:
    """Search the images of a set by PyCDA, and measure it at its own threshold of 0.5."""
    images = real.load_images(name, data)
    python, peer = harness.pycda_python(progress), Path(__file__).parent / "peers/pycda_detect.py"
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "images.npz", Path(folder) / "circles.npz"
        np.savez(given, **{image.name: image.pixels for image in images})
        subprocess.run([python, peer, given, found], check=True, stdout=subprocess.DEVNULL)
        with np.load(found) as stored:
            tables = [stored[image.name] for image in images]
    circles = [np.zeros(len(table), CIRCLE_DTYPE) for table in tables]
    for one, table in zip(circles, tables, strict=True):
        for place, column in enumerate(("row", "col", "diameter")):
            one[column] = table[:, place]
    kept = [one["diameter"] > 0 for one in circles]
    circles = [one[keep] for one, keep in zip(circles, kept, strict=True)]
    probability = [table[keep, 3] for table, keep in zip(tables, kept, strict=True)]
    called = [each >= 0.5 for each in probability]
    row = figures(images, circles, probability, RULES[name], called=called)
    return row | {"within_error": None, "expected_precision": None}  # it states neither


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What detectors find in images of regions that they were not trained on.

    Parameters
    ----------
    truth : list of LabeledImage
        As for training, with the shift of the catalogue taken out.
    found, probability, is_called : list of ndarray
        Circles of each image, calibrated by the other folds, and which are detections.
    """

    truth: list[LabeledImage]
    found: list[np.ndarray]
    probability: list[np.ndarray]
    is_called: list[np.ndarray]


def held_out(
    images: Sequence[LabeledImage], rule: CircleRule, *, is_stretched: bool = False
) -> HeldOut:
    """Search the images of each fold by the detector and calibration of the other folds."""
    folds = real.fold_of(images)
    truth = training.prepared(images, training.load(SYNTHETIC))
    calibrated_on = raw = training.out_of_fold(images, folds)
    if is_stretched:
        raw = training.out_of_fold(images, folds, find=detect_stretched)
    found: list[np.ndarray] = [np.empty(0)] * len(images)
    probability = list(found)
    is_called = list(found)
    for fold in range(FOLDS):
        rows, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        description = training.calibrated(
            [truth[row] for row in others], [calibrated_on[row] for row in others], rule
        )
        scene = [raw[row].copy() for row in rows]
        for circles in scene:
            circles["error"] *= description.error_scale
        values = scene_probabilities(scene, description.calibration)
        threshold = operating_point(np.concatenate(values)).threshold
        for row, circles, value in zip(rows, scene, values, strict=True):
            found[row], probability[row], is_called[row] = circles, value, value >= threshold
    return HeldOut(truth, found, probability, is_called)


def _folds(images: Sequence[LabeledImage], rule: CircleRule, *, is_stretched: bool = False) -> Row:
    """Measure the images of each fold by the detector and calibration of the other folds."""
    held = held_out(images, rule, is_stretched=is_stretched)
    row = figures(images, held.found, held.probability, rule, called=held.is_called)
    moved = training.listed(held.truth)
    shifted = figures(moved, held.found, held.probability, rule, called=held.is_called)
    row["registered"] = {name: shifted[name] for name in FIGURES}
    return row


def detect_stretched(detector: CircleDetector, image: LabeledImage) -> np.ndarray:
    """Find the circles of an image whose columns are repeated, as plate carree at latitude 60."""
    wide, missing = (np.repeat(array, 2, axis=1) for array in (image.pixels, image.missing))
    pixel = np.array([[0.0, -1.0], [0.5, 0.0]])  # a row covers twice the ground of a column
    circles = detector.detect(wide, missing=missing, azimuth=image.azimuth, pixel=pixel)
    circles["col"] = (circles["col"] + 0.5) / 2 - 0.5
    for name in ("diameter", "error"):
        circles[name] /= np.sqrt(2)
    return circles


def figures(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: CircleRule,
    *,
    called: Sequence[np.ndarray] | None = None,
) -> Row:
    """Measure circles at every threshold and at the default one.

    Parameters
    ----------
    images, found, probability, rule
        As for `measure.figures`.
    called : sequence of ndarray of bool, optional
        Which circles of each image are detections; by default those of the operating point of all
        images together.
    """
    if called is None:
        threshold = operating_point(np.concatenate(probability)).threshold
        called = [each >= threshold for each in probability]
    return measure.figures(images, found, probability, rule, called)
