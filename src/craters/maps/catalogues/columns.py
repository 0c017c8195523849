"""Find positions and diameters in the columns of a table: units and ranges checked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from craters.errors import ConfigError, DataError
from craters.maps.catalogues import classes, tables
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.tables import Check, Table
from craters.maps.geo import NO_PLANET, Planet, image_name, wrap_lon

GEOMETRY = "geometry"  # name of the geometries of a layer, as if they were a column

_GIANT = 1e6  # metres: a catalogue with a median diameter above this has metres for kilometres

_COUNTED = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}

_BOXES = (("left", "top", "right", "bottom"), ("left", "top", "width", "height"))

# Metres or pixels per unit of diameter, of the columns that may give it, the first that exists.
SIZES = {
    False: {"diameter_km": 1000.0, "diameter_m": 1.0, "radius_km": 2000.0, "radius_m": 2.0},
    True: {"diameter_px": 1.0, "radius_px": 2.0},
}
SIZE_ERRORS = {
    False: {"diameter_error_km": 1000.0, "diameter_error_m": 1.0},
    True: {"diameter_error_px": 1.0},
}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Positions, and perhaps diameters, that the geometries of a GIS layer give.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        Longitude and latitude in degrees; NaN where a geometry is missing or off the map.
    diameters : ndarray, shape (N,), or None
        Metres; None: a column gives them.
    planet : Planet
    kind : str
        "point" or "polygon".
    """

    places: np.ndarray
    diameters: np.ndarray | None
    planet: Planet
    kind: str


def catalogue_of(
    table: Table, columns: str = "", crater_class: str = "", geometry: Geometry | None = None
) -> Catalogue:
    """Make a catalogue of a table.

    Rows without a usable position or diameter, and rows of other classes, are left out, and
    `Catalogue.notes` counts them.

    Parameters
    ----------
    table : Table
    columns : str
        Unusual column names, e.g. "lon=LON_E,lat=LAT_N,diameter_km=D". The quantities are the
        keys of `tables.SYNONYMS`.
    crater_class : str
        Classes that mean crater; see `classes.choose`.
    geometry : Geometry, optional
        Replaces the columns of positions.

    Returns
    -------
    Catalogue
        In degrees if the table has longitudes and latitudes, else in pixels.

    Raises
    ------
    ConfigError
        If `columns` or `crater_class` is invalid.
    DataError
        If a column is missing, most rows have a value that is not a number or out of range, or
        a unit is implausible; or if it is not clear which rows are craters.
    """
    given = tables.read_columns_option(columns)
    column_of = tables.find_columns(table, given)
    in_pixels = geometry is None and not (
        "lat" in column_of and column_of.keys() & {"lon", "lon_west"}
    )
    where: tuple[str, ...] = ()
    if geometry is None:
        wanted = "longitude and latitude (or x_px and y_px)"
        where = place_kinds(table, column_of, given, in_pixels=in_pixels, wanted=wanted)
    sizes: tuple[str, ...] = ()
    if geometry is None or geometry.diameters is None:
        sizes = _size_kinds(table, column_of, given, where, in_pixels=in_pixels)
    rows, class_notes = _crater_rows(
        table, column_of, crater_class, in_pixels=in_pixels, are_boxes=len(sizes) > 1
    )
    table = tables.take(table, rows)
    used = {kind: column_of[kind] for kind in (*sizes, *where)}
    values, checks = tables.read_numbers(table, used)
    if geometry is None:
        places, wrong = to_places(values, used)
    else:
        places, wrong = geometry.places[rows], [_geometry_check(geometry, rows)]
    if geometry is None or geometry.diameters is None:
        diameters, of_sizes = to_diameters(values, used, sizes)
        wrong = [*of_sizes, *wrong]
    else:
        diameters = geometry.diameters[rows]
    counted, of_counted = _read_counted(table, column_of)
    keep, notes = tables.leave_out_wrong(table, [*checks, *wrong, *of_counted])
    if {"diameter_km", "radius_km"} & (set(sizes) - given.keys()):
        _refuse_giants(table, used[sizes[0]], diameters[keep])
    sources = read_sources(table, column_of)
    return Catalogue(
        places=places[keep],
        diameters=diameters[keep],
        sources=None if sources is None else sources[keep],
        in_pixels=in_pixels,
        name=table.source,
        rows=np.array([table.number(row) for row in np.flatnonzero(keep).tolist()], int),
        notes=(*table.notes, *class_notes, *notes, *conversions(table, used, sizes)),
        planet=NO_PLANET if geometry is None else geometry.planet,
        paths=(Path(table.source),),
        counted=None if counted is None else counted[keep],
    )


