"""Read crater catalogues and detections: columns found by name, units and ranges checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from craters.core import files
from craters.errors import ConfigError, DataError
from craters.maps.geo import NO_PLANET, Planet, image_name, vectors, wrap_lon

# Column names of each quantity, in lower case, letters and digits only; the first match wins.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "lon": (
        "lon", "longitude", "lone", "longitudee", "loncircimg", "longitudecircleimage", "londeg",
        "longitudedeg", "loneast", "centerlon", "centerlongitude", "clon", "loncentre",
        "lonellipsimg", "longitudeellipseimage",
    ),
    "lat": (
        "lat", "latitude", "latn", "latituden", "latcircimg", "latitudecircleimage", "latdeg",
        "latitudedeg", "latnorth", "centerlat", "centerlatitude", "clat", "latcentre",
        "latellipsimg", "latitudeellipseimage",
    ),
    "x": ("xpx", "pixelx", "x"),
    "y": ("ypx", "pixely", "y"),
    "diameter_km": (
        "diameterkm", "diamkm", "dkm", "diamcircimg", "diamcircleimage", "diameterinkm",
        "diamcirckm", "diamellipmajorimg", "diamellipsemajorimage",
    ),
    "diameter_m": ("diameterm", "diamm", "dm", "diameterinm"),
    "diameter_px": ("diameterpx", "diampx", "dpx", "diameterpixels"),
    "source": ("source", "image", "tile", "sourceimage", "file", "filename"),
    "probability": ("probability", "pcrater", "probabilityofcrater", "score", "confidence"),
}  # fmt: skip

_UNKNOWN_UNIT = ("diameter", "diam", "d", "radius", "r")  # not used: the unit is unknown
_SAME = 1.03  # resolutions within this ratio count as equal
_METRES = {"diameter_km": 1000.0, "diameter_m": 1.0}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text columns, and the name of its file."""

    columns: dict[str, list[str]]
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


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
    """

    places: np.ndarray
    diameters: np.ndarray
    sources: np.ndarray | None
    in_pixels: bool
    name: str

    def __len__(self) -> int:
        return len(self.places)

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
    """

    places: np.ndarray
    probability: np.ndarray
    sources: np.ndarray | None
    planet: Planet
    name: str

    def __len__(self) -> int:
        return len(self.places)


def read_catalogue(path: Path, columns: str = "") -> Catalogue:
    """Read a crater catalogue from CSV; commas, semicolons or tabs separate the columns.

    Parameters
    ----------
    path : Path
    columns : str
        Unusual column names, e.g. "lon=LON_E,lat=LAT_N,diameter_km=D". The quantities are the
        keys of `SYNONYMS`.

    Returns
    -------
    Catalogue
        In degrees if the table has longitudes and latitudes, else in pixels.

    Raises
    ------
    ConfigError
        If `columns` is invalid.
    DataError
        If a column is missing, or a value is not a number or out of range.
    """
    table = read_csv(path)
    column_of = find_columns(table, read_columns_option(columns))
    in_pixels = not {"lon", "lat"} <= column_of.keys()
    if in_pixels and not {"x", "y"} <= column_of.keys():
        raise _missing(table, "longitude and latitude (or x_px and y_px)")
    sizes = [kind for kind in ("diameter_km", "diameter_m", "diameter_px") if kind in column_of]
    sizes = [kind for kind in sizes if (kind == "diameter_px") == in_pixels]
    if not sizes:
        raise _missing(table, "diameter_px" if in_pixels else "diameter in km (or m)")
    name = column_of[sizes[0]]
    written = _numbers(table, name)
    _refuse_rows(written <= 0, table.columns[name], table, name, "a positive diameter")
    diameters = written * _METRES.get(sizes[0], 1.0)
    return Catalogue(
        places=_places(table, column_of, in_pixels),
        diameters=diameters,
        sources=_sources(table, column_of),
        in_pixels=in_pixels,
        name=str(path),
    )


def read_detections(path: Path, columns: str = "", *, in_pixels: bool = False) -> Detections:
    """Read the detections of a scan from its folder, its GeoPackage, or a CSV table.

    Parameters
    ----------
    path : Path
        A folder must hold detections.gpkg or detections.csv. The layer `detections` of a
        GeoPackage is read.
    columns : str
        As for `read_catalogue`.
    in_pixels : bool
        Read x and y in pixels instead of longitude and latitude.

    Raises
    ------
    ConfigError, DataError
    """
    file = _detections_file(path)
    table, planet = read_csv(file, may_be_empty=True) if file.suffix == ".csv" else None, NO_PLANET
    if table is None:
        layer = vectors.read_layer(file, "detections")
        planet = layer.planet
        table = Table({name: _as_text(v) for name, v in layer.fields.items()}, str(file))
    column_of = find_columns(table, read_columns_option(columns))
    wanted = {"x", "y"} if in_pixels else {"lon", "lat"}
    if not wanted <= column_of.keys():
        raise _missing(table, " and ".join(sorted(wanted)))
    if "probability" not in column_of:
        raise _missing(table, "probability")
    probability = _numbers(table, column_of["probability"])
    outside = (probability < 0) | (probability > 1)
    _refuse_rows(outside, probability, table, column_of["probability"], "0 to 1")
    places = _places(table, column_of, in_pixels)
    if in_pixels and column_of["y"].lower() == "y" and len(places) and (places[:, 1] <= 0).all():
        places = places * [1, -1]  # a scan without coordinates counts rows downwards
    return Detections(
        places=places,
        probability=probability,
        sources=_sources(table, column_of),
        planet=planet,
        name=str(file),
    )


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


