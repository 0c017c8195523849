"""Read tables and polygons from GeoPackages and other vector files with pyogrio."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import shapely

from craters.core import StrPath
from craters.errors import DataError
from craters.maps.geo.planet import NO_PLANET, Planet


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer read from a vector file.

    Parameters
    ----------
    fields : dict of str to ndarray, shape (N,)
        Attributes by name.
    geometry : ndarray of bytes, shape (N,), or None
        Well-known binary.
    planet : Planet
    """

    fields: dict[str, np.ndarray]
    geometry: np.ndarray | None
    planet: Planet


def layer_names(path: StrPath) -> list[str]:
    """Return the names of the layers of a vector file.

    Raises
    ------
    DataError
        If it is not a vector file.
    """
    path = Path(path)
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        return [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except DataSourceError as error:
        raise DataError(
            f"{path}: cannot be read as a vector file ({error})", "Use GeoPackage or GeoJSON."
        ) from error


def read_layer(path: StrPath, layer: str | None = None) -> Layer:
    """Read a whole layer; the first one by default.

    Raises
    ------
    DataError
        If the file or the layer cannot be read.
    """
    path = Path(path)
    names = layer_names(path)
    if layer is not None and layer not in names:
        raise DataError(
            f"{path}: has no layer {layer!r}, found {', '.join(names) or 'none'}",
            "Name the file that `craters scan` wrote.",
        )
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    try:
        meta, _, geometry, values = read(path, layer=layer or names[0], force_2d=True)
    except (DataLayerError, DataSourceError) as error:
        raise DataError(f"{path}: layer {layer} cannot be read ({error})") from error
    planet = Planet.named(meta["crs"]) if meta["crs"] else NO_PLANET
    fields = dict(zip((str(name) for name in meta["fields"]), values, strict=True))
    return Layer(fields, geometry, planet)


def parse_geometries(wkb: np.ndarray, source: str) -> np.ndarray:
    """Parse the geometries of a layer; None where there is none.

    Parameters
    ----------
    wkb : ndarray of bytes or None, shape (N,)
        Well-known binary.
    source : str
        Name of the file, for messages.

    Raises
    ------
    DataError
        If one is damaged, or has curves.
    """
    try:
        return np.asarray(shapely.from_wkb(wkb), object)
    except (shapely.errors.ShapelyError, NotImplementedError) as error:
        raise DataError(f"{source}: has a geometry that cannot be read ({error})") from error


def parse_polygons(wkb: bytes | None, source: str) -> list[shapely.Polygon]:
    """Parse a polygon, or the polygons of a multipolygon, without empty ones.

    Parameters
    ----------
    wkb : bytes or None
        Well-known binary.
    source : str
        Name of the file, for messages.

    Raises
    ------
    DataError
        If the geometry is anything else.
    """
    geometry = parse_geometries(np.array([wkb], object), source)[0]
    if not isinstance(geometry, shapely.Polygon | shapely.MultiPolygon):
        raise DataError(f"{source}: holds something else than polygons", "Give polygons.")
    return [part for part in shapely.get_parts(geometry) if not part.is_empty]