def _read_counted(
    table: Table, column_of: Mapping[str, str]
) -> tuple[np.ndarray | None, list[Check]]:
    """Return which rows are counted, and the rows that do not say so; None without the column."""
    if "counted" not in column_of:
        return None, []
    name = column_of["counted"]
    values = np.array([_COUNTED.get(text.strip().lower(), -1) for text in table.columns[name]], int)
    return values == 1, [Check(column=name, wrong=values < 0, expected="1 or 0")]


def _crater_rows(
    table: Table,
    column_of: Mapping[str, str],
    crater_class: str,
    *,
    in_pixels: bool,
    are_boxes: bool,
) -> tuple[np.ndarray, list[str]]:
    """Return the rows whose class means crater, and a note if there are others.

    Without a column of classes all rows are craters. So they are, with a note, if no class is known
    to mean crater and the column may be another: crater names in a table in degrees, or numbers
    such as states of degradation in one of circles.
    """
    every = np.arange(len(table))
    if "class" not in column_of:
        if crater_class:
            raise ConfigError(
                f"--crater-class: {table.source} has no column of classes; its columns are "
                f"{', '.join(table.columns)}",
                "Leave it out, or name the column: --columns class=NAME.",
            )
        return every, []
    name = column_of["class"]
    values = [text.strip() for text in table.columns[name]]
    counts = Counter(values)
    are_numbers = all(tables.is_number(text) for text in counts if text)
    may_be_other = not in_pixels or (are_numbers and not are_boxes)
    if may_be_other and not crater_class and not classes.known_in(counts):
        return every, [f"No class in {name!r} is known to mean crater: all rows are taken"]
    chosen = classes.choose(counts, crater_class, table.source)
    rows = np.flatnonzero([text in chosen for text in values])
    sentence = f"Rows that are craters: {classes.note(counts, chosen)}"
    return rows, [sentence] if len(rows) < len(values) else []


def _geometry_check(geometry: Geometry, rows: np.ndarray) -> Check:
    wrong = ~np.isfinite(geometry.places[rows]).all(axis=1)
    if geometry.diameters is not None:
        wrong |= ~(geometry.diameters[rows] > 0)
    return Check(column=GEOMETRY, wrong=wrong, expected=f"a {geometry.kind} on the body")


def _refuse_giants(table: Table, name: str, diameters: np.ndarray) -> None:
    """Raise an error if kilometres are probably metres."""
    if np.median(diameters) >= _GIANT:
        raise DataError(
            f"{table.source}: half of the craters or more have 1000 km or more in {name!r}",
            f"If these are metres: --columns diameter_m={name}; if not: "
            f"--columns diameter_km={name} (or radius_m, radius_km).",
        )


