"""Image footprints on the sphere or in pixels: containment, distance to boundary, area; rims."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import shapely

from craters.core import StrPath
from craters.errors import DataError, GeoError
from craters.maps.geo import gdal, image_files, raster, vectors
from craters.maps.geo.image_files import image_name
from craters.maps.geo.orientation import find_orientation
from craters.maps.geo.planet import Planet
from craters.maps.geo.sphere import Plane, Space, Sphere, wrap_lon
from craters.settings import ReadOptions

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")

_STEP = 5000.0  # metres between outline points: the great circle differs from the edge by about 1 m
_PIECES = 256  # smallest number of points: near a pole, edges are strongly curved in degrees
_CORNERS = 64  # of a circle as a polygon: its area is 0.2 % too small
_OFFSET = 1e-6  # degrees or pixels: distance from an edge at which containment is tested


@dataclasses.dataclass(frozen=True, eq=False)
class Footprint:
    """The area that one image covers.

    Parameters
    ----------
    source : str
        Name of the image, without folder and suffix.
    polygons : list of shapely.Polygon
        In degrees (longitudes may exceed 180) or pixels.
    space : Space
    pixel : float or None
        Resolution in m/px; None if unknown.
    """

    source: str
    polygons: list[shapely.Polygon]
    space: Space
    pixel: float | None = None

    def contains(self, places: np.ndarray) -> np.ndarray:
        """Return which places are inside or on the boundary, as bool of shape (N,)."""
        inside = np.zeros(len(places), bool)
        shapely.prepare(self.polygons)
        x, y = places.T
        turns = (-1, 0, 1) if self.space.period else (0,)
        for polygon, turn in itertools.product(self.polygons, turns):
            inside |= shapely.intersects_xy(polygon, x + turn * self.space.period, y)
        return inside

    def distance_to_boundary(self, places: np.ndarray, reach: float) -> np.ndarray:
        """Return the distance of each inside place to the boundary, in metres or pixels.

        Returns
        -------
        ndarray, shape (N,)
            0 outside; clipped to `reach`.
        """
        inside = self.contains(places)
        distance = np.where(inside, reach, 0.0)
        ends = self._edges
        if not len(ends) or not inside.any():
            return distance
        from scipy.spatial import KDTree

        half = float(self.space.distance(ends[:, 0], ends[:, 1]).max()) / 2
        tree = KDTree(self.space.embed(ends.mean(axis=1)))
        rows = np.flatnonzero(inside)
        # With a margin: the midpoint in degrees is not exactly that of the arc.
        search_radius = float(self.space.chord(1.01 * (reach + half))) + 1e-6
        near = tree.query_ball_point(self.space.embed(places[rows]), search_radius)
        point = np.repeat(rows, [len(hits) for hits in near])
        edge = np.fromiter(itertools.chain.from_iterable(near), int, len(point))
        np.minimum.at(distance, point, to_segments(self.space, places[point], ends[edge]))
        return distance

    @functools.cached_property
    def _edges(self) -> np.ndarray:
        """Segments (M, 2, 2) of the outline, without seams between polygons."""
        corners, ring = shapely.get_coordinates(shapely.get_rings(self.polygons), return_index=True)
        ends = np.stack([corners[:-1], corners[1:]], axis=1)[ring[:-1] == ring[1:]]
        ends = ends[(ends[:, 0] != ends[:, 1]).any(axis=1)]
        along = ends[:, 1] - ends[:, 0]
        aside = _OFFSET * np.column_stack([-along[:, 1], along[:, 0]])
        aside /= np.hypot(*along.T)[:, None]
        middle = ends.mean(axis=1)
        seam = self.contains(middle + aside) & self.contains(middle - aside)
        if self.space.period:
            seam |= (np.abs(ends[:, :, 1]) >= 90 - _OFFSET).all(axis=1)  # a pole is not a boundary
        return ends[~seam]

    @functools.cached_property
    def area(self) -> float | None:
        """Square kilometres on the sphere; None in a plane of pixels."""
        if not isinstance(self.space, Sphere):
            return None
        return sum(self._area(polygon) for polygon in self.polygons) / 1e6

    def _area(self, polygon: shapely.Polygon) -> float:
        """Integrate lon d(sin lat) along the rings, which is exact on a sphere."""
        assert isinstance(self.space, Sphere)
        sizes = []
        for ring in shapely.get_rings(polygon):
            lon, lat = np.radians(shapely.get_coordinates(ring)).T
            height = np.sin(lat)
            mean = (lon[1:] + lon[:-1]) / 2
            sizes.append(abs(float(np.sum(mean * np.diff(height)))) * self.space.radius**2)
        return sizes[0] - sum(sizes[1:]) if sizes else 0.0


def to_segments(space: Space, places: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the distance of each place to the segment of its row.

    Parameters
    ----------
    space : Space
    places : ndarray, shape (N, 2)
    ends : ndarray, shape (N, 2, 2)
        End points of the segments: great-circle arcs of a few hundred kilometres at most.
    """
    first = space.offsets(places, ends[:, 0])
    along = space.offsets(places, ends[:, 1]) - first
    length = np.maximum((along**2).sum(axis=1), 1e-30)
    share = np.clip(-(first * along).sum(axis=1) / length, 0, 1)
    return np.hypot(*(first + share[:, None] * along).T)


