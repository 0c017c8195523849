"""What several benchmarks measure on: arrays, regions held out, images, models."""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from craters.core import files
from harness.base import FOLDER, ROOT, BenchError

REGION_FOLDS = 5  # of whole regions of themis48

_LABELED = ("Xtrain1", "Ytrain1", "groups_train")
_POOL = ("Xtrain1_extra", "groups_extra")


def find_data(asked: Path | None) -> Path:
    """Find the folder of the themis48 arrays; raise an error if it is missing."""
    base = os.environ.get("CRATERS_DATA")
    folder = asked or (Path(base) if base else ROOT.parent / "shared" / "data") / "themis48"
    if asked is None and base and not folder.is_dir():
        folder = Path(base)
    if not (folder / "Xtrain1.npy").is_file():
        raise BenchError(
            f"{folder}: holds no Xtrain1.npy; name the folder of the themis48 arrays by --data, "
            "or set CRATERS_DATA to the folder that holds themis48"
        )
    return folder.resolve()


@functools.cache
def data_hash(folder: Path) -> str:
    """Hash the arrays, so that rows of other data are not mixed in."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        digest.update(f"{path.name} {files.sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]


def nanedi_file(data: Path, region: str) -> Path:
    """Return the file of a region of Nanedi, next to the folder of the themis48 arrays."""
    return data.parent / "nanedi28" / f"{region}.npz"


def held_out_regions(data: Path, fold: int) -> list[str]:
    """List the regions of themis48 that a fold holds out."""
    from craters.data import splits

    regions = splits.regions_of(np.load(data / "groups_train.npy"))
    split = splits.whole_folds(regions, REGION_FOLDS)[fold]
    return sorted(set(regions[split.validation].tolist()))


def write_arrays(data: Path, regions: list[str], folder: Path) -> Path:
    """Copy the arrays without the patches of some regions; the test set stays, and is not used."""
    from craters.data import splits

    folder.mkdir(parents=True, exist_ok=True)
    for names in (_LABELED, _POOL):
        keep = ~np.isin(splits.regions_of(np.load(data / f"{names[-1]}.npy")), regions)
        for name in names:
            np.save(folder / f"{name}.npy", np.load(data / f"{name}.npy")[keep])
    shutil.copyfile(data / "Xtest1.npy", folder / "Xtest1.npy")
    return folder


def read_probabilities(table: Path) -> np.ndarray:
    """Read the column of probabilities of a table of predictions."""
    with table.open(newline="") as stream:
        return np.array([float(row["probability"]) for row in csv.DictReader(stream)])


def write_models(folder: Path) -> Path:
    """Write the models of random weights that scans are measured with, where they are missing."""
    if not (folder / "flops.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        script = FOLDER / "scans" / "peers" / "scan_models.py"
        subprocess.run([sys.executable, script, folder], check=True)
    return folder


def write_image(path: Path, height: int, width: int, *, share: float = 1.0) -> Path:
    """Write a tiled BigTIFF of smooth noise; beyond the first `share` of its rows it is a gap."""
    import numpy as np
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    if path.exists():
        return path
    side = 512
    noise = np.random.default_rng(0).normal(size=(side + 4, 3 * side + 4))
    smooth = sum(noise[i : i + side, j : j + 3 * side] for i in range(5) for j in range(5))
    strip = np.clip(125 + 8 * smooth, 1, 255).astype(np.uint8)
    partial = path.with_suffix(".partial.tif")
    with rasterio.open(
        partial, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=0,
        crs="IAU_2015:49910", transform=Affine(100, 0, 0, 0, -100, 0), tiled=True, blockxsize=side,
        blockysize=side, compress="deflate", zlevel=1, bigtiff="yes", sparse_ok=True,
    ) as image:  # fmt: skip
        for top in range(0, int(height * share), side):
            rows = min(side, height - top)
            turned = np.roll(strip, 37 * (top // side), axis=1)
            band = np.tile(turned, (1, -(-width // strip.shape[1])))[:rows, :width]
            image.write(band, 1, window=Window(0, top, width, rows))
    partial.rename(path)
    return path
