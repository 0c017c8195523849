"""Planetary coordinate reference systems: conversion to longitude and latitude, areas.

Internally, longitudes are positive east from -180 to 180 degrees and latitudes are planetocentric,
whatever the convention of the image.
"""

from __future__ import annotations

import dataclasses
import warnings
from functools import cached_property
from typing import Any

import numpy as np

from craters.errors import GeoError
from craters.maps.geo.sphere import BODIES, EARTH, UNKNOWN, find_body, find_contradiction

_COMPATIBLE = 0.1  # relative difference up to which an unnamed radius may be that of a body
_SHAPE = ("R", "a", "b", "f", "rf", "ellps", "datum", "type", "no_defs", "towgs84")  # of PROJ
_PIECE, _PIECES = 0.001, 4096  # densification of polygon edges for areas: radians, largest number
_HINT = "Give --crs IAU_2015:49910 or --body mars; for an image without georeferencing: --no-crs."
_RENAME = "give the right coordinate system by --crs"


@dataclasses.dataclass(frozen=True)
class Planet:
    """The coordinate reference system of a body, or none (pixels only).

    Parameters
    ----------
    wkt : str
        The CRS as WKT; empty if there is none.

    Examples
    --------
    >>> mars = Planet.named("IAU_2015:49910")
    >>> [round(float(value), 6) for value in mars.to_lonlat(0.0, 59274.697523)]
    [0.0, 1.0]
    >>> mars.body
    'mars'
    """

    wkt: str

    @classmethod
    def named(cls, text: str) -> Planet:
        """Parse a CRS: IAU_2015:49910, EPSG:..., PROJ or WKT.

        Raises
        ------
        GeoError
            If PROJ cannot parse it.
        """
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        try:
            return cls(CRS.from_user_input(text).to_wkt())
        except CRSError as error:
            raise GeoError(
                f"the coordinate system {text!r} is unknown",
                "Give a code such as IAU_2015:49910, or WKT.",
            ) from error

    @cached_property
    def crs(self) -> Any:
        """The CRS as a pyproj object."""
        from pyproj import CRS

        return CRS.from_wkt(self.wkt)

    @property
    def is_known(self) -> bool:
        """Whether there is a CRS."""
        return bool(self.wkt)

    @property
    def radius(self) -> float:
        """Equatorial radius in metres."""
        return float(self.crs.ellipsoid.semi_major_metre)

    @property
    def body(self) -> str:
        """Name of the body: from the CRS if it says so, else by radius, else "unknown"."""
        if not self.is_known:
            return UNKNOWN
        return find_body([*self.datum_names, self.crs.name], self.radius)

    @property
    def body_label(self) -> str:
        """Name of the body for results and messages, with its radius if it is unknown."""
        if not self.is_known or self.body != UNKNOWN:
            return self.body
        return f"unknown body, radius {self.radius:.0f} m"

    @property
    def datum_names(self) -> list[str]:
        """Names of the base CRS, the datum and the ellipsoid."""
        base = self.crs.geodetic_crs
        parts = (base, base.datum, base.ellipsoid)
        return [part.name for part in parts if part is not None]

    def may_be(self, body: str) -> bool:
        """Return whether nothing contradicts that the CRS is of a body of `BODIES`."""
        if self.body != UNKNOWN:
            return self.body == body
        return abs(self.radius / BODIES[body][1] - 1) <= _COMPATIBLE

    def shares_body(self, other: Planet) -> bool:
        """Return whether nothing contradicts that both are of one body, or both have no CRS."""
        if not (self.is_known and other.is_known):
            return self.is_known == other.is_known
        if UNKNOWN not in (self.body, other.body):
            return self.body == other.body
        return abs(self.radius / other.radius - 1) <= _COMPATIBLE

    def equals(self, other: Planet) -> bool:
        """Return whether both are the same CRS, whatever the order of its axes."""
        if self.wkt == other.wkt or not (self.is_known and other.is_known):
            return self.wkt == other.wkt
        return bool(self.crs.equals(other.crs, ignore_axis_order=True))

    def differs_in_shape(self, other: Planet) -> bool:
        """Return whether both are one projection of one body, on another sphere or ellipsoid."""
        if not (self.is_known and other.is_known and self.shares_body(other)):
            return False
        return not self.equals(other) and self._projection == other._projection

    @cached_property
    def _projection(self) -> dict[str, Any]:
        """Parameters of the projection, without those of the body's shape."""
        if self.in_degrees:
            return {"proj": "longlat", "pm": self.crs.prime_meridian.longitude}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that names are lost
            parameters = self.crs.to_dict()
        return {name: value for name, value in parameters.items() if name not in _SHAPE}

    @cached_property
    def _inverse(self) -> Any:
        from pyproj import CRS, Transformer

        shape = self.crs.ellipsoid
        plain = CRS.from_proj4(
            f"+proj=longlat +a={shape.semi_major_metre} +b={shape.semi_minor_metre} +no_defs"
        )
        return Transformer.from_crs(self.crs, plain, always_xy=True)

    @cached_property
    def in_degrees(self) -> bool:
        """Whether coordinates are longitude and latitude, not projected."""
        # Planetocentric degrees on an ellipsoid (IAU_2015:49902) are not "geographic" to PROJ.
        return bool(self.crs.is_geographic) or self._is_spherical

    @property
    def _is_spherical(self) -> bool:
        crs = self.crs
        return not crs.is_projected and getattr(crs.coordinate_system, "name", "") == "spherical"

    @cached_property
    def _squash(self) -> float:
        """(b / a)^2: ratio of the tangents of planetocentric and planetographic latitude."""
        shape = self.crs.ellipsoid
        return float((shape.semi_minor_metre / shape.semi_major_metre) ** 2)

    @cached_property
    def _flatness(self) -> float:
        """`_squash` if latitudes are planetographic; 1 if they are planetocentric.

        PROJ's inverse projection gives planetographic latitudes, whatever the name of the base CRS.
        Degrees are used as stored; a GeoTIFF cannot declare them planetocentric, so the name of
        the CRS decides.
        """
        centric = self._is_spherical or "ocentric" in self.crs.geodetic_crs.name.lower()
        return 1.0 if self.in_degrees and centric else self._squash

    @cached_property
    def _turn(self) -> float:
        """-1 if longitudes are positive west."""
        west = any(axis.direction == "west" for axis in self.crs.axis_info)
        return -1.0 if self.in_degrees and west else 1.0

    @cached_property
    def _prime_meridian(self) -> float:
        """Longitude from which degrees of this CRS count, degrees east."""
        meridian = self.crs.prime_meridian
        return (
            0.0
            if meridian is None
            else float(np.degrees(meridian.longitude * meridian.unit_conversion_factor))
        )

    def to_lonlat(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert map coordinates to longitude and latitude.

        Parameters
        ----------
        x, y : array_like of float
            In the units of the CRS, east first.

        Returns
        -------
        lon, lat : ndarray
            Degrees; east from -180 (not included) to 180, planetocentric.
            NaN where a point is off the map.
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if not self.is_known:
            return np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        if self.in_degrees:
            lon, lat = self._turn * x + self._prime_meridian, y
        else:
            lon, lat = self._inverse.transform(x, y)
        lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
        off = ~(np.isfinite(lon) & np.isfinite(lat)) | (np.abs(lat) > 90 + 1e-9)
        lon, lat = np.where(off, np.nan, lon), np.where(off, np.nan, lat)
        lat = np.degrees(np.arctan(self._flatness * np.tan(np.radians(lat))))
        return 180 - (180 - lon) % 360, lat

    def to_xy(self, lon: Any, lat: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert longitude and latitude, as from `to_lonlat`, to map coordinates."""
        lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
        lat = np.degrees(np.arctan(np.tan(np.radians(lat)) / self._flatness))
        if self.in_degrees:
            return self._turn * (lon - self._prime_meridian), lat
        x, y = self._inverse.transform(lon, lat, direction="INVERSE")
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    @cached_property
    def period(self) -> float:
        """Period of a global map in map units; 0 if it is not periodic.

        Examples
        --------
        >>> round(Planet.named("IAU_2015:49910").period)
        21338891
        >>> Planet.named("IAU_2015:49900").period, Planet.named("IAU_2015:49930").period
        (360.0, 0.0)
        """
        if self.in_degrees:
            return 360.0
        lon = np.array([-90.0, -89.0, 0.0, 1.0, 90.0, 91.0])
        x, y = self.to_xy(lon, np.zeros(6))
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            return 0.0
        period = float(np.median(x[1::2] - x[::2])) * 360
        shifted = self.to_lonlat(x + period, y)
        if not np.isfinite(shifted).all():
            return 0.0
        difference = np.abs((shifted[0] - lon + 180) % 360 - 180) + np.abs(shifted[1])
        return abs(period) if float(difference.max()) < 1e-6 else 0.0

    @cached_property
    def pole_lines(self) -> tuple[float, float]:
        """The y of the south and north poles, if they are lines on the map; else infinite."""
        if self.in_degrees:
            return -90.0, 90.0
        x, y = self.to_xy([-60.0, 0.0, 60.0] * 2, [-90.0] * 3 + [90.0] * 3)
        on_map = self.period > 0 and bool(np.isfinite(x + y).all())
        if on_map and min(np.ptp(x[:3]), np.ptp(x[3:])) > self.period / 100:
            return float(y[0]), float(y[3])
        return -np.inf, np.inf

    def convert(
        self, x: np.ndarray, y: np.ndarray, target: Planet
    ) -> tuple[np.ndarray, np.ndarray]:
        """Convert map coordinates to those of another CRS of the body, on the same turn around it.

        They stay the same if the CRS is equal. NaN where a point is off the map.
        """
        if self.equals(target):
            return x, y
        new_x, new_y = target.to_xy(*self.to_lonlat(x, y))
        if self.period and target.period:
            new_x = new_x + target.period * np.round(x / self.period - new_x / target.period)
        return new_x, new_y

    @property
    def metres(self) -> float:
        """Metres per unit of the CRS: per degree along a meridian, or per map unit."""
        if self.in_degrees:
            return float(np.pi * self.radius / 180)
        return float(self.crs.axis_info[0].unit_conversion_factor)

    def area(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the area of a ring on the ellipsoid; its edges are straight on the map.

        Parameters
        ----------
        x, y : ndarray, shape (N,)
            Corners in map coordinates, the first not repeated.

        Returns
        -------
        float
            Square metres; positive for corners in anticlockwise order seen from above.
        """
        corners = np.column_stack([x, y]).astype(np.float64)
        edges = np.roll(corners, -1, axis=0) - corners
        pieces = np.ceil(np.hypot(*edges.T) * self.metres / (_PIECE * self.radius))
        pieces = np.clip(pieces, 1, _PIECES).astype(np.int64)
        edge = np.repeat(np.arange(len(corners)), pieces)
        within = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        fine_x, fine_y = (corners[edge] + edges[edge] * (within / pieces[edge])[:, None]).T
        lon, lat = self.to_lonlat(fine_x, fine_y)
        on_map = np.isfinite(lon)
        lon, lat = lon[on_map], self._planetographic(lat[on_map])
        return float(self._geod.polygon_area_perimeter(lon, lat)[0])

    def offsets(
        self, origin: tuple[np.ndarray, np.ndarray], places: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Return metres east and north along geodesics of the ellipsoid, from `origin` to `places`.

        Parameters
        ----------
        origin, places : tuple of ndarray of shape (N,)
            Longitudes and latitudes, as from `to_lonlat`.

        Returns
        -------
        ndarray, shape (N, 2)
            NaN where a coordinate is.
        """
        on_map = np.isfinite(np.stack([*origin, *places])).all(axis=0)
        (lon_1, lat_1), (lon_2, lat_2) = (
            (lon[on_map], self._planetographic(lat[on_map])) for lon, lat in (origin, places)
        )
        azimuth, _, distance = self._geod.inv(lon_1, lat_1, lon_2, lat_2)
        offsets = np.full((len(on_map), 2), np.nan)
        angle = np.radians(azimuth)
        offsets[on_map] = np.column_stack([distance * np.sin(angle), distance * np.cos(angle)])
        return offsets

    @cached_property
    def _geod(self) -> Any:
        from pyproj import Geod

        shape = self.crs.ellipsoid
        return Geod(a=shape.semi_major_metre, b=shape.semi_minor_metre)

    def _planetographic(self, lat: np.ndarray) -> np.ndarray:
        """Convert planetocentric latitudes to those that `_geod` uses."""
        if self._squash == 1:
            return lat
        return np.degrees(np.arctan(np.tan(np.radians(lat)) / self._squash))


NO_PLANET = Planet("")


def resolve_planet(
    stored: Planet, *, crs: str = "", body: str = "", no_crs: bool = False, source: str = "image",
    remedy: str = _RENAME,
) -> Planet:  # fmt: skip
    """Choose the CRS of an image; raise an error if it is missing or doubtful.

    Parameters
    ----------
    stored : Planet
        CRS of the image; `NO_PLANET` if it has none.
    crs : str
        CRS given by the user, which overrides that of the image.
    body : str
        Expected body. An image without a CRS is then taken as equirectangular in metres, centred
        on longitude 0.
    no_crs : bool
        Work in pixels if there is no CRS.
    source : str
        Name of the image in messages.
    remedy : str
        Advice on a wrong CRS, in terms of the options of the caller's command.

    Raises
    ------
    GeoError
        If there is no CRS; if it belongs to the Earth without `body` saying so, or to another body;
        or if its longitudes are positive west.
    """
    if body and body not in BODIES:
        raise GeoError(
            f"--body {body} is unknown", f"Known: {', '.join(BODIES)}; for any other, {remedy}."
        )
    planet = Planet.named(crs) if crs else stored
    if not planet.is_known and body:
        planet = Planet.named(f"IAU_2015:{BODIES[body][0]}10")
    if not planet.is_known:
        if no_crs:
            return planet
        raise GeoError(f"{source}: has no coordinate system", _HINT)
    _refuse_other_kinds(planet, source, remedy)
    if body and not planet.may_be(body):
        actual = "an unknown body" if planet.body == UNKNOWN else planet.body
        raise GeoError(
            f"{source}: its coordinate system is of {actual} (radius {planet.radius:.0f} m), not "
            f"of {body}",
            f"Correct --body, or {remedy}.",
        )
    if planet.body == EARTH and body != EARTH:
        raise GeoError(
            f"{source}: its coordinate system is of the Earth ({planet.crs.name})",
            f"Planetary images often carry one by mistake: {remedy}, or give --body earth.",
        )
    return planet


def _refuse_other_kinds(planet: Planet, source: str, remedy: str) -> None:
    crs = planet.crs
    named = find_contradiction(planet.datum_names, planet.radius)
    if named and planet.body != EARTH:  # `resolve_planet` refuses the Earth
        raise GeoError(
            f"{source}: its coordinate system names {named} (radius {BODIES[named][1]:.0f} m), but "
            f"has a radius of {planet.radius:.0f} m",
            f"Which one is right? If necessary, {remedy}.",
        )
    if not (planet.in_degrees or crs.is_projected):
        raise GeoError(f"{source}: {crs.name} is neither projected nor geographic", _HINT)
    degree, units = np.pi / 180, [axis.unit_conversion_factor for axis in crs.axis_info[:2]]
    if planet.in_degrees and (crs.is_derived or not np.allclose(units, degree, rtol=1e-6)):
        raise GeoError(
            f"{source}: {crs.name} has angles in other units or from another pole, expected "
            "degrees of longitude and latitude",
            f"Warp it to a system such as IAU_2015:49900, or {remedy}.",
        )
    axes = [*crs.axis_info, *crs.geodetic_crs.axis_info]
    if any(axis.direction == "west" for axis in axes):
        raise GeoError(
            f"{source}: longitudes of {crs.name} are positive west, which programs interpret in "
            "different ways",
            f"Warp it to a system that is positive east, such as IAU_2015:49910, or {remedy}.",
        )
