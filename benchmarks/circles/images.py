"""The real images with circles as truth that the detector is measured on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from circles.plan import FOLDS, SCENES
from craters.data import splits
from craters.detection import LabeledImage
from craters.models import load_model
from craters.synthetic import make_scenes
from craters.training import TRUTH_DTYPE
from harness import MODEL, BenchError
from pretrained import sets, windows

SIDE = 48  # px of the windows that tell the light

_SCENES, _SEED, _SCENE_SIDE = range(100), 1, 416  # no scene of a training: its side is another
_VISIBLE = 0.7  # contrast of craters that count, as in training


def load_images(name: str, data: Path) -> list[LabeledImage]:
    """Load a set with the direction of its light, estimated without labels.

    The light is estimated for each image; for `tiles`, whose images are small, for each region. For
    synthetic scenes it is known.
    """
    if name == SCENES:
        return _synthetic()
    folder, in_pixels = sets.folder_of(name, data), name != "tiles"
    pairs = sets.pairs_of(name, folder)
    if not pairs:
        raise BenchError(
            f"{folder}: holds no images; set CRATERS_DATA to the folder of the data sets"
        )
    images = []
    for (path, _), read in zip(pairs, windows.read_images(pairs, in_pixels=in_pixels), strict=True):
        craters = np.zeros(len(read.diameters), TRUTH_DTYPE)
        craters["row"], craters["col"] = read.craters.rows, read.craters.cols
        craters["diameter"] = read.diameters
        craters["counted"] = True
        group = path.stem if in_pixels else str(splits.regions_of(np.array([path.stem]))[0])
        images.append(
            LabeledImage(
                name=path.stem, group=group, pixels=read.pixels, missing=read.nodata,
                craters=craters, azimuth=np.nan,
            )
        )  # fmt: skip
    return with_light(images)


def _synthetic() -> list[LabeledImage]:
    """Make synthetic scenes, whose craters count where they are clearly visible."""
    images = []
    for scene in make_scenes(_SCENES, seed=_SEED, side=_SCENE_SIDE):
        craters = np.zeros(len(scene.craters), TRUTH_DTYPE)
        for column in ("row", "col", "diameter"):
            craters[column] = scene.craters[column]
        craters["counted"] = scene.craters["contrast"] >= _VISIBLE
        name = f"scene-{len(images)}"
        images.append(
            LabeledImage(
                name=name, group=name, pixels=scene.image, missing=scene.image == 0,
                craters=craters, azimuth=scene.azimuth,
            )
        )  # fmt: skip
    return images


def with_light(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return images with the direction of light that the pretrained classifier estimates."""
    classifier = load_model(MODEL, threads=1)
    parts = [cut(image) for image in images]
    groups = np.concatenate(
        [np.full(len(part), image.group) for image, part in zip(images, parts, strict=True)]
    )
    lights = classifier.find_light(np.concatenate(parts), groups=groups).groups
    return [dataclasses.replace(image, azimuth=lights[image.group].azimuth) for image in images]


def cut(image: LabeledImage) -> np.ndarray:
    """Cut an image into windows side by side, without those that miss pixels."""
    height, width = (length // SIDE * SIDE for length in image.pixels.shape)
    parts = [
        array[:height, :width]
        .reshape(height // SIDE, SIDE, width // SIDE, SIDE)
        .swapaxes(1, 2)
        .reshape(-1, SIDE, SIDE)
        for array in (image.pixels, image.missing)
    ]
    return parts[0][~parts[1].any((1, 2))]


def fold_of(images: Sequence[LabeledImage]) -> np.ndarray:
    """Return the fold of each image, by whole regions."""
    regions = sorted({image.group for image in images})
    return np.array([regions.index(image.group) % FOLDS for image in images])
