"""Make the image, the count and the figures of docs/counting.md.

python docs/make_counting_figures.py [FOLDER] keeps scene.tif, the scan and the count in FOLDER.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from craters.detection import describe_size_frequency, write_size_frequency
from craters.evaluation.figures import BLUE, ORANGE, new_figure, save_figure
from craters.maps.scan import ScanConfig, describe_results, read_counted, scan_images
from craters.synthetic import make_scene

FIGURES = Path(__file__).with_name("figures")
SIDE, PIXEL = 2000, 100.0  # px, m
HOLE = slice(1200, 1500), slice(300, 800)  # without data
LEAST = 12  # px: diameter of true craters that are drawn


def write_scene(path: Path) -> np.ndarray:
    """Write a synthetic image of Mars with a hole; return its craters."""
    scene = make_scene(SIDE, SIDE, seed=7)
    pixels = scene.image.copy()
    pixels[HOLE] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8", nodata=0,
        crs="IAU_2015:49910", transform=rasterio.Affine(PIXEL, 0, 50_000, 0, -PIXEL, 80_000),
    ) as dataset:  # fmt: skip
        dataset.write(pixels, 1)
    return scene.craters


def main() -> None:
    """Scan and count; draw circles, and copy the size-frequency distribution."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    folder = given or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    truth = write_scene(folder / "scene.tif")
    scan = scan_images(ScanConfig(images=(folder / "scene.tif",), out=folder / "SCAN"))
    sys.stdout.write("\n".join(describe_results(scan.summary)) + "\n")
    summary = write_size_frequency(folder / "SCAN", folder / "SFD")
    sys.stdout.write("\n".join(describe_size_frequency(summary)) + "\n")
    shutil.copy(folder / "SFD" / "sfd.png", FIGURES / "sfd.png")
    save_figure(FIGURES / "counted.png", draw_circles(folder, truth))
    if given is None:
        shutil.rmtree(folder)


def draw_circles(folder: Path, truth: np.ndarray) -> Figure:
    """Draw a part of the image with its detections and its true craters."""
    with rasterio.open(folder / "scene.tif") as dataset:
        pixels = dataset.read(1)
    figure, (axes,) = new_figure(6.5, 6.5)
    axes.imshow(pixels, cmap="gray")
    table = read_counted(folder / "SCAN").craters
    found = zip(table["row"], table["col"], table["diameter_px"], strict=True)
    inside = (truth["row"] > 0) & (truth["row"] < SIDE) & (truth["col"] > 0) & (truth["col"] < SIDE)
    truth = truth[inside & (truth["diameter"] >= LEAST)]
    truth = truth[pixels[truth["row"].astype(int), truth["col"].astype(int)] > 0]
    true = (tuple(each) for each in truth[["row", "col", "diameter"]])
    for circles, color in ((true, BLUE), (found, ORANGE)):
        for row, col, diameter in circles:
            axes.add_patch(Circle((col, row), diameter / 2, fill=False, color=color, linewidth=1))
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main()
