"""Review source for a scan: detections, windows near the threshold, and random windows.

The random windows are sampled uniformly from all windows with a value, for unbiased estimates;
labels of the others improve a model most.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.data import UNLABELED, PixelRecord
from craters.errors import DataError, ModelError
from craters.labels import DRAWN, SCAN
from craters.maps.geo import (
    Image,
    PixelReference,
    Reader,
    bounded_gdal,
    describe_scanned,
    gdal_errors,
)
from craters.models import PRETRAINED, Light, Lights, find_pretrained
from craters.review.source import Part, Source

MOST = 2000  # windows near the threshold, and random ones, at most
AROUND = 3  # side of a window with its surroundings, in windows

_TABLE = (
    "detection_id", "lon", "lat", "row", "col", "p_crater", "source",
)  # fmt: skip
_OPEN = 4  # images whose files are open at once


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of a scan as columns.

    Parameters
    ----------
    image, row, col : ndarray of int
        Number of the image, and first pixel.
    probability : ndarray of float32
        Probability in the scan.
    drawn, detected : ndarray of bool
        Whether a window was sampled uniformly, and whether it is a detection.
    lon, lat : ndarray of float
        NaN where unknown.
    """

    image: np.ndarray
    row: np.ndarray
    col: np.ndarray
    probability: np.ndarray
    drawn: np.ndarray
    detected: np.ndarray
    lon: np.ndarray
    lat: np.ndarray


class ImageReaders:
    """Images that are open while they are used, the last few of them. Thread-safe.

    Parameters
    ----------
    images : list of Image
    """

    def __init__(self, images: list[Image]) -> None:
        self.images = images
        self._readers: OrderedDict[int, Reader] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, number: int, top: int, left: int, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a window of an image, uint8, and which of its pixels are missing."""
        with self._lock, bounded_gdal():
            return self._reader(number).read(top, left, height, width)

    def view(self, number: int, top: int, left: int, size: int, shrink: int) -> np.ndarray:
        """Return a square of `size` pixels of an image, reduced by the factor `shrink`."""
        with self._lock, bounded_gdal():
            return self._reader(number).read_reduced(top, left, size, shrink)

    def _reader(self, number: int) -> Reader:
        if number in self._readers:
            self._readers.move_to_end(number)
        else:
            self._readers[number] = Reader(self.images[number])
            if len(self._readers) > _OPEN:
                self._readers.popitem(last=False)[1].close()
        return self._readers[number]


class ScanPixels:
    """Windows of images, read on demand.

    Parameters
    ----------
    images : list of Image
    windows : Windows
    side : int
    """

    def __init__(self, images: list[Image], windows: Windows, side: int) -> None:
        self.readers, self.windows, self.side = ImageReaders(images), windows, side

    def __len__(self) -> int:
        return len(self.windows.row)

    @property
    def images(self) -> list[Image]:
        """The images."""
        return self.readers.images

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return windows (n, side, side), uint8; no-data pixels are filled as in the scan."""
        pixels = np.empty((len(rows), self.side, self.side), np.uint8)
        for place, row in enumerate(rows):
            pixels[place] = self.rectangle(int(row), 0)
        return pixels

    def rectangle(self, row: int, margin: int) -> np.ndarray:
        """Return a window with `margin` pixels around it."""
        windows, size = self.windows, self.side + 2 * margin
        top, left = int(windows.row[row]) - margin, int(windows.col[row]) - margin
        return self.readers.read(int(windows.image[row]), top, left, size, size)[0]