def rim_polygons(sphere: Sphere, places: np.ndarray, diameters: np.ndarray) -> np.ndarray:
    """Return circles on a sphere as polygons in degrees, with 64 corners.

    Parameters
    ----------
    sphere : Sphere
    places : ndarray, shape (N, 2)
        Centres.
    diameters : ndarray, shape (N,)
        Metres.

    Returns
    -------
    ndarray of shapely.Polygon, shape (N,)
        Longitudes may exceed 180, so that no polygon is cut there.

    Examples
    --------
    >>> moon = Sphere(1737400.0)
    >>> circle, pole = rim_polygons(moon, np.array([[180.0, 0], [0, 90]]), np.array([2e4, 2e4]))
    >>> [round(end, 2) for end in circle.bounds], pole.bounds[3]
    ([179.67, -0.33, 180.33, 0.33], 90.0)
    """
    turn = np.linspace(0, 2 * np.pi, _CORNERS + 1)
    steps = np.multiply.outer(diameters / 2, np.column_stack([np.sin(turn), np.cos(turn)]))
    rings = sphere.travel(np.repeat(places, len(turn), axis=0), steps.reshape(-1, 2))
    rings = rings.reshape(len(places), len(turn), 2)
    rings[:, :, 0] = np.unwrap(rings[:, :, 0], period=360.0, axis=1)
    around_pole = np.abs(rings[:, -1, 0] - rings[:, 0, 0]) > 180
    rings[~around_pole, -1] = rings[~around_pole, 0]
    polygons = np.empty(len(places), object)
    polygons[~around_pole] = shapely.polygons(rings[~around_pole])
    for row in np.flatnonzero(around_pole):
        polygons[row] = shapely.Polygon(_close_at_pole(rings[row]))
    return polygons


