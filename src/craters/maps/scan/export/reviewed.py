"""Write craters that reviewers corrected on a scan in the formats of `craters export`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters.core import StrPath, files
from craters.errors import ConfigError
from craters.maps.geo import Layer, PixelReference, describe_scanned, map_files
from craters.maps.scan import output
from craters.maps.scan.circles import table as circle_tables
from craters.maps.scan.export.formats import FORMATS
from craters.maps.scan.export.scan_folder import ScanFolder, read_scan_folder

CSV, GEOPACKAGE = "csv", "gpkg"
REVIEWED_FORMATS = (CSV, GEOPACKAGE, *FORMATS)


def export_reviewed(
    scan: StrPath,
    circles: Sequence[dict[str, Any]],
    out: StrPath,
    file_format: str,
) -> str:
    """Write craters on the images of a scan in the format of another tool.

    Parameters
    ----------
    scan : path-like
        Folder of a finished scan for circles.
    circles : sequence of dict
        `image`, `x`, `y`, `diameter` in pixels of the scan from the upper left corner, `id`,
        `reviewers` and `at`.
    out : path-like
        Folder to create; must not exist.
    file_format : str
        One of `REVIEWED_FORMATS`.

    Returns
    -------
    str
        What was written, as a sentence.

    Raises
    ------
    ConfigError, ExistsError, DataError, GeoError
    """
    out = Path(out)
    if file_format not in REVIEWED_FORMATS:
        raise ConfigError(f"--format is {file_format!r}, expected {', '.join(REVIEWED_FORMATS)}")
    files.refuse_existing(out)
    folder = read_scan_folder(scan)
    parts = _tables(folder, circles)
    reviewed = dataclasses.replace(folder, table=output.join([part for _, part in parts]))
    with files.new_folder(out) as work:
        if file_format == CSV:
            written = _write_catalogue(parts, work)
        elif file_format == GEOPACKAGE:
            written = _write_geopackage(parts, work)
        else:
            written = FORMATS[file_format](reviewed, work)
    return f"{out}: {written}, as {file_format}."


def _tables(
    scan: ScanFolder, circles: Sequence[dict[str, Any]]
) -> list[tuple[Any, dict[str, np.ndarray]]]:
    """Return the columns of a catalogue for each image of a scan."""
    summary = scan.summary
    fill = summary["pixels"]["fill"] if "pixels" in summary else PixelReference().fill
    parts = []
    for row in summary["images"]:
        image = describe_scanned(row, summary, fill)
        mine = [circle for circle in circles if circle["image"] == image.name]
        found = np.zeros(len(mine), [(name, "f8") for name in ("row", "col", "diameter")])
        found["row"] = [circle["y"] - 0.5 for circle in mine]
        found["col"] = [circle["x"] - 0.5 for circle in mine]
        found["diameter"] = [circle["diameter"] for circle in mine]
        columns = _columns(image, found)
        for name, key in (("detection_id", "id"), ("reviewers", "reviewers"), ("at", "at")):
            columns[name] = np.array([str(circle[key]) for circle in mine], object)
        parts.append((image, columns))
    return parts


def _columns(image: Any, found: np.ndarray) -> dict[str, np.ndarray]:
    row, col = found["row"], found["col"]
    kilometres = circle_tables.metres_per_pixel(image, row, col) / 1000
    x, y = image.to_xy(row, col)
    lon, lat = image.to_lonlat(row, col)
    return {
        "detection_id": np.zeros(len(found), object),
        "lon": lon,
        "lat": lat,
        "x": x,
        "y": y,
        "row": row,
        "col": col,
        "diameter_km": found["diameter"] * kilometres,
        "diameter_px": found["diameter"],
        "p_crater": np.ones(len(found)),
        "source": np.full(len(found), image.name, object),
    }


def _write_catalogue(parts: list[tuple[Any, dict[str, np.ndarray]]], folder: Path) -> str:
    """Write craters.csv: in degrees and km where known, and in pixels of the image file."""
    is_known = parts[0][0].planet.is_known
    names = ["image", *(["lon", "lat", "diameter_km"] if is_known else []), "x_px", "y_px"]
    names += ["diameter_px", "detection_id", "reviewers", "at"]
    rows: list[tuple[Any, ...]] = []
    for image, columns in parts:
        across, down = image.native[1] / image.width, image.native[0] / image.height
        shown = columns | {
            "image": columns["source"],
            "x_px": ((columns["col"] + 0.5) * across).round(3),
            "y_px": ((columns["row"] + 0.5) * down).round(3),
            "diameter_px": (columns["diameter_px"] * np.sqrt(across * down)).round(3),
        }
        rows += zip(*(shown[name].tolist() for name in names), strict=True)
    files.write_text(folder / "craters.csv", files.to_csv([names, *rows]))
    return f"{len(rows)} craters"


def _write_geopackage(parts: list[tuple[Any, dict[str, np.ndarray]]], folder: Path) -> str:
    """Write craters.gpkg with one layer, so that every reader of catalogues takes it."""
    layer = (
        Layer(
            name="craters",
            kind="Point",
            shapes=shapely.points(columns["x"], columns["y"]),
            columns=columns,
        )
        for _, columns in parts
    )
    map_files.write_layers(folder / "craters.gpkg", [layer], parts[0][0].planet, {})
    return f"{sum(len(columns['x']) for _, columns in parts)} craters"
