"""Make the maps, layers and tables of a scan from the logits of all windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters.core import files
from craters.evaluation import decide, sigmoid
from craters.maps.geo import Image, Layer, Planet, box_sums, map_files
from craters.maps.scan.detections import MergeRule, find_detections
from craters.maps.scan.grid import Grid
from craters.maps.scan.store import Store
from craters.models import Classifier

BINS = 50  # of the histogram of probabilities
RISK = 0.1  # error rate of the prediction sets in the catalogue

SUMMARY = "summary.json"
FAILED = (  # follows their number
    "block(s) could not be scanned and have no values; see failed.csv. Retry them with --resume."
)

_NOT_IN_TABLE = ("images", "histogram", "depends_on")  # too long for the layer `run`
_BAND = 256  # rows of windows in memory at once: those of one tile of the map
_CELLS = 1 << 22  # largest number of squares in the raster of a footprint
_PIECE = 0.5  # radians: larger footprints are divided, so that no polygon spans half the body

STYLES = {
    "detections": map_files.point_style("166,61,18,255"),
    "windows": map_files.outline_style("230,140,20,120", 0.2),
    "footprint": map_files.outline_style("40,90,160,255", 0.4),
}
MAP_STYLE = (
    '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n<qgis version="3.28" '
    'styleCategories="Symbology"><pipe><rasterrenderer type="singlebandpseudocolor" band="1" '
    'opacity="0.6" classificationMin="0" classificationMax="1"><rastershader><colorrampshader '
    'colorRampType="INTERPOLATED" classificationMode="1" minimumValue="0" maximumValue="1">'
    '<item value="0" label="0" color="#000004" alpha="0"/><item value="0.25" label="0.25" '
    'color="#57106e" alpha="160"/><item value="0.5" label="0.5" color="#bc3754" alpha="255"/>'
    '<item value="0.75" label="0.75" color="#f98e09" alpha="255"/><item value="1" label="1" '
    'color="#fcffa4" alpha="255"/></colorrampshader></rastershader></rasterrenderer></pipe>'
    "</qgis>\n"
)


@dataclasses.dataclass(frozen=True)
class ScanOutcome:
    """The outcome of a scan: its folder, the content of summary.json, and the failed blocks."""

    folder: Path
    summary: dict[str, Any]
    failed: list[dict[str, Any]]


@dataclasses.dataclass
class Scanned:
    """A scanned image, and access to the logits of its windows.

    Parameters
    ----------
    image : Image
    grid : Grid
    store : Store
    done : set of int
        Finished blocks.
    failed : dict of str
        Reason of failure by block.
    classifier : Classifier
        Converts logits to probabilities.
    planet : Planet
        CRS of tables and layers: that of the first image of the scan.
    """

    image: Image
    grid: Grid
    store: Store
    done: set[int]
    failed: dict[int, str]
    classifier: Classifier
    planet: Planet

    def logits(self, first: int, last: int) -> np.ndarray:
        """Read the logits of rows of windows; NaN for windows without a value."""
        return self.store.read_rows(first, last, self.done)

    def probability(self, first: int, last: int) -> np.ndarray:
        """Read rows of windows as calibrated probabilities, float32."""
        values = self.logits(first, last)
        known = np.isfinite(values)
        values[known] = self.classifier.probability(values[known])
        return values

    def bands(self) -> Iterator[tuple[int, int]]:
        """Yield bands of rows of windows: first row, and the one after the last."""
        for first in range(0, self.grid.rows, _BAND):
            yield first, min(first + _BAND, self.grid.rows)

    def map_transform(self) -> tuple[float, ...]:
        """Return the transform of a map whose pixel centres are the windows' centres."""
        a, b, c, d, e, f = self.image.transform
        step, start = self.grid.stride, (self.grid.side - self.grid.stride) / 2
        return (
            a * step, b * step, c + (a + b) * start, d * step, e * step, f + (d + e) * start,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of an image's windows by outcome, and a histogram.

    `candidates` reach the decision threshold of the scan; `called` reach that of the model, at
    which its recall and false-alarm rate are known.
    """

    windows: int
    valued: int
    candidates: int
    called: int
    histogram: np.ndarray
    total: float


def write_probability(scanned: Scanned, path: Path, dtype: str, threshold: float) -> Counts:
    """Write the probability map of one image, and count its windows by outcome."""
    histogram, valued, candidates, called, total = np.zeros(BINS, np.int64), 0, 0, 0, 0.0
    model_threshold = scanned.classifier.description.decision_threshold

    def bands() -> Iterator[np.ndarray]:
        nonlocal valued, candidates, called, total
        for first, last in scanned.bands():
            band = scanned.probability(first, last)
            seen = band[np.isfinite(band)]
            valued += len(seen)
            total += float(seen.sum(dtype=np.float64))
            candidates += int(decide(seen, threshold).sum())
            called += int(decide(seen, model_threshold).sum())
            histogram[:] += np.histogram(seen, BINS, (0, 1))[0]
            yield band

    grid = scanned.grid
    map_files.write_map(
        path,
        bands(),
        size=(grid.rows, grid.columns),
        transform=scanned.map_transform(),
        planet=scanned.image.planet,
        dtype=dtype,
        tags={
            "craters_model": scanned.classifier.sha256,
            "craters_window": str(grid.side),
            "craters_stride": str(grid.stride),
            "craters_source": scanned.image.name,
        },
    )
    files.write_text(path.with_suffix(".qml"), MAP_STYLE)
    return Counts(
        windows=grid.rows * grid.columns,
        valued=valued,
        candidates=candidates,
        called=called,
        histogram=histogram,
        total=total,
    )


def catalogue(scanned: Scanned, rule: MergeRule) -> dict[str, np.ndarray]:
    """Merge an image's windows and describe each detection; columns by name."""
    peaks = find_detections(scanned.probability, scanned.grid.rows, scanned.grid.columns, rule)
    logits = _logits_at(scanned, peaks["row"], peaks["column"])
    return _columns(scanned, peaks["row"], peaks["column"], logits)


def _logits_at(scanned: Scanned, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    logits = np.empty(len(rows), np.float32)
    for first, last in scanned.bands():
        inside = (rows >= first) & (rows < last)
        if inside.any():
            band = scanned.logits(first, last)
            logits[inside] = band[rows[inside] - first, columns[inside]]
    return logits


def _columns(
    scanned: Scanned, row: np.ndarray, column: np.ndarray, logits: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the table of windows or detections, by column."""
    classifier, grid, image = scanned.classifier, scanned.grid, scanned.image
    probability = classifier.probability(logits)
    pixel_row, pixel_column = grid.centre(row, column)
    x, y = image.to_xy(pixel_row, pixel_column)
    lon, lat = image.to_lonlat(pixel_row, pixel_column)
    x, y = image.planet.convert(x, y, scanned.planet)
    starts = zip((row * grid.stride).tolist(), (column * grid.stride).tolist(), strict=True)
    table: dict[str, np.ndarray] = {
        "detection_id": np.array([f"{image.name}/{r}/{c}" for r, c in starts], object),
        "lon": lon,
        "lat": lat,
        "x": x,
        "y": y,
        "row": pixel_row,
        "col": pixel_column,
        "p_crater": probability.astype(np.float64),
        "p_raw": sigmoid(logits),
    }
    if classifier.description.conformal is not None:
        names = np.array(classifier.set_names, object)
        codes = classifier.prediction_sets(probability, RISK) if len(logits) else np.empty(0, int)
        table["set90"] = names[codes]
    table["source"] = np.full(len(logits), image.name, object)
    table["model_sha"] = np.full(len(logits), classifier.sha256[:16], object)
    return table


def join(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate tables of equal columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def to_csv(table: dict[str, np.ndarray]) -> str:
    """Format a table as CSV: degrees to 1e-8, metres to 1e-3; unknown numbers become empty."""
    forms = {"lon": ".8f", "lat": ".8f", "x": ".3f", "y": ".3f", "row": ".1f", "col": ".1f"}
    forms |= {"diameter_px": ".2f", "diameter_error_px": ".2f"}
    columns = [
        [_cell(value, forms.get(name, ".9g")) for value in values.tolist()]
        for name, values in table.items()
    ]
    return files.to_csv([table, *zip(*columns, strict=True)])


def csv_parts(tables: Iterable[dict[str, np.ndarray]]) -> Iterator[str]:
    """Yield the CSV of one table that comes in parts of equal columns; see `to_csv`."""
    for number, table in enumerate(tables):
        text = to_csv(table)
        yield text.partition("\n")[2] if number else text


def _cell(value: Any, form: str) -> str:
    if isinstance(value, float):
        return format(value, form) if np.isfinite(value) else ""
    return str(value)


def run_layer(summary: dict[str, Any]) -> Layer:
    """Return the settings and results of a scan as the table `run`."""
    texts = {
        name: value if isinstance(value, str) else files.to_json(value)
        for name, value in summary.items()
        if name not in _NOT_IN_TABLE
    }
    columns = {
        "name": np.array(list(texts), object),
        "value": np.array(list(texts.values()), object),
    }
    return Layer(name="run", kind="none", shapes=np.empty(0, object), columns=columns)


def failed_rows(failed: dict[str, dict[int, str]]) -> list[dict[str, Any]]:
    """Return the rows of failed.csv from the reasons by image and block."""
    return [
        {"image": name, "block": block, "reason": reason}
        for name, reasons in failed.items()
        for block, reason in reasons.items()
    ]


def write_summary(folder: Path, summary: dict[str, Any], failed: list[dict[str, Any]]) -> None:
    """Write failed.csv, if blocks failed, and summary.json, which marks a folder as complete."""
    if failed:
        rows = files.to_csv([failed[0], *(row.values() for row in failed)])
        files.write_text(folder / "failed.csv", rows)
    files.write_json(folder / SUMMARY, summary)


def window_parts(scanned: Scanned, threshold: float) -> Iterator[Layer]:
    """Yield the layer of all candidate windows, a band of rows at a time."""
    for first, last in scanned.bands():
        hits = decide(scanned.probability(first, last), threshold) == 1
        row, column = np.nonzero(hits)
        if not len(row) and first:
            continue
        logits = scanned.logits(first, last)[hits]
        table = _columns(scanned, row + first, column, logits)
        table["window_id"] = table.pop("detection_id")
        half = scanned.grid.side / 2
        corners = np.array([[half, -half], [half, half], [-half, half], [-half, -half]])
        x, y = scanned.image.to_xy(
            table["row"][:, None] + corners[:, 0], table["col"][:, None] + corners[:, 1]
        )
        x, y = scanned.image.planet.convert(x, y, scanned.planet)
        squares = shapely.polygons(np.stack([x, y], axis=2))
        yield Layer(name="windows", kind="Polygon", shapes=squares, columns=table)


def footprint(scanned: Scanned) -> tuple[Layer, float | None]:
    """Return the footprint of all windows with a value, and its area in square metres.

    The footprint is a raster of squares whose side divides window and stride, or of larger ones if
    these are too many. A square counts if such windows cover at least half of it.
    """
    return footprint_of(*_covered(scanned), scanned.image, scanned.planet)


def footprint_of(
    mask: np.ndarray, cell: int, image: Image, target: Planet
) -> tuple[Layer, float | None]:
    """Return marked squares of an image as polygons with holes, and their area in square metres.

    Parameters
    ----------
    mask : ndarray of bool
        Squares that count; the first is at the upper left corner of the image.
    cell : int
        Side of a square in pixels.
    image : Image
    target : Planet
        CRS of the layer.
    """
    from rasterio.features import shapes

    planet = image.planet
    labels = mask.astype(np.int32)
    if planet.is_known and mask.any():
        pixel = planet.metres * float(np.hypot(image.transform[1], image.transform[4]))
        wide = max(1, int(_PIECE * planet.radius / (pixel * cell)))
        down, right = (np.arange(n) // wide for n in mask.shape)
        labels *= 1 + (down[:, None] * (1 + right[-1]) + right).astype(np.int32)
    outlines, areas = [], []
    for shape, _ in shapes(labels, mask=mask, connectivity=4):
        outlines.append(
            shapely.transform(
                shapely.geometry.shape(shape), lambda corners: _to_map(image, corners, cell)
            )
        )
        areas.append(_area(planet, outlines[-1]))  # by its own radius
        if not planet.equals(target):
            outlines[-1] = shapely.transform(
                outlines[-1],
                lambda corners: np.column_stack(
                    planet.convert(corners[:, 0], corners[:, 1], target)
                ),
            )
    total = float(sum(areas)) if planet.is_known else None
    table = {
        "source": np.full(len(areas), image.name, object),
        "area_km2": np.array(areas, np.float64) / 1e6,
    }
    return Layer(
        name="footprint", kind="Polygon", shapes=np.array(outlines, object), columns=table
    ), total


def _covered(scanned: Scanned) -> tuple[np.ndarray, int]:
    """Mark squares covered by windows with a value; also return their side in pixels."""
    grid = scanned.grid
    cell = math.gcd(grid.side, grid.stride)  # a window consists of whole squares
    step, spread = grid.stride // cell, grid.side // cell
    rows, columns = grid.pixels(grid.rows) // cell, grid.pixels(grid.columns) // cell
    fold = max(1, math.ceil(math.sqrt(rows * columns / _CELLS)))
    covered = np.zeros((-(-rows // fold), -(-columns // fold)), bool)
    height = max(1, min(_BAND, _CELLS // columns) // fold)
    for first in range(0, len(covered), height):
        last = min(first + height, len(covered))
        top = first * fold - (spread - 1)  # of the first window that overlaps this band
        known = np.zeros((last * fold - top, (covered.shape[1] * fold) + spread - 1), bool)
        windows = max(0, -(-top // step)), min(grid.rows, -(-last * fold // step))
        if windows[0] < windows[1]:
            band = np.isfinite(scanned.logits(*windows))
            start = windows[0] * step - top
            known[start::step, spread - 1 :: step][: len(band), : grid.columns] = band
        squares = box_sums(known, spread) > 0
        shares = squares.reshape(last - first, fold, covered.shape[1], fold).mean((1, 3))
        covered[first:last] = shares >= 0.5
    return covered, fold * cell


def _to_map(image: Image, corners: np.ndarray, cell: int) -> np.ndarray:
    """Convert corners (column, row) of squares to map coordinates, clipped to the image."""
    column = np.minimum(corners[:, 0] * cell, image.width)
    row = np.minimum(corners[:, 1] * cell, image.height)
    return np.column_stack(image.outline(row, column))


def _area(planet: Planet, polygon: shapely.Polygon) -> float:
    if not planet.is_known:
        return float("nan")
    rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(polygon)]
    sizes = [abs(planet.area(*ring.T)) for ring in rings]
    return sizes[0] - sum(sizes[1:])
