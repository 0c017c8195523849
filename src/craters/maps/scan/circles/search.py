"""Search the blocks of an image for circles in a worker."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np

from craters.errors import ModelError
from craters.maps.geo import Image, Reader, pixel_sides
from craters.maps.scan.circles.store import CircleStore, StageBlock
from craters.models import (
    STAGE,
    CircleBlock,
    CircleDetector,
    Classifier,
    ConformalBlock,
    conformal_shape,
    search_conformal,
)


@dataclasses.dataclass(frozen=True)
class CirclePredictor:
    """What a worker needs for circles: the detector, and the classifier that estimates the light.

    Parameters
    ----------
    detector : CircleDetector
    engine : CircleEngine
        Loads the classifier on first use.
    """

    detector: CircleDetector
    engine: CircleEngine

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The classifier of patches."""
        classifier = Classifier.load(Path(self.engine.classifier), threads=self.engine.threads)
        _refuse_other(self.engine.classifier, classifier.sha256, self.engine.classifier_sha256)
        return classifier


@dataclasses.dataclass(frozen=True)
class CircleEngine:
    """Plain, picklable values from which a worker makes its `CirclePredictor`.

    Parameters
    ----------
    model, classifier : str
        Folders of the detector and of the classifier that estimates the light.
    sha256, classifier_sha256 : str
        Their hashes, checked on loading.
    threads : int
        CPU threads per predictor.
    """

    model: str
    sha256: str
    classifier: str
    classifier_sha256: str
    threads: int

    def __call__(self) -> CirclePredictor:
        """Load the detector.

        Raises
        ------
        ModelError
            If the folder holds another model than at the start of the scan.
        """
        detector = CircleDetector.load(Path(self.model), threads=self.threads)
        _refuse_other(self.model, detector.sha256, self.sha256)
        return CirclePredictor(detector, self)


def _refuse_other(folder: str, found: str, expected: str) -> None:
    if found != expected:
        raise ModelError(f"{folder}: is another model than at the start of the scan")


@dataclasses.dataclass(frozen=True, eq=False)
class CircleTask:
    """A block to search in a worker.

    Parameters
    ----------
    block : CircleBlock or ConformalBlock
    azimuth : float
        Of the light in the image; NaN: unknown.
    pixels : ndarray of uint8, or None
        What the block needs of the image of its stage, 0 where missing. None: a block of the image
        at full size, which is read from its file.
    """

    block: CircleBlock | ConformalBlock
    azimuth: float
    pixels: np.ndarray | None = None

    def __call__(self, reader: Reader, predictor: CirclePredictor) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates, and the block in the image of the next stage."""
        pixels = self.pixels

        def read(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
            if pixels is not None:
                return pixels, pixels == 0
            return read_stage_0(reader, row, col, height, width)

        if isinstance(self.block, ConformalBlock):
            return search_conformal(predictor.detector, read, self.block, self.azimuth)
        return predictor.detector.search(read, self.block, self.azimuth)


def unstretched(image: Image, block: CircleBlock) -> CircleBlock | ConformalBlock:
    """Return a block, in conformal pixels if the map stretches the ground in its middle."""
    if not image.planet.is_known:
        return block
    scale = STAGE**block.stage
    row, col = (
        np.array([min((first + side / 2) * scale, length) - 0.5])
        for first, side, length in (
            (block.row, block.height, image.height),
            (block.col, block.width, image.width),
        )
    )
    shape = conformal_shape(pixel_sides(image, row, col)[0])
    return block if shape is None else ConformalBlock(block, shape)


def read_stage_0(
    reader: Reader, row: int, col: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read pixels and the mask of missing ones; outside the image, pixels are missing."""
    pixels, missing = reader.read(row, col, height, width)
    outside = np.ones((height, width), bool)
    outside[
        max(-row, 0) : max(reader.image.height - row, 0),
        max(-col, 0) : max(reader.image.width - col, 0),
    ] = False
    return pixels, missing | outside


@dataclasses.dataclass(frozen=True)
class CircleJob:
    """One image of a scan for circles, see `Job`: its blocks by stage, and its store."""

    number: int
    image: Image
    store: CircleStore
    inspection = 280_000  # pixels that are searched in the time that it takes

    @property
    def stages(self) -> list[list[StageBlock]]:
        """Blocks by stage."""
        return self.store.stages

    def needs(self, block: StageBlock) -> set[int]:
        """Return the numbers of the blocks of the stage before that a block reads pixels of."""
        if not block.block.stage:
            return set()
        row, col, height, width = unstretched(self.image, block.block).window
        return {
            each.index
            for each in self.stages[block.block.stage - 1]
            if each.block.row // STAGE < row + height
            and row < -(-(each.block.row + each.block.height) // STAGE)
            and each.block.col // STAGE < col + width
            and col < -(-(each.block.col + each.block.width) // STAGE)
        }

    def task(self, block: StageBlock, azimuth: float | None) -> CircleTask:
        """Return what searches a block in a worker, with its pixels if it is of a later stage."""
        searched = unstretched(self.image, block.block)
        pixels = self.store.read(block.block.stage, searched.window) if block.block.stage else None
        return CircleTask(searched, math.nan if azimuth is None else azimuth, pixels)
