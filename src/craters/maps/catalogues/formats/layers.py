"""Read GIS layers: points with a column of diameters, or rims as polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters.errors import DataError, GeoError
from craters.maps.catalogues import tables
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.columns import GEOMETRY, Geometry, catalogue_of
from craters.maps.catalogues.tables import Table
from craters.maps.geo import (
    BODIES,
    NO_PLANET,
    Planet,
    Sphere,
    measure_rims,
    resolve_planet,
    vectors,
    wrap_lon,
)

MAGIC = {b"SQLite format 3\0": "GeoPackage", b"fgb": "FlatGeobuf", b"\0\0\x27\x0a": "shapefile"}
GEOJSON = "GeoJSON"

_OF_SCANS = "detections"  # layer that `craters scan` writes
_POINTS, _POLYGONS = ("Point", "MultiPoint"), ("Polygon", "MultiPolygon")
_REMEDY = "assign the coordinate system of the body in a GIS"


def is_geojson(content: Any) -> bool:
    """Return whether a JSON document is GeoJSON."""
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def read_layer_catalogue(
    path: Path, kind: str, columns: str = "", crater_class: str = ""
) -> Catalogue:
    """Read a layer of points or polygons, in any coordinate system of a body.

    Parameters
    ----------
    path : Path
    kind : str
        Name of the format.
    columns, crater_class : str
        As for `read_catalogue`.

    Raises
    ------
    ConfigError, DataError, GeoError
    """
    name = _layer_name(path)
    layer = vectors.read_layer(path, name)
    if layer.geometry is None or not len(layer.geometry):
        raise DataError(f"{path}: layer {name!r} holds no geometry", "Give points or rim polygons.")
    shapes = vectors.parse_geometries(layer.geometry, str(path))
    planet = _planet(path, kind, layer.planet)
    geometry = _geometry(path, shapes, planet)
    table = Table(
        columns=tables.as_text(layer.fields) | {GEOMETRY: _words(shapes)},
        source=str(path),
        numbers=range(1, len(shapes) + 1),
        notes=(
            f"The catalogue is a {kind} of {len(shapes)} {geometry.kind}s, layer {name!r}",
            *_notes(geometry, planet),
        ),
    )
    return catalogue_of(table, columns, crater_class, geometry)


def _layer_name(path: Path) -> str:
    names = vectors.layer_names(path)
    if len(names) == 1:
        return names[0]
    if _OF_SCANS in names:
        return _OF_SCANS
    raise DataError(
        f"{path}: has {len(names)} layers ({', '.join(names)})",
        "Export the layer of the craters to its own file.",
    )


def _planet(path: Path, kind: str, stored: Planet) -> Planet:
    """Return the coordinate system; none for GeoJSON that names none, which is in degrees.

    Raises
    ------
    GeoError
        If there is none, or it cannot be used.
    """
    if kind == GEOJSON and "crs" not in json.loads(path.read_bytes()):
        return NO_PLANET  # GDAL gives that of the Earth
    if not stored.is_known:
        raise GeoError(
            f"{path}: has no coordinate system",
            "Add the .prj file of the shapefile, or assign the coordinate system in a GIS.",
        )
    body = stored.body if stored.body in BODIES else ""  # that of the images is checked later
    return resolve_planet(stored, body=body, source=str(path), remedy=_REMEDY)


def _geometry(path: Path, shapes: np.ndarray, planet: Planet) -> Geometry:
    """Return positions and diameters of points or polygons.

    Raises
    ------
    DataError
        If the geometries are anything else, or mixed.
    """
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    kinds = {shape.geom_type for shape in shapes[there]}
    if not kinds or not (kinds <= {*_POINTS} or kinds <= {*_POLYGONS}):
        raise DataError(
            f"{path}: holds {', '.join(sorted(kinds)) or 'empty geometries'}",
            "Give a layer of points with a column of diameters, or of rims as polygons.",
        )
    places, diameters = np.full((len(shapes), 2), np.nan), None
    if kinds <= {*_POINTS}:
        points = shapely.get_coordinates(shapely.centroid(shapes[there]))
        places[there] = np.column_stack(_to_degrees(planet, *points.T))
    else:
        if not planet.is_known:
            raise DataError(
                f"{path}: rims as polygons need the radius of their body, which GeoJSON without "
                "'crs' does not state",
                "Save it as GeoPackage in a coordinate system of the body, such as IAU_2015:49900.",
            )
        diameters = np.full(len(shapes), np.nan)
        rims = shapely.transform(
            shapes[there], lambda corners: np.column_stack(planet.to_lonlat(*corners.T))
        )
        places[there], diameters[there] = measure_rims(Sphere(planet.radius), rims)
    return Geometry(
        places=places,
        diameters=diameters,
        planet=planet,
        kind="point" if diameters is None else "polygon",
    )


def _to_degrees(planet: Planet, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert map coordinates to degrees; without a CRS they are degrees, NaN off the body."""
    if planet.is_known:
        return planet.to_lonlat(x, y)
    off = (np.abs(x) > 360) | (np.abs(y) > 90)
    return np.where(off, np.nan, wrap_lon(x)), np.where(off, np.nan, y)


def _words(shapes: np.ndarray) -> list[str]:
    return ["none" if shape is None else shape.geom_type for shape in shapes]


def _notes(geometry: Geometry, planet: Planet) -> list[str]:
    notes = []
    if geometry.diameters is not None:
        notes.append("The diameters are those of circles of the area of the polygons on the sphere")
    if not planet.is_known:
        notes.append("GeoJSON without 'crs' names no body: its degrees are taken as longitude east")
    return notes
