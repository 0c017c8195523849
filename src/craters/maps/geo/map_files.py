"""Write maps and layers for QGIS: Cloud-Optimized GeoTIFF, GeoPackage and GeoParquet.

GeoParquet is written with arro3, a small build of Arrow: the GDAL bundled with pyogrio has no
Parquet driver.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import StrPath, environment, files
from craters.errors import ConfigError
from craters.maps.geo.gdal import bounded_gdal, gdal_errors
from craters.maps.geo.planet import Planet

# Pixel type of a map: the stored value of probability 1, and the nodata value.
DTYPES: dict[str, tuple[float, float]] = {
    "float32": (1.0, float("nan")),
    "uint16": (65534.0, 65535.0),
    "uint8": (254.0, 255.0),
}
_BLOCK = 512
_ROWS = 1 << 14  # that small parts of a layer are joined to
GEOMETRY = "geometry"  # name of the geometry column in GeoParquet


def storage_error(dtype: str) -> float:
    """Return the largest rounding error of a probability in a map of this type.

    Examples
    --------
    >>> round(storage_error("uint8"), 6), storage_error("float32")
    (0.001969, 0.0)
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}, expected {', '.join(DTYPES)}")
    return 0.0 if dtype == "float32" else 0.5 / DTYPES[dtype][0]


def write_map(
    path: StrPath,
    bands: Iterator[np.ndarray],
    *,
    size: tuple[int, int],
    transform: tuple[float, ...],
    planet: Planet,
    dtype: str,
    tags: Mapping[str, str],
) -> None:
    """Write probabilities as a Cloud-Optimized GeoTIFF with overviews, atomically.

    Parameters
    ----------
    path : path-like
    bands : iterator of ndarray, shape (any, width), float32
        Consecutive rows, from the first to the last; NaN where there is no value.
    size : tuple of int
        Height and width.
    transform : tuple of float
        As in `image.Image`.
    planet : Planet
    dtype : str
        One of `DTYPES`.
    tags : mapping of str
        Metadata written to the file.
    """
    path = Path(path)
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import Affine
    from rasterio.windows import Window

    scale, nodata = DTYPES[dtype]
    profile = {
        "driver": "GTiff", "height": size[0], "width": size[1], "count": 1, "dtype": dtype,
        "nodata": nodata, "transform": Affine(*transform), "crs": planet.wkt or None,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1,
        "bigtiff": "if_safer", "sparse_ok": True,
    }  # fmt: skip
    with (
        bounded_gdal(),
        files.atomic_path(path) as target,
        gdal_errors(str(path), "cannot be written"),
    ):
        uncompressed = target.with_suffix(".plain.tif")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                with rasterio.open(uncompressed, "w", **profile) as dataset:
                    row = 0
                    for band in bands:
                        window = Window(0, row, size[1], len(band))
                        dataset.write(_stored(band, dtype), 1, window=window)
                        row += len(band)
                    dataset.update_tags(**tags)
                    dataset.set_band_description(1, "probability")
                    if scale != 1:
                        dataset.scales = (1 / scale,)
                copy(
                    uncompressed, target, driver="COG", compress="DEFLATE", predictor="YES",
                    blocksize=_BLOCK, overview_resampling="AVERAGE", bigtiff="IF_SAFER",
                )  # fmt: skip
        finally:
            uncompressed.unlink(missing_ok=True)


def _stored(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        return values.astype(np.float32)
    scale, nodata = DTYPES[dtype]
    return np.where(np.isfinite(values), np.rint(values.astype(np.float64) * scale), nodata).astype(
        dtype
    )


@dataclasses.dataclass(frozen=True)
class Layer:
    """A vector layer: attributes, and a geometry for each row.

    Parameters
    ----------
    name : str
    kind : {"Point", "Polygon", "none"}
    shapes : ndarray of shapely geometries, shape (N,)
        Empty if `kind` is "none".
    columns : mapping of ndarray
        By name.
    """

    name: str
    kind: str
    shapes: np.ndarray
    columns: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


def write_layers(
    path: StrPath, layers: Sequence[Iterator[Layer]], planet: Planet, styles: dict
) -> None:
    """Write a GeoPackage, atomically.

    Parameters
    ----------
    path : path-like
    layers : sequence of iterator of Layer
        Each iterator yields the parts of one layer: at least one, which may be empty.
    planet : Planet
    styles : dict of str
        QGIS style (QML) by layer name; QGIS applies it when it opens the file. Without any, the
        file has no table of styles.
    """
    path = Path(path)
    with files.atomic_path(path) as target:
        target.unlink()
        for parts in layers:
            for number, layer in enumerate(_joined(parts)):
                _write_part(target, layer, planet, append=number > 0)
        if styles:
            _embed_styles(target, styles)
        for journal in target.parent.glob(f"{target.name}-*"):  # journals of SQLite, if any
            journal.unlink()


def _joined(parts: Iterator[Layer]) -> Iterator[Layer]:
    """Join small parts of a layer, such as those of small images: each takes milliseconds."""
    waiting: list[Layer] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += part.rows
        if count >= _ROWS:
            yield _join(waiting)
            waiting, count = [], 0
    if waiting:
        yield _join(waiting)


def _join(parts: list[Layer]) -> Layer:
    """Join parts in their order; empty ones, whose columns may have other types, are left out."""
    filled = [part for part in parts if part.rows] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    return dataclasses.replace(
        filled[0],
        shapes=np.concatenate([part.shapes for part in filled]),
        columns={
            name: np.concatenate([part.columns[name] for part in filled])
            for name in filled[0].columns
        },
    )


def _write_part(path: Path, layer: Layer, planet: Planet, *, append: bool) -> None:
    from pyogrio.raw import write

    geometry = None if layer.kind == "none" else shapely.to_wkb(layer.shapes)
    index = "NO" if geometry is None else "YES"
    options: dict[str, Any] = {} if append else {"SPATIAL_INDEX": index}
    if append and not layer.rows:
        return
    creation = {"dataset_options": {"CRS_WKT_EXTENSION": "YES"}} if not path.exists() else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*crs.* was not provided")
            write(
                str(path), geometry, list(layer.columns.values()), list(layer.columns),
                layer=layer.name, driver="GPKG", crs=planet.wkt or None, append=append,
                geometry_type=None if geometry is None else layer.kind,
                layer_options=options, **creation,
            )  # fmt: skip
    except RuntimeError as error:  # the base of the errors of pyogrio
        raise OSError(f"{path}: cannot be written ({error})") from error


def _embed_styles(path: Path, styles: dict[str, str]) -> None:
    """Add the table of QGIS layer styles."""
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT, "
            "f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT, "
            "f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, "
            "useAsDefault BOOLEAN, description TEXT, owner TEXT, ui TEXT, "
            "update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))"
        )
        for name, qml in styles.items():
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, "
                "owner) VALUES ('', '', ?, 'geom', ?, ?, '', 1, 'craters', '')",
                (name, name, qml),
            )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    database.close()


