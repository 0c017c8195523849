"""Read crater catalogues and detections: columns found by name, units and ranges checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from craters.core import StrPath
from craters.errors import DataError
from craters.maps.catalogues import tables
from craters.maps.catalogues.tables import Check, Table
from craters.maps.geo import NO_PLANET, Planet, image_name, vectors, wrap_lon

_GIANT = 1e6  # metres: a catalogue with a median diameter above this has metres for kilometres

_BOXES = (("left", "top", "right", "bottom"), ("left", "top", "width", "height"))

# Metres or pixels per unit of diameter, of the columns that may give it, the first that exists.
_SIZES = {
    False: {"diameter_km": 1000.0, "diameter_m": 1.0, "radius_km": 2000.0, "radius_m": 2.0},
    True: {"diameter_px": 1.0, "radius_px": 2.0},
}
_SIZE_ERRORS = {
    False: {"diameter_error_km": 1000.0, "diameter_error_m": 1.0},
    True: {"diameter_error_px": 1.0},
}


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A crater catalogue.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        Longitude and latitude in degrees, or x and y in pixels.
    diameters : ndarray, shape (N,)
        Metres or pixels.
    sources : ndarray of str, shape (N,), or None
        The image of each row, for catalogues made image by image.
    in_pixels : bool
        Whether positions and diameters are in pixels.
    name : str
        File name, for messages.
    rows : ndarray of int, shape (N,), or None
        Row of the file of each crater, the header being row 1. None: no row was left out.
    notes : tuple of str
        What the reader left out, converted or had to assume.
    """

    places: np.ndarray
    diameters: np.ndarray
    sources: np.ndarray | None = None
    in_pixels: bool = False
    name: str = "catalogue"
    rows: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def file_rows(self, craters: np.ndarray) -> np.ndarray:
        """Return the rows of the file of craters, the header being row 1."""
        return craters + 2 if self.rows is None else self.rows[craters]

    def check_size(self, planet: Planet) -> None:
        """Raise an error if a crater is larger than the body.

        Raises
        ------
        DataError
        """
        largest = int(np.argmax(self.diameters))
        if self.diameters[largest] > 2 * planet.radius:
            raise DataError(
                f"{self.name}: row {int(self.file_rows(np.array([largest]))[0])} has a diameter of "
                f"{self.diameters[largest] / 1000:.6g} km, larger than {planet.body}",
                "Is it in metres? If so: --columns diameter_m=NAME. Otherwise correct the row.",
            )

    def rows_of(self, image: str, images: Collection[str]) -> np.ndarray:
        """Return the rows of the craters that may lie in an image.

        Parameters
        ----------
        image : str
        images : collection of str
            Names of all images, distinct; "" for an image without a name.

        Returns
        -------
        ndarray of int
            The rows that name the image. In degrees all rows, if none names any of the images. In
            pixels all rows, if there is one image and the rows name none, or one unnamed image.

        Raises
        ------
        DataError
            If positions are in pixels, and it is not clear of which image.
        """
        rows = np.arange(len(self))
        if self.sources is None:
            if self.in_pixels and len(images) > 1:
                raise DataError(
                    f"{self.name}: gives positions in pixels of an image that it does not name, "
                    f"but there are {len(images)} images",
                    "Add a column 'image' with the image of each crater, or use one image.",
                )
            return rows
        if _are_named(self.sources, images).any():
            return rows[self.sources == image]
        named = np.unique(self.sources).tolist()
        if self.in_pixels and (set(images) != {""} or len(named) > 1):
            raise DataError(
                f"{self.name}: gives positions in pixels of {_listed(named)}, "
                f"but the images are {_listed(sorted(images))}",
                "Correct the names in the column of the image, or use the images that it names.",
            )
        return rows

    def source_notes(self, images: Collection[str]) -> list[str]:
        """Say how many craters name none of the images."""
        if self.sources is None or set(images) == {""}:
            return []
        others = int((~_are_named(self.sources, images)).sum())
        if others == len(self):
            named = _listed(np.unique(self.sources).tolist())
            return [
                f"The catalogue names {named}, none of which is an image: the names are ignored"
            ]
        if others:
            return [f"{others} of {len(self)} craters of the catalogue name other images"]
        return []


def _are_named(sources: np.ndarray, images: Collection[str]) -> np.ndarray:
    """Return which rows name one of the images."""
    return np.isin(sources, [name for name in images if name])


