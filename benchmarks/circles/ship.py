"""Train the circle detector that ships with the package, on synthetic and on real images.

`make circles` calls `python -m circles.ship` in `benchmarks`. It continues where it stopped:
synthetic scenes alone; then, for each fold of regions of `themis_tiles`, the images of the other
regions, for figures and calibration; then all images, for the package.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import harness
from circles import images as real
from circles import measure
from craters.core import NullProgress, describe_hardware, package_versions
from craters.detection import (
    FineTuning,
    LabeledImage,
    fine_tune,
    fit_calibration,
    fit_error_scale,
)
from craters.maps.catalogues import register
from craters.models import (
    CIRCLES,
    CircleDescription,
    CircleDetector,
    CircleNet,
    LightFrame,
    raw_probability,
    read_weights,
    restore_circle_net,
    size_strata,
    write_circle_model,
)
from craters.pretraining import pretrain
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION

WORK = harness.WORK / CIRCLES
SYNTHETIC = WORK / "synthetic"
SHIPPED = harness.MODEL.parent / "pretrained_circles"
HOW = FineTuning()

_CONFIDENT = 0.3  # raw probability of the circles that the shift of a catalogue is measured with
_UNLISTED = 11.5  # px: smaller circles may be craters that are too small for the catalogue

LIMITS = [
    "Craters of fewer than 12 px are found incompletely; larger than a quarter of the image, not "
    "at all.",
    "Worn, crowded and overlapping craters are missed more often than others.",
    "Diameters are those of the rims that catalogues of Mars list; annotators of other sets draw "
    "circles up to a quarter wider.",
    "The direction of light must be known, or recognizable in the image or in the others of the "
    "scan.",
]


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, and write the model to the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the themis48 arrays")
    options = parser.parse_args(arguments)
    data = harness.find_data(options.data).parent
    if not SYNTHETIC.is_dir():
        WORK.mkdir(parents=True, exist_ok=True)
        pretrain(PretrainConfig(SYNTHETIC, network="circles"), resume=True, progress=_Lines())
    images = prepared(real.load_images("tiles", data), load(SYNTHETIC))
    folds = real.fold_of(images)
    for fold in range(real.FOLDS):
        if not fold_model(fold).is_dir():
            others = [image for image, each in zip(images, folds, strict=True) if each != fold]
            _train(others, fold_model(fold), seed=fold)
    final = WORK / "all"
    if not final.is_dir():
        _train(images, final, seed=real.FOLDS)
    _ship(images, folds, final, data)


class _Lines(NullProgress):
    """Print the progress of a training."""

    def say(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)


def load(folder: Path) -> CircleDetector:
    """Load a detector for one thread."""
    return CircleDetector.load(folder, threads=1)


def fold_model(fold: int) -> Path:
    """Return the folder of the detector that was trained without the regions of a fold."""
    return WORK / f"fold-{fold + 1}"


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
    shifts = register(*inputs, measure.match_rule(real.RULES["tiles"])).shifts
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


def _train(images: Sequence[LabeledImage], folder: Path, seed: int) -> None:
    """Train from the synthetic weights on images, and write a model folder."""
    network = fine_tune(
        read_weights(SYNTHETIC),
        images,
        LightFrame(),
        dataclasses.replace(HOW, seed=seed),
        threads=len(harness.usable_cpus()),
        progress=_Lines(),
    )
    write_circle_model(folder, network, CircleDescription(), license_id="mit")


def out_of_fold(
    images: Sequence[LabeledImage],
    folds: np.ndarray,
    find: Callable[[CircleDetector, LabeledImage], np.ndarray] = detect,
) -> list[np.ndarray]:
    """Find the circles of each image by the detector that was trained without its region."""
    detectors = [load(fold_model(fold)) for fold in range(real.FOLDS)]
    return [find(detectors[fold], image) for image, fold in zip(images, folds, strict=True)]


def calibrated(
    images: Sequence[LabeledImage], found: Sequence[np.ndarray], rule: real.CircleRule
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


def _ship(images: Sequence[LabeledImage], folds: np.ndarray, final: Path, data: Path) -> None:
    """Write the model of the package, with its calibration and its figures."""
    from circles import bench  # which reads the folders of this module

    description = calibrated(images, out_of_fold(images, folds), real.RULES["tiles"])
    network = restore_circle_net(read_weights(final))
    described = dataclasses.replace(
        description,
        training={
            "images": f"synthetic scenes, then {len(images)} THEMIS images of Mars "
            "(NASA/JPL-Caltech/ASU) with the catalogue of Robbins & Hynek (2012)",
            "generator": str(GENERATOR_VERSION),
            "steps on THEMIS": HOW.steps,
            "share of synthetic scenes there": HOW.rehearsed,
            "hardware": "{processor}, {usable_cpus} CPUs".format(**describe_hardware()),
        },
        limits=LIMITS,
        versions=package_versions(),
    )
    _write(network, described)
    measured = {name: _shown(bench.search(bench.TRAINED, name, data)) for name in real.RULES}
    _write(network, dataclasses.replace(described, metrics=measured))
    print(f"Written: {SHIPPED.relative_to(harness.ROOT)}")


def _write(network: CircleNet, description: CircleDescription) -> None:
    """Replace the model of the package."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    write_circle_model(SHIPPED, network, description, license_id="mit")


def _shown(row: harness.Row) -> dict[str, float]:
    """Return the figures of one set for the card."""
    names = (
        "craters", "recall_at_precision", "precision", "recall", "f1", "diameter_ratio",
        "diameter_scatter", "within_error",
    )  # fmt: skip
    return {name: round(float(row[name]), 3) for name in names}


if __name__ == "__main__":
    main()
