"""Export a scan: the formats by name, each a function that writes into a new folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from craters.core import StrPath, files
from craters.errors import ConfigError
from craters.maps.scan.export.boxes import write_coco, write_voc, write_yolo
from craters.maps.scan.export.counting import (
    write_diam,
    write_robbins,
    write_scc,
    write_shapefiles,
)
from craters.maps.scan.export.scan_folder import ScanFolder, read_scan_folder

# Each writes its files into an empty folder, and says in a few words what it wrote.
FORMATS: dict[str, Callable[[ScanFolder, Path], str]] = {
    "voc": write_voc,
    "yolo": write_yolo,
    "coco": write_coco,
    "scc": write_scc,
    "diam": write_diam,
    "craterstats-shp": write_shapefiles,
    "robbins": write_robbins,
}


def export_scan(scan: StrPath, out: StrPath, file_format: str) -> str:
    """Write the detections of a scan in the format of another tool.

    Parameters
    ----------
    scan : path-like
        Folder of a finished scan for circles.
    out : path-like
        Folder to create; must not exist.
    file_format : str
        A key of `FORMATS`.

    Returns
    -------
    str
        What was written, as a sentence.

    Raises
    ------
    ConfigError
        If the format is unknown.
    ExistsError
        If `out` exists.
    DataError, GeoError
        If the scan cannot be exported.
    """
    out = Path(out)
    if file_format not in FORMATS:
        raise ConfigError(f"--format is {file_format!r}, expected {', '.join(FORMATS)} for a scan")
    files.refuse_existing(out)
    folder = read_scan_folder(scan)
    with files.new_folder(out) as work:
        written = FORMATS[file_format](folder, work)
    return f"{out}: {written}, as {file_format}."