def conversions(
    table: Table, used: Mapping[str, str], sizes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Describe what the reader had to assume, and how values were converted."""
    notes = []
    if "lon_west" in used:
        notes.append(f"The longitudes in {used['lon_west']!r} are positive west: converted to east")
    if "left" in used:
        notes.append("The positions are the centres of the boxes")
    if sizes and sizes[0].startswith("radius"):
        notes.append(f"The diameters are twice the radii in {used[sizes[0]]!r}")
    if len(sizes) > 1:
        notes.append("The diameters are the mean of width and height of the boxes")
    if tables.has_decimal_commas(table, list(used.values())):
        notes.append("The commas in numbers are read as decimal commas")
    return tuple(notes)


def place_kinds(
    table: Table,
    column_of: Mapping[str, str],
    given: Mapping[str, str],
    *,
    in_pixels: bool,
    wanted: str,
) -> tuple[str, ...]:
    """Return the quantities that give the positions: two coordinates, or a box in pixels.

    Raises
    ------
    DataError
        If there are none, or x and y may be a corner of a box.
    """
    kinds = column_of.keys()
    choices = (("x", "y"), *_BOXES) if in_pixels else (("lon", "lat"), ("lon_west", "lat"))
    is_box = {"width", "height"} <= kinds and column_of.get("x", "").lower() == "x"
    doubtful = in_pixels and is_box and "x" not in given
    for choice in sorted(choices, key=given.keys().isdisjoint):  # those of `given` first
        if set(choice) <= kinds and not (doubtful and choice == ("x", "y")):
            return choice
    if doubtful and "y" in kinds:
        x, y, width, height = (column_of[kind] for kind in ("x", "y", "width", "height"))
        raise DataError(
            f"{table.source}: {x!r} and {y!r} may be the corner or the centre of a box, as there "
            f"are {width!r} and {height!r}",
            f"Corner: --columns left={x},top={y},width={width},height={height}. "
            f"Centre: --columns x={x},y={y}.",
        )
    raise tables.missing(table, wanted)


def _size_kinds(
    table: Table,
    column_of: Mapping[str, str],
    given: Mapping[str, str],
    where: Sequence[str],
    *,
    in_pixels: bool,
) -> tuple[str, ...]:
    """Return the quantities that give the diameters: one, or the sides of a box in pixels.

    Those of `given` come first.
    """
    if kind := first_kind(SIZES[in_pixels], column_of, given):
        return kind
    if in_pixels and where in _BOXES:
        return tuple(where)
    if in_pixels and {"width", "height"} <= column_of.keys():
        return ("width", "height")
    raise tables.missing(table, "diameter_px" if in_pixels else "diameter in km (or m)")


def first_kind(
    kinds: Collection[str], column_of: Mapping[str, str], given: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the first of the quantities that the table has, those of `given` before others."""
    there = [kind for kind in kinds if kind in column_of]
    return tuple(sorted(there, key=lambda kind: kind not in given)[:1])


def to_diameters(
    values: Mapping[str, np.ndarray], used: Mapping[str, str], sizes: Sequence[str]
) -> tuple[np.ndarray, list[Check]]:
    """Return diameters in metres or pixels, and the rows whose diameter is not positive."""
    kind = sizes[0]
    if len(sizes) == 1:
        factor = (SIZES[True] | SIZES[False])[kind]
        expected = f"a positive {kind.partition('_')[0]}"
        checks = [Check(column=used[kind], wrong=values[kind] <= 0, expected=expected)]
        return values[kind] * factor, checks
    sides = box_sides(values)
    checks = [
        Check(column=used[far], wrong=side <= 0, expected="beyond the other side of the box")
        for far, side in zip(sizes[-2:], sides, strict=True)
    ]
    return (sides[0] + sides[1]) / 2, checks


def box_sides(values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return width and height of boxes in pixels."""
    if "right" in values:
        return values["right"] - values["left"], values["bottom"] - values["top"]
    return values["width"], values["height"]


def to_places(
    values: Mapping[str, np.ndarray], used: Mapping[str, str]
) -> tuple[np.ndarray, list[Check]]:
    """Return positions (N, 2) in degrees or pixels, and the rows whose position is off the body."""
    if "x" in values:
        return np.column_stack([values["x"], values["y"]]), []
    if "left" in values:
        width, height = box_sides(values)
        return np.column_stack([values["left"] + width / 2, values["top"] + height / 2]), []
    kind, east = ("lon", values["lon"]) if "lon" in values else ("lon_west", 0 - values["lon_west"])
    word = "east" if kind == "lon" else "west"
    checks = [
        Check(column=used[kind], wrong=np.abs(east) > 360, expected=f"-360 to 360 degrees {word}"),
        Check(column=used["lat"], wrong=np.abs(values["lat"]) > 90, expected="-90 to 90 degrees"),
    ]
    return np.column_stack([wrap_lon(east), values["lat"]]), checks


def read_sources(table: Table, column_of: Mapping[str, str]) -> np.ndarray | None:
    """Return the name of the image of each row; None without a column of images."""
    if "source" not in column_of:
        return None
    return np.array(
        [image_name(name) for name in table.columns[column_of["source"]]], dtype=np.str_
    )
