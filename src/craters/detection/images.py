"""Images with known craters, and the crops of them that the detector learns from."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import transform, transform_places
from craters.errors import DataError
from craters.models import LightFrame, halve, orientations, standardize
from craters.pretraining import COUNTED, POSSIBLE
from craters.training import TRUTH_DTYPE

_CELL = 16  # px: sides of images at each level are multiples of it


@dataclasses.dataclass(frozen=True)
class LabeledImage:
    """An image with its craters.

    Parameters
    ----------
    name : str
    group : str
        Images of one group, such as a region, look alike.
    pixels : ndarray, shape (H, W), uint8
    missing : ndarray of bool, shape (H, W)
    craters : ndarray, `TRUTH_DTYPE`
        Craters that are not `counted` may be there or not: the network learns nothing from them.
    azimuth : float
        Of the light, degrees clockwise from image up.

    Raises
    ------
    DataError
        If the shapes differ.
    """

    name: str
    group: str
    pixels: np.ndarray
    missing: np.ndarray
    craters: np.ndarray
    azimuth: float

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.shape != self.missing.shape:
            raise DataError(
                f"{self.name}: pixels of shape {self.pixels.shape}, mask of {self.missing.shape}"
            )
        if self.craters.dtype != TRUTH_DTYPE:
            raise DataError(f"{self.name}: craters of {self.craters.dtype}, expected {TRUTH_DTYPE}")

    def in_frame(self, frame: LightFrame) -> LabeledImage:
        """Return the image turned to the light that a network expects."""
        name = orientations(self.azimuth, frame)[0]
        craters = self.craters.copy()
        craters["row"], craters["col"] = transform_places(
            self.craters["row"], self.craters["col"], self.pixels.shape, name
        )
        return dataclasses.replace(
            self,
            pixels=np.ascontiguousarray(transform(self.pixels[None], name)[0]),
            missing=np.ascontiguousarray(transform(self.missing[None], name)[0]),
            craters=craters,
            azimuth=frame.azimuth,
        )


@dataclasses.dataclass(frozen=True)
class Level:
    """An image in its frame of light at one level of the pyramid.

    Parameters
    ----------
    brightness : ndarray, shape (H, W), float32
        As `standardize` gives it.
    craters : ndarray, `TRUTH_DTYPE`
        Those of sizes that the network measures at this level, in pixels of the level.
    """

    brightness: np.ndarray
    craters: np.ndarray


def make_levels(image: LabeledImage, frame: LightFrame, count: int) -> list[Level]:
    """Return an image at full size, at a half and so on.

    Craters that do not count at the level only because of their size may be found there.
    """
    turned = image.in_frame(frame)
    unit = _CELL << (count - 1)
    ends = [(0, -length % unit) for length in turned.pixels.shape]
    pixels = np.pad(turned.pixels.astype(np.float32), ends)
    missing = np.pad(turned.missing, ends, constant_values=True)
    levels = []
    for number in range(count):
        if number:
            pixels, missing = halve(pixels, missing)
        craters = turned.craters.copy()
        scale = 2.0**number
        for name in ("row", "col"):
            craters[name] = (craters[name] + 0.5) / scale - 0.5
        craters["diameter"] /= scale
        diameter = craters["diameter"]
        craters["counted"] &= (diameter >= COUNTED[0]) & (diameter <= COUNTED[1])
        is_possible = (diameter >= POSSIBLE[0]) & (diameter <= POSSIBLE[1])
        levels.append(Level(standardize(pixels, missing), craters[is_possible]))
    return levels


def draw_crop(
    level: Level, side: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a square of a level, and flip it up-down half of the time.

    Parameters
    ----------
    level : Level
    side : int
        In pixels; where the level is smaller, the rest is 0, as missing pixels are.
    random : numpy Generator

    Returns
    -------
    brightness : ndarray, shape (side, side), float32
    craters : ndarray, `TRUTH_DTYPE`
        In pixels of the square.
    """
    starts = []
    for length in level.brightness.shape:
        room = length - side
        starts.append(int(random.integers(min(0, room), max(0, room) + 1)))
    crop = np.zeros((side, side), np.float32)
    there, here = [], []
    for start, length in zip(starts, level.brightness.shape, strict=True):
        first, last = max(0, start), min(length, start + side)
        here.append(slice(first, last))
        there.append(slice(first - start, last - start))
    crop[tuple(there)] = level.brightness[tuple(here)]
    craters = level.craters.copy()
    craters["row"] -= starts[0]
    craters["col"] -= starts[1]
    if random.random() < 0.5:
        crop = crop[::-1].copy()
        craters["row"] = side - 1 - craters["row"]
    return crop, craters
