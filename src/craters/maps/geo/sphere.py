"""Distances and directions between points on a sphere or in a pixel plane.

Longitudes are in degrees east, from -180 to 180; latitudes in planetocentric degrees. A place is a
row (lon, lat) on a sphere, or (x, y) in a plane.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from craters.errors import ConfigError

_UNITS = {"": 1.0, "m": 1.0, "km": 1000.0}


@dataclasses.dataclass(frozen=True)
class Sphere:
    """The sphere of a body, with lengths in metres.

    Parameters
    ----------
    radius : float
        Metres.

    Examples
    --------
    >>> mars = Sphere(3396190.0)
    >>> round(float(mars.distance(np.array([[179.5, 0]]), np.array([[-179.5, 0]]))[0]))
    59275
    """

    radius: float
    unit: str = "m"
    period: float = 360.0

    def embed(self, places: np.ndarray) -> np.ndarray:
        """Return Cartesian coordinates (N, 3) in metres."""
        lon, lat = np.radians(np.asarray(places, float)).T
        flat = np.cos(lat)
        return self.radius * np.column_stack([flat * np.cos(lon), flat * np.sin(lon), np.sin(lat)])

    def chord(self, distance: np.ndarray | float) -> np.ndarray:
        """Return the chord length of an arc of length `distance`."""
        angle = np.minimum(np.asarray(distance, float) / self.radius, np.pi)
        return 2 * self.radius * np.sin(angle / 2)

    def distance(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return great-circle distances, row by row, by the haversine formula."""
        lon_1, lat_1 = np.radians(first).T
        lon_2, lat_2 = np.radians(second).T
        half = np.sin((lat_2 - lat_1) / 2) ** 2
        half = half + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
        return 2 * self.radius * np.arcsin(np.sqrt(np.clip(half, 0, 1)))

    def offsets(self, origin: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return metres east and north of `origin`, in azimuthal equidistant projection."""
        lon_1, lat_1 = np.radians(origin).T
        lon_2, lat_2 = np.radians(places).T
        east = np.cos(lat_2) * np.sin(lon_2 - lon_1)
        # cos * sin - sin * cos, rearranged to stay accurate for nearby points.
        turn = 2 * np.sin((lon_2 - lon_1) / 2) ** 2
        north = np.sin(lat_2 - lat_1) + np.sin(lat_1) * np.cos(lat_2) * turn
        reach = np.hypot(east, north)
        scale = self.distance(origin, places) / np.where(reach > 0, reach, 1)
        return np.column_stack([east * scale, north * scale])

    def travel(self, origin: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the points at given metres east and north of `origin`, along great circles."""
        lon, lat = np.radians(origin).T
        reach = np.hypot(*offsets.T)
        angle = reach / self.radius
        east, north = (offsets / np.where(reach > 0, reach, 1)[:, None]).T
        height = np.sin(lat) * np.cos(angle) + north * np.cos(lat) * np.sin(angle)
        across = east * np.sin(angle)
        ahead = np.cos(lat) * np.cos(angle) - north * np.sin(lat) * np.sin(angle)
        there = np.arctan2(height, np.hypot(across, ahead))
        return np.degrees(np.column_stack([lon + np.arctan2(across, ahead), there]))


@dataclasses.dataclass(frozen=True)
class Plane:
    """The pixel plane of an image without a CRS, with lengths in pixels."""

    unit: str = "px"
    period: float = 0.0

    def embed(self, places: np.ndarray) -> np.ndarray:
        """Return the points unchanged."""
        return np.asarray(places, float)

    def chord(self, distance: np.ndarray | float) -> np.ndarray:
        """Return the distance unchanged."""
        return np.asarray(distance, float)

    def distance(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return Euclidean distances, row by row."""
        return np.hypot(*(np.asarray(second, float) - first).T)

    def offsets(self, origin: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return differences, row by row."""
        return np.asarray(places, float) - origin

    def travel(self, origin: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return sums, row by row."""
        return np.asarray(origin, float) + offsets


Space = Sphere | Plane


def wrap_lon(lon: np.ndarray | float) -> np.ndarray:
    """Wrap longitudes to the range from -180 (exclusive) to 180 degrees.

    Examples
    --------
    >>> wrap_lon(np.array([190.0, -180.0, 180.0, 540.0])).tolist()
    [-170.0, 180.0, 180.0, 180.0]
    """
    degrees = np.asarray(lon, np.float64)
    inside = (degrees > -180) & (degrees <= 180)  # keep these bit for bit
    return np.where(inside, degrees, 180 - (180 - degrees) % 360)


def read_length(text: str, option: str, *, unit: str, pixel: float | None) -> float:
    """Parse a length: 24px, 2400m, 2.4km, or a plain number in `unit`.

    Parameters
    ----------
    text : str
    option : str
        Name of the option, for messages.
    unit : str
        "m" or "px": unit of the catalogue and of the returned length.
    pixel : float or None
        Metres per pixel, if known.

    Raises
    ------
    ConfigError
        If the text is not a length, or cannot be converted to `unit`.

    Examples
    --------
    >>> read_length("24px", "--border", unit="m", pixel=100.0)
    2400.0
    >>> read_length("2.4 km", "--border", unit="m", pixel=None)
    2400.0
    """
    parsed = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(px|km|m|)\s*", text)
    if parsed is None:
        raise ConfigError(f"{option} is {text!r}, expected a length, e.g. 24px, 2400m or 2.4km")
    value, suffix = float(parsed[1]), parsed[2]
    if unit == "px":
        if suffix in ("m", "km"):
            raise ConfigError(f"{option} is {text}, but the catalogue is in pixels", "Use 24px.")
        return value
    if suffix != "px":
        return value * _UNITS[suffix]
    if pixel is None:
        raise ConfigError(f"{option} is {text}, but the resolution is not known", "Use 2400m.")
    return value * pixel
