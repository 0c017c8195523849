"""Read crater catalogues and detections: columns found by name, units and ranges checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from craters.core import files
from craters.errors import ConfigError, DataError
from craters.maps.geo import NO_PLANET, Planet, image_name, vectors, wrap_lon

# Names of each kind of column, without case, blanks and punctuation; the first that is there wins.
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

_UNKNOWN_UNIT = ("diameter", "diam", "d", "radius", "r")  # refused: of which unit?
_SAME = 1.03  # resolutions that differ by less are one
_METRES = {"diameter_km": 1000.0, "diameter_m": 1.0}


@dataclasses.dataclass(frozen=True)
class Table:
    """Text columns of a table, with their source."""

    columns: dict[str, list[str]]
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The craters of a catalogue.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        Longitude and latitude in degrees, or x and y in pixels.
    diameters : ndarray, shape (N,)
        Metres or pixels.
    sources : ndarray of str, shape (N,), or None
        The image that a row is about, for catalogues made image by image.
    in_pixels : bool
    name : str
        For messages.
    """

    places: np.ndarray
    diameters: np.ndarray
    sources: np.ndarray | None
    in_pixels: bool
    name: str

    def __len__(self) -> int:
        return len(self.places)


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detections of a scan.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        As in `Catalogue`.
    probability : ndarray, shape (N,)
    sources : ndarray of str, shape (N,), or None
        Image of each.
    planet : Planet
        What the file says it is in; `NO_PLANET` where it does not.
    """

    places: np.ndarray
    probability: np.ndarray
    sources: np.ndarray | None
    planet: Planet
    name: str

    def __len__(self) -> int:
        return len(self.places)


def read_catalogue(path: Path, columns: str = "") -> Catalogue:
    """Read a catalogue of craters from CSV, with comma, semicolon or tab between columns.

    Parameters
    ----------
    path : Path
    columns : str
        Names where they are unusual, e.g. "lon=LON_E,lat=LAT_N,diameter_km=D". Kinds are the
        keys of `SYNONYMS`.

    Returns
    -------
    Catalogue
        In degrees where longitudes and latitudes are there, else in pixels.

    Raises
    ------
    ConfigError
        When `columns` cannot be used.
    DataError
        When the file cannot: a column is missing, or a row holds no number, or one out of range.
    """
    table = read_csv(path)
    found = find_columns(table, read_columns_option(columns))
    in_pixels = not {"lon", "lat"} <= found.keys()
    if in_pixels and not {"x", "y"} <= found.keys():
        raise _missing(table, "longitude and latitude (or x_px and y_px)")
    sizes = [kind for kind in ("diameter_km", "diameter_m", "diameter_px") if kind in found]
    sizes = [kind for kind in sizes if (kind == "diameter_px") == in_pixels]
    if not sizes:
        raise _missing(table, "diameter_px" if in_pixels else "diameter in km (or m)")
    name = found[sizes[0]]
    written = _numbers(table, name)
    _refuse_rows(written <= 0, table.columns[name], table, name, "a positive diameter")
    diameters = written * _METRES.get(sizes[0], 1.0)
    return Catalogue(
        places=_places(table, found, in_pixels),
        diameters=diameters,
        sources=_sources(table, found),
        in_pixels=in_pixels,
        name=str(path),
    )


def read_detections(path: Path, columns: str = "", *, in_pixels: bool = False) -> Detections:
    """Read detections: a scan's folder, its GeoPackage, or CSV.

    Parameters
    ----------
    path : Path
        A folder must hold detections.gpkg or detections.csv; of a GeoPackage the layer
        `detections` is read.
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
    found = find_columns(table, read_columns_option(columns))
    wanted = {"x", "y"} if in_pixels else {"lon", "lat"}
    if not wanted <= found.keys():
        raise _missing(table, " and ".join(sorted(wanted)))
    if "probability" not in found:
        raise _missing(table, "probability")
    probability = _numbers(table, found["probability"])
    outside = (probability < 0) | (probability > 1)
    _refuse_rows(outside, probability, table, found["probability"], "0 to 1")
    places = _places(table, found, in_pixels)
    if in_pixels and found["y"].lower() == "y" and len(places) and (places[:, 1] <= 0).all():
        places = places * [1, -1]  # a scan without coordinates counts rows downwards
    return Detections(
        places=places,
        probability=probability,
        sources=_sources(table, found),
        planet=planet,
        name=str(file),
    )


