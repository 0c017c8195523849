"""Planetary coordinate reference systems: conversion to longitude and latitude, areas.

Internally, longitudes are positive east from -180 to 180 degrees and latitudes are planetocentric,
whatever the convention of the image.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from craters.errors import GeoError

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
}
EARTH = "earth"
_RADIUS_TOLERANCE = 0.01  # relative difference allowed between radii of one body
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
        """Name of the body with this radius; "unknown" if none matches."""
        if not self.is_known:
            return "unknown"
        deviation = {name: abs(self.radius / radius - 1) for name, (_, radius) in BODIES.items()}
        nearest = min(deviation, key=lambda name: deviation[name])
        return nearest if deviation[nearest] <= _RADIUS_TOLERANCE else "unknown"

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
        lon, lat = (self._turn * x, y) if self.in_degrees else self._inverse.transform(x, y)
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
            return self._turn * lon, lat
        x, y = self._inverse.transform(lon, lat, direction="INVERSE")
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

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
        from pyproj import Geod

        shape = self.crs.ellipsoid
        geod = Geod(a=shape.semi_major_metre, b=shape.semi_minor_metre)
        corners = np.column_stack([x, y]).astype(np.float64)
        edges = np.roll(corners, -1, axis=0) - corners
        pieces = np.ceil(np.hypot(*edges.T) * self.metres / (_PIECE * self.radius))
        pieces = np.clip(pieces, 1, _PIECES).astype(np.int64)
        edge = np.repeat(np.arange(len(corners)), pieces)
        within = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        fine_x, fine_y = (corners[edge] + edges[edge] * (within / pieces[edge])[:, None]).T
        lon, lat = self.to_lonlat(fine_x, fine_y)
        on_map = np.isfinite(lon)
        if self._squash != 1:  # Geod uses planetographic latitudes
            lat = np.degrees(np.arctan(np.tan(np.radians(lat)) / self._squash))
        return float(geod.polygon_area_perimeter(lon[on_map], lat[on_map])[0])


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
    if body and planet.body != body:
        raise GeoError(
            f"{source}: its coordinate system is of {planet.body} (radius {planet.radius:.0f} m), "
            f"not of {body}",
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
    if not (planet.in_degrees or crs.is_projected):
        raise GeoError(f"{source}: {crs.name} is neither projected nor geographic", _HINT)
    axes = [*crs.axis_info, *crs.geodetic_crs.axis_info]
    if any(axis.direction == "west" for axis in axes):
        raise GeoError(
            f"{source}: longitudes of {crs.name} are positive west, which programs interpret in "
            "different ways",
            f"Warp it to a system that is positive east, such as IAU_2015:49910, or {remedy}.",
        )