def _listed(names: Sequence[str]) -> str:
    """List up to three names in quotes."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detections of a scan.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        As in `Catalogue`.
    probability : ndarray, shape (N,)
    sources : ndarray of str, shape (N,), or None
        Image of each detection.
    planet : Planet
        CRS of the file; `NO_PLANET` if it names none.
    name : str
        File name, for messages.
    notes : tuple of str
        What the reader converted or had to assume.
    diameters, diameter_errors : ndarray, shape (N,), or None
        Diameters, and their standard deviations, in metres or pixels; None: not known.
    """

    places: np.ndarray
    probability: np.ndarray
    sources: np.ndarray | None = None
    planet: Planet = NO_PLANET
    name: str = "detections"
    notes: tuple[str, ...] = ()
    diameters: np.ndarray | None = None
    diameter_errors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)


def read_catalogue(path: StrPath, columns: str = "") -> Catalogue:
    """Read a crater catalogue from CSV; commas, semicolons or tabs separate the columns.

    Rows without a usable position or diameter are left out, and `Catalogue.notes` counts them.

    Parameters
    ----------
    path : path-like
    columns : str
        Unusual column names, e.g. "lon=LON_E,lat=LAT_N,diameter_km=D". The quantities are the
        keys of `tables.SYNONYMS`.

    Returns
    -------
    Catalogue
        In degrees if the table has longitudes and latitudes, else in pixels.

    Raises
    ------
    ConfigError
        If `columns` is invalid.
    DataError
        If a column is missing, most rows have a value that is not a number or out of range, or
        a unit is implausible.
    """
    path = Path(path)
    table = tables.read_csv(path)
    given = tables.read_columns_option(columns)
    column_of = tables.find_columns(table, given)
    in_pixels = not ("lat" in column_of and column_of.keys() & {"lon", "lon_west"})
    wanted = "longitude and latitude (or x_px and y_px)"
    where = _place_kinds(table, column_of, given, in_pixels=in_pixels, wanted=wanted)
    sizes = _size_kinds(table, column_of, given, where)
    used = {kind: column_of[kind] for kind in (*sizes, *where)}
    values, checks = tables.read_numbers(table, used)
    diameters, of_sizes = _to_diameters(values, used, sizes)
    places, of_places = _to_places(values, used)
    keep, notes = tables.leave_out_wrong(table, [*checks, *of_sizes, *of_places])
    if {"diameter_km", "radius_km"} & (set(sizes) - given.keys()):
        _refuse_giants(table, used[sizes[0]], diameters[keep])
    sources = _sources(table, column_of)
    return Catalogue(
        places=places[keep],
        diameters=diameters[keep],
        sources=None if sources is None else sources[keep],
        in_pixels=in_pixels,
        name=str(path),
        rows=np.array([table.number(row) for row in np.flatnonzero(keep).tolist()], int),
        notes=(*notes, *_conversions(table, used, sizes)),
    )


def _refuse_giants(table: Table, name: str, diameters: np.ndarray) -> None:
    """Raise an error if kilometres are probably metres."""
    if np.median(diameters) >= _GIANT:
        raise DataError(
            f"{table.source}: half of the craters or more have 1000 km or more in {name!r}",
            f"If these are metres: --columns diameter_m={name}; if not: "
            f"--columns diameter_km={name} (or radius_m, radius_km).",
        )


