"""Bodies and their spheres: names, radii, distances and directions; also in a pixel plane.

Longitudes are in degrees east, from -180 to 180; latitudes in planetocentric degrees. A place is a
row (lon, lat) on a sphere, or (x, y) in a plane.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from craters.errors import ConfigError

# Code of the body in IAU_2015 (times 100), and its radius in metres.
BODIES = {
    "mercury": (199, 2_440_530.0),
    "venus": (299, 6_051_800.0),
    "earth": (399, 6_378_137.0),
    "moon": (301, 1_737_400.0),
    "mars": (499, 3_396_190.0),
    "ceres": (2_000_001, 487_300.0),
    "ganymede": (503, 2_632_345.0),
    "callisto": (504, 2_409_300.0),
    "europa": (502, 1_562_600.0),
    "io": (501, 1_821_490.0),
    "titan": (606, 2_575_000.0),
    "vesta": (2_000_004, 255_000.0),
    "phobos": (401, 11_080.0),
    "deimos": (402, 6_200.0),
    "amalthea": (505, 83_500.0),
    "mimas": (601, 198_200.0),
    "enceladus": (602, 252_100.0),
    "tethys": (603, 531_000.0),
    "dione": (604, 561_400.0),
    "rhea": (605, 763_500.0),
    "hyperion": (607, 135_000.0),
    "iapetus": (608, 745_700.0),
    "phoebe": (609, 106_500.0),
    "ariel": (701, 578_900.0),
    "umbriel": (702, 584_700.0),
    "titania": (703, 788_900.0),
    "oberon": (704, 761_400.0),
    "miranda": (705, 235_800.0),
    "triton": (801, 1_352_600.0),
    "proteus": (808, 208_000.0),
    "pluto": (999, 1_188_300.0),
    "charon": (901, 606_000.0),
    "eros": (2_000_433, 17_000.0),
    "mathilde": (2_000_253, 26_500.0),
    "lutetia": (2_000_021, 52_500.0),
    "itokawa": (2_025_143, 173.0),
    "ida": (2_431_010, 15_650.0),
    "gaspra": (9_511_010, 6_100.0),
}
EARTH = "earth"
UNKNOWN = "unknown"

_SAME, _EQUAL = 0.01, 1e-5  # relative differences: radii of one body, one radius written twice
_ROUND = 200_000.0  # metres: larger bodies are nearly spheres
_SPREAD, _IRREGULAR_SPREAD = 4 / 3, 3.0  # largest ratio of two radii of one body
_OFFICIAL = re.compile(
    r"([A-Za-z0-9 .'-]+?) \(20\d\d\)"
)  # such as "Vesta (2015) - Sphere / Ocentric"
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


def find_body(names: Sequence[str], radius: float) -> str:
    """Return the body of a coordinate system: by its names, else by its radius.

    Parameters
    ----------
    names : sequence of str
        Names of the datum, the ellipsoid and the system; the first that names a body decides.
    radius : float
        Metres.

    Returns
    -------
    str
        In lower case; "unknown" if neither says it.

    Examples
    --------
    >>> find_body(["D_Ceres_2015"], 470_000.0), find_body(["unnamed"], 3_396_000.0)
    ('ceres', 'mars')
    >>> find_body(["unnamed"], 470_000.0)
    'unknown'
    """
    for name in names:
        fitting = [body for body in _bodies_in(name) if _may_have(body, radius)]
        if len(fitting) == 1:
            return fitting[0]
        official = _OFFICIAL.match(name)
        if official and official[1].lower() not in BODIES:
            return official[1].lower()
    return _find_by_radius(radius)


def find_contradiction(names: Sequence[str], radius: float) -> str:
    """Return the body that the names say and that cannot have this radius; "" if there is none.

    Examples
    --------
    >>> find_contradiction(["D_Mars_2000"], 1_737_400.0)
    'mars'
    >>> find_contradiction(["D_Moon"], 1_738_000.0)
    ''
    """
    named = [body for name in names for body in _bodies_in(name) if body != EARTH]
    if not named or any(_may_have(body, radius) for body in named):
        return ""
    return named[0]


def _bodies_in(name: str) -> list[str]:
    words = set(re.findall("[a-z]+", name.lower()))
    return [body for body in BODIES if body in words]


def _may_have(body: str, radius: float) -> bool:
    known = BODIES[body][1]
    spread = _SPREAD if known > _ROUND else _IRREGULAR_SPREAD
    return known / spread <= radius <= known * spread


def _find_by_radius(radius: float) -> str:
    for tolerance in (_EQUAL, _SAME):
        near = [body for body, (_, known) in BODIES.items() if abs(radius / known - 1) <= tolerance]
        if near:
            return near[0] if len(near) == 1 else UNKNOWN
    return UNKNOWN
