"""Write sampled patches: arrays in the layout of `craters run`, positions, and a summary."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import NullProgress, Progress, Steps, files
from craters.data import class_counts
from craters.errors import DataError
from craters.maps.catalogues import sampling
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.formats import read_catalogue
from craters.maps.catalogues.sampling import LABELED, TEST, UNLABELED, PatchWindow
from craters.maps.catalogues.sampling_units import SamplingUnit, make_sampling_units
from craters.maps.geo import EIGHT_BIT, Image, Reader, bounded_gdal, image_notes
from craters.settings import SamplingRequest

_LABELS = {LABELED: "Ytrain1", TEST: "Ytest1"}
_GROUPS = {LABELED: "groups_train", UNLABELED: "groups_extra", TEST: "groups_test"}
_HEAD = (
    "array", "index", "group", "source", "row_off", "col_off", "row", "col", "lon", "lat", "x", "y",
    "label", "diameter", "crater_row", "gap",
)  # fmt: skip


def sample_patches(request: SamplingRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Sample patches from images and write them to a new folder, atomically.

    Parameters
    ----------
    request : SamplingRequest
    progress : Progress, optional
        Receives messages, and the finished share of the work.

    Returns
    -------
    dict
        Content of summary.json.

    Raises
    ------
    ExistsError
        If the folder exists.
    ConfigError, DataError, GeoError
        If the images or the catalogue cannot be used, or no window meets the criteria.
    """
    progress = progress or NullProgress()
    files.refuse_existing(request.out)
    catalogue = None
    if request.catalogue is not None:
        catalogue = read_catalogue(request.catalogue, request.columns, request.crater_class)
    units = make_sampling_units(request, progress)
    if catalogue is not None and units[0].chart.image.planet.is_known and not catalogue.in_pixels:
        catalogue.check_body(units[0].chart.image.planet)
    progress.say(f"Choosing windows in {len(units)} image(s) or cells ...")
    steps = Steps(progress, sampling.usual_costs(request, units, catalogue))
    plan = sampling.plan_patches(request, units, catalogue, steps)
    _refuse_empty(request, plan)
    steps.expect("read", sampling.READ_COST * sum(map(len, plan.values())))
    with files.new_folder(request.out) as work:
        _write_arrays(work, plan, request.side, steps.within("read"))
        files.write_text(work / "positions.csv", _positions(plan, catalogue, request.side))
        content = _summarize(request, plan, units, catalogue)
        files.write_json(work / "summary.json", content)
    return content


def _refuse_empty(request: SamplingRequest, plan: sampling.SamplingPlan) -> None:
    labels = {window.label for _, window in plan[LABELED]}
    if request.catalogue is not None and 1 not in labels:
        raise DataError(
            f"{request.catalogue}: no window fits any of its craters in the training images",
            "Check --diameters and --max-gap, and that catalogue and images cover the same region.",
        )
    if not any(plan.values()):
        raise DataError("no patch could be sampled", "Check --max-gap and --unlabeled.")


def _write_arrays(folder: Path, plan: sampling.SamplingPlan, side: int, progress: Progress) -> None:
    """Write the arrays that have patches, and report the number of patches."""
    total, done = sum(map(len, plan.values())), 0
    for name, windows in plan.items():
        if windows:
            _write_array(
                folder, name, windows, side, functools.partial(_report, progress, done, total)
            )
            done += len(windows)


def _report(progress: Progress, before: int, total: int, written: int) -> None:
    progress.work(before + written, total, "patches")


def _write_array(
    folder: Path,
    name: str,
    windows: Sequence[tuple[SamplingUnit, PatchWindow]],
    side: int,
    report: Callable[[int], None],
) -> None:
    """Write patch by patch into a memory-mapped file, so that memory use stays constant."""
    with files.atomic_path(folder / f"{name}.npy") as path:
        array = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(len(windows), side * side)
        )
        for row, pixels in enumerate(_read_all(windows, side)):
            array[row] = pixels.ravel()
            report(row + 1)
        array.flush()
        del array
    groups = np.array([unit.name for unit, _ in windows], dtype=np.str_)
    files.write_array(folder / f"{_GROUPS[name]}.npy", groups)
    if name in _LABELS:
        labels = np.array([window.label for _, window in windows], np.int32)
        files.write_array(folder / f"{_LABELS[name]}.npy", labels)


def _read_all(
    windows: Sequence[tuple[SamplingUnit, PatchWindow]], side: int
) -> Iterator[np.ndarray]:
    with bounded_gdal():
        for image, group in itertools.groupby(windows, key=lambda pair: pair[0].chart.image):
            with contextlib.closing(Reader(image)) as reader:
                for _, window in group:
                    yield reader.read(window.top, window.left, side, side)[0]


