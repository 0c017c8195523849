"""Cut patches on disk: the arrays that `craters run` reads, their positions, and a summary."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import NullProgress, Progress, files
from craters.data import class_counts
from craters.errors import DataError, ExistsError
from craters.maps.catalogues import sampling
from craters.maps.catalogues.catalogue import Catalogue, read_catalogue
from craters.maps.catalogues.sampling import LABELED, TEST, UNLABELED, Cut
from craters.maps.catalogues.sampling_units import Part, make_parts
from craters.maps.geo import raster
from craters.settings import CutRequest

_LABELS = {LABELED: "Ytrain1", TEST: "Ytest1"}
_GROUPS = {LABELED: "groups_train", UNLABELED: "groups_extra", TEST: "groups_test"}
_HEAD = (
    "array", "index", "group", "source", "row_off", "col_off", "row", "col", "lon", "lat", "x", "y",
    "label", "diameter", "crater_row", "gap",
)  # fmt: skip


def cut_patches(request: CutRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Cut patches into a new folder, whole or not at all.

    Parameters
    ----------
    request : CutRequest
    progress : Progress, optional
        Receives a line for each step.

    Returns
    -------
    dict
        What summary.json holds.

    Raises
    ------
    ExistsError
        When the folder exists.
    ConfigError, DataError, GeoError
        When images or catalogue cannot be used, or no window fits the rule.
    """
    progress = progress or NullProgress()
    if request.out.exists():
        raise ExistsError(f"{request.out}: exists already", "Name a new folder.")
    catalogue = None
    if request.catalogue is not None:
        catalogue = read_catalogue(request.catalogue, request.columns)
    parts = make_parts(request, progress)
    progress.say(f"Choosing windows in {len(parts)} image(s) or cells ...")
    plan = sampling.plan_cuts(request, parts, catalogue)
    _refuse_empty(request, plan)
    with files.new_folder(request.out) as work:
        for name, cuts in plan.items():
            if cuts:
                _write_arrays(work, name, cuts, request.side)
        files.write_text(work / "positions.csv", _positions(plan, catalogue, request.side))
        content = _summarize(request, plan, parts)
        files.write_json(work / "summary.json", content)
    return content


def _refuse_empty(request: CutRequest, plan: sampling.Plan) -> None:
    labels = {one.label for _, one in plan[LABELED]}
    if request.catalogue is not None and 1 not in labels:
        raise DataError(
            f"{request.catalogue}: no window fits one of its craters in the training images",
            "Check --diameters and --max-gap, and that catalogue and images show the same place.",
        )
    if not any(plan.values()):
        raise DataError("no window could be cut", "Check --max-gap and --unlabeled.")


def _write_arrays(folder: Path, name: str, cuts: Sequence[tuple[Part, Cut]], side: int) -> None:
    """Write pixels a patch at a time into a mapped file, so that memory does not grow."""
    with files.atomic_path(folder / f"{name}.npy") as path:
        array = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(len(cuts), side * side)
        )
        for row, pixels in enumerate(_read_all(cuts, side)):
            array[row] = pixels.ravel()
        array.flush()
        del array
    groups = np.array([part.name for part, _ in cuts], dtype=np.str_)
    files.write_array(folder / f"{_GROUPS[name]}.npy", groups)
    if name in _LABELS:
        labels = np.array([one.label for _, one in cuts], np.int32)
        files.write_array(folder / f"{_LABELS[name]}.npy", labels)


def _read_all(cuts: Sequence[tuple[Part, Cut]], side: int) -> Iterator[np.ndarray]:
    with raster.bounded_gdal():
        for image, group in itertools.groupby(cuts, key=lambda pair: pair[0].chart.image):
            reader = raster.Reader(image)
            try:
                for _, one in group:
                    yield reader.read(one.top, one.left, side, side)[0]
            finally:
                reader.close()


def _positions(plan: sampling.Plan, catalogue: Catalogue | None, side: int) -> str:
    rows = (
        [name, index, *_position(part, one, catalogue, side)]
        for name, cuts in plan.items()
        for index, (part, one) in enumerate(cuts)
    )
    return files.to_csv([_HEAD, *rows])