def _conversions(
    table: Table, used: Mapping[str, str], sizes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Describe what the reader had to assume, and how values were converted."""
    notes = list(table.notes)
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


def read_detections(path: StrPath, columns: str = "", *, in_pixels: bool = False) -> Detections:
    """Read the detections of a scan from its folder, its GeoPackage, or a CSV table.

    Parameters
    ----------
    path : Path
        A folder must hold detections.gpkg or detections.csv. The layer `detections` of a
        GeoPackage is read.
    columns : str
        As for `read_catalogue`.
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
        table = Table({name: _as_text(v) for name, v in layer.fields.items()}, str(file))
    given = tables.read_columns_option(columns)
    column_of = tables.find_columns(table, given)
    wanted = "x and y" if in_pixels else "lat and lon"
    where = _place_kinds(table, column_of, given, in_pixels=in_pixels, wanted=wanted)
    if "probability" not in column_of:
        raise tables.missing(table, "probability")
    size, error = _detected_sizes(table, column_of, given, in_pixels=in_pixels)
    used = {kind: column_of[kind] for kind in ("probability", *where, *size, *error)}
    values, checks = tables.read_numbers(table, used)
    probability = values["probability"]
    outside = (probability < 0) | (probability > 1)
    places, of_places = _to_places(values, used)
    in_range = Check(column=used["probability"], wrong=outside, expected="0 to 1")
    diameters, of_sizes = _to_diameters(values, used, size) if size else (None, [])
    errors = values[error[0]] * _SIZE_ERRORS[in_pixels][error[0]] if error else None
    if errors is not None:
        of_sizes.append(Check(column=used[error[0]], wrong=errors < 0, expected="0 or more"))
    tables.refuse_wrong(table, [*checks, in_range, *of_places, *of_sizes])
    if used.get("y", "").lower() == "y" and len(places) and (places[:, 1] <= 0).all():
        places = places * [1, -1]  # a scan without coordinates counts rows downwards
    return Detections(
        places=places,
        probability=probability,
        sources=_sources(table, column_of),
        planet=planet,
        name=str(file),
        notes=(
            *_conversions(table, used, size),
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
    size = _first_kind(_SIZES[in_pixels], filled, given)
    return size, _first_kind(_SIZE_ERRORS[in_pixels], filled, given) if size else ()


def _unused_sizes(
    table: Table, column_of: Mapping[str, str], *, in_pixels: bool, are_used: bool
) -> list[str]:
    """Say that a column may hold diameters, but in another or an unknown unit."""
    if are_used:
        return []
    other = [column_of[kind] for kind in _SIZES[not in_pixels] if kind in column_of]
    names = other + tables.sizes_without_unit(table)
    kinds = " or ".join(kind for kind in _SIZES[in_pixels] if kind.startswith("diameter"))
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


def _place_kinds(
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
    table: Table, column_of: Mapping[str, str], given: Mapping[str, str], where: Sequence[str]
) -> tuple[str, ...]:
    """Return the quantities that give the diameters: one, or the sides of a box in pixels.

    Those of `given` come first.
    """
    in_pixels = "lat" not in where
    if kind := _first_kind(_SIZES[in_pixels], column_of, given):
        return kind
    if in_pixels and where in _BOXES:
        return tuple(where)
    if in_pixels and {"width", "height"} <= column_of.keys():
        return ("width", "height")
    raise tables.missing(table, "diameter_px" if in_pixels else "diameter in km (or m)")


def _first_kind(
    kinds: Collection[str], column_of: Mapping[str, str], given: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the first of the quantities that the table has, those of `given` before others."""
    there = [kind for kind in kinds if kind in column_of]
    return tuple(sorted(there, key=lambda kind: kind not in given)[:1])


def _to_diameters(
    values: Mapping[str, np.ndarray], used: Mapping[str, str], sizes: Sequence[str]
) -> tuple[np.ndarray, list[Check]]:
    """Return diameters in metres or pixels, and the rows whose diameter is not positive."""
    kind = sizes[0]
    if len(sizes) == 1:
        factor = (_SIZES[True] | _SIZES[False])[kind]
        expected = f"a positive {kind.partition('_')[0]}"
        checks = [Check(column=used[kind], wrong=values[kind] <= 0, expected=expected)]
        return values[kind] * factor, checks
    sides = _box_sides(values)
    checks = [
        Check(column=used[far], wrong=side <= 0, expected="beyond the other side of the box")
        for far, side in zip(sizes[-2:], sides, strict=True)
    ]
    return (sides[0] + sides[1]) / 2, checks


def _box_sides(values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return width and height of boxes in pixels."""
    if "right" in values:
        return values["right"] - values["left"], values["bottom"] - values["top"]
    return values["width"], values["height"]


def _to_places(
    values: Mapping[str, np.ndarray], used: Mapping[str, str]
) -> tuple[np.ndarray, list[Check]]:
    """Return positions (N, 2) in degrees or pixels, and the rows whose position is off the body."""
    if "x" in values:
        return np.column_stack([values["x"], values["y"]]), []
    if "left" in values:
        width, height = _box_sides(values)
        return np.column_stack([values["left"] + width / 2, values["top"] + height / 2]), []
    kind, east = ("lon", values["lon"]) if "lon" in values else ("lon_west", 0 - values["lon_west"])
    word = "east" if kind == "lon" else "west"
    checks = [
        Check(column=used[kind], wrong=np.abs(east) > 360, expected=f"-360 to 360 degrees {word}"),
        Check(column=used["lat"], wrong=np.abs(values["lat"]) > 90, expected="-90 to 90 degrees"),
    ]
    return np.column_stack([wrap_lon(east), values["lat"]]), checks


def _sources(table: Table, column_of: Mapping[str, str]) -> np.ndarray | None:
    if "source" not in column_of:
        return None
    return np.array(
        [image_name(name) for name in table.columns[column_of["source"]]], dtype=np.str_
    )


def _as_text(values: np.ndarray) -> list[str]:
    return ["" if value is None else str(value) for value in values.tolist()]