class ScanSource(Source):
    """A scan folder; see `Source`."""

    kind = "scan"

    def __init__(self, target: Path, pixels: ScanPixels, **facts: Any) -> None:
        names = np.array([image.name for image in pixels.images])
        given = np.full(len(pixels), UNLABELED, np.int8)
        images = names[pixels.windows.image]
        super().__init__(
            target,
            [
                Part(
                    name=SCAN,
                    source=str(target),
                    pixels=pixels,
                    given=given,
                    images=images,
                    stem="",
                )
            ],
            **facts,
        )
        self.windows, self.scan = pixels.windows, pixels
        self._rows = {self.id_of(row): row for row in range(len(self))}

    def id_of(self, row: int) -> str:
        """Return the id of a window, image/row/col as in the scan's tables."""
        windows = self.windows
        return f"{self.scan.images[windows.image[row]].name}/{windows.row[row]}/{windows.col[row]}"

    def row_of(self, name: str) -> int | None:
        """Return the row of a window id, or None."""
        return self._rows.get(name)

    def facts(self, row: int) -> dict[str, Any]:
        """Return the position of a window, without its probability."""
        windows = self.windows
        lon, lat = float(windows.lon[row]), float(windows.lat[row])
        known = bool(np.isfinite(lon) and np.isfinite(lat))
        return super().facts(row) | {
            "row": int(windows.row[row]),
            "col": int(windows.col[row]),
            "lon": round(lon, 5) if known else None,
            "lat": round(lat, 5) if known else None,
        }

    def surroundings(self, row: int) -> np.ndarray | None:
        """Return a window in the middle of a square three times as wide."""
        return self.scan.rectangle(row, self.side * (AROUND - 1) // 2)

    def position_order(self) -> np.ndarray:
        """Return rows by image, then from top to bottom and left to right."""
        windows = self.windows
        return np.lexsort((windows.col, windows.row, windows.image))

    def part_of(self, row: int) -> str:
        """Return whether a window was sampled uniformly or selected by the model."""
        return DRAWN if self.windows.drawn[row] else SCAN


def open_scan(target: Path, *, model: Path | None = None, data: Path | None = None) -> ScanSource:
    """Open a scan folder.

    Raises
    ------
    DataError
        If the size of an image has changed since the scan, or the scan is one for circles.
    """
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    if "window" not in summary:
        raise DataError(
            f"{target}: holds circles, and windows are expected",
            "Scan with --model pretrained for windows.",
        )
    scaled = summary.get("pixels")  # absent in older scans
    fill = PixelReference().fill if scaled is None else scaled["fill"]
    images = [describe_scanned(row, summary, fill) for row in summary["images"]]
    for image, row in zip(images, summary["images"], strict=True):
        _refuse_other_orientation(image, target / row["map"])
    if scaled is None:
        scaled = PixelReference().record(images, None)
    side, stride = int(summary["window"]), int(summary["stride"])
    detected = _detections(target / "detections.csv", [image.name for image in images], side)
    maps = [target / row["map"] for row in summary["images"]]
    windows = _join(
        detected,
        *_draw_windows(
            maps, images, stride, float(summary["decision_threshold"]), summary["fingerprint"]
        ),
    )
    model = model or _own_model(summary["model"])
    return ScanSource(
        target,
        ScanPixels(images, windows, side),
        model=model,
        data=data,
        notes=[] if model else [f"the scan's model {summary['model']} does not exist"],
        scaled=PixelRecord.from_dict(scaled, str(target / "summary.json")),
        light=_light_of(summary, windows),
    )


def _own_model(name: str) -> Path | None:
    """Return the folder of the model that made a scan, or None."""
    if name == PRETRAINED:
        with contextlib.suppress(ModelError):
            return find_pretrained()
        return None
    return Path(name) if Path(name).is_dir() else None


def _light_of(summary: dict[str, Any], windows: Windows) -> Lights | None:
    """Return the light of each window as the scan found it; None if it did not look for it."""
    if "light" not in summary:
        return None
    groups = {
        row["image"]: Light(**{name: value for name, value in row.items() if name != "image"})
        for row in summary["light"]
    }
    azimuth = [light.azimuth if light.is_used else np.nan for light in groups.values()]
    return Lights(np.array(azimuth)[windows.image], groups)


def _refuse_other_orientation(image: Image, path: Path) -> None:
    """Raise DataError if a scan of an earlier version counts rows and columns as stored."""
    with _opened(path) as dataset:
        a, b, _, d, e, _ = tuple(dataset.transform)[:6]
    if image.planet.is_known and not (a > 0 and e < 0 and b == d == 0):
        raise DataError(
            f"{path}: is not north up, because an earlier version scanned {image.path} as stored",
            "Scan the image again.",
        )


def _detections(path: Path, names: list[str], side: int) -> Windows:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not set(_TABLE) <= set(rows[0]):
        raise DataError(f"{path}: lacks columns, expected {', '.join(_TABLE)}")
    number = {name: place for place, name in enumerate(names)}
    middle = (side - 1) / 2

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) if row[name] else np.nan for row in rows], float)

    return Windows(
        image=np.array([number[row["source"]] for row in rows], np.int64),
        row=np.rint(column("row") - middle).astype(np.int64),
        col=np.rint(column("col") - middle).astype(np.int64),
        probability=column("p_crater").astype(np.float32),
        drawn=np.zeros(len(rows), bool),
        detected=np.ones(len(rows), bool),
        lon=column("lon"),
        lat=column("lat"),
    )


