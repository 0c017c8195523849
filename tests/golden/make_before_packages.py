"""Make before_packages.zip: folders as version 0.1.0 wrote them when the package was flat.

Run by the interpreter of a checkout of commit 42368d3: python make_before_packages.py OUT.zip
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from craters import make_scene, write_dataset

COMMANDS = (
    "run --data DATA --out RUN --method supervised --network original --initial-epochs 2 "
    "--threads 1",
    "predict RUN DATA/Xtest1.npy --out predictions.csv",
    "scan image.tif --model RUN --out SCAN --no-crs --stride 12",
    "labels import LABELS.sqlite answers.csv --target DATA --reviewer Ann",
)


def main(out: Path) -> None:
    """Write a small job, run it, scan an image, collect three answers, and pack it all."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        write_dataset("DATA", seed=3, n_labeled=40, n_unlabeled=20, n_test=10, size=28)
        write_image(Path("image.tif"))
        Path("answers.csv").write_text("id,answer\nXtrain1:0,1\nXtrain1:1,0\nXtrain1_extra:2,1\n")
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "craters", *command.split()], check=True)
        shutil.make_archive(str(out.with_suffix("")), "zip", place)


def write_image(path: Path) -> None:
    """Write a synthetic scene as a raster without a place."""
    import rasterio

    image = make_scene(96, 120, seed=4).image
    profile = {"driver": "GTiff", "height": 96, "width": 120, "count": 1, "dtype": np.uint8}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(image, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
