"""Read images with the craters that a catalogue lists there, in parts that fit into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from craters.core import Progress
from craters.data import splits
from craters.detection.images import LabeledImage
from craters.errors import ConfigError, DataError
from craters.maps.catalogues import Catalogue, Chart, Craters, craters_of, read_catalogue
from craters.maps.geo import (
    NO_PLANET,
    Image,
    PixelReference,
    Reader,
    bounded_gdal,
    describe_image,
    find_images,
    pixel_sides,
    skipped_files,
)
from craters.maps.scan import find_lights
from craters.models import Classifier, Light, conformal_shape, find_pretrained, make_conformal
from craters.settings import CircleTrainingConfig
from craters.training import TRUTH_DTYPE

SIDE = 1024  # px: of a part of an image, at most
LEAST_SIDE = 128  # px: parts with a shorter side are not read
MOST_PIXELS = 100_000_000  # of all images together; more do not fit into memory


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part of an image with its craters, in pixels that are square on the ground.

    Parameters
    ----------
    image : Image
    labeled : LabeledImage
        Its name is that of the image, with the part's place if there are several.
    top, left : int
        First pixel of the part in the image.
    shape : ndarray, shape (2, 2)
        From pixels of the image to those of the part, see `conformal_shape`.
    corner : ndarray, shape (2,)
        Upper left corner in the pixels of the part, from that of the pixels of the image.
    scale : float
        Metres on the ground, or pixels of the image for a catalogue in pixels, per pixel.
    entries : ndarray of int
        Rows of the catalogue of the craters.
    """

    image: Image
    labeled: LabeledImage
    top: int
    left: int
    shape: np.ndarray
    corner: np.ndarray
    scale: float
    entries: np.ndarray

    def to_image(self, circles: np.ndarray) -> np.ndarray:
        """Return circles of the part, or craters, in pixels of the image."""
        moved = circles.copy()
        places = np.stack([circles["row"], circles["col"]], 1) + 0.5 + self.corner
        places = places @ np.linalg.inv(self.shape).T - 0.5
        moved["row"], moved["col"] = places[:, 0] + self.top, places[:, 1] + self.left
        for name in {"diameter", "error"} & set(circles.dtype.names or ()):
            moved[name] = circles[name] / math.sqrt(np.linalg.det(self.shape))
        return moved


@dataclasses.dataclass(frozen=True, eq=False)
class CataloguedImages:
    """Images with a catalogue.

    Parameters
    ----------
    images : list of Image
    parts : list of Part
    catalogue : Catalogue
    lights : list of Light
        Of each image.
    groups : list of str
        Of each image: its region, or its own name.
    group_rule : str
        What a group is, in words.
    notes : list of str
        What was understood, left out or assumed.
    """

    images: list[Image]
    parts: list[Part]
    catalogue: Catalogue
    lights: list[Light]
    groups: list[str]
    group_rule: str
    notes: list[str]

    @property
    def unit(self) -> str:
        """Unit in which diameters of the catalogue are stated: km, or px."""
        return "px" if self.catalogue.in_pixels else "km"

    @property
    def per_unit(self) -> float:
        """Metres, or pixels, per unit."""
        return 1.0 if self.catalogue.in_pixels else 1000.0

    @property
    def outside(self) -> int:
        """Number of craters of the catalogue that are in no image."""
        inside = np.unique(np.concatenate([part.entries for part in self.parts]))
        return len(self.catalogue) - len(inside)

    @property
    def without(self) -> list[str]:
        """Names of the images without any crater of the catalogue."""
        found = {part.image.name for part in self.parts if len(part.entries)}
        return [image.name for image in self.images if image.name not in found]


def read_catalogued(config: CircleTrainingConfig, progress: Progress) -> CataloguedImages:
    """Read the images, their light, and the craters of the catalogue in them.

    Raises
    ------
    CratersError
        If images or catalogue cannot be used, or no crater lies in any image.
    """
    catalogue = read_catalogue(config.catalogue, config.columns, config.crater_class)
    for sentence in skipped_files(config.images):
        progress.warn(sentence)
    # A catalogue in pixels needs no coordinates of the images.
    options = dataclasses.replace(config.read, no_crs=catalogue.in_pixels)
    images = [
        describe_image(path, name, options, None, PixelReference())
        for path, name in find_images(list(config.images))
    ]
    _refuse_large(images)
    if not catalogue.in_pixels:
        for image in images:
            if image.planet.is_known:
                catalogue.check_body(image.planet)
    names = [image.name for image in images]
    groups, group_rule = group_images(names, config.group_by)
    progress.say(f"Reading {len(images)} image(s), and the direction of their light.")
    classifier = Classifier.load(find_pretrained(), threads=config.threads)
    lights = find_lights(images, classifier, sun_azimuth=config.sun_azimuth)
    side = _part_side(images, groups)
    parts = []
    with bounded_gdal():
        for image, group, light in zip(images, groups, lights, strict=True):
            azimuth = light.azimuth if light.is_used else math.nan
            craters = _craters(catalogue, image, set(names))
            parts += _parts_of(image, group, azimuth, craters, side, catalogue)
    read = CataloguedImages(
        images=images,
        parts=parts,
        catalogue=catalogue,
        lights=lights,
        groups=groups,
        group_rule=group_rule,
        notes=[*catalogue.notes, *catalogue.source_notes(set(names))],
    )
    if not any(len(part.entries) for part in parts):
        raise DataError(
            f"{config.catalogue}: none of its {len(catalogue)} craters lies in any of the "
            f"{len(images)} images",
            "Does it belong to these images, and are its longitudes positive east? If they are "
            "positive west: --columns lon_west=NAME.",
        )
    return read


