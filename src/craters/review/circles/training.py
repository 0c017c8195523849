"""Train a circle detector on what reviewers answered, without the random fields.

Three commands run in a separate process, one after the other: `craters labels merge` writes images
and a catalogue, `craters train` trains on them, and `craters scan` searches the reviewed images
with the new detector, so that the catalogue, the queue and the map are those of the new detector.

Nothing of a random field is trained on: in the images, which are copies as the scan read them, the
pixels of all random fields are missing, and circles whose centre is in a field do not count. In the
catalogue, circles that reviewers accepted, corrected or drew count; what they are unsure of or
disagree about, and what nobody answered and may be a crater, teaches nothing; the rest, with what
reviewers rejected, is background.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.core import StrPath, files
from craters.errors import DataError
from craters.labels import CRATER, NOT, Place
from craters.maps.geo import EARTH, Image, bounded_gdal, gdal_errors
from craters.review.circles.scan import CircleScan
from craters.review.retrain import START, Retraining

if TYPE_CHECKING:
    from craters.review.circles.session import CircleSession
    from craters.review.scan_source import ImageReaders

COLUMNS = ("image", "x_px", "y_px", "diameter_px", "counted")
CATALOGUE, IMAGES, RECORD = "labels.csv", "images", "labels.json"
DOUBTFUL = 0.1  # probability from which a circle without an answer may be a crater

_ROWS = 512  # of an image that are copied at once


@dataclasses.dataclass(frozen=True)
class TrainingCircles:
    """What a training is to learn.

    Parameters
    ----------
    rows : list of tuple
        Image, x, y, diameter, and 1 if the circle counts, else 0.
    images : list of str
        Names of the images with answers outside the random fields.
    craters, rejected, doubtful, held_out : int
        Circles that count, that were rejected, that may or may not be craters, and answered ones
        in random fields.
    """

    rows: list[tuple[str, float, float, float, int]]
    images: list[str]
    craters: int
    rejected: int
    doubtful: int
    held_out: int

    def sentence(self) -> str:
        """Describe the numbers in one sentence."""
        return (
            f"Circles of reviewers: {self.craters} craters and {self.rejected} rejected in "
            f"{len(self.images)} image(s); left out: {self.held_out} in the random fields, "
            f"{self.doubtful} that nobody has decided"
        )


def training_circles(session: CircleSession, *, least: int = 1) -> TrainingCircles:
    """Collect what reviewers answered, and what may be a crater.

    Parameters
    ----------
    session : CircleSession
    least : int
        Votes that a label needs.

    Raises
    ------
    DataError
        If there is no crater outside the random fields.
    """
    counts = dict.fromkeys(("craters", "rejected", "doubtful", "held_out"), 0)
    rows: list[tuple[str, float, float, float, int]] = []
    images: set[str] = set()
    for each in session.tally.labeled(session.places, least=least):
        image, circle = each.place.image, each.circle
        if session.source.number_of(image) is None:
            continue
        is_apart = _is_in_field(session.fields, image, circle.x, circle.y)
        kind = "held_out" if is_apart else {CRATER: "craters", NOT: "rejected"}.get(each.word)
        counts[kind or "doubtful"] += 1
        if kind in ("craters", "rejected"):
            images.add(image)
        if is_apart or each.word != NOT:
            counted = int(each.word == CRATER and not is_apart)
            rows.append((image, circle.x, circle.y, circle.diameter, counted))
    if not counts["craters"]:
        raise DataError(
            f"{session.store.path}: has no crater outside the random fields to train on",
            "Accept, correct or draw some in the queue or on the map first.",
        )
    found = session.source.candidates
    may_be = ~session.is_answered & ((found.probability >= DOUBTFUL) | found.is_detection)
    for row in np.flatnonzero(may_be).tolist():
        name, circle = session.source.names[found.image[row]], session.source.circle(row)
        if name in images:
            counts["doubtful"] += 1
            rows.append((name, circle.x, circle.y, circle.diameter, 0))
    rows = sorted(row for row in rows if row[0] in images)
    return TrainingCircles(rows=rows, images=sorted(images), **counts)


def _is_in_field(fields: Sequence[Place], image: str, x: float, y: float) -> bool:
    point = np.array([x]), np.array([y])
    return any(field.holds(*point)[0] for field in fields if field.image == image)


def write_training_data(session: CircleSession, out: StrPath, *, least: int = 1) -> dict[str, Any]:
    """Write images and catalogue for `craters train` to a new folder, atomically.

    Returns
    -------
    dict
        Content of labels.json in the folder.

    Raises
    ------
    DataError
        If there is nothing to train on.
    """
    circles = training_circles(session, least=least)
    facts = {
        "labels": circles.craters + circles.rejected,
        "sentence": circles.sentence(),
        "last_entry": session.tally.last,
        **{
            name: getattr(circles, name) for name in ("craters", "rejected", "doubtful", "held_out")
        },
    }
    with files.new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        for name in circles.images:
            number = session.source.number_of(name)
            assert number is not None
            fields = [field for field in session.fields if field.image == name]
            copy_without_fields(
                session.source.readers, number, fields, folder / IMAGES / f"{name}.tif"
            )
        lines = [
            [image, f"{x:.2f}", f"{y:.2f}", f"{diameter:.2f}", counted]
            for image, x, y, diameter, counted in circles.rows
        ]
        files.write_text(folder / CATALOGUE, files.to_csv([COLUMNS, *lines]))
        files.write_json(folder / RECORD, facts)
    return facts


def copy_without_fields(
    readers: ImageReaders, number: int, fields: Sequence[Place], path: Path
) -> None:
    """Write an image as the scan reads it, 8-bit and north up; pixels of fields are missing."""
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    image: Image = readers.images[number]
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": image.height, "width": image.width, "count": 1,
        "dtype": "uint8", "compress": "deflate", "tiled": True, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if image.planet.is_known:
        profile |= {"crs": image.planet.wkt, "transform": Affine(*image.transform)}
    environment = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True)
    with (
        bounded_gdal(),
        gdal_errors(str(path), "cannot be written"),
        environment,
        _without_warning(),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        for top in range(0, image.height, _ROWS):
            height = min(_ROWS, image.height - top)
            pixels, missing = readers.read(number, top, 0, height, image.width)
            for field in fields:
                _mask(missing, field, top)
            window = Window(0, top, image.width, height)
            dataset.write(pixels, 1, window=window)
            dataset.write_mask(~missing, window=window)


def _mask(missing: np.ndarray, field: Place, top: int) -> None:
    """Mark the pixels of a field in a band of rows as missing."""
    first, left = (round(field.y - field.height / 2) - top, round(field.x - field.width / 2))
    last, right = first + round(field.height), left + round(field.width)
    missing[max(first, 0) : max(last, 0), left:right] = True


def _without_warning() -> Any:
    """Let an image without coordinates be written without a warning."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    return warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)


