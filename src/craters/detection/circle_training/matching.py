"""Match the circles of images with their craters, by the rule of `craters match`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import shapely

from craters.detection.images import LabeledImage
from craters.maps.catalogues import (
    Catalogue,
    Detections,
    Matching,
    MatchRule,
    match,
    register,
)
from craters.maps.geo import Footprint, Plane


@dataclasses.dataclass(frozen=True)
class Matched:
    """Circles of images, matched with craters one to one.

    Parameters
    ----------
    detections : Detections
        The circles of all images in a row.
    catalogue : Catalogue
        The craters of all images in a row.
    matching : Matching
    """

    detections: Detections
    catalogue: Catalogue
    matching: Matching


def match_inputs(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    scales: Sequence[float] | None = None,
) -> tuple[Detections, Catalogue, list[Footprint], Plane]:
    """Return circles and craters of images as `match` and `register` take them.

    Parameters
    ----------
    images : sequence of LabeledImage
        Of different names.
    found : sequence of ndarray, `CIRCLE_DTYPE`
        Of each image.
    probability : sequence of ndarray
    scales : sequence of float, optional
        Length of a pixel of each image, in the unit of the matching. Default: 1, pixels.
    """
    names = [image.name for image in images]
    scales = [1.0] * len(images) if scales is None else scales
    craters = [image.craters for image in images]
    lengths = np.repeat(scales, [len(each) for each in craters])
    catalogue = Catalogue(
        _places(craters, scales),
        np.concatenate([each["diameter"] for each in craters]).astype(float) * lengths,
        np.repeat(names, [len(each) for each in craters]),
        in_pixels=True,
        counted=np.concatenate([each["counted"] for each in craters]),
    )
    lengths = np.repeat(scales, [len(each) for each in found])
    detections = Detections(
        _places(found, scales),
        np.concatenate(probability),
        np.repeat(names, [len(each) for each in found]),
        diameters=np.concatenate([each["diameter"] for each in found]) * lengths,
        diameter_errors=np.concatenate([each["error"] for each in found]) * lengths,
    )
    areas = []
    for image, scale in zip(images, scales, strict=True):
        height, width = (length * scale for length in image.pixels.shape)
        areas.append(Footprint(image.name, [shapely.box(0, 0, width, height)], Plane()))
    return detections, catalogue, areas, Plane()


def match_circles(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: MatchRule,
    scales: Sequence[float] | None = None,
) -> Matched:
    """Match the circles of images with their craters; parameters as for `match_inputs`."""
    given = match_inputs(images, found, probability, scales)
    return Matched(given[0], given[1], match(*given, rule))


def catalogue_shifts(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: MatchRule,
    scales: Sequence[float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift of the catalogue in each image, and from what it was estimated.

    Returns
    -------
    shifts : ndarray, shape (I, 2)
        Pixels right and down.
    origin : ndarray of int, shape (I,)
        As of `Registration`.
    """
    registration = register(*match_inputs(images, found, probability, scales), rule)
    lengths = np.ones(len(images)) if scales is None else np.asarray(scales, float)
    return registration.shifts / lengths[:, None], registration.origin


def _places(circles: Sequence[np.ndarray], scales: Sequence[float]) -> np.ndarray:
    """Return x and y from the corner of the image."""
    return np.concatenate(
        [
            (np.stack([each["col"], each["row"]], 1) + 0.5) * scale
            for each, scale in zip(circles, scales, strict=True)
        ]
    )
