"""Train the circle detector that ships with the package, on synthetic and on real images.

`make circles` calls `python -m circles.ship` in `benchmarks`. It continues where it stopped:
synthetic scenes alone; then, for each fold of regions of `themis_tiles`, the images of the other
regions, for figures and calibration; then all images, for the package.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import harness
from circles import images as real
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC, TRAINED, WORK, fold_model
from circles.search import search
from circles.training import HOW, calibrated, load, out_of_fold, prepared, train
from craters.core import NullProgress, describe_hardware, package_versions
from craters.detection import LabeledImage
from craters.models import (
    CircleDescription,
    CircleNet,
    read_weights,
    restore_circle_net,
    write_circle_model,
)
from craters.pretraining import pretrain
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION

LIMITS = [
    "Craters of fewer than 12 px are found incompletely; larger than a quarter of the image, not "
    "at all.",
    "Worn, crowded and overlapping craters are missed more often than others.",
    "Diameters are those of the rims that catalogues of Mars list; annotators of other sets draw "
    "circles up to 30 % wider.",
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
    for fold in range(FOLDS):
        if not fold_model(fold).is_dir():
            others = [image for image, each in zip(images, folds, strict=True) if each != fold]
            train(others, fold_model(fold), seed=fold, progress=_Lines())
    final = WORK / "all"
    if not final.is_dir():
        train(images, final, seed=FOLDS, progress=_Lines())
    _ship(images, folds, final, data)


class _Lines(NullProgress):
    """Print the progress of a training."""

    def say(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)


def _ship(images: Sequence[LabeledImage], folds: np.ndarray, final: Path, data: Path) -> None:
    """Write the model of the package, with its calibration and its figures."""
    description = calibrated(images, out_of_fold(images, folds), RULES["tiles"])
    network = restore_circle_net(read_weights(final))
    described = dataclasses.replace(
        description,
        training={
            "images": f"{_count(SYNTHETIC)}, then {len(images)} THEMIS images of Mars "
            "(NASA/JPL-Caltech/ASU) with the catalogue of Robbins & Hynek (2012)",
            "generator": str(GENERATOR_VERSION),
            "steps on THEMIS": HOW.steps,
            "share of synthetic scenes there": HOW.rehearsed,
            "share of the way from the synthetic weights": HOW.share,
            "hardware": "{processor}, {usable_cpus} CPUs".format(**describe_hardware()),
        },
        limits=LIMITS,
        versions=package_versions(),
    )
    _write(network, described)
    measured = {name: _shown(search(TRAINED, name, data, _Lines())) for name in RULES}
    _write(network, dataclasses.replace(described, metrics=measured))
    print(f"Written: {SHIPPED.relative_to(harness.ROOT)}")


def _count(folder: Path) -> str:
    """Return what the synthetic weights were trained on: the number of scenes."""
    return str(load(folder).description.training["images"])


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
