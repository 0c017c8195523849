"""What the tests of scanning share: small models, rasters by factory, plain oracles."""

from __future__ import annotations

import os
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from craters.data import normalize
from craters.models import (
    Classifier,
    ModelDescription,
    Network,
    initialize,
    make_network,
    network_to_onnx,
    network_weights,
    over_images,
    write_model,
)
from craters.training import sigmoid

SIDE = 20
MARS = "IAU_2015:49910"


def network(kind: str = "original", side: int = SIDE) -> Network:
    """Make a network whose answers differ from window to window."""
    return _network(kind, side)


def graph(kind: str = "original", side: int = SIDE) -> bytes:
    """Export a network, once in a process: an export takes seconds."""
    return _graph(kind, side)


@cache
def _network(kind: str, side: int) -> Network:
    made = make_network(kind, side)
    initialize(made, 3)
    if kind == "original":
        with torch.no_grad():
            made.dense2.weight.mul_(40)
    return made.eval()


@cache
def _graph(kind: str, side: int) -> bytes:
    return network_to_onnx(over_images(network(kind, side)), side)


def described(kind: str = "original", side: int = SIDE, **changes: object) -> ModelDescription:
    stride = over_images(network(kind, side)).stride
    return ModelDescription(kind, {}, side, **({"stride": stride} | changes))  # type: ignore[arg-type]


def classifier(kind: str = "original", side: int = SIDE, **changes: object) -> Classifier:
    return Classifier(described(kind, side, **changes), graph(kind, side), threads=1)


def write_classifier(folder: Path, kind: str = "original", side: int = SIDE, **changes) -> Path:
    return write_model(
        folder,
        onnx=graph(kind, side),
        weights=network_weights(network(kind, side)),
        description=described(kind, side, **changes),
    )


def write_raster(
    path: Path,
    pixels: np.ndarray,
    *,
    crs: str | None = MARS,
    transform: tuple[float, ...] | None = (100.0, 0.0, 50_000.0, 0.0, -100.0, 80_000.0),
    nodata: float | None = None,
    **profile: object,
) -> Path:
    """Write a GeoTIFF."""
    import warnings

    import rasterio
    from rasterio.transform import Affine

    bands = pixels if pixels.ndim == 3 else pixels[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", **({"driver": "GTiff"} | profile), count=len(bands), dtype=pixels.dtype,
            height=bands.shape[1], width=bands.shape[2], crs=crs, nodata=nodata,
            transform=Affine(*transform) if transform else None,
        ) as dataset:  # fmt: skip
            dataset.write(bands)
    return path


