"""Train and calibrate the circle detector on the images of `themis_tiles`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import harness
from circles import measure
from circles.plan import FOLDS, RULES, SYNTHETIC, CircleRule, fold_model
from craters.core import Progress
from craters.detection import (
    FineTuning,
    LabeledImage,
    fine_tune,
    fit_calibration,
    fit_error_scale,
)
from craters.maps.catalogues import register
from craters.models import (
    CircleDescription,
    CircleDetector,
    LightFrame,
    raw_probability,
    read_weights,
    size_strata,
    write_circle_model,
)

HOW = FineTuning()

_CONFIDENT = 0.3  # raw probability of the circles that the shift of a catalogue is measured with
_UNLISTED = 11.5  # px: smaller circles may be craters that are too small for the catalogue


def load(folder: Path) -> CircleDetector:
    """Load a detector for one thread."""
    return CircleDetector.load(folder, threads=1)


def prepared(images: Sequence[LabeledImage], detector: CircleDetector) -> list[LabeledImage]:
    """Prepare images with a catalogue for training.

    The craters of each region are moved by the shift between catalogue and image, as the circles of
    a detector that saw no real image show it; circles that may be craters too small for the
    catalogue are added as craters that do not count.
    """
    result = []
    for group in sorted({image.group for image in images}):
        members = [image for image in images if image.group == group]
        found = [detect(detector, image) for image in members]
        moved = _registered(members, found)
        result += [
            dataclasses.replace(image, craters=_with_unlisted(image.craters, circles))
            for image, circles in zip(moved, found, strict=True)
        ]
    return result


def detect(detector: CircleDetector, image: LabeledImage) -> np.ndarray:
    """Find the circles of an image."""
    return detector.detect(image.pixels, missing=image.missing, azimuth=image.azimuth)


def _registered(images: Sequence[LabeledImage], found: Sequence[np.ndarray]) -> list[LabeledImage]:
    """Move the craters of images by the shift of the catalogue."""
    sure = [circles[raw_probability(circles) >= _CONFIDENT] for circles in found]
    inputs = measure.inputs(images, sure, [raw_probability(circles) for circles in sure])
    shifts = register(*inputs, measure.match_rule(RULES["tiles"])).shifts
    moved = []
    for image, (right, down) in zip(images, shifts, strict=True):
        craters = image.craters.copy()
        craters["col"] += right
        craters["row"] += down
        moved.append(dataclasses.replace(image, craters=craters))
    return moved


def _with_unlisted(craters: np.ndarray, circles: np.ndarray) -> np.ndarray:
    """Add small circles that are no listed crater, as craters that do not count."""
    small = circles[circles["diameter"] < _UNLISTED]
    distance = np.hypot(
        small["row"][:, None] - craters["row"], small["col"][:, None] - craters["col"]
    )
    ratio = small["diameter"][:, None] / np.maximum(craters["diameter"], 1)
    listed = (distance < np.maximum(craters["diameter"] / 2, 5)) & (ratio > 0.5) & (ratio < 2)
    small = small[~listed.any(axis=1)]
    added = np.zeros(len(small), craters.dtype)
    for name in ("row", "col", "diameter"):
        added[name] = small[name]
    return np.concatenate([craters, added])


def train(images: Sequence[LabeledImage], folder: Path, *, seed: int, progress: Progress) -> None:
    """Train from the synthetic weights on images, and write a model folder."""
    network = fine_tune(
        read_weights(SYNTHETIC),
        images,
        LightFrame(),
        dataclasses.replace(HOW, seed=seed),
        threads=len(harness.usable_cpus()),
        progress=progress,
    )
    write_circle_model(folder, network, CircleDescription(), license_id="mit")


def out_of_fold(
    images: Sequence[LabeledImage],
    folds: np.ndarray,
    find: Callable[[CircleDetector, LabeledImage], np.ndarray] = detect,
) -> list[np.ndarray]:
    """Find the circles of each image by the detector that was trained without its region."""
    detectors = [load(fold_model(fold)) for fold in range(FOLDS)]
    return [find(detectors[fold], image) for image, fold in zip(images, folds, strict=True)]


def calibrated(
    images: Sequence[LabeledImage], found: Sequence[np.ndarray], rule: CircleRule
) -> CircleDescription:
    """Return a description with calibration and error scale from circles with known truth."""
    raw = [raw_probability(circles) for circles in found]
    _, catalogue, matching = measure.matched(images, found, raw, rule)
    circles = np.concatenate(found)
    judged = np.isin(matching.detection_state, (measure.HIT, measure.IS_FALSE))
    judged &= size_strata(circles) == 1
    groups = np.repeat([image.group for image in images], [len(each) for each in found])
    is_crater = matching.detection_state == measure.HIT
    calibration = fit_calibration(circles["logit"][judged], is_crater[judged], groups[judged])
    sure = is_crater & (calibration.slope * circles["logit"] + calibration.offset > 0)
    truth = catalogue.diameters
    target = matching.target_crater[matching.detection_target[sure]]
    errors = circles["diameter"][sure] - truth[target]
    return CircleDescription(
        calibration=calibration,
        error_scale=fit_error_scale(errors, circles["error"][sure]),
    )
