"""Read tables of numbers: encoding and delimiter detected, columns found by name, rows checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from craters.core import files
from craters.errors import ConfigError, DataError


def _spellings(names: Sequence[str], directions: Sequence[str]) -> tuple[str, ...]:
    """Combine names of a coordinate with its direction and the unit degree."""
    units = ("", "deg", "degree", "degrees")
    orders = [(unit + end, end + unit) for unit in units for end in directions]
    return tuple(name + end for name in names for pair in orders for end in pair)


# Column names of each quantity, in lower case, letters and digits only; the first match wins.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "lon": (
        "lon", "longitude", "lone", "longitudee", "loncircimg", "longitudecircleimage", "londeg",
        "longitudedeg", "loneast", "centerlon", "centerlongitude", "clon", "loncentre",
        "lonellipsimg", "longitudeellipseimage", "eastlongitude", "eastlon",
        *_spellings(("lon", "long", "longitude"), ("", "e", "east", "positiveeast")),
    ),
    "lon_west": (
        "westlongitude", "westlon", "wlongitude", "wlon",
        *_spellings(("lon", "long", "longitude"), ("w", "west", "positivewest")),
    ),
    "lat": (
        "lat", "latitude", "latn", "latituden", "latcircimg", "latitudecircleimage", "latdeg",
        "latitudedeg", "latnorth", "centerlat", "centerlatitude", "clat", "latcentre",
        "latellipsimg", "latitudeellipseimage", "northlatitude", "northlat",
        *_spellings(("lat", "latitude"), ("", "n", "north", "positivenorth")),
    ),
    "x": ("xpx", "pixelx", "x"),
    "y": ("ypx", "pixely", "y"),
    "left": ("left", "xmin", "x1", "bx"),
    "top": ("top", "ymin", "y1", "by"),
    "right": ("right", "xmax", "x2"),
    "bottom": ("bottom", "ymax", "y2"),
    "width": ("width", "w", "widthpx"),
    "height": ("height", "h", "heightpx"),
    "diameter_km": (
        "diameterkm", "diamkm", "dkm", "diamcircimg", "diamcircleimage", "diameterinkm",
        "diamcirckm", "diamellipmajorimg", "diamellipsemajorimage", "diameterkilometers",
        "diameterkilometres", "diameterk", "diamcirc", "diamcircl",  # cut off in shapefiles
    ),
    "diameter_m": (
        "diameterm", "diamm", "dm", "diameterinm", "diametermeters", "diametermetres",
    ),
    "diameter_px": ("diameterpx", "diampx", "dpx", "diameterpixels"),
    "radius_km": ("radiuskm", "radkm", "rkm", "radiusinkm", "radiuskilometers", "radiuskilometres"),
    "radius_m": ("radiusm", "radm", "rm", "radiusinm", "radiusmeters", "radiusmetres"),
    "radius_px": ("radiuspx", "radpx", "rpx", "radiuspixels"),
    "diameter_error_km": ("diametererrorkm", "diametersigmakm"),
    "diameter_error_m": ("diametererrorm", "diametersigmam"),
    "diameter_error_px": ("diametererrorpx", "diametersigmapx"),
    "source": (
        "source", "image", "tile", "sourceimage", "file", "filename", "imagename", "imagefile",
        "imagepath", "filepath",
    ),
    "class": (
        "class", "label", "category", "classname", "labelname", "categoryname", "objectclass",
    ),
    "probability": ("probability", "pcrater", "probabilityofcrater", "score", "confidence"),
    "counted": ("counted",),
}  # fmt: skip

_IN_METRES = {"diameter_km", "diameter_m", "radius_km", "radius_m"}
_UNKNOWN_UNIT = ("diameter", "diam", "d", "radius", "rad", "r")  # not used: the unit is unknown
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")
_MOST_WRONG = 0.5  # share of wrong rows above which the whole table is refused


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text columns.

    Parameters
    ----------
    columns : dict of str to list of str
    source : str
        Name of its file.
    numbers : sequence of int
        Row of the file of each row; empty: counted from 2, below the header.
    repeated : frozenset of str
        Names that several columns have.
    notes : tuple of str
        What the reader had to assume.
    """

    columns: dict[str, list[str]]
    source: str
    numbers: Sequence[int] = ()
    repeated: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def number(self, row: int) -> int:
        """Return the row of the file."""
        return self.numbers[row] if self.numbers else row + 2


