"""Completeness of a finished scan for circles: sample windows of its images, plant, scan, write."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import NullProgress, Progress, StrPath, files
from craters.detection.completeness import (
    ALL,
    FRESHNESS,
    TRUSTED,
    Completeness,
    Recall,
    measure_completeness,
)
from craters.detection.completeness_figure import draw_completeness
from craters.detection.planting import PlantingWindow
from craters.errors import DataError, ModelError
from craters.evaluation import save_figure, sigmoid
from craters.maps.geo import Image, Reader, describe_scanned, pixel_sides
from craters.maps.scan import ScanFolder, read_scan_folder
from craters.models import CIRCLE_DTYPE, CircleDetector, conformal_shape, size_strata

EDGES = (8.0, 11.0, 16.0, 23.0, 32.0, 45.0, 64.0)  # px: bins of diameters
SIDE = 1152  # px: of a window, at most
MOST_PIXELS = 16 * SIDE**2  # of all windows
COUNT = 300  # craters to plant in each bin

_BORDER = 64.0  # px: of centres from the edges of a window
_LEAST_SIDE = 256  # px: of an image
_LEAST_VALID = 0.2  # share of a window
_TRIES = 800  # windows
_TINY = 1e-6  # nearest of probabilities to 0 and 1


@dataclasses.dataclass(frozen=True, eq=False)
class _Finder:
    """Finds detections in windows as the scan found them.

    Parameters
    ----------
    detector : CircleDetector
    slope : float
        From logits to those of probabilities.
    offset : ndarray, shape (2,)
        Of these, for small and other circles, see `size_strata`.
    least : ndarray, shape (2,)
        Logits from which they are detections.
    """

    detector: CircleDetector
    slope: float
    offset: np.ndarray
    least: np.ndarray

    def __call__(self, window: PlantingWindow, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        circles = self.detector.detect(
            pixels, missing=window.missing, azimuth=window.azimuth, pixel=window.ground
        )
        circles = circles[circles["logit"] >= self.least[size_strata(circles)]]
        calibrated = self.slope * circles["logit"] + self.offset[size_strata(circles)]
        return circles, sigmoid(calibrated)


def completeness_of_scan(
    scan: StrPath,
    out: StrPath,
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the completeness of a scan for circles by planted craters, and write it to a folder.

    Parameters
    ----------
    scan : path-like
        Folder of a finished scan for circles. Its images and its model must be where they were.
    out : path-like
        Folder to create; must not exist.
    seed : int
        Of windows, places, shapes and intervals.
    threads : int
        0: all CPUs available to the process.
    progress : Progress, optional

    Returns
    -------
    dict
        Content of summary.json.

    Raises
    ------
    ExistsError
        If `out` exists.
    DataError
        If the folder holds no scan for circles, an image has changed, the light of all images is
        unknown, or there are too few detections.
    ModelError
        If the model is another one than that of the scan.
    """
    out = Path(out)
    files.refuse_existing(out)
    folder = read_scan_folder(scan)
    finder = _finder(folder, threads)
    windows, dark = sample_windows(folder, seed)
    measured = measure_completeness(
        windows,
        finder,
        _edges(windows),
        count=COUNT,
        border=_BORDER,
        seed=seed,
        progress=progress or NullProgress(),
    )
    kilometres = _kilometres(windows)
    summary = _summary(folder, measured, windows, kilometres, dark, seed)
    with files.new_folder(out) as work:
        rows = [_row(each, kilometres) for each in measured.recalls]
        table = [list(rows[0]), *([*each.values()] for each in rows)]
        files.write_text(work / "completeness.csv", files.to_csv(table))
        save_figure(work / "completeness.png", draw_completeness(measured, kilometres))
        files.write_json(work / "summary.json", summary)
    return summary