def _detections_file(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", "Name what `craters scan` wrote.")
    for name in ("detections.gpkg", "detections.csv") if path.is_dir() else ():
        if (path / name).is_file():
            return path / name
    if path.is_dir() or path.suffix.lower() not in (".csv", ".gpkg"):
        raise DataError(
            f"{path}: holds no detections", "Name a scan's folder, a .gpkg or a .csv file."
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
    known = bool(sizes) and all(isinstance(size, int | float) for size in sizes)
    if known and max(sizes) <= _SAME * min(sizes):
        properties["resolution"] = float(np.median(sizes))
    return properties


def read_csv(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a table as text columns.

    Raises
    ------
    DataError
        When it is missing, empty, not text, or a row is longer or shorter than the head.
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
            f"{path}: holds no rows, expected a head and a row a crater", "Is it the right file?"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: row {number} has {len(row)} columns, its head {len(rows[0])}",
                "Save it as CSV again, with quotes around texts that hold a comma.",
            )
    values = zip(*rows[1:], strict=True) if len(rows) > 1 else ([] for _ in rows[0])
    return Table({n.strip(): list(v) for n, v in zip(rows[0], values, strict=True)}, str(path))


def read_columns_option(text: str) -> dict[str, str]:
    """Read --columns, e.g. "lon=LON_E,lat=LAT_N".

    Raises
    ------
    ConfigError
        When a kind of column is not known.
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
    """Map quantities to columns: those named by `given`, others by their synonyms.

    Returns
    -------
    dict of str to str
        Kind -> name in the table; only kinds that are there.

    Examples
    --------
    >>> table = Table({"LON_CIRC_IMG": [], "LAT_CIRC_IMG": [], "DIAM_CIRC_IMG": []}, "table")
    >>> find_columns(table, {})["diameter_km"]
    'DIAM_CIRC_IMG'
    """
    plain = {_plain(name): name for name in reversed(table.columns)}
    found = {}
    for kind, synonyms in SYNONYMS.items():
        if kind in given:
            if given[kind] not in table.columns:
                raise _missing(table, f"column {given[kind]!r} (from --columns)")
            found[kind] = given[kind]
        elif hits := [plain[name] for name in synonyms if name in plain]:
            found[kind] = hits[0]
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _missing(table: Table, what: str) -> DataError:
    listed = ", ".join(table.columns)
    vague = [name for name in table.columns if _plain(name) in _UNKNOWN_UNIT]
    hint = "Name it by --columns, e.g. --columns lon=LON_E,lat=LAT_N,diameter_km=D."
    if "diameter" in what and vague:
        kind = "diameter_px" if what == "diameter_px" else "diameter_km"
        hint = f"Of which unit is {vague[0]!r}? If so: --columns {kind}={vague[0]}"
    return DataError(f"{table.source}: has no {what}; its columns are {listed}", hint)


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


def _places(table: Table, found: Mapping[str, str], in_pixels: bool) -> np.ndarray:
    names = [found[kind] for kind in (("x", "y") if in_pixels else ("lon", "lat"))]
    first, second = (_numbers(table, name) for name in names)
    if not in_pixels:
        _refuse_rows(np.abs(first) > 360, first, table, names[0], "-360 to 360 degrees east")
        _refuse_rows(np.abs(second) > 90, second, table, names[1], "-90 to 90 degrees")
        first = wrap_lon(first)
    return np.column_stack([first, second])


def _sources(table: Table, found: Mapping[str, str]) -> np.ndarray | None:
    if "source" not in found:
        return None
    return np.array([image_name(name) for name in table.columns[found["source"]]], dtype=np.str_)


def _as_text(values: np.ndarray) -> list[str]:
    return ["" if value is None else str(value) for value in values.tolist()]
