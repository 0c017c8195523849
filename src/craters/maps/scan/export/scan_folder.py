"""Read the folder of a finished scan: its summary, and its detections as columns."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath, files
from craters.errors import DataError
from craters.maps.scan.output import SUMMARY

_TABLE = "detections.csv"
_TEXTS = ("detection_id", "source", "model_sha", "set90")


@dataclasses.dataclass(frozen=True, eq=False)
class ScanFolder:
    """A finished scan for circles.

    Parameters
    ----------
    path : Path
    summary : dict
        Content of summary.json.
    table : dict of ndarray
        Columns of detections.csv: text, or numbers with NaN for empty fields.
    """

    path: Path
    summary: dict[str, Any]
    table: dict[str, np.ndarray]


def read_scan_folder(path: StrPath) -> ScanFolder:
    """Read the folder of a finished scan for circles.

    Raises
    ------
    DataError
        If it holds none, or one whose detections have no diameters.
    """
    path = Path(path)
    record = path / SUMMARY
    if not (record.is_file() and (path / _TABLE).is_file()):
        raise DataError(
            f"{path}: holds no finished scan", f"Give a folder with {SUMMARY} and {_TABLE}."
        )
    try:
        summary = json.loads(record.read_text(encoding="utf-8"))
        images = [(each["name"], each["path"], each["native"]) for each in summary["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: is damaged ({error!r})", "Scan again.") from error
    table = _read_table(path / _TABLE)
    if "diameter_px" not in table:
        raise DataError(
            f"{path}: its detections are windows without a diameter",
            "Scan for circles: craters scan IMAGE --out SCAN, without --model.",
        )
    others = set(table["source"].tolist()) - {name for name, _, _ in images}
    if others:
        raise DataError(
            f"{path / _TABLE}: has detections of {min(others)!r}, which {SUMMARY} does not list",
            "Scan again.",
        )
    return ScanFolder(path, summary, table)


def _read_table(path: Path) -> dict[str, np.ndarray]:
    text, _ = files.read_csv_text(path)
    names, *rows = csv.reader(io.StringIO(text))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    try:
        return {
            name: np.array(column, np.str_)
            if name in _TEXTS
            else np.array([float(value) if value else np.nan for value in column], np.float64)
            for name, column in zip(names, columns, strict=True)
        }
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error})", "Scan again.") from error
