"""Shapes that people drew on images, as a catalogue of circles in pixels.

A box becomes the circle around its centre whose diameter is the mean of its width and height. A box
at the edge of its image that is not square is of a crater that the edge cuts: its longer side is
the diameter, and the circle touches the side of the box opposite the edge.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters.errors import ConfigError, DataError
from craters.maps.catalogues import classes
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.geo import image_name

BOX, CIRCLE, ELLIPSE, POLYGON, OTHER = "boxes", "circles", "ellipses", "polygons", "other shapes"
UNKNOWN = (math.nan, math.nan)  # width and height of an image

_EDGE = 1.0  # pixels: a box this close to an edge may be cut there
_SQUARE = 0.9  # shorter over longer side, from which on a box counts as square
_MOST_WRONG = 0.5  # share of wrong shapes above which all are refused


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape on an image, in pixels from the upper left corner of the image.

    Parameters
    ----------
    image : str
        File name of the image.
    labels : tuple of str
        Its classes; empty: none.
    kind : str
        `BOX`, `CIRCLE`, `ELLIPSE`, `POLYGON`, or `OTHER`, which cannot be converted to a circle.
    values : tuple of float
        A box: left, top, width, height. Others: x and y of the centre, diameter.
    size : tuple of float
        Width and height of the image; NaN if unknown.
    where : str
        File, and number or line in it, for messages.
    """

    image: str
    labels: tuple[str, ...]
    kind: str
    values: tuple[float, ...]
    size: tuple[float, float] = UNKNOWN
    where: str = ""


