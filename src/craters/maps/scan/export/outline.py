"""The outline of a scanned area for programs that draw great circles from corner to corner.

Such programs refuse polygons that share an edge, so that adjoining footprints become one polygon.
Unions are made in gnomonic projection, in which great circles are straight lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import shapely

from craters.maps.geo import Footprint, Sphere

_UNIT = Sphere(1.0)
_REACH = np.radians(60)  # from the centre of a projection
_FINE = 1e-5  # of the side of a square of equal area: how far outlines move
_GAP = 1e-9  # radians: half of what separates the parts of a large area
_TURNS = (-360, 0, 360)


def outline_rings(footprints: Sequence[Footprint]) -> list[list[np.ndarray]]:
    """Return the union of footprints as polygons on the sphere.

    An area that contains a pole, or reaches further than 60 degrees from its middle, is divided
    into octants of the sphere, a few millimetres apart.

    Parameters
    ----------
    footprints : sequence of Footprint
        On a sphere, without overlaps.

    Returns
    -------
    list of list of ndarray, shape (N, 2)
        Polygons from the smallest to the largest, and for each the outer ring, then its holes:
        longitude and latitude, continuous at 180 degrees, the first corner repeated.
    """
    polygons = [polygon for footprint in footprints for polygon in footprint.polygons]
    corners = np.concatenate([shapely.get_coordinates(polygon) for polygon in polygons])
    vectors = _UNIT.embed(corners)
    centre = vectors.sum(axis=0)
    centre /= max(float(np.linalg.norm(centre)), 1e-12)
    reach = float((vectors @ centre).min())
    if reach > np.cos(_REACH) and np.abs(corners[:, 1]).max() < 90 - 1e-9:
        found = _union(polygons, centre, 0.0)
    else:
        found = list(
            itertools.chain.from_iterable(
                _union(
                    _clip(polygons, lon, lat),
                    _UNIT.embed(np.array([[lon + 45, lat + 45]]))[0],
                    _GAP,
                )
                for lon in (-180, -90, 0, 90)
                for lat in (-90, 0)
            )
        )
    return [rings for _, rings in sorted(found, key=lambda each: each[0])]


def _clip(polygons: Sequence[shapely.Polygon], lon: float, lat: float) -> list[shapely.Geometry]:
    """Return the parts of polygons inside an octant of the sphere."""
    boxes = [shapely.box(lon + turn, lat, lon + turn + 90, lat + 90) for turn in _TURNS]
    parts = [
        shapely.intersection(shapely.make_valid(polygon), box)
        for polygon, box in itertools.product(polygons, boxes)
        if shapely.intersects(polygon, box)
    ]
    return [part for part in parts if part.area > 0]


def _union(
    shapes: Sequence[shapely.Geometry], centre: np.ndarray, gap: float
) -> list[tuple[float, list[np.ndarray]]]:
    """Unite polygons in gnomonic projection; return sizes of outer rings, and rings in degrees."""
    if not shapes:
        return []
    pole = np.array([0.0, 0, 1])
    east = np.cross(pole, centre)
    east /= np.linalg.norm(east)
    axes = np.stack([east, np.cross(centre, east)])
    middle = np.degrees(np.arctan2(centre[1], centre[0]))

    def to_plane(degrees: np.ndarray) -> np.ndarray:
        vectors = _UNIT.embed(degrees)
        return (vectors @ axes.T) / (vectors @ centre)[:, None]

    def to_degrees(ring: shapely.LinearRing) -> np.ndarray:
        x, y, z = (shapely.get_coordinates(ring) @ axes + centre).T
        lon = middle + (np.degrees(np.arctan2(y, x)) - middle + 180) % 360 - 180
        return np.column_stack([lon, np.degrees(np.arctan2(z, np.hypot(x, y)))])

    plane = [shapely.make_valid(shapely.transform(shape, to_plane)) for shape in shapes]
    fine = _FINE * float(np.sqrt(sum(shape.area for shape in plane)))
    united = shapely.union_all(plane)
    if len(plane) > 1:  # what separates adjoining footprints is no more than their rounded edges
        united = united.buffer(fine, join_style="mitre").buffer(-fine, join_style="mitre")
    united = united.simplify(fine).buffer(-gap, join_style="mitre")
    return [
        (
            shapely.Polygon(part.exterior).area,
            [to_degrees(ring) for ring in (part.exterior, *part.interiors)],
        )
        for part in shapely.get_parts(united)
        if isinstance(part, shapely.Polygon) and part.area > fine**2
    ]
