"""The image that a scan reads: its size, georeferencing and scaling, as plain values.

The distortion of its map is measured on the ellipsoid, by geodesics from one side of a pixel to the
other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from craters.maps.geo.planet import Planet
from craters.maps.geo.undeclared import Undeclared

_LIMIT = 0.1  # relative distortion that is reported
_POINTS = 5  # along each axis of an image
_MOST = 100.0  # larger stretches are not distinguished
_LISTED = 3  # names of images in a note


@dataclasses.dataclass(frozen=True)
class Image:
    """An image and its georeferencing, as plain values that can be sent to any process.

    Parameters
    ----------
    path, name : str
        Path, and name in results.
    height, width : int
        Size in pixels, after resampling if `resampled`.
    transform : tuple of float
        Affine coefficients a, b, c, d, e, f: x = a * col + b * row + c, y = d * col + e * row + f,
        where whole numbers are the corners of pixels. North up: a > 0, e < 0, b = d = 0.
    planet : Planet
    dtype : str
        Type of the stored pixels.
    scale : tuple of float
        Stored values that become 0 and 255; linear between, clipped beyond.
    scale_rule : str
        How the scale was chosen, in words.
    gap : int
        Side of the smallest square no-data region, in pixels.
    resolution : float or None
        Metres per pixel along a column; None if unknown.
    native : tuple of int
        Height and width north up, before any change of the resolution.
    resampled : bool
    in_strips : bool
        Whether the file is stored in strips of whole rows.
    band : int
        0: the luminance of the bands red, green and blue.
    fingerprint : str
        Hash of the sizes, modification times and samples of all its files.
    undeclared : Undeclared
        Values that are no brightness although the file does not declare them as nodata.
    notes : tuple of str
        What a user should know about how it is read; without its name and a full stop.
    fill : int
        Grey level of no-data regions and of pixels outside the image.
    """

    path: str
    name: str
    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    planet: Planet
    dtype: str
    scale: tuple[float, float]
    scale_rule: str
    gap: int
    resolution: float | None
    native: tuple[int, int]
    resampled: bool
    in_strips: bool
    band: int
    fingerprint: str
    undeclared: Undeclared = dataclasses.field(default_factory=Undeclared)
    notes: tuple[str, ...] = ()
    fill: int = 125

    @property
    def reach(self) -> int:
        """Distance in pixels up to which other pixels decide what kind of no-data a pixel is."""
        return 2 * self.gap

    def to_xy(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert pixels (0, 0 is the centre of the first) to map coordinates."""
        a, b, c, d, e, f = self.transform
        row, col = np.asarray(row, np.float64) + 0.5, np.asarray(col, np.float64) + 0.5
        return a * col + b * row + c, d * col + e * row + f

    def to_pixel(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert map coordinates to row and column; the inverse of `to_xy`."""
        a, b, c, d, e, f = self.transform
        x, y = np.asarray(x, np.float64) - c, np.asarray(y, np.float64) - f
        scale = a * e - b * d
        return (a * y - d * x) / scale - 0.5, (e * x - b * y) / scale - 0.5

    def to_lonlat(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert pixels to longitude and latitude in degrees, as `Planet.to_lonlat` does.

        Points at most a pixel beyond a pole are at the pole: mosaics often extend half a pixel too
        far.
        """
        x, y = self.to_xy(row, col)
        return self.planet.to_lonlat(x, self._to_pole(y))

    def outline(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert corners of an outline to map coordinates, within the poles and one turn.

        Parameters
        ----------
        row, col : array_like of float
            Corners of pixels: 0 is the edge of the first.
        """
        row, col = np.asarray(row, np.float64), np.asarray(col, np.float64)
        x, y = self.to_xy(row - 0.5, col - 0.5)
        if not self.planet.is_known:
            return x, y
        middle, half = self.to_xy(-0.5, self.width / 2 - 0.5)[0], self.planet.period / 2
        excess = abs(self.transform[0]) * self.width - 2 * half
        if half and 0 < excess <= 2 * abs(self.transform[0]):
            x = np.clip(x, middle - half, middle + half)
        return x, np.clip(y, *self.planet.pole_lines)

    def _to_pole(self, y: np.ndarray) -> np.ndarray:
        """Move points that are at most a pixel beyond a pole to it, on maps where it is a line."""
        if not self.planet.is_known:
            return y
        on_map = np.clip(y, *self.planet.pole_lines)
        pixel = float(np.hypot(self.transform[3], self.transform[4]))
        return np.where(np.abs(y - on_map) <= pixel, on_map, y)


@dataclasses.dataclass(frozen=True)
class Distortion:
    """The distortion of an image at its most distorted point.

    Parameters
    ----------
    stretch : float
        Longest over shortest ground distance that a pixel covers: 1 where circles stay circles.
    scale : float
        Geometric mean of both distances over the nominal resolution.
    lat : float
        Latitude of the point, planetocentric degrees.
    """

    stretch: float
    scale: float
    lat: float

    @property
    def size(self) -> float:
        """How far the image differs from an undistorted one: 0 if not at all."""
        return float(np.log(max(self.stretch, self.scale, 1 / self.scale)))


def pixel_sides(image: Image, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return the sides of pixels of an image with a CRS, on the ground.

    Returns
    -------
    ndarray, shape (N, 2, 2)
        Metres east and north of a step by a row, and by a column; NaN off the body.
    """
    middle = image.to_lonlat(rows, cols)
    sides = [
        image.planet.offsets(middle, image.to_lonlat(rows + down, cols + right))
        - image.planet.offsets(middle, image.to_lonlat(rows - down, cols - right))
        for down, right in ((0.5, 0.0), (0.0, 0.5))
    ]
    return np.stack(sides, axis=1)


def measure_distortion(image: Image) -> Distortion | None:
    """Measure the distortion of an image by its map projection and by pixels that are not square.

    Returns
    -------
    Distortion or None
        None if the image has no CRS, or none of the points compared is on the body.
    """
    if not image.planet.is_known or not image.resolution:
        return None
    grid = np.meshgrid(
        np.linspace(0, image.height - 1, _POINTS), np.linspace(0, image.width - 1, _POINTS)
    )
    rows, cols = (axis.ravel() for axis in grid)
    lat, pixels = image.to_lonlat(rows, cols)[1], pixel_sides(image, rows, cols)
    on_body = np.isfinite(pixels).all(axis=(1, 2))
    if not on_body.any():
        return None
    lat, lengths = lat[on_body], np.linalg.svd(pixels[on_body], compute_uv=False)
    longest, shortest = lengths[:, 0], np.maximum(lengths[:, 1], lengths[:, 0] / _MOST)
    stretch, scale = longest / shortest, np.sqrt(longest * shortest) / image.resolution
    worst = int(np.argmax(np.maximum(np.log(stretch), np.abs(np.log(scale)))))
    return Distortion(
        stretch=float(stretch[worst]), scale=float(scale[worst]), lat=float(lat[worst])
    )


def distortion_note(image: Image, least_stretch: float = 1.0) -> tuple[float, str]:
    """Describe the distortion of an image if it exceeds 10 %.

    Returns
    -------
    size : float
        As `Distortion.size`.
    note : str
        Stretch, true scale, and a command that removes both; "" if the distortion is small.
    """
    worst = measure_distortion(image)
    if worst is None or worst.size <= np.log(1 + _LIMIT) or worst.stretch < least_stretch:
        return 0.0, ""
    nominal = image.resolution or 1.0
    return worst.size, (
        f"its map stretches craters {_times(worst.stretch)} at latitude {worst.lat:.1f}, where a "
        f"pixel covers {worst.scale * nominal:.3g} m on average instead of the {nominal:.3g} m "
        "assumed; warp it to a local projection, region by region if it is large: "
        f"{_remedy(image)}"
    )


def _times(stretch: float) -> str:
    return f"{_MOST:.0f} times or more" if stretch >= _MOST else f"{stretch:.2f} times"


def _remedy(image: Image) -> str:
    """Return a command that warps an image to a conformal projection around its centre."""
    planet = image.planet
    middle = image.to_lonlat((image.height - 1) / 2, (image.width - 1) / 2)
    lon, lat = (float(np.round(degrees, 1)) + 0.0 for degrees in middle)  # without -0.0
    around = f"+lat_0={lat:.1f} +lon_0={lon:.1f} " if np.isfinite(lon + lat) else ""
    shape = planet.crs.ellipsoid
    equal = shape.semi_major_metre == shape.semi_minor_metre
    size = (
        f"+R={shape.semi_major_metre:.10g}"
        if equal
        else f"+a={shape.semi_major_metre:.10g} +b={shape.semi_minor_metre:.10g}"
    )
    side = f"{image.resolution:.6g}"
    return f"gdalwarp -t_srs '+proj=stere {around}{size}' -tr {side} {side} IN.tif OUT.tif"


def image_notes(images: Sequence[Image], *, least_stretch: float = 1.0) -> list[str]:
    """Collect what a user should know about images: equal notes once, with the images' names.

    Parameters
    ----------
    images : sequence of Image
    least_stretch : float
        Distortion is noted where the map stretches more than this: smaller stretches are corrected.

    Returns
    -------
    list of str
        Without a full stop at the end.
    """
    named: dict[str, list[str]] = {}
    for image in images:
        for note in image.notes:
            named.setdefault(note, []).append(image.name)
    notes = [f"{_join(names)}: {note}" for note, names in named.items()]
    distorted = [(image.name, *distortion_note(image, least_stretch)) for image in images]
    distorted = sorted((row for row in distorted if row[2]), key=lambda row: -row[1])
    if distorted:
        notes.append(f"{_join([row[0] for row in distorted])}: {distorted[0][2]}")
    return notes


def _join(names: Sequence[str]) -> str:
    """Join names of images, the most important first.

    Examples
    --------
    >>> _join(["a", "b", "c", "d", "e"])
    'a (and 4 more: b, c, d, ...)'
    """
    others = names[1:]
    if not others:
        return names[0]
    listed = [*others[:_LISTED], *(["..."] if len(others) > _LISTED else [])]
    return f"{names[0]} (and {len(others)} more: {', '.join(listed)})"