_STYLE_HEAD = (
    '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n<qgis version="3.28" '
    'styleCategories="Symbology">'
)
_SYMBOL_LAYER = '<layer class="{symbol}" enabled="1"><Option type="Map">{options}</Option></layer>'


def point_style(color: str, *, shape: str = "circle", size: float = 4) -> str:
    """Make a QGIS style (QML): points as unfilled markers.

    Parameters
    ----------
    color : str
        "R,G,B,A", each 0 to 255.
    shape : str
        QGIS marker name: circle, cross2, diamond, ...
    size : float
        Millimetres on the screen.
    """
    options = {"name": shape, "color": "0,0,0,0", "outline_color": color, "outline_width": "0.5",
               "size": f"{size:g}"}  # fmt: skip
    return _style("marker", "SimpleMarker", options)


def outline_style(color: str, width: float) -> str:
    """Make a QGIS style (QML): polygons as outlines, `width` millimetres wide."""
    options = {"style": "no", "outline_color": color, "outline_width": f"{width:g}"}
    return _style("fill", "SimpleFill", options)


def class_style(column: str, classes: Sequence[tuple[float, str]]) -> str:
    """Make a QGIS style (QML): polygons as outlines, coloured by classes of a number up to 1.

    A dark line under the coloured one keeps it visible on bright ground.

    Parameters
    ----------
    column : str
        Name of the attribute.
    classes : sequence of tuple
        Least value and color ("#rrggbb") of each class, from the highest on.
    """
    ranges, symbols, above = [], [], 1.0
    for number, (least, color) in enumerate(classes):
        label = f"{least:g} to {above:g}"
        ranges.append(
            f'<range symbol="{number}" lower="{least:g}" upper="{above:g}" label="{label}" '
            'render="true"/>'
        )
        layers = "".join(
            _SYMBOL_LAYER.format(
                symbol="SimpleFill",
                options=_options({"style": "no", "outline_color": line, "outline_width": width}),
            )
            for line, width in (("0,0,0,120", "0.8"), (color, "0.45"))
        )
        symbols.append(f'<symbol type="fill" name="{number}" alpha="1">{layers}</symbol>')
        above = least
    return (
        _STYLE_HEAD + f'<renderer-v2 type="graduatedSymbol" attr="{column}" '
        f'graduatedMethod="GraduatedColor"><ranges>{"".join(ranges)}</ranges>'
        f"<symbols>{''.join(symbols)}</symbols></renderer-v2></qgis>\n"
    )


def _style(kind: str, symbol: str, options: Mapping[str, str]) -> str:
    layer = _SYMBOL_LAYER.format(symbol=symbol, options=_options(options))
    return (
        f'{_STYLE_HEAD}<renderer-v2 type="singleSymbol"><symbols><symbol type="{kind}" '
        f'name="0" alpha="1">{layer}</symbol></symbols></renderer-v2></qgis>\n'
    )


def _options(options: Mapping[str, str]) -> str:
    return "".join(
        f'<Option name="{name}" type="QString" value="{value}"/>' for name, value in options.items()
    )


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

    columns = {name: _arrow_column(values) for name, values in table.items()}
    columns[GEOMETRY] = Array(list(shapely.to_wkb(points)), DataType.binary())
    metadata = {"geo": json.dumps(_geo_metadata(points, planet), allow_nan=False)}
    with files.atomic_path(path) as target:
        write_parquet(
            Table.from_pydict(columns), target, compression="zstd(3)", key_value_metadata=metadata,
            created_by=f"craters {__version__}",
        )  # fmt: skip


def _arrow_column(values: np.ndarray) -> Any:
    from arro3.core import Array, DataType

    if values.dtype.kind in "OU":
        return Array([str(value) for value in values.tolist()], DataType.utf8())
    return Array.from_numpy(np.ascontiguousarray(values))


def _geo_metadata(points: np.ndarray, planet: Planet) -> dict[str, Any]:
    """Return the GeoParquet metadata; if the CRS were absent, readers would assume WGS 84."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"] if len(points) else []}
    column["crs"] = planet.crs.to_json_dict() if planet.is_known else None
    if len(points):
        column["bbox"] = shapely.total_bounds(points).tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
