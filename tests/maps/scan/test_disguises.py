"""One tile, stored in many ways, gives the same scan."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from craters.errors import DataError
from craters.maps.scan import ScanConfig, scan_images
from craters.settings import ReadOptions
from tests.conftest import REPOSITORY
from tests.maps import tools as maps
from tests.maps.geo.test_colors import shuffled, write_palette
from tests.maps.tools import noise, read_map, turned, write_raster

PIXEL = (100.0, 0.0, 50_000.0, 0.0, -100.0, 80_000.0)
SIZE = 200
HOLE = np.s_[120:150, 30:60]  # 2 % of the tile
FRAME = np.s_[:, 134:]  # a third of it
BYTES = (0.0, 255.0)


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    """Return a part of a real tile, or noise, without the values 0 and 255."""
    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    path = root / "themis_tiles" / "amazonis_10_8.tif"
    if not path.is_file():
        return np.clip(noise(SIZE, SIZE), 1, 254)
    with rasterio.open(path) as dataset:
        return np.clip(dataset.read(1)[50 : 50 + SIZE, 50 : 50 + SIZE], 1, 254)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps.write_classifier(tmp_path_factory.mktemp("m") / "model", decision_threshold=0.5)


def scan(model: Path, image: Path, scale: tuple[float, float] | None = None) -> dict[str, Any]:
    """Scan an image; return its map, detections, transform of the map, and summary."""
    out = image.parent / f"{image.stem}-scan"
    config = ScanConfig((image,), model, out, read=ReadOptions(scale=scale), decision_threshold=0.6)
    scan_images(config)
    with (out / "detections.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with rasterio.open(out / "probability.tif") as dataset:
        transform = tuple(dataset.transform)[:6]
    places = np.array([[float(row["lon"]), float(row["lat"])] for row in rows])
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {
        "map": read_map(out), "places": places, "transform": transform,
        "area": summary["area_km2"], "warnings": summary["warnings"],
    }  # fmt: skip


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare two scans exactly."""
    assert np.array_equal(one["map"], other["map"], equal_nan=True)
    assert one["transform"] == other["transform"]
    assert np.array_equal(one["places"], other["places"])
    assert one["area"] == other["area"]


def unusual(result: dict[str, Any]) -> list[str]:
    """Return the warnings other than those that compare the image with training patches."""
    return [text for text in result["warnings"] if "may be unlike" not in text]


@pytest.fixture(scope="module")
def plain(tile: np.ndarray, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("plain")
    result = scan(model, write_raster(folder / "a.tif", tile, transform=PIXEL))
    assert len(result["places"]) >= 10
    assert np.ptp(result["map"]) > 0.5
    assert unusual(result) == []
    return result


Writer = Callable[[Path, np.ndarray], Path]


def write_turned(transpose: bool, flips: tuple[int, ...]) -> Writer:
    def write(path: Path, tile: np.ndarray) -> Path:
        pixels, transform = turned(tile, PIXEL, transpose, flips)
        return write_raster(path, pixels, transform=transform)

    return write


def write_colors(path: Path, tile: np.ndarray) -> Path:
    return write_palette(path, *shuffled(tile), transform=PIXEL)


def write_bands(path: Path, tile: np.ndarray) -> Path:
    return write_raster(path, np.stack([tile] * 3), transform=PIXEL, photometric="rgb")


def write_as(dtype: str) -> Writer:
    return lambda path, tile: write_raster(path, tile.astype(dtype), transform=PIXEL)


@pytest.mark.parametrize(
    ("write", "scale"),
    [
        pytest.param(write_turned(False, (0,)), None, id="south-up"),
        pytest.param(write_turned(False, (1,)), None, id="east-left"),
        pytest.param(write_turned(True, (0,)), None, id="turned by 90"),
        pytest.param(write_turned(False, (0, 1)), None, id="turned by 180"),
        pytest.param(write_turned(True, (1,)), None, id="turned by 270"),
        pytest.param(write_colors, None, id="palette"),
        pytest.param(write_bands, None, id="red, green, blue"),
        pytest.param(write_as("int16"), BYTES, id="int16"),
        pytest.param(write_as("uint16"), BYTES, id="uint16"),
        pytest.param(write_as("float32"), BYTES, id="float32"),
    ],
)
def test_the_same_pixels_give_the_same_scan(
    tmp_path: Path, tile: np.ndarray, model: Path, plain: dict, write: Writer, scale: Any
) -> None:
    result = scan(model, write(tmp_path / "a.tif", tile), scale)
    same(result, plain)
    assert unusual(result) == []


@pytest.mark.parametrize(
    ("dtype", "special"),
    [("int16", -32768), ("uint16", 65535), ("float32", 1e20), ("float32", -3.4e38)],
)
def test_special_values_scan_as_declared_nodata(
    tmp_path: Path, tile: np.ndarray, model: Path, dtype: str, special: float
) -> None:
    values = tile.astype(dtype)
    values[HOLE] = special
    hidden = write_raster(tmp_path / "hidden.tif", values, transform=PIXEL)
    nodata = float(values[HOLE][0, 0])
    declared = write_raster(tmp_path / "a.tif", values, transform=PIXEL, nodata=nodata)
    result = scan(model, hidden)
    same(result, scan(model, declared))
    assert "900 of its pixels (2.2 %) hold special values" in unusual(result)[0]
    eight_bits = tile.copy()
    eight_bits[HOLE] = 0
    reference = write_raster(tmp_path / "b.tif", eight_bits, transform=PIXEL, nodata=0)
    again = write_raster(tmp_path / "again.tif", values, transform=PIXEL)
    same(scan(model, again, BYTES), scan(model, reference))


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0), ("uint8", 255), ("uint16", 255)])
def test_a_frame_scans_as_declared_nodata(
    tmp_path: Path, tile: np.ndarray, model: Path, plain: dict, dtype: str, value: int
) -> None:
    values = tile.astype(dtype)
    values[FRAME] = value
    hidden = write_raster(tmp_path / "hidden.tif", values, transform=PIXEL)
    declared = write_raster(tmp_path / "a.tif", values, transform=PIXEL, nodata=value)
    result, expected = scan(model, hidden, BYTES), scan(model, declared, BYTES)
    same(result, expected)
    assert result["area"] < 0.8 * plain["area"]
    assert unusual(result)[0].startswith("hidden: 33 % of its pixels")
    columns = (134 - maps.SIDE) // 6  # windows that do not reach the frame
    assert np.array_equal(result["map"][:, :columns], plain["map"][:, :columns])


def test_unknown_far_values_are_refused(tmp_path: Path, tile: np.ndarray, model: Path) -> None:
    values = tile.astype("float32")
    values[HOLE] = 123456
    with pytest.raises(DataError, match="the value 123456; .*-a_nodata 123456"):
        scan(model, write_raster(tmp_path / "a.tif", values, transform=PIXEL))


@pytest.mark.parametrize("size", [(10, 10), (1, 200), (200, 1)])
def test_images_smaller_than_a_window_are_doubted(
    tmp_path: Path, model: Path, size: tuple[int, int]
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(*size), transform=PIXEL)
    text = (
        f"a: its {size[0]} x {size[1]} pixels are smaller than a window of 20 x 20, most of which "
        "is filled."
    )
    assert text in scan(model, image)["warnings"]


def test_an_image_of_missing_pixels_is_doubted(tmp_path: Path, model: Path) -> None:
    image = write_raster(tmp_path / "a.tif", np.zeros((60, 60), np.uint8), nodata=0)
    assert "a: every pixel is missing; is nodata right?" in scan(model, image)["warnings"]
