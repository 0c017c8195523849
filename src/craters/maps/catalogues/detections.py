"""Read the detections of a scan: columns found by name, units and ranges checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from craters.core import StrPath
from craters.errors import DataError
from craters.maps.catalogues import tables
from craters.maps.catalogues.catalogue import Detections
from craters.maps.catalogues.columns import (
    SIZE_ERRORS,
    SIZES,
    conversions,
    first_kind,
    place_kinds,
    read_sources,
    to_diameters,
    to_places,
)
from craters.maps.catalogues.tables import Check, Table
from craters.maps.geo import NO_PLANET, vectors


def read_detections(path: StrPath, columns: str = "", *, in_pixels: bool = False) -> Detections:
    """Read the detections of a scan from its folder, its GeoPackage, or a CSV table.

    Parameters
    ----------
    path : Path
        A folder must hold detections.gpkg or detections.csv. The layer `detections` of a
        GeoPackage is read.
    columns : str
        Unusual column names, as for `read_catalogue`.
    in_pixels : bool
        Read x, y and diameters in pixels instead of longitudes, latitudes and km.

    Returns
    -------
    Detections
        With diameters if the table has a column of diameters or radii with a number in any row.

    Raises
    ------
    ConfigError, DataError
    """
    file = _detections_file(Path(path))
    planet = NO_PLANET
    if file.suffix.lower() == ".csv":
        table = tables.read_csv(file, may_be_empty=True)
    else:
        layer = vectors.read_layer(file, "detections")
        planet = layer.planet
        table = Table(tables.as_text(layer.fields), str(file))
    given = tables.read_columns_option(columns)
    column_of = tables.find_columns(table, given)
    wanted = "x and y" if in_pixels else "lat and lon"
    where = place_kinds(table, column_of, given, in_pixels=in_pixels, wanted=wanted)
    if "probability" not in column_of:
        raise tables.missing(table, "probability")
    size, error = _detected_sizes(table, column_of, given, in_pixels=in_pixels)
    used = {kind: column_of[kind] for kind in ("probability", *where, *size, *error)}
    values, checks = tables.read_numbers(table, used)
    probability = values["probability"]
    outside = (probability < 0) | (probability > 1)
    places, of_places = to_places(values, used)
    in_range = Check(column=used["probability"], wrong=outside, expected="0 to 1")
    diameters, of_sizes = to_diameters(values, used, size) if size else (None, [])
    errors = values[error[0]] * SIZE_ERRORS[in_pixels][error[0]] if error else None
    if errors is not None:
        of_sizes.append(Check(column=used[error[0]], wrong=errors < 0, expected="0 or more"))
    tables.refuse_wrong(table, [*checks, in_range, *of_places, *of_sizes])
    if used.get("y", "").lower() == "y" and len(places) and (places[:, 1] <= 0).all():
        places = places * [1, -1]  # a scan without coordinates counts rows downwards
    return Detections(
        places=places,
        probability=probability,
        sources=read_sources(table, column_of),
        planet=planet,
        name=str(file),
        notes=(
            *table.notes,
            *conversions(table, used, size),
            *_unused_sizes(table, column_of, in_pixels=in_pixels, are_used=bool(size)),
        ),
        diameters=diameters,
        diameter_errors=errors,
    )


def _detected_sizes(
    table: Table, column_of: Mapping[str, str], given: Mapping[str, str], *, in_pixels: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the quantities, one or none, that give the diameters of detections and their errors.

    A column without any number, such as kilometres of images without coordinates, gives none.
    """
    filled = {
        kind: name
        for kind, name in column_of.items()
        if kind in given or not len(table) or not tables.is_blank(table.columns[name])
    }
    size = first_kind(SIZES[in_pixels], filled, given)
    return size, first_kind(SIZE_ERRORS[in_pixels], filled, given) if size else ()


def _unused_sizes(
    table: Table, column_of: Mapping[str, str], *, in_pixels: bool, are_used: bool
) -> list[str]:
    """Note that a column may hold diameters, but in another or an unknown unit."""
    if are_used:
        return []
    other = [column_of[kind] for kind in SIZES[not in_pixels] if kind in column_of]
    names = other + tables.sizes_without_unit(table)
    kinds = " or ".join(kind for kind in SIZES[in_pixels] if kind.startswith("diameter"))
    return [
        f"{names[0]!r} of the detections is not used: diameters are expected in {kinds} "
        "(--detection-columns)"
        for _ in names[:1]
    ]


def _detections_file(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", "Give the folder of a scan.")
    for name in ("detections.gpkg", "detections.csv") if path.is_dir() else ():
        if (path / name).is_file():
            return path / name
    if path.is_dir() or path.suffix.lower() not in (".csv", ".gpkg"):
        raise DataError(
            f"{path}: holds no detections", "Give the folder of a scan, a .gpkg or a .csv file."
        )
    return path