def _positions(plan: sampling.SamplingPlan, catalogue: Catalogue | None, side: int) -> str:
    rows = (
        [name, index, *_position(unit, window, catalogue, side)]
        for name, windows in plan.items()
        for index, (unit, window) in enumerate(windows)
    )
    return files.to_csv([_HEAD, *rows])


def _position(
    unit: SamplingUnit, window: PatchWindow, catalogue: Catalogue | None, side: int
) -> list[Any]:
    """Return a row of positions.csv: upper-left pixel, centre in three systems, label."""
    image = unit.chart.image
    row, col = window.top + (side - 1) / 2, window.left + (side - 1) / 2
    coordinates: list[Any] = ["", "", "", ""]
    diameter: Any = ""
    crater_row: Any = ""
    if image.planet.is_known:
        x, y = image.to_xy(row, col)
        lon, lat = image.to_lonlat(row, col)
        coordinates = [
            f"{float(lon):.8f}",
            f"{float(lat):.8f}",
            f"{float(x):.3f}",
            f"{float(y):.3f}",
        ]
    if catalogue is not None and window.crater >= 0:
        diameter = float(catalogue.diameters[window.crater])
        diameter = diameter / 1000 if image.planet.is_known else diameter
        crater_row = int(catalogue.file_rows(np.array([window.crater]))[0])
    return [
        unit.name, image.name, window.top, window.left, row, col, *coordinates,
        "" if window.label < 0 else window.label, diameter,
        crater_row, round(window.nodata_share, 6),
    ]  # fmt: skip


def _summarize(
    request: SamplingRequest,
    plan: sampling.SamplingPlan,
    units: Sequence[SamplingUnit],
    catalogue: Catalogue | None,
) -> dict[str, Any]:
    image = units[0].chart.image
    counts = {
        name: class_counts(np.array([window.label for _, window in windows], int))
        for name, windows in plan.items()
        if windows
    }
    low, high = sampling.crater_range(request, units[0].chart)
    scale = 1000.0 if image.planet.is_known else 1.0
    jitter = request.side / 4 if request.jitter is None else request.jitter
    images = {unit.chart.image.name: unit.chart.image for unit in units}
    content: dict[str, Any] = {
        "arrays": counts,
        "groups": {
            name: len({unit.name for unit, _ in windows})
            for name, windows in plan.items()
            if windows
        },
        "held_out": sorted(unit.name for unit in units if unit.is_test),
        "resolution": image.resolution,
        "rule": {
            "side": request.side, "jitter": jitter, "crater_share": request.crater_share,
            "diameters": [low / scale, high / scale if np.isfinite(high) else None],
            "unit": "km" if image.planet.is_known else "px", "max_gap": request.max_gap,
            "gap": image.gap, "cells": request.cells,
        },
        "seed": request.seed,
        "images": {name: image.fingerprint for name, image in images.items()},
        "bands": {name: image.band for name, image in images.items()},
        "scales": {name: image.scale_rule for name, image in images.items()},
        "pixels": EIGHT_BIT.record(list(images.values()), request.read.scale),
        "version": __version__,
    }  # fmt: skip
    if catalogue is not None:
        content["catalogue"] = catalogue.sha256()
    images = {unit.chart.image.name: unit.chart.image for unit in units}
    notes = _notes(request, plan, list(images.values()))
    if catalogue is not None:
        notes += [*catalogue.notes, *catalogue.source_notes(set(images))]
    return content | {"notes": notes}


def _notes(request: SamplingRequest, plan: sampling.SamplingPlan, images: list[Image]) -> list[str]:
    notes = image_notes(images)
    craters = sum(window.label == 1 for _, window in plan[LABELED])
    wanted = round(craters * (1 - request.crater_share) / request.crater_share)
    without_crater = len(plan[LABELED]) - craters
    if without_crater < wanted:
        notes.append(f"Only {without_crater} of {wanted} patches without crater fit")
    if len(plan[UNLABELED]) < request.unlabeled:
        notes.append(f"Only {len(plan[UNLABELED])} of {request.unlabeled} unlabeled patches fit")
    absent = [name for name in (LABELED, UNLABELED, TEST) if not plan[name]]
    return notes + [f"There is no {name}.npy; `craters run` needs one" for name in absent]


def lines(content: dict[str, Any]) -> list[str]:
    """Summarize the sampled patches in a few lines for the terminal."""
    summary = []
    for name, counts in content["arrays"].items():
        groups = content["groups"][name]
        if counts["unlabeled"]:
            text = f"{counts['n']} unlabeled"
        else:
            text = (
                f"{counts['n']}, {counts['with_crater']} with crater, "
                f"{counts['without_crater']} without"
            )
        summary.append(f"{name}: {text}; {groups} group(s)")
    return summary + [f"Note: {note}." for note in content["notes"]]