def scan_options(summary: dict[str, Any]) -> list[str]:
    """Return the options of `craters scan` by which images are read as in an earlier scan."""
    rows, settings = summary["images"], summary.get("depends_on", {}).get("settings", {})
    options = ["--no-crs"]
    if summary["crs"]:
        options += ["--crs", summary["crs"]]
        if summary["body"] == EARTH:
            options += ["--body", EARTH]
    for name in ("scale", "band"):
        values = {str(row[name]) for row in rows}
        if len(values) == 1:
            value = rows[0][name]
            text = ",".join(f"{end!r}" for end in value) if name == "scale" else str(value)
            options += [f"--{name}", text]
    resampled = {row["resolution"] for row in rows if row["resampled"]}
    options += ["--resolution", repr(resampled.pop()) if resampled else "0"]
    options += ["--gap", str(summary["gap_px"]), "--max-gap", str(summary["max_gap"])]
    if settings.get("sun_azimuth") is not None:
        options += ["--sun-azimuth", repr(settings["sun_azimuth"])]
    if summary["target_precision"] is None:
        return [*options, "--threshold", repr(summary["decision_threshold"])]
    return [*options, "--precision", repr(summary["target_precision"])]


class CircleRetraining(Retraining):
    """Train the detector in the background, and scan the images with it; see `Retraining`.

    Parameters
    ----------
    store : Path
        The label store.
    target : CircleScan
        The scan that is reviewed.
    on_done : callable
        As in `Retraining`.
    """

    states = ("merging", "training", "scanning")
    last_line = "Reading the circles that the new detector found."

    def __init__(
        self, store: Path, target: CircleScan, on_done: Callable[[Path, dict[str, Any]], None]
    ) -> None:
        super().__init__(store, target.target, None, {}, on_done)
        self.summary = target.summary

    def prepare(self, number: int) -> None:
        """Do nothing: all settings are options of the commands."""

    def commands(self, number: int) -> list[list[str]]:
        """Return the three commands of a training."""
        data, out = self.folder / f"{number}.data", self.folder / str(number)
        python = [sys.executable, "-c", START]
        images = [str(row["path"]) for row in self.summary["images"]]
        return [
            [*python, "labels", "merge", str(self.store), str(self.target), "--out", str(data)],
            self.train_command(python, data, out),
            [*python, "scan", *images, "--model", str(out), "--out", f"{out}.scan",
             *scan_options(self.summary)],
        ]  # fmt: skip

    def train_command(self, python: list[str], data: Path, out: Path) -> list[str]:
        """Return the command that trains."""
        return [
            *python, "train", str(data / IMAGES), "--catalogue", str(data / CATALOGUE),
            "--out", str(out),
        ]  # fmt: skip
