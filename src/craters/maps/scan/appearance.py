"""Inspect an image before its windows are predicted: its light, and how it differs from training.

Both are measured on a sample of windows side by side, the same for any number of workers. Only
models that turn patches to their light, or that know the looks of their training patches, need it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from craters.core import files
from craters.errors import DataError
from craters.maps.geo import Image, Reader, bounded_gdal
from craters.maps.scan.predict import Network
from craters.models import Classifier, Light, Lights

SAMPLE = 512  # windows of an image, at most

_SMALL = 1024  # side in pixels of the copy that says where an image has valid pixels
_PLACES = 1 << 20  # windows that the sample is drawn from, about
_CLEAR = 0.5  # length of the mean direction of light of several images, if it is clear
_LEAST_SHARING = 2  # images
_APART = 45.0  # degrees from the light of all images, from which an image must be sure of its own
_SURE = 0.75  # certainty of an image that is: small images without craters are sure of wrong ones
_LISTED = 5  # names of images in a warning


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What the sample of an image shows.

    Parameters
    ----------
    light : Light or None
        Direction of light; None for a model that takes patches as they are.
    doubts : tuple of str
        How its windows differ from the training patches of the model; see `LookRange`.
    """

    light: Light | None = None
    doubts: tuple[str, ...] = ()

    @property
    def azimuth(self) -> float | None:
        """Azimuth for the network: NaN if unknown, None if it takes patches as they are."""
        if self.light is None:
            return None
        return self.light.azimuth if self.light.is_used else math.nan

    def to_json(self) -> str:
        """Return it as JSON."""
        return files.to_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Appearance:
        """Read it from JSON."""
        values = json.loads(text)
        light = None if values["light"] is None else Light(**values["light"])
        return cls(light, tuple(values["doubts"]))


@dataclasses.dataclass(frozen=True)
class Inspection:
    """How the images of a scan are inspected; plain values that can be sent to any process.

    Parameters
    ----------
    side : int
        Of a window, in pixels.
    max_gap : float
        Largest share of no-data pixels in a window.
    light : Light or None
        What is known beforehand: the light that the user stated; one that is not used, to be
        estimated; None for a model that takes patches as they are.
    shares_light : bool
        Whether images whose light is uncertain have that of all images together, if it is clear.
    """

    side: int
    max_gap: float
    light: Light | None = None
    shares_light: bool = False

    @classmethod
    def plan(
        cls,
        classifier: Classifier,
        side: int,
        max_gap: float,
        sun_azimuth: float | None,
        *,
        shares_light: bool = False,
    ) -> Inspection | None:
        """Return how images are inspected for a model; None if it needs to know nothing.

        Raises
        ------
        ConfigError
            If the azimuth is not within 0 to 360, or the model takes patches as they are.
        """
        description = classifier.description
        light = None
        if sun_azimuth is not None:
            none = np.empty((0, side, side), np.uint8)
            light = classifier.find_light(none, sun_azimuth=sun_azimuth).groups[""]
        elif description.light is not None:
            light = Light(description.light.azimuth, certainty=0, is_used=False)
        if not (light or description.looks):
            return None
        return cls(side=side, max_gap=max_gap, light=light, shares_light=shares_light)

    @property
    def finds_light(self) -> bool:
        """Whether the light is estimated, so that blocks have to wait for it."""
        return self.light is not None and not self.light.is_used

    def in_worker(self, reader: Reader, predictor: Any) -> Appearance:
        """Inspect an image with the classifier of a worker's predictor."""
        return self(reader, predictor.classifier)

    def __call__(self, reader: Reader, network: Network) -> Appearance:
        """Inspect an image; without a valid window, its light is unknown."""
        light, looks = self.light, network.description.looks
        if looks is None and not self.finds_light:
            return Appearance(light)
        windows = sample_windows(reader, self.side, self.max_gap)
        if self.finds_light and len(windows):
            light = _rounded(network.find_light(windows).groups[""])
        return Appearance(light, () if looks is None else tuple(looks.differences_of(windows)))


def _rounded(light: Light) -> Light:
    """Return an estimate to a tenth of a degree, so that stating it gives the same results."""
    certainty = None if light.certainty is None else round(light.certainty, 3)
    return dataclasses.replace(light, azimuth=round(light.azimuth, 1) % 360, certainty=certainty)


def share_light(seen: dict[int, Appearance], inspection: Inspection) -> dict[int, Appearance]:
    """Return the appearance of each image, with the light of all images where it is uncertain.

    The light of all images is the mean direction, weighted by certainty. It is clear if the length
    of the mean is at least half of what it would be if all directions were equal. Then an image
    whose own light is more than 45 degrees from it must be sure of that.

    Parameters
    ----------
    seen : dict of Appearance
        By number of the image.
    inspection : Inspection
        Decides whether light is shared.
    """
    lights = [each.light for _, each in sorted(seen.items()) if each.light and each.light.certainty]
    if not inspection.shares_light or len(lights) < _LEAST_SHARING:
        return seen
    weights = np.array([light.certainty for light in lights], np.float64)
    angles = np.radians([light.azimuth for light in lights])
    right, up = (weights * np.sin(angles)).sum(), (weights * np.cos(angles)).sum()
    if np.hypot(right, up) < _CLEAR * weights.sum():
        return seen
    azimuth = round(float(np.degrees(np.arctan2(right, up))), 1) % 360
    shared = {}
    for number, each in seen.items():
        light = each.light
        if light is not None and _is_doubtful(light, azimuth):
            light = dataclasses.replace(light, azimuth=azimuth, is_used=True, is_own=False)
        shared[number] = dataclasses.replace(each, light=light)
    return shared


