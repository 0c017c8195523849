"""Import craters of a catalogue as answers of a reviewer about the circles of a scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from craters.core import StrPath
from craters.errors import DataError
from craters.labels import (
    CRATER,
    Circle,
    import_circle_answers,
    import_key,
    is_circle_answers,
)
from craters.maps.catalogues import Catalogue, read_catalogue
from craters.maps.geo import Image
from craters.review.circles.session import CircleSession, ReceivedCircle


def import_circles(session: CircleSession, path: StrPath, reviewer: str) -> int:
    """Add the craters of a catalogue of any format, or the answers of an exported table.

    Each crater becomes the answer that it is one, about the candidate of the same crater if there
    is one. Adding the same file again adds nothing.

    Parameters
    ----------
    session : CircleSession
    path : path-like
        As for `read_catalogue`, or circle_answers.csv of an export.
    reviewer : str
        Of craters of a catalogue.

    Returns
    -------
    int
        Answers that were added.

    Raises
    ------
    DataError
        If the file cannot be used, or no crater lies in an image of the scan.
    """
    path = Path(path)
    before = session.labels.last_entry()
    if is_circle_answers(path):
        return import_circle_answers(session.labels, path)
    catalogue, count = read_catalogue(path), 0
    images = session.source.readers.images
    names = {image.name for image in images}
    for image in images:
        for circle in _circles_in(catalogue, image, names):
            count += 1
            one = ReceivedCircle(
                place="", answer=CRATER, image=image.name, circle=circle, why="import"
            )
            session.add(reviewer, [one], import_key((image.name, circle), reviewer))
    if not count:
        raise DataError(
            f"{path}: none of its {len(catalogue)} craters lies in an image of "
            f"{session.target.target}",
            "Does it belong to these images?",
        )
    return session.labels.last_entry() - before


def _circles_in(catalogue: Catalogue, image: Image, names: set[str]) -> Iterator[Circle]:
    """Yield the craters whose centre is in an image, in its pixels."""
    rows = catalogue.rows_of(image.name, names)
    places, diameters = catalogue.places[rows], catalogue.diameters[rows]
    if catalogue.in_pixels:
        # A catalogue counts the pixels of the file, a scan perhaps coarser ones.
        across, down = image.width / image.native[1], image.height / image.native[0]
        x, y = places[:, 0] * across, places[:, 1] * down
        diameters = diameters * np.sqrt(across * down)
    else:
        x, y, diameters = _from_degrees(image, places, diameters)
    inside = (x >= 0) & (x <= image.width) & (y >= 0) & (y <= image.height) & (diameters > 0)
    for place in np.flatnonzero(inside).tolist():
        yield Circle(float(x[place]), float(y[place]), float(diameters[place]))


def _from_degrees(
    image: Image, places: np.ndarray, diameters: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions and diameters in pixels; NaN off the map."""
    if not image.planet.is_known:
        raise DataError(
            f"{image.name}: has no coordinates, and the catalogue is in degrees",
            "Give a catalogue in pixels.",
        )
    east, north = image.planet.to_xy(*places.T)
    middle = image.to_xy((image.height - 1) / 2, (image.width - 1) / 2)[0]
    if period := image.planet.period:
        east = east - period * np.round((east - middle) / period)
    row, col = image.to_pixel(east, north)
    origin = image.to_lonlat(row, col)
    sides = [
        np.hypot(*image.planet.offsets(origin, image.to_lonlat(row + down, col + right)).T)
        for down, right in ((1.0, 0.0), (0.0, 1.0))
    ]
    return col + 0.5, row + 0.5, diameters / np.sqrt(sides[0] * sides[1])
