"""Write points as GeoParquet 1.1, with WKB geometry and the full CRS.

Written with arro3, a small build of Arrow: the GDAL bundled with pyogrio has no Parquet driver.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import StrPath, environment, files
from craters.maps.geo.planet import Planet

GEOMETRY = "geometry"  # name of the geometry column


def require_parquet() -> None:
    """Raise an error if arro3 is not installed.

    Raises
    ------
    MissingExtraError
    """
    for module in ("arro3.core", "arro3.io"):
        environment.require(module, "--parquet")


def write_points(
    path: StrPath, points: np.ndarray, table: Mapping[str, np.ndarray], planet: Planet
) -> None:
    """Write points and their attributes as GeoParquet, atomically.

    Parameters
    ----------
    path : path-like
    points : ndarray of shapely points, shape (N,)
        Easting before northing.
    table : mapping of ndarray
        Columns by name: numbers or text.
    planet : Planet
    """
    path = Path(path)
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet

    columns = {name: _column(values) for name, values in table.items()}
    columns[GEOMETRY] = Array(list(shapely.to_wkb(points)), DataType.binary())
    metadata = {"geo": json.dumps(_describe(points, planet), allow_nan=False)}
    with files.atomic_path(path) as target:
        write_parquet(
            Table.from_pydict(columns), target, compression="zstd(3)", key_value_metadata=metadata,
            created_by=f"craters {__version__}",
        )  # fmt: skip


def _column(values: np.ndarray) -> Any:
    from arro3.core import Array, DataType

    if values.dtype.kind in "OU":
        return Array([str(value) for value in values.tolist()], DataType.utf8())
    return Array.from_numpy(np.ascontiguousarray(values))


def _describe(points: np.ndarray, planet: Planet) -> dict[str, Any]:
    """Return the GeoParquet metadata; if the CRS were absent, readers would assume WGS 84."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"] if len(points) else []}
    column["crs"] = planet.crs.to_json_dict() if planet.is_known else None
    if len(points):
        column["bbox"] = shapely.total_bounds(points).tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