def read_scan_summary(path: Path) -> dict[str, float]:
    """Read `window_px` and `resolution` (m/px) from a scan's summary.json.

    Returns
    -------
    dict of str to float
        Empty if the file or the values are missing.
    """
    file = (path if path.is_dir() else path.parent) / "summary.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: is damaged ({error})", "Scan again, or give --window.") from error
    properties = {}
    if isinstance(content.get("window"), int):
        properties["window_px"] = float(content["window"])
    images = content.get("images")
    sizes = [row.get("resolution") for row in images] if isinstance(images, list) else []
    if all(isinstance(size, int | float) for size in sizes):
        properties |= common_resolution(sizes)
    return properties


def common_resolution(sizes: Sequence[float]) -> dict[str, float]:
    """Return the median resolution under the key `resolution`, if all are nearly equal.

    Examples
    --------
    >>> common_resolution([100.0, 101.0, 102.0]), common_resolution([100.0, 200.0])
    ({'resolution': 101.0}, {})
    """
    if len(sizes) and max(sizes) <= _SAME * min(sizes):
        return {"resolution": float(np.median(sizes))}
    return {}


def read_csv(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a table as text columns.

    Raises
    ------
    DataError
        If it is missing, empty or not text, or a row does not have the columns of the header.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected a CSV table", "Is the path right?")
    text = files.read_csv_text(path)
    between = files.csv_delimiter(text)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=between, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{path}: is damaged ({error})", "Save it as CSV again.") from error
    if len(rows) < (1 if may_be_empty else 2):
        raise DataError(
            f"{path}: holds no rows, expected a header and one row per crater",
            "Is it the right file?",
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: row {number} has {len(row)} columns, the header {len(rows[0])}",
                "Save it as CSV again, with quotes around text that contains a comma.",
            )
    values = zip(*rows[1:], strict=True) if len(rows) > 1 else ([] for _ in rows[0])
    return Table({n.strip(): list(v) for n, v in zip(rows[0], values, strict=True)}, str(path))


def read_columns_option(text: str) -> dict[str, str]:
    """Parse --columns, e.g. "lon=LON_E,lat=LAT_N".

    Raises
    ------
    ConfigError
        If a quantity is unknown.
    """
    given = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        kind, _, name = (piece.strip() for piece in part.partition("="))
        if kind not in SYNONYMS or not name:
            raise ConfigError(
                f"--columns has {part!r}, expected KIND=NAME", f"Kinds: {', '.join(SYNONYMS)}."
            )
        given[kind] = name
    return given


def find_columns(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """Map quantities to the columns named by `given`, or else to a synonym in the table.

    Returns
    -------
    dict of str to str
        Column name by quantity, for the quantities that the table has.

    Examples
    --------
    >>> table = Table({"LON_CIRC_IMG": [], "LAT_CIRC_IMG": [], "DIAM_CIRC_IMG": []}, "table")
    >>> find_columns(table, {})["diameter_km"]
    'DIAM_CIRC_IMG'
    """
    plain = {_plain(name): name for name in reversed(table.columns)}
    columns = {}
    for kind, synonyms in SYNONYMS.items():
        if kind in given:
            if given[kind] not in table.columns:
                raise _missing(table, f"column {given[kind]!r} (from --columns)")
            columns[kind] = given[kind]
        elif matches := [plain[name] for name in synonyms if name in plain]:
            columns[kind] = matches[0]
    return columns


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _missing(table: Table, quantity: str) -> DataError:
    listed = ", ".join(table.columns)
    vague = [name for name in table.columns if _plain(name) in _UNKNOWN_UNIT]
    hint = "Name it by --columns, e.g. --columns lon=LON_E,lat=LAT_N,diameter_km=D."
    if "diameter" in quantity and vague:
        kind = "diameter_px" if quantity == "diameter_px" else "diameter_km"
        hint = f"In which unit is {vague[0]!r}? If it fits: --columns {kind}={vague[0]}"
    return DataError(f"{table.source}: has no {quantity}; its columns are {listed}", hint)


def _numbers(table: Table, name: str) -> np.ndarray:
    column = table.columns[name]
    try:
        values = np.array(column, dtype=np.float64) if column else np.empty(0)
    except ValueError:
        values = np.array([_number(text) for text in column])
    _refuse_rows(~np.isfinite(values), column, table, name, "a number")
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _refuse_rows(
    wrong: np.ndarray, values: Sequence[str] | np.ndarray, table: Table, name: str, expected: str
) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{table.source}: row {row + 2} has {name} {str(values[row])!r}, expected {expected}"
            + (f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""),
            "Correct the row, or leave it out.",
        )


def _places(table: Table, column_of: Mapping[str, str], in_pixels: bool) -> np.ndarray:
    names = [column_of[kind] for kind in (("x", "y") if in_pixels else ("lon", "lat"))]
    first, second = (_numbers(table, name) for name in names)
    if not in_pixels:
        _refuse_rows(np.abs(first) > 360, first, table, names[0], "-360 to 360 degrees east")
        _refuse_rows(np.abs(second) > 90, second, table, names[1], "-90 to 90 degrees")
        first = wrap_lon(first)
    return np.column_stack([first, second])


def _sources(table: Table, column_of: Mapping[str, str]) -> np.ndarray | None:
    if "source" not in column_of:
        return None
    return np.array(
        [image_name(name) for name in table.columns[column_of["source"]]], dtype=np.str_
    )


def _as_text(values: np.ndarray) -> list[str]:
    return ["" if value is None else str(value) for value in values.tolist()]