def to_number(value: Any) -> float:
    """Return a number, or a text of one, as float; NaN for anything else.

    Examples
    --------
    >>> to_number("12.5"), to_number(True), to_number([1])
    (12.5, nan, nan)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def circle_of_ellipse(x: Any, y: Any, semi_axes: tuple[Any, Any]) -> tuple[float, ...]:
    """Return the centre of an ellipse, and the diameter of the circle of the same area."""
    first, second = map(to_number, semi_axes)
    diameter = 2 * math.sqrt(first * second) if first > 0 and second > 0 else math.nan
    return to_number(x), to_number(y), diameter


def circle_of_polygon(x: Sequence[Any], y: Sequence[Any]) -> tuple[float, ...]:
    """Return the centroid of a polygon, and the diameter of the circle of the same area."""
    corners = [(to_number(a), to_number(b)) for a, b in zip(x, y, strict=False)]
    if len(x) != len(y) or len(corners) < 3 or not np.isfinite(corners).all():
        return (math.nan,) * 3
    polygon = shapely.Polygon(corners)
    middle = polygon.centroid
    if not polygon.area > 0:
        return (math.nan,) * 3
    return middle.x, middle.y, 2 * math.sqrt(polygon.area / math.pi)


def catalogue_of_shapes(
    shapes: Sequence[Shape],
    crater_class: str,
    *,
    source: Path,
    title: str,
    paths: Sequence[Path],
    notes: Sequence[str] = (),
) -> Catalogue:
    """Make a catalogue of the shapes whose class means crater.

    Parameters
    ----------
    shapes : sequence of Shape
    crater_class : str
        See `classes.choose`.
    source : Path
        File or folder, for messages.
    title : str
        Name of the format.
    paths : sequence of Path
        The files that were read.
    notes : sequence of str
        What the reader of the format left out.

    Raises
    ------
    ConfigError, DataError
        If it is not clear which class means crater, there is no crater, or most are wrong.
    """
    if not shapes:
        raise DataError(f"{source}: {title} without any shape", "Is it the right file?")
    rows, chosen_note = _crater_shapes(shapes, crater_class, str(source))
    of_circles = [row for row in rows if shapes[row].kind != OTHER]
    if not of_circles:
        raise DataError(
            f"{source}: its craters are neither boxes nor circles, ellipses or polygons",
            "Points and lines give no diameter.",
        )
    left_out = [
        f"{len(rows) - len(of_circles)} points, lines or objects without a box are left out"
    ]
    craters = [shapes[row] for row in of_circles]
    circles, cut = _to_circles(craters)
    keep, wrong_notes = _check(craters, circles, source)
    kinds = Counter(shape.kind for shape in craters)
    images = len({shape.image for shape in craters})
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return Catalogue(
        places=circles[keep, :2],
        diameters=circles[keep, 2],
        sources=np.array([image_name(shape.image) for shape in craters], np.str_)[keep],
        in_pixels=True,
        name=str(source),
        rows=np.array(of_circles, int)[keep] + 1,
        notes=(
            f"The catalogue is {title}: {what} in {images} image(s); {chosen_note}",
            *notes,
            *(left_out if len(rows) > len(of_circles) else []),
            *wrong_notes,
            *_conversion_notes(kinds, int(cut[keep].sum())),
        ),
        paths=tuple(paths),
    )


def _crater_shapes(
    shapes: Sequence[Shape], crater_class: str, source: str
) -> tuple[list[int], str]:
    """Return which shapes are craters, and a note that says so.

    Raises
    ------
    ConfigError
        If `crater_class` is given and no shape has a class.
    """
    counts: Counter[str] = Counter()
    for shape in shapes:
        counts.update(set(shape.labels) or {""})
    if set(counts) == {""}:
        if crater_class:
            raise ConfigError(f"--crater-class: no shape of {source} has a class", "Leave it out.")
        return list(range(len(shapes))), "they have no class, and all are taken as craters"
    chosen = classes.choose(counts, crater_class, source)
    rows = [row for row, shape in enumerate(shapes) if set(shape.labels or ("",)) & set(chosen)]
    return rows, f"craters: {classes.note(counts, chosen)}"


def _to_circles(shapes: Sequence[Shape]) -> tuple[np.ndarray, np.ndarray]:
    """Return circles (N, 3) as x, y, diameter, and which are measured by their longer side."""
    circles, cut = np.empty((len(shapes), 3)), np.zeros(len(shapes), bool)
    for row, shape in enumerate(shapes):
        circles[row] = shape.values[:3]
        if shape.kind == BOX:
            circles[row], cut[row] = _circle_of_box(shape.values, shape.size)
    return circles, cut


def _circle_of_box(
    box: Sequence[float], size: tuple[float, float]
) -> tuple[tuple[float, float, float], bool]:
    """Return x, y and diameter, and whether the longer side is the diameter."""
    starts, sides = box[:2], box[2:]
    if not min(sides) > 0:
        return (math.nan, math.nan, -1.0), False
    centre = [start + side / 2 for start, side in zip(starts, sides, strict=True)]
    across = 0 if sides[0] < sides[1] else 1  # axis of the shorter side
    longer, near = max(sides), starts[across] <= _EDGE
    far = starts[across] + sides[across] >= size[across] - _EDGE  # false if the size is unknown
    if sides[across] >= _SQUARE * longer or near == far:
        return (*centre, (sides[0] + sides[1]) / 2), False  # type: ignore[return-value]
    inner = starts[across] + sides[across] if near else starts[across]
    centre[across] = inner - longer / 2 if near else inner + longer / 2
    return (centre[0], centre[1], longer), True


def _check(
    shapes: Sequence[Shape], circles: np.ndarray, source: Path
) -> tuple[np.ndarray, list[str]]:
    """Return which circles can be used, and notes about the others.

    Raises
    ------
    DataError
        If most cannot be used.
    """
    sizes = np.array([shape.size for shape in shapes], float)
    middles = np.array([_drawn_middle(shape) for shape in shapes], float)
    unreadable = np.array([not np.isfinite(shape.values).all() for shape in shapes])
    checks = {
        "a value is not a number": unreadable,
        "its size is not positive": ~unreadable & ~(circles[:, 2] > 0),
        "its centre is outside the image": (middles < 0).any(axis=1)
        | (middles > sizes).any(axis=1),
    }
    keep, notes = np.ones(len(shapes), bool), []
    for reason, fails in checks.items():
        wrong = fails & keep
        keep &= ~wrong
        if wrong.any():
            first = shapes[int(np.flatnonzero(wrong)[0])]
            values = ", ".join(f"{value:g}" for value in first.values)
            notes.append(
                f"{int(wrong.sum())} of {len(shapes)} craters are left out, as {reason}: "
                f"{first.where} has {values}{', ...' if wrong.sum() > 1 else ''}"
            )
    if (~keep).mean() > _MOST_WRONG:
        raise DataError(f"{source}: {notes[0]}", "Correct the file, or export it again.")
    return keep, notes


def _drawn_middle(shape: Shape) -> tuple[float, float]:
    """Return the middle of a shape as it was drawn."""
    x, y = shape.values[:2]
    if shape.kind == BOX:
        return x + shape.values[2] / 2, y + shape.values[3] / 2
    return x, y


def _conversion_notes(kinds: Counter[str], cut: int) -> list[str]:
    notes = []
    if kinds[BOX]:
        notes.append("The diameters are the mean of width and height of the boxes")
    if cut:
        notes.append(
            f"{cut} box(es) that the edge of their image cuts are measured by their longer side"
        )
    if kinds[ELLIPSE] or kinds[POLYGON]:
        notes.append("The diameters of ellipses and polygons are those of circles of equal area")
    return notes