def _position(part: Part, one: Cut, catalogue: Catalogue | None, side: int) -> list[Any]:
    """Lay out a window: its first pixel, its centre in pixels, degrees and map units, its label."""
    image = part.chart.image
    row, col = one.top + (side - 1) / 2, one.left + (side - 1) / 2
    place: list[Any] = ["", "", "", ""]
    diameter: Any = ""
    if image.planet.is_known:
        x, y = image.to_xy(row, col)
        lon, lat = image.planet.to_lonlat(x, y)
        place = [f"{float(lon):.8f}", f"{float(lat):.8f}", f"{float(x):.3f}", f"{float(y):.3f}"]
    if catalogue is not None and one.crater >= 0:
        diameter = float(catalogue.diameters[one.crater])
        diameter = diameter / 1000 if image.planet.is_known else diameter
    return [
        part.name, image.name, one.top, one.left, row, col, *place,
        "" if one.label < 0 else one.label, diameter, "" if one.crater < 0 else one.crater + 2,
        round(one.gap, 6),
    ]  # fmt: skip


def _summarize(request: CutRequest, plan: sampling.Plan, parts: Sequence[Part]) -> dict[str, Any]:
    image = parts[0].chart.image
    counts = {
        name: class_counts(np.array([one.label for _, one in cuts], int))
        for name, cuts in plan.items()
        if cuts
    }
    low, high = sampling.crater_range(request, parts[0].chart)
    scale = 1000.0 if image.planet.is_known else 1.0
    jitter = request.side / 4 if request.jitter is None else request.jitter
    content: dict[str, Any] = {
        "arrays": counts,
        "groups": {
            name: len({part.name for part, _ in cuts}) for name, cuts in plan.items() if cuts
        },
        "held_out": sorted(part.name for part in parts if part.is_test),
        "resolution": image.resolution,
        "rule": {
            "side": request.side, "jitter": jitter, "crater_share": request.crater_share,
            "diameters": [low / scale, high / scale if np.isfinite(high) else None],
            "unit": "km" if image.planet.is_known else "px", "max_gap": request.max_gap,
            "gap": image.gap, "cells": request.cells,
        },
        "seed": request.seed,
        "images": {part.chart.image.name: part.chart.image.mark for part in parts},
        "bands": {part.chart.image.name: part.chart.image.band for part in parts},
        "scales": {part.chart.image.name: part.chart.image.scale_rule for part in parts},
        "version": __version__,
    }  # fmt: skip
    if request.catalogue is not None:
        content["catalogue"] = files.sha256_of(request.catalogue)
    return content | {"notes": _notes(request, plan)}


def _notes(request: CutRequest, plan: sampling.Plan) -> list[str]:
    notes = []
    craters = sum(one.label == 1 for _, one in plan[LABELED])
    wanted = round(craters * (1 - request.crater_share) / request.crater_share)
    others = len(plan[LABELED]) - craters
    if others < wanted:
        notes.append(
            f"There is room for {others} patches without crater only, {wanted} were wanted"
        )
    if len(plan[UNLABELED]) < request.unlabeled:
        notes.append(
            f"There is room for {len(plan[UNLABELED])} unlabeled patches only, "
            f"{request.unlabeled} were wanted"
        )
    absent = [name for name in (LABELED, UNLABELED, TEST) if not plan[name]]
    return notes + [f"There is no {name}.npy; `craters run` asks for one" for name in absent]


def lines(content: dict[str, Any]) -> list[str]:
    """Say what was cut in a few lines for the terminal."""
    said = []
    for name, counts in content["arrays"].items():
        groups = content["groups"][name]
        if counts["unlabeled"]:
            text = f"{counts['n']} unlabeled"
        else:
            text = (
                f"{counts['n']}, {counts['with_crater']} with crater, "
                f"{counts['without_crater']} without"
            )
        said.append(f"{name}: {text}; {groups} group(s)")
    return said + [f"Note: {note}." for note in content["notes"]]