def _finder(folder: ScanFolder, threads: int) -> _Finder:
    """Load the detector of a scan, and find how the scan calibrated it, and its least logits."""
    summary = folder.summary
    detector = CircleDetector.load(summary["model"], threads=threads)
    if detector.sha256 != summary["model_sha256"]:
        raise ModelError(
            f"{summary['model']}: is another model than that of the scan {folder.path}",
            "Scan again with this model.",
        )
    if not len(folder.table["row"]):
        raise DataError(
            f"{folder.path}: has no detections, which show the contrast of craters",
            "Use a larger image, or several of the same kind.",
        )
    calibration = detector.description.calibration
    slope = calibration.slope if calibration.candidates else 1.0
    least = np.full(2, np.inf)  # a kind of which the scan found none is found nowhere
    offset = np.zeros(2)
    kinds = size_strata({"diameter": folder.table["diameter_px"]})  # type: ignore[arg-type]
    logits, p = (
        _logit(np.clip(folder.table[name], tiny, 1 - tiny))
        for name, tiny in (("p_raw", 1e-9), ("p_crater", _TINY))
    )
    threshold = _logit(np.clip(folder.summary["decision_threshold"], _TINY, 1 - _TINY))
    for kind in np.unique(kinds):
        own = kinds == kind
        offset[kind] = np.median(p[own] - slope * logits[own])
        least[kind] = min((threshold - offset[kind]) / slope, logits[own].min())
    return _Finder(detector=detector, slope=slope, offset=offset, least=least)


def _logit(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(p / (1 - p)))


def sample_windows(folder: ScanFolder, seed: int) -> tuple[list[PlantingWindow], list[str]]:
    """Read windows of the images of a scan; return them, and images of unknown light."""
    summary, random = folder.summary, np.random.default_rng([seed, 2])
    light = {each["image"]: each for each in summary["light"]}
    known = [
        row for row in summary["images"]
        if light.get(row["name"], {}).get("is_used", False)
        and min(row["height"], row["width"]) >= _LEAST_SIDE
    ]  # fmt: skip
    dark = [
        row["name"]
        for row in summary["images"]
        if not light.get(row["name"], {}).get("is_used", False)
    ]
    if not known:
        raise DataError(
            f"{folder.path}: no image of at least {_LEAST_SIDE} px has a known direction of light",
            "Scan again with --sun-azimuth.",
        )
    areas = np.array([row["height"] * row["width"] for row in known], float)
    chosen = random.choice(len(known), _TRIES, p=areas / areas.sum())
    windows: list[PlantingWindow] = []
    taken: set[tuple[int, int, int]] = set()
    with contextlib.ExitStack() as stack:
        readers: dict[int, Reader] = {}
        for number in chosen.tolist():
            row = known[number]
            place = (number, *_place(row, random))
            if sum(window.pixels.size for window in windows) >= MOST_PIXELS:
                break
            if place in taken:
                continue
            taken.add(place)
            if number not in readers:
                image = describe_scanned(row, summary, summary["pixels"]["fill"])
                readers[number] = stack.enter_context(contextlib.closing(Reader(image)))
            window = _read(
                readers[number], folder, place[1], place[2], light[row["name"]]["azimuth"]
            )
            if 1 - window.missing.mean() >= _LEAST_VALID:
                windows.append(window)
    if not windows:
        raise DataError(f"{folder.path}: its images have too few valid pixels for planted craters")
    return windows, dark


def _place(row: dict[str, Any], random: np.random.Generator) -> tuple[int, int]:
    """Draw a window of an image from a grid: its first row and column."""
    first = []
    for length in (row["height"], row["width"]):
        room = max(0, length - SIDE)
        step = room / max(1, math.ceil(room / SIDE))
        first.append(int(step * int(random.integers(math.ceil(room / SIDE) + 1))))
    return first[0], first[1]


def _read(
    reader: Reader, folder: ScanFolder, top: int, left: int, azimuth: float
) -> PlantingWindow:
    """Read a window with the detections in it."""
    image = reader.image
    height, width = min(SIDE, image.height - top), min(SIDE, image.width - left)
    pixels, missing = reader.read(top, left, height, width)
    table = folder.table
    row, col = table["row"] - top, table["col"] - left
    inside = (
        (table["source"] == image.name)
        & (row >= -0.5) & (row < height - 0.5) & (col >= -0.5) & (col < width - 0.5)
    )  # fmt: skip
    circles = np.zeros(int(inside.sum()), CIRCLE_DTYPE)
    circles["row"], circles["col"] = row[inside], col[inside]
    circles["diameter"] = table["diameter_px"][inside]
    ground, scale = _ground(image, top + height / 2, left + width / 2)
    shape = None if ground is None else conformal_shape(ground)
    return PlantingWindow(
        name=image.name,
        pixels=np.where(missing, np.uint8(0), pixels),
        missing=missing,
        azimuth=azimuth,
        circles=circles,
        probability=table["p_crater"][inside],
        shape=np.eye(2) if shape is None else shape,
        ground=ground,
        kilometres=scale,
    )


