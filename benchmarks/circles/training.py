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
from craters.detection import FineTuning, LabeledImage, fine_tune
from craters.detection.circle_training.preparation import register_images, with_unlisted
from craters.detection.circle_training.validation import calibrate
from craters.models import (
    CircleDescription,
    CircleDetector,
    LightFrame,
    read_weights,
    write_circle_model,
)

HOW = FineTuning()

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
        moved, _, _ = register_images(members, found, measure.match_rule(RULES["tiles"]))
        result += [
            with_unlisted(image, circles, _UNLISTED)
            for image, circles in zip(moved, found, strict=True)
        ]
    return result


def listed(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return images with the craters of the catalogue alone."""
    return [
        dataclasses.replace(image, craters=image.craters[image.craters["counted"]])
        for image in images
    ]


def detect(detector: CircleDetector, image: LabeledImage) -> np.ndarray:
    """Find the circles of an image."""
    return detector.detect(image.pixels, missing=image.missing, azimuth=image.azimuth)


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
    return calibrate(listed(images), found, measure.match_rule(rule), scales_diameters=False)