def find_lights(
    images: Sequence[Image],
    classifier: Classifier,
    *,
    max_gap: float = 0.2,
    sun_azimuth: float | None = None,
) -> list[Light]:
    """Return the direction of light in each image, as a scan for circles finds it.

    Parameters
    ----------
    images : sequence of Image
    classifier : Classifier
        One that turns patches to their light, such as `pretrained`.
    max_gap : float
        Largest share of no-data pixels in a window.
    sun_azimuth : float, optional
        What the user stated, for all images.
    """
    side = classifier.description.side
    inspection = Inspection.plan(classifier, side, max_gap, sun_azimuth, shares_light=True)
    assert inspection is not None
    seen = {}
    with bounded_gdal():
        for number, image in enumerate(images):
            with contextlib.closing(Reader(image)) as reader:
                seen[number] = inspection(reader, classifier)
    shared = share_light(seen, inspection)
    lights = [shared[number].light for number in range(len(images))]
    return [light for light in lights if light is not None]


def _is_doubtful(light: Light, common: float) -> bool:
    """Return whether the light of all images is likelier than the estimate of one image."""
    if light.certainty is None or not light.is_used:
        return not light.is_used
    apart = abs((light.azimuth - common + 180) % 360 - 180)
    return apart > _APART and light.certainty < _SURE


def sample_windows(reader: Reader, side: int, max_gap: float) -> np.ndarray:
    """Read at most `SAMPLE` windows of an image that do not overlap.

    They lie side by side, and their middle has a value in a downsampled copy. Of more, a random
    sample is drawn, always the same. Windows that cannot be read, or miss too many pixels, are
    left out.

    Parameters
    ----------
    reader : Reader
    side : int
    max_gap : float
        Largest share of no-data pixels among a window's pixels inside the image.

    Returns
    -------
    ndarray, shape (N, side, side), uint8
    """
    image = reader.image
    inside = min(side, image.height) * min(side, image.width)
    windows = np.empty((SAMPLE, side, side), np.uint8)
    count = 0
    for top, left in _places(reader, side):
        try:
            pixels, nodata = reader.read(top, left, side, side)
        except DataError:  # the scan lists its block as failed
            continue
        if nodata.sum() <= max_gap * inside:
            windows[count] = pixels
            count += 1
    return windows[:count]


def _places(reader: Reader, side: int) -> list[tuple[int, int]]:
    """Return the first row and column of each window of the sample, in order."""
    image = reader.image
    step = max(side, math.isqrt(image.height * image.width // _PLACES))
    tops, lefts = (
        np.arange(0, max(1, length - side + 1), step) for length in (image.height, image.width)
    )
    has_value = _has_value(reader, tops + side // 2, lefts + side // 2)
    rows, columns = np.nonzero(has_value)
    if len(rows) > SAMPLE:
        drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:SAMPLE])
        rows, columns = rows[drawn], columns[drawn]
    return list(zip(tops[rows].tolist(), lefts[columns].tolist(), strict=True))


def _has_value(reader: Reader, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return for each of these rows and columns of an image whether the pixel has a value."""
    image: Image = reader.image
    try:
        missing = reader.read_small(_SMALL)[1]
    except DataError:  # damaged
        return np.ones((len(rows), len(columns)), bool)
    rows = np.minimum(rows, image.height - 1) * missing.shape[0] // image.height
    columns = np.minimum(columns, image.width - 1) * missing.shape[1] // image.width
    return ~missing[rows][:, columns]


def light_sentence(appearances: dict[str, Appearance]) -> str:
    """Describe the light of the images of a scan; empty for models that need not know it."""
    lights = _lights(appearances)
    if not lights:
        return ""
    if any(light.certainty is None for light in lights.values()):  # stated, for all of them
        lights = dict(list(lights.items())[:1])
    sentence = Lights(np.empty(0), lights).describe("images")
    return f"{sentence[0].upper()}{sentence[1:]}."


def unknown_light(appearances: dict[str, Appearance]) -> list[str]:
    """Return a warning if the light of images is unknown."""
    lights = _lights(appearances)
    unknown = [name for name, light in lights.items() if not light.is_used]
    if not unknown:
        return []
    where = unknown[0]
    if len(lights) > 1:
        where = f"{len(unknown)} of {len(lights)} images ({', '.join(unknown[:_LISTED])}"
        where += ", ...)" if len(unknown) > _LISTED else ")"
    return [
        f"The direction of light is unknown in {where}: predictions there are averaged over four "
        "orientations and less reliable. State it by --sun-azimuth if you know it."
    ]


def _lights(appearances: dict[str, Appearance]) -> dict[str, Light]:
    return {name: each.light for name, each in appearances.items() if each.light is not None}