def _ground(image: Image, row: float, col: float) -> tuple[np.ndarray | None, float]:
    """Return the sides of the pixel at a place on the ground, and their mean in kilometres."""
    if not image.planet.is_known:
        return None, math.nan
    sides = pixel_sides(image, np.array([row]), np.array([col]))[0]
    return sides, float(np.sqrt(np.prod(np.linalg.norm(sides, axis=1)))) / 1000


def _edges(windows: list[PlantingWindow]) -> list[float]:
    """Return the bins of diameters that are found in the windows: to a quarter of their side."""
    largest = max(min(window.pixels.shape) for window in windows) / 4
    return [each for each in EDGES if each <= largest]


def _kilometres(windows: list[PlantingWindow]) -> float | None:
    """Return the mean size of a pixel; None if it is unknown, or differs by more than 10 %."""
    scales = np.array([window.kilometres for window in windows])
    if not np.isfinite(scales).all() or scales.max() > 1.1 * scales.min():
        return None
    return float(scales.mean())


def _row(each: Recall, kilometres: float | None) -> dict[str, Any]:
    """Return a row of completeness.csv; empty fields where nothing can be stated."""

    def known(value: float) -> float | str:
        return round(value, 4) if math.isfinite(value) else ""

    scale = math.nan if kilometres is None else kilometres
    return {
        "diameter_low_km": known(each.low_px * scale),
        "diameter_high_km": known(each.high_px * scale),
        "diameter_low_px": each.low_px,
        "diameter_high_px": each.high_px,
        "freshness": each.freshness,
        "planted": each.planted,
        "found": each.found,
        "recall": known(each.recall),
        "low": known(each.low),
        "high": known(each.high),
    }


def _summary(
    folder: ScanFolder,
    measured: Completeness,
    windows: list[PlantingWindow],
    kilometres: float | None,
    dark: list[str],
    seed: int,
) -> dict[str, Any]:
    smallest = measured.smallest_px
    stated = [each for each in measured.recalls if each.freshness == ALL and each.recall >= 0]
    return {
        "craters": __version__,
        "scan": str(folder.path),
        "scan_fingerprint": folder.summary["fingerprint"],
        "seed": seed,
        "windows": len(windows),
        "images": sorted({window.name for window in windows}),
        "light_unknown": dark,
        "planted": len(measured.planted),
        "trusted_recall": TRUSTED,
        "smallest_px": smallest,
        "smallest_km": None if smallest is None or not kilometres else smallest * kilometres,
        "stated_to_px": max((each.high_px for each in stated), default=None),
        "kilometres_per_pixel": kilometres,
        "blur_px": measured.blur,
        "fresh_contrast": measured.contrast,
        "freshness": {name: [least, most] for name, least, most in FRESHNESS},
        "recalls": [_row(each, kilometres) for each in measured.recalls],
    }


def completeness_sentences(summary: dict[str, Any]) -> list[str]:
    """Return the results in words, for the terminal."""
    unit = "px" if summary["kilometres_per_pixel"] is None else "km"
    lines = []
    for row in summary["recalls"]:
        if row["freshness"] != ALL:
            continue
        size = f"{row[f'diameter_low_{unit}']:g} to {row[f'diameter_high_{unit}']:g} {unit}"
        recall = (
            "not stated, too few detections"
            if row["recall"] == ""
            else f"{row['recall']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        )
        lines.append(f"{size}: recall {recall}, {row['planted']} planted, {row['found']} found")
    smallest = summary[f"smallest_{unit}"]
    lines.append(
        f"No diameter has a recall of {TRUSTED:.0%}"
        if smallest is None
        else f"Recall is at least {TRUSTED:.0%} from {smallest:g} {unit} on"
    )
    return lines