@dataclasses.dataclass(frozen=True)
class Check:
    """The rows of a column without a usable value.

    Parameters
    ----------
    column : str
    wrong : ndarray of bool, shape (N,)
    expected : str
        Description of usable values, for messages.
    """

    column: str
    wrong: np.ndarray
    expected: str


def read_csv(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a table as text columns.

    Raises
    ------
    DataError
        If it is missing, empty or not text, or a row does not have the columns of the header.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected a CSV table", "Is the path right?")
    text, encoding = files.read_csv_text(path, may_be_latin_1=True)
    between = files.csv_delimiter(text)
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=between, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: is damaged ({error})", "Save it as CSV again.") from error
    rows = [(number, row) for number, row in enumerate(lines, start=1) if row]
    if len(rows) < (1 if may_be_empty else 2):
        raise DataError(
            f"{path}: holds no rows, expected a header and one row per crater",
            "Is it the right file?",
        )
    names = [name.strip() for name in rows[0][1]]
    for number, row in rows[1:]:
        if len(row) != len(names):
            raise DataError(
                f"{path}: row {number} has {len(row)} columns, the header {len(names)}",
                "Save it as CSV again, with quotes around text that contains a comma.",
            )
    values = (
        zip(*(row for _, row in rows[1:]), strict=True) if len(rows) > 1 else ([] for _ in names)
    )
    notes = (f"{path.name} is not in UTF-8 and was read as Latin-1",)
    return Table(
        columns={name: list(column) for name, column in zip(names, values, strict=True)},
        source=str(path),
        numbers=[number for number, _ in rows[1:]],
        repeated=frozenset(name for name, count in Counter(names).items() if count > 1),
        notes=notes if encoding == "Latin-1" else (),
    )


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

    Raises
    ------
    DataError
        If a column of `given` is missing, or several columns have the name of one that is used.

    Examples
    --------
    >>> table = Table({"LON_CIRC_IMG": [], "LAT_CIRC_IMG": [], "DIAM_CIRC_IMG": []}, "table")
    >>> find_columns(table, {})["diameter_km"]
    'DIAM_CIRC_IMG'
    """
    simple = {plain(name): name for name in reversed(table.columns)}
    columns = {}
    for kind, synonyms in SYNONYMS.items():
        if kind in given:
            if given[kind] not in table.columns:
                raise missing(table, f"column {given[kind]!r} (from --columns)")
            columns[kind] = given[kind]
        elif matches := [simple[name] for name in synonyms if name in simple]:
            columns[kind] = matches[0]
    if not columns.keys() & {"lon", "lon_west", "lat"} and columns.keys() & _IN_METRES:
        # The shapefiles of Craterstats: degrees, with diameters on the body.
        columns |= {
            kind: simple[name]
            for kind, name in (("lon", "xcoord"), ("lat", "ycoord"))
            if name in simple
        }
    if repeated := [name for name in columns.values() if name in table.repeated]:
        raise DataError(
            f"{table.source}: several columns are named {repeated[0]!r}", "Rename all but one."
        )
    return columns


def plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isascii() and letter.isalnum())


def missing(table: Table, quantity: str) -> DataError:
    """Make the error for a quantity without a column."""
    listed = ", ".join(table.columns)
    vague = sizes_without_unit(table)
    hint = "Name it by --columns, e.g. --columns lon=LON_E,lat=LAT_N,diameter_km=D."
    if "diameter" in quantity and vague:
        unit = "px" if quantity == "diameter_px" else "km"
        kind = "radius" if plain(vague[0]).startswith("r") else "diameter"
        hint = f"In which unit is {vague[0]!r}? If it fits: --columns {kind}_{unit}={vague[0]}"
    return DataError(f"{table.source}: has no {quantity}; its columns are {listed}", hint)


def sizes_without_unit(table: Table) -> list[str]:
    """Return the columns that look like diameters or radii in an unknown unit."""
    return [name for name in table.columns if plain(name) in _UNKNOWN_UNIT]


def as_text(columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Return columns of values as columns of text; None becomes an empty text."""
    return {
        name: ["" if value is None else str(value) for value in values.tolist()]
        for name, values in columns.items()
    }


def take(table: Table, rows: np.ndarray) -> Table:
    """Return some rows of a table; they keep their numbers in the file."""
    if len(rows) == len(table):
        return table
    chosen = rows.tolist()
    return dataclasses.replace(
        table,
        columns={name: [column[row] for row in chosen] for name, column in table.columns.items()},
        numbers=[table.number(row) for row in chosen],
    )


def is_number(text: str) -> bool:
    """Return whether a text is a number, which may be infinite or NaN."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_blank(column: Sequence[str]) -> bool:
    """Return whether no row of a column has a value.

    Examples
    --------
    >>> is_blank(["", " ", "nan"]), is_blank(["", "2.5"])
    (True, False)
    """
    return all(text.strip().lower() in ("", "nan", "none") for text in column)


def read_numbers(
    table: Table, used: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], list[Check]]:
    """Convert columns to numbers, with decimal points or with decimal commas.

    Parameters
    ----------
    table : Table
    used : mapping of str to str
        Column name by quantity.

    Returns
    -------
    values : dict of str to ndarray, shape (N,)
        By quantity; NaN where a text is not a finite number.
    checks : list of Check
        The rows without a number, one check for each column.
    """
    comma = has_decimal_commas(table, list(used.values()))
    values = {kind: _to_numbers(table.columns[name], comma) for kind, name in used.items()}
    checks = [
        Check(column=used[kind], wrong=np.isnan(column), expected="a number")
        for kind, column in values.items()
    ]
    return values, checks


def has_decimal_commas(table: Table, names: Sequence[str]) -> bool:
    """Return whether numbers are written with decimal commas.

    A single column such as "1,234" could have commas between thousands: those are not decimal.

    Examples
    --------
    >>> table = Table({"lon": ["12,5", "3"], "lat": ["4", "5"], "D": ["1,234", "2,000"]}, "table")
    >>> has_decimal_commas(table, ["lon", "lat", "D"]), has_decimal_commas(table, ["lat", "D"])
    (True, False)
    """
    texts = [[text.strip() for text in table.columns[name]] for name in names]
    if any("." in text for column in texts for text in column):
        return False
    commas = [[text for text in column if _WITH_COMMA.fullmatch(text)] for column in texts]
    commas = [column for column in commas if column]
    if len(commas) == 1 and all(map(_THOUSANDS.fullmatch, commas[0])):
        return False
    return bool(commas)


def _to_numbers(column: Sequence[str], comma: bool) -> np.ndarray:
    if comma:
        column = [
            text.replace(",", ".") if _WITH_COMMA.fullmatch(text.strip()) else text
            for text in column
        ]
    try:
        values = np.array(column, dtype=np.float64) if column else np.empty(0)
    except ValueError:
        values = np.array([_to_number(text) for text in column])
    return np.where(np.isfinite(values), values, np.nan)


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def refuse_wrong(table: Table, checks: Sequence[Check]) -> None:
    """Raise an error if a row fails a check.

    Raises
    ------
    DataError
        Names the first such row of the first failed check.
    """
    for check in checks:
        if check.wrong.any():
            raise _wrong_row(table, check)


def leave_out_wrong(table: Table, checks: Sequence[Check]) -> tuple[np.ndarray, list[str]]:
    """Select the rows that pass all checks.

    Returns
    -------
    keep : ndarray of bool, shape (N,)
    notes : list of str
        How many rows are left out, and why.

    Raises
    ------
    DataError
        If most rows fail.
    """
    keep, notes = np.ones(len(table), bool), []
    for check in checks:
        wrong = check.wrong & keep
        keep &= ~wrong
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            notes.append(
                f"{int(wrong.sum())} of {len(table)} rows of {Path(table.source).name} are left "
                f"out, as {check.column} is not {check.expected}: row {table.number(row)} has "
                f"{table.columns[check.column][row]!r}{', ...' if wrong.sum() > 1 else ''}"
            )
    if (~keep).mean() > _MOST_WRONG:
        raise _wrong_row(table, max(checks, key=lambda check: int(check.wrong.sum())))
    return keep, notes


def _wrong_row(table: Table, check: Check) -> DataError:
    row, count = int(np.flatnonzero(check.wrong)[0]), int(check.wrong.sum())
    return DataError(
        f"{table.source}: row {table.number(row)} has {check.column} "
        f"{table.columns[check.column][row]!r}, expected {check.expected}"
        + (f" ({count} such rows)" if count > 1 else ""),
        "Correct the row, or leave it out.",
    )