def _draw_windows(
    maps: list[Path], images: list[Image], stride: int, threshold: float, fingerprint: str
) -> list[Windows]:
    """Sample windows from probability maps: uniform ones, and those nearest to the threshold."""
    random = np.random.default_rng(int(fingerprint[:15], 16))
    shares = _shares([image.height * image.width for image in images])
    parts = []
    for number, (path, share) in enumerate(zip(maps, shares, strict=True)):
        row, col, probability = _sample_map(path, 16 * share, random)
        uniform = np.arange(min(share, len(row)))
        rest = np.arange(len(uniform), len(row))
        near = rest[np.argsort(np.abs(probability[rest] - threshold), kind="stable")[:share]]
        for rows, drawn in ((uniform, True), (near, False)):
            top, left = row[rows] * stride, col[rows] * stride
            lon, lat = _places(images[number], top, left)
            parts.append(
                Windows(
                    image=np.full(len(rows), number),
                    row=top,
                    col=left,
                    probability=probability[rows],
                    drawn=np.full(len(rows), drawn),
                    detected=np.zeros(len(rows), bool),
                    lon=lon,
                    lat=lat,
                )
            )
    return parts


def _places(image: Image, top: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the longitude and latitude of the first pixel of each window."""
    if not image.planet.is_known or not len(top):
        nowhere = np.full(len(top), np.nan)
        return nowhere, nowhere
    return image.to_lonlat(top, left)


def _shares(sizes: list[int]) -> list[int]:
    total = sum(sizes)
    return [max(1, round(MOST * size / total)) for size in sizes]


def _sample_map(
    path: Path, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample windows with a value uniformly, reading bands of rows."""
    keys, samples = [], []
    with _opened(path) as dataset:
        scale, height = 1.0, max(1, (1 << 20) // dataset.width)
        if dataset.dtypes[0] != "float32":
            scale = float(dataset.scales[0])
        for first in range(0, dataset.height, height):
            last = min(first + height, dataset.height)
            window = ((first, last), (0, dataset.width))
            band = dataset.read(1, window=window).astype(np.float32) * np.float32(scale)
            has_value = (dataset.read_masks(1, window=window) > 0) & np.isfinite(band)
            row, col = np.nonzero(has_value)
            # Smallest uniform keys: sampling without replacement in one pass.
            key = random.random(len(row))
            keep = np.argsort(key, kind="stable")[:count]
            keys.append(key[keep])
            samples.append((row[keep] + first, col[keep], band[row[keep], col[keep]]))
    order = np.argsort(np.concatenate(keys), kind="stable")[:count]
    row, col, probability = (np.concatenate(column)[order] for column in zip(*samples, strict=True))
    return row, col, probability


def _join(*parts: Windows) -> Windows:
    """Concatenate windows and merge duplicates, combining their flags."""
    names = [field.name for field in dataclasses.fields(Windows)]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    places = np.column_stack([columns["image"], columns["row"], columns["col"]])
    _, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
    for name in ("drawn", "detected"):
        either = np.zeros(len(first), bool)
        np.logical_or.at(either, inverse.reshape(-1), columns[name])
        columns[name][first] = either
    first.sort()
    return Windows(**{name: column[first] for name, column in columns.items()})


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """Open a raster without warning that it has no georeferencing."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with bounded_gdal(), gdal_errors(str(path)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with dataset:
            yield dataset
