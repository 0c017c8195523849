"""Read counts of Craterstats: .scc and .diam, text with a table of craters in braces."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.columns import catalogue_of
from craters.maps.catalogues.tables import Table
from craters.maps.geo import NO_PLANET, Planet

_TABLE = re.compile(r"^[ \t]*crater[ \t]*=[ \t]*\{([^\n]*)\n(.*?)(\}|\Z)", re.MULTILINE | re.DOTALL)
_RADIUS = re.compile(r"^[ \t]*a_axis_radius[ \t]*=[ \t]*([0-9.eE+]+)[ \t]*<km>", re.MULTILINE)
_BETWEEN = re.compile(r"[\s,]+")
_DIAMETERS = ("diam", "diameter")  # names of its column, always in km


def is_craterstats(text: str) -> bool:
    """Return whether a text is a count of Craterstats."""
    return _TABLE.search(text) is not None


def read_craterstats(path: Path, text: str, columns: str = "") -> Catalogue:
    """Read the craters of a count: diameters in km, positions in degrees east.

    Raises
    ------
    ConfigError, DataError
        If it has no positions, or a row is damaged.
    """
    found = _TABLE.search(text)
    assert found is not None
    names = [name for name in _BETWEEN.split(found[1].strip().rstrip("}")) if name]
    start = text.count("\n", 0, found.start(2)) + 1
    rows, numbers = [], []
    for number, line in enumerate(found[2].splitlines(), start=start):
        words = [word for word in _BETWEEN.split(line.partition("#")[0].strip()) if word]
        if words and len(words) != len(names):
            raise DataError(
                f"{path}: line {number} has {len(words)} values, the table of craters {len(names)} "
                f"columns ({', '.join(names)})",
                "Correct the line.",
            )
        if words:
            rows.append(words)
            numbers.append(number)
    if not found[3]:
        raise DataError(f"{path}: its table of craters has no end '}}'", "Is the file complete?")
    if not rows:
        raise DataError(f"{path}: holds no crater", "Is it the right file?")
    if not {"lon", "lat"} <= set(names):
        raise DataError(
            f"{path}: gives diameters without positions; its columns are {', '.join(names)}",
            "Give the .scc file or the shapefile of the count.",
        )
    names = ["diameter_km" if name in _DIAMETERS else name for name in names]
    table = Table(
        columns=dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)),
        source=str(path),
        numbers=numbers,
        notes=(f"The catalogue is a count of Craterstats: {len(rows)} craters",),
    )
    radius = _RADIUS.search(text)
    planet = NO_PLANET
    if radius is not None and float(radius[1]) > 0:
        planet = Planet.named(f"+proj=longlat +R={1000 * float(radius[1])!r} +no_defs +type=crs")
    return dataclasses.replace(catalogue_of(table, columns), planet=planet)