def turned(
    pixels: np.ndarray, transform: tuple[float, ...], transpose: bool, flips: tuple[int, ...]
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Store the same ground in another orientation: pixels and transform."""
    a, b, c, d, e, f = transform
    height, width = pixels.shape[-2:]
    if 0 in flips:  # rows
        b, c, e, f, pixels = -b, c + b * height, -e, f + e * height, pixels[..., ::-1, :]
    if 1 in flips:  # columns
        a, c, d, f, pixels = -a, c + a * width, -d, f + d * width, pixels[..., ::-1]
    if transpose:
        a, b, d, e, pixels = b, a, e, d, pixels.swapaxes(-1, -2)
    return np.ascontiguousarray(pixels), (a, b, c, d, e, f)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make smooth noise, 1 to 255."""
    random = np.random.default_rng(seed)
    rough = random.normal(size=(height + 4, width + 4))
    smooth = sum(rough[i : i + height, j : j + width] for i in range(5) for j in range(5))
    return np.clip(125 + 12 * smooth, 1, 255).astype(np.uint8)


def plain_gaps(missing: np.ndarray, size: int) -> np.ndarray:
    """The rule of gaps, as it is written."""
    found = np.zeros(missing.shape, bool)
    if min(missing.shape) < size:
        return found
    squares = np.lib.stride_tricks.sliding_window_view(missing, (size, size)).all((2, 3))
    for row, col in zip(*np.nonzero(squares), strict=True):
        found[max(0, row - size) : row + 2 * size, max(0, col - size) : col + 2 * size] = True
    return found & missing


def plain_scan(
    pixels: np.ndarray,
    missing: np.ndarray,
    *,
    stride: int,
    kind: str = "original",
    side: int = SIDE,
    gap: int = 8,
    max_gap: float = 0.2,
    temperature: float = 1.0,
) -> np.ndarray:
    """Cut every window out of an 8-bit image, fill it, predict it by torch: probabilities."""
    gaps = plain_gaps(missing, gap)
    filled = np.where(gaps | (missing & (pixels > 0)), 125, pixels).astype(np.uint8)
    height, width = pixels.shape
    rows = next(n for n in range(1, height + 2) if (n - 1) * stride + side >= height)
    columns = next(n for n in range(1, width + 2) if (n - 1) * stride + side >= width)
    padded = np.full((rows * stride + side, columns * stride + side), 125, np.uint8)
    padded[:height, :width] = filled
    found = np.full((rows, columns), np.nan)
    for row in range(rows):
        tops = row * stride, row * stride + side
        lefts = [column * stride for column in range(columns)]
        windows = np.stack([padded[tops[0] : tops[1], left : left + side] for left in lefts])
        share = [gaps[tops[0] : tops[1], left : left + side].mean() for left in lefts]
        with torch.inference_mode():
            logits = network(kind, side)(torch.from_numpy(normalize(windows))).double().numpy()
        found[row] = np.where(np.array(share) <= max_gap, sigmoid(logits / temperature), np.nan)
    return found


def gappy(height: int, width: int, seed: int) -> np.ndarray:
    """Make an image with large gaps, thin gaps and specks of zeros."""
    random = np.random.default_rng(seed)
    pixels = noise(height, width, seed)
    for _ in range(random.integers(0, 4)):
        row, col = random.integers(0, height), random.integers(0, width)
        pixels[row : row + random.integers(1, 40), col : col + random.integers(1, 40)] = 0
    pixels[random.random(pixels.shape) < 0.01] = 0
    return pixels


def read_map(folder: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(folder / "probability.tif") as dataset:
        return dataset.read(1)


def config(model: Path, image: Path, out: Path, **changes: object) -> Any:
    from craters.maps.scan import ScanConfig

    return ScanConfig((image,), model, out, **changes)  # type: ignore[arg-type]


def damage(path: Path, how: str) -> None:
    """Remove or cut off a file of an unfinished scan, or change four bytes of it."""
    if how == "lost":
        path.unlink()
    elif how == "short":
        os.truncate(path, path.stat().st_size // 3)
    else:
        with path.open("r+b") as file:
            file.seek(40)
            file.write(b"\x55\x55\x55\x3f")


def same_results(one: Path, other: Path) -> None:
    """Compare every file that two scans left."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for name in names:
        if name.suffix == ".gpkg":
            assert rows_of(one / name) == rows_of(other / name)
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def gpkg_bytes(path: Path) -> bytes:
    """Return the content of a GeoPackage as bytes, with times of writing made equal."""
    with sqlite3.connect(path) as base, sqlite3.connect(":memory:") as copy:
        base.backup(copy)
        copy.execute("UPDATE gpkg_contents SET last_change = '2000-01-01T00:00:00.000Z'")
        copy.execute("UPDATE layer_styles SET update_time = '2000-01-01T00:00:00.000Z'")
        copy.commit()
        copy.execute("VACUUM")
        content = copy.serialize()
    base.close()
    copy.close()
    return content


def rows_of(path: Path) -> dict[str, list]:
    with sqlite3.connect(path) as base:
        listed = {row[0] for row in base.execute("SELECT table_name FROM gpkg_contents")}
        tables = sorted(
            listed & {"detections", "rims", "candidates", "windows", "footprint", "run"}
        )
        return {name: base.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
