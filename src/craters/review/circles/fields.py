"""Random fields of images, in which all craters are corrected: the unbiased part of a review.

Each image is divided into rectangles of nearly the same size, so that a field holds a few
craters. A tenth of them, in the order of a hash of the store's seed and their position, is the
random part: it does not depend on any model but by the size of the fields. It is never trained on.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from craters.labels import FIELD, Place, random_place

CRATERS = 4  # expected in a field, on average
SIDES = (96, 512)  # px: limits of the side of a field
SHARE = 0.1  # of the fields
LEAST, MOST = 20, 300  # fields, if the images hold four times as many at least


def field_side(craters: float, area: float) -> float:
    """Return the side of a field in pixels, from the expected number of craters in all images.

    Examples
    --------
    >>> field_side(400, 4e6), field_side(0, 4e6), field_side(100_000, 4e6)
    (200.0, 512.0, 96.0)
    """
    side = SIDES[1] if not craters else (CRATERS * area / craters) ** 0.5
    return float(np.clip(side, *SIDES))


def draw_fields(
    images: Sequence[tuple[str, int, int]],
    side: float,
    seed: int,
    has_pixels: Callable[[Place], bool],
) -> list[Place]:
    """Draw the random fields.

    Parameters
    ----------
    images : sequence of (str, int, int)
        Name, height and width.
    side : float
        Side of a field, about; a small image is one field.
    seed : int
        Of the label store.
    has_pixels : callable
        Whether a field has enough pixels that are not missing.

    Returns
    -------
    list of Place
        In the order in which they are shown.
    """
    fields = [
        field for name, height, width in images for field in _divide(name, height, width, side)
    ]
    fields.sort(key=lambda field: random_place(seed, field.id))
    count = max(round(SHARE * len(fields)), min(LEAST, len(fields) // 4), 1)
    chosen: list[Place] = []
    for field in fields:
        if len(chosen) >= min(count, MOST):
            break
        if has_pixels(field):
            chosen.append(dataclasses.replace(field, number=len(chosen)))
    return chosen


def _divide(name: str, height: int, width: int, side: float) -> list[Place]:
    """Divide an image into rectangles that cover it."""
    rows, cols = (
        np.rint(np.linspace(0, length, max(1, round(length / side)) + 1)).astype(int).tolist()
        for length in (height, width)
    )
    return [
        Place(
            id=f"{name}/field/{top}/{left}/{bottom - top}/{right - left}",
            kind=FIELD,
            image=name,
            x=(left + right) / 2,
            y=(top + bottom) / 2,
            width=right - left,
            height=bottom - top,
        )
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(cols)
    ]


def field_of(fields: Sequence[Place], image: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the number of the field that holds each point of an image; -1: none."""
    owner = np.full(len(x), -1)
    for number, field in enumerate(fields):
        if field.image == image:
            owner[field.holds(x, y)] = number
    return owner