def measure_rims(sphere: Sphere, polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centroids of rims, and the diameters of the circles of the same area.

    Holes are ignored; the parts of a multipolygon are one rim. The inverse of `rim_polygons`, whose
    64 corners make the area 0.16 % and the diameter 0.08 % smaller.

    Parameters
    ----------
    sphere : Sphere
    polygons : ndarray of shapely polygons or multipolygons, shape (N,)
        In degrees.

    Returns
    -------
    places : ndarray, shape (N, 2)
        Longitude and latitude.
    diameters : ndarray, shape (N,)
        Metres.

    Examples
    --------
    >>> moon, pole = Sphere(1737400.0), np.array([[0.0, 90.0]])
    >>> places, diameters = measure_rims(moon, rim_polygons(moon, pole, np.array([2e4])))
    >>> round(float(places[0, 1]), 6), round(float(diameters[0]))
    (90.0, 19984)
    """
    parts, rim_of_part = shapely.get_parts(polygons, return_index=True)
    corners, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    rim, count = rim_of_part[part], len(polygons)
    unit = Sphere(1.0)
    vectors_3d = unit.embed(corners)
    middle = np.stack([np.bincount(rim, axis, count) for axis in vectors_3d.T], axis=1)
    lon = np.degrees(np.arctan2(middle[:, 1], middle[:, 0]))
    lat = np.degrees(np.arctan2(middle[:, 2], np.hypot(middle[:, 0], middle[:, 1])))
    origin = np.column_stack([lon, lat])
    # Lambert's azimuthal equal-area plane around each rim.
    offsets = unit.offsets(origin[rim], corners)
    angle = np.hypot(*offsets.T)
    x, y = (offsets * (2 * np.sin(angle / 2) / np.where(angle > 0, angle, 1))[:, None]).T
    inside = part[1:] == part[:-1]
    cross = np.where(inside, x[:-1] * y[1:] - x[1:] * y[:-1], 0.0)
    area_of_part = np.bincount(part[:-1], cross, len(parts)) / 2
    signs = np.sign(area_of_part)
    area = np.bincount(rim_of_part, np.abs(area_of_part), count)
    moments = [
        np.bincount(rim[:-1], signs[part[:-1]] * cross * (axis[1:] + axis[:-1]), count) / 6
        for axis in (x, y)
    ]
    shift = np.column_stack(moments) / np.where(area > 0, area, 1)[:, None]
    reach = np.hypot(*shift.T)
    arc = 2 * np.arcsin(np.clip(reach / 2, 0, 1)) / np.where(reach > 0, reach, 1)
    places = unit.travel(origin, shift * arc[:, None])
    diameters = 4 * sphere.radius * np.arcsin(np.sqrt(np.clip(area / (4 * np.pi), 0, 1)))
    return np.column_stack([wrap_lon(places[:, 0]), places[:, 1]]), diameters


def read_footprints(path: StrPath, layer: str | None = None) -> list[Footprint]:
    """Read the footprints of images from a vector file, or from the images themselves.

    Parameters
    ----------
    path : path-like
        A vector file of polygons (field `source`: name of the image), an image, or a folder of
        images. Footprints of images include their no-data regions.
    layer : str, optional
        Layer of a vector file. Default: `footprint` if present, else the first.

    Raises
    ------
    DataError, GeoError
    """
    path = Path(path)
    if path.suffix.lower() not in VECTOR_SUFFIXES:
        images = image_files.find_images([path])
        return [footprint_of_image(Path(image), name) for image, name in images]
    names = vectors.layer_names(path)
    table = vectors.read_layer(path, layer or ("footprint" if "footprint" in names else None))
    if table.geometry is None:
        raise DataError(f"{path}: holds a table without polygons")
    sources = table.fields.get("source", np.full(len(table.geometry), "", object))
    merged: dict[str, list[shapely.Polygon]] = {}
    for name, wkb in zip(sources, table.geometry, strict=True):
        polygons = vectors.parse_polygons(wkb, str(path))
        merged.setdefault(image_name(name or ""), []).extend(polygons)
    space: Space = Sphere(table.planet.radius) if table.planet.is_known else Plane()

    def to_space(polygon: shapely.Polygon) -> shapely.Polygon:
        if not table.planet.is_known:  # in a scan without coordinates, rows count downwards
            return shapely.transform(polygon, lambda corners: corners * [1, -1])
        rings = map(shapely.get_coordinates, shapely.get_rings(polygon))
        outer, *holes = (_on_sphere(ring, table.planet) for ring in rings)
        for hole in holes:  # to the same turn around the body as the outer ring
            hole[:, 0] += 360 * np.round((outer[:, 0].mean() - hole[:, 0].mean()) / 360)
        return shapely.Polygon(outer, holes)

    return [
        Footprint(name, [to_space(polygon) for polygon in polygons], space)
        for name, polygons in merged.items()
    ]


def footprint_of_image(path: Path, name: str) -> Footprint:
    """Return the rectangle of an image, on the sphere, or in pixels if it has no CRS.

    Raises
    ------
    DataError, GeoError
    """
    # All bands have the same area, and pixel values do not matter.
    options = ReadOptions(no_crs=True, band=1, scale=(0.0, 255.0))
    image = raster.describe_image(str(path), name, options)
    with gdal.open_dataset(str(path)) as dataset:  # an oblique image is less than its `Image`
        height, width, stored = dataset.height, dataset.width, tuple(dataset.transform)
    cols, rows = np.array([[0, width, width, 0, 0], [0, 0, height, height, 0]], float)
    if not image.planet.is_known:
        polygon = shapely.Polygon(np.column_stack([cols, rows]))
        return Footprint(source=image_name(name), polygons=[polygon], space=Plane())
    if find_orientation(stored, height, width) is None:
        a, b, c, d, e, f = stored[:6]
        ring = np.column_stack([a * cols + b * rows + c, d * cols + e * rows + f])
    else:
        sides = image.height / height, image.width / width
        ring = np.column_stack(image.outline(rows * sides[0], cols * sides[1]))
    return Footprint(
        source=image_name(name),
        polygons=[shapely.Polygon(_on_sphere(ring, image.planet))],
        space=Sphere(image.planet.radius),
        pixel=image.resolution,
    )


def _on_sphere(ring: np.ndarray, planet: Planet) -> np.ndarray:
    """Densify a ring and convert it to degrees, continuous at 180 and closed at a pole."""
    perimeter = float(np.hypot(*np.diff(ring, axis=0).T).sum())
    parts, step = [], max(min(_STEP / planet.metres, perimeter / _PIECES), 1e-12)
    for start, end in itertools.pairwise(ring):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / step)))
        parts.append(start + (end - start) * (np.arange(count) / count)[:, None])
    dense = np.concatenate([*parts, ring[-1:]])
    # Mosaics, and polygons around them, often extend half a pixel beyond a pole.
    lon, lat = planet.to_lonlat(dense[:, 0], np.clip(dense[:, 1], *planet.pole_lines))
    if planet.in_degrees:
        lon = dense[:, 0]  # a ring may extend beyond 180, or around the body
    if not np.isfinite(lon + lat).all():
        raise GeoError(
            "a footprint extends beyond the edge of its map projection",
            "Clip it to the outline of the body.",
        )
    degrees = np.column_stack([np.unwrap(lon, period=360.0), lat])
    degrees[:, 0] -= 360 * np.round(degrees[:, 0].mean() / 360)
    return _close_at_pole(degrees)


def _close_at_pole(degrees: np.ndarray) -> np.ndarray:
    """Return a ring that runs around a pole as one that is closed along it; others unchanged."""
    turn = degrees[-1, 0] - degrees[0, 0]
    if abs(turn) > 180:  # connect to the pole, follow it, return
        pole = 90.0 if degrees[:, 1].mean() > 0 else -90.0
        ends = [[degrees[-1, 0], pole], [degrees[0, 0], pole], degrees[0].tolist()]
        degrees = np.concatenate([degrees, ends])
    return degrees
