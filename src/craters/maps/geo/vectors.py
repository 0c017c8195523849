"""Read tables and polygons from GeoPackages and other vector files with pyogrio.

Polygons come as well-known binary (OGC 06-103r4) and are unpacked here, without a geometry library.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np

from craters.errors import DataError
from craters.maps.geo.planet import NO_PLANET, Planet

Rings = list[np.ndarray]

_POLYGON, _MULTI_POLYGON = 3, 6


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a vector file.

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


def layer_names(path: Path) -> list[str]:
    """Return the names of the layers of a vector file.

    Raises
    ------
    DataError
        When it is none.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        return [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except DataSourceError as error:
        raise DataError(
            f"{path}: cannot be read as a vector file ({error})", "Use GeoPackage or GeoJSON."
        ) from error


def read_layer(path: Path, layer: str | None = None) -> Layer:
    """Read a whole layer; the first one by default.

    Raises
    ------
    DataError
        When the file or the layer cannot be read.
    """
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


def unpack_polygons(blob: bytes | None, source: str) -> list[Rings]:
    """Split a polygon or multipolygon into polygons, each an outer ring and its holes.

    Raises
    ------
    DataError
        When the geometry is something else.
    """
    if blob is not None and len(blob) >= 9:
        order = "<" if blob[:1] == b"\x01" else ">"
        kind, count = struct.unpack_from(f"{order}II", blob, 1)
        if kind == _POLYGON:
            return [_unpack_polygon(blob, 0)[0]]
        if kind == _MULTI_POLYGON:
            found, at = [], 9
            for _ in range(count):
                rings, at = _unpack_polygon(blob, at)
                found.append(rings)
            return found
    raise DataError(f"{source}: holds something else than polygons", "Give areas, not points.")


def _unpack_polygon(blob: bytes, at: int) -> tuple[Rings, int]:
    order = "<" if blob[at : at + 1] == b"\x01" else ">"
    (count,) = struct.unpack_from(f"{order}I", blob, at + 5)
    rings, at = [], at + 9
    for _ in range(count):
        (size,) = struct.unpack_from(f"{order}I", blob, at)
        ring = np.frombuffer(blob, f"{order}f8", 2 * size, at + 4).reshape(size, 2)
        rings.append(ring.astype(float))
        at += 4 + 16 * size
    return rings, at
