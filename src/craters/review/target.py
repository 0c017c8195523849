"""Open a review target: an array, a folder of arrays, a run folder or a scan folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from craters.core import StrPath
from craters.data import arrays_of, find_array, is_archive
from craters.errors import CratersError, DataError
from craters.models import find_model
from craters.review.source import Source, open_arrays, open_data, open_run


def is_circle_scan(target: StrPath) -> bool:
    """Return whether a folder is that of a scan for circles.

    Raises
    ------
    DataError
        If the summary of a scan is damaged.
    """
    target = Path(target)
    path = target / "summary.json"
    if not (path.is_file() and (target / "detections.csv").is_file()):
        return False
    try:
        return "window" not in json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error})", "Scan again.") from error


def open_target(
    target: StrPath, *, model: StrPath | None = None, data: StrPath | None = None
) -> Source:
    """Open a target: an array, a data set, a run folder or a scan folder.

    Raises
    ------
    DataError
        If it is none of these.
    CratersError
        On Windows, which lacks calls that reviews rely on.
    """
    if sys.platform == "win32":
        raise CratersError("reviews need Linux or macOS", "On Windows, use WSL.")
    target = Path(target)
    model = None if model is None else find_model(model)
    data = None if data is None else Path(data)
    if target.is_file() and target.suffix in (".npy", ".npz") and not is_archive(target):
        return open_arrays(target, model=model, data=data)
    if (target / "summary.json").is_file() and (target / "detections.csv").is_file():
        from craters.review.scan_source import open_scan

        return open_scan(target, model=model, data=data)
    if (target / "config.json").is_file() and (target / "model").is_dir():
        return open_run(target, model=model, data=data)
    if any(find_array(target, stem).is_file() for stem in ("Xtrain1", "Xtrain1_extra")):
        return open_data(target, target, model=model)
    if target.exists():
        try:
            return open_data(target, arrays_of(target), model=model)
        except DataError as error:
            raise DataError(
                f"{target}: cannot be reviewed ({error.message})", error.hint
            ) from error
    raise DataError(
        f"{target}: no such file or folder, expected an array of patches (.npy, .npz), a data set, "
        "a run folder or a scan folder"
    )