def group_images(names: Sequence[str], pattern: str | None) -> tuple[list[str], str]:
    """Return the group of each image, and what a group is in words.

    Parameters
    ----------
    names : sequence of str
    pattern : str or None
        Regular expression that finds the group in a name. None: the name before two numbers, if
        all names have them and there are two such groups at least; else each image is a group.

    Raises
    ------
    ConfigError
        If a name does not match.

    Examples
    --------
    >>> group_images(["elysium_1_2", "elysium_1_3", "tharsis_4_4"], None)
    (['elysium', 'elysium', 'tharsis'], 'region')
    >>> group_images(["a", "b"], None)
    (['a', 'b'], 'image')
    """
    if pattern is None:
        regions = [splits.region_of(name) for name in names]
        if None not in regions and len(set(regions)) > 1:
            return [str(region) for region in regions], "region"
        return list(names), "image"
    groups = []
    for name in names:
        found = re.search(pattern, name)
        if found is None:
            raise ConfigError(f"{name}: does not match --group-by {pattern!r}")
        groups.append(found[1] if found.re.groups and found[1] else found[0])
    return groups, "region"


def _refuse_large(images: Sequence[Image]) -> None:
    total = sum(image.height * image.width for image in images)
    if total > MOST_PIXELS:
        raise DataError(
            f"the images have {total / 1e6:,.0f} megapixels together, more than the "
            f"{MOST_PIXELS / 1e6:,.0f} that training takes",
            "Give fewer images, parts of them, or a coarser --resolution.",
        )


def _part_side(images: Sequence[Image], groups: Sequence[str]) -> int:
    """Return the side of a part: a small image that is the only group is divided, too."""
    if len(set(groups)) > 1:
        return SIDE
    longest = max(max(image.height, image.width) for image in images)
    return min(SIDE, max(-(-longest // 2), 2 * LEAST_SIDE))


def _craters(catalogue: Catalogue, image: Image, names: set[str]) -> Craters:
    """Return the craters near an image; positions in pixels count without its coordinates."""
    if catalogue.in_pixels:
        image = dataclasses.replace(image, planet=NO_PLANET)
    return craters_of(catalogue, Chart(image), names)


def _parts_of(
    image: Image,
    group: str,
    azimuth: float,
    craters: Craters,
    side: int,
    catalogue: Catalogue,
) -> list[Part]:
    """Read the parts of an image that have pixels with data."""
    counts = [max(1, -(-length // side)) for length in (image.height, image.width)]
    edges = [
        np.linspace(0, length, count + 1).round().astype(int)
        for length, count in zip((image.height, image.width), counts, strict=True)
    ]
    parts = []
    with contextlib.closing(Reader(image)) as reader:
        for row in range(counts[0]):
            for column in range(counts[1]):
                top, left = int(edges[0][row]), int(edges[1][column])
                height, width = int(edges[0][row + 1]) - top, int(edges[1][column + 1]) - left
                pixels, missing = reader.read(top, left, height, width)
                if min(height, width) < LEAST_SIDE or missing.all():
                    continue
                name = image.name if counts == [1, 1] else f"{image.name} {row + 1}-{column + 1}"
                pixels = np.where(missing, np.uint8(0), pixels)
                place = _Place(image=image, top=top, left=left, pixels=pixels, missing=missing)
                parts.append(_make_part(place, name, group, azimuth, craters, catalogue))
    return parts


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """Pixels of a part of an image."""

    image: Image
    top: int
    left: int
    pixels: np.ndarray
    missing: np.ndarray


def _make_part(
    place: _Place,
    name: str,
    group: str,
    azimuth: float,
    craters: Craters,
    catalogue: Catalogue,
) -> Part:
    """Bring a part to square pixels, with its craters."""
    image, shape, metres = place.image, np.eye(2), 1.0
    pixels, missing, corner = place.pixels, place.missing, np.zeros(2)
    if image.planet.is_known:
        middle = [np.array([place.top + pixels.shape[0] / 2]),
                  np.array([place.left + pixels.shape[1] / 2])]  # fmt: skip
        sides = pixel_sides(image, *middle)[0]
        if (found := conformal_shape(sides)) is not None:
            shape = found
            pixels, missing, corner = make_conformal(pixels, missing, shape)
        metres = math.sqrt(abs(np.linalg.det(sides)) / np.linalg.det(shape))
    scale = 1 / math.sqrt(np.linalg.det(shape)) if catalogue.in_pixels else metres
    places = np.stack([craters.rows - place.top, craters.cols - place.left], 1) + 0.5
    places = places @ shape.T - corner - 0.5
    truth = np.zeros(len(places), TRUTH_DTYPE)
    truth["row"], truth["col"] = places.T
    truth["diameter"], truth["counted"] = craters.diameters / scale, craters.counted
    touches = _touches(truth, pixels.shape)
    return Part(
        image=image,
        labeled=LabeledImage(
            name=name,
            group=group,
            pixels=pixels,
            missing=missing,
            craters=truth[touches],
            azimuth=azimuth,
        ),
        top=place.top,
        left=place.left,
        shape=shape,
        corner=corner,
        scale=scale,
        entries=craters.entries[touches],
    )


def _touches(craters: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which craters' discs touch an image; positions off the map, which are NaN, do not."""
    away = [
        np.maximum(np.maximum(-0.5 - craters[name], craters[name] - (length - 0.5)), 0)
        for name, length in zip(("row", "col"), shape, strict=True)
    ]
    return np.asarray(np.hypot(*away) <= craters["diameter"] / 2)
