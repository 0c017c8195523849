"""Make the pictures of tutorial-map.md.

    python docs/make_map_figures.py SCAN MATCH IMAGE [IMAGE]

SCAN and MATCH are the folders that the tutorial's commands leave, IMAGE images of that scan.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from craters.evaluation import new_figure, save_figure

FOLDER = Path(__file__).parent / "figures"


def tutorial(scan: Path, match: Path, images: list[Path]) -> None:
    """Plot images with hits and misses next to their probability maps; copy the match figure."""
    at_rate = json.loads((match / "summary.json").read_text())["at_rate"]
    figure, axes = new_figure(9.0, 4.4 * len(images), len(images), 2)
    for image, pair in zip(images, axes.reshape(-1, 2), strict=True):
        draw_image(pair[0], image, match, at_rate["threshold"])
        pair[0].set_title(f"{image.stem}, detections from {at_rate['threshold']:.4f} on")
        draw_map(pair[1], scan / image.stem / "probability.tif")
        for panel in pair:
            panel.title.set_fontsize(9)
            panel.set_axis_off()
    figure.legend(*axes.ravel()[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save_figure(FOLDER / "tutorial_map.png", figure)
    (FOLDER / "tutorial_match.png").write_bytes((match / "match.png").read_bytes())


def draw_image(axes, path: Path, match: Path, threshold: float) -> None:
    """Show an image with catalogued craters that count, found and missed, and false detections."""
    from pyproj import Transformer

    from craters.maps.geo import ReadOptions, describe_image, small_copy

    image = describe_image(str(path), path.stem, ReadOptions())
    pixels, _ = small_copy(image, max(image.height, image.width))
    axes.imshow(pixels, cmap="gray", interpolation="nearest")
    to_map = Transformer.from_crs(image.planet.crs.geodetic_crs, image.planet.crs, always_xy=True)
    for table, wanted, color, marker, label in (
        ("craters.csv", "found", "#62e062", "o", "crater of 1.5 to 4.5 km, found"),
        ("craters.csv", "missed", "#62b8ff", "s", "the same, missed"),
        ("detections.csv", "false", "#ff6040", "x", "detection without a catalogued crater"),
    ):
        with (match / table).open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["source"] == path.stem]
        rows = [row for row in rows if state(row, threshold) == wanted]
        lon, lat = (np.array([float(row[name]) for row in rows]) for name in ("lon", "lat"))
        row, col = image.to_pixel(*to_map.transform(lon, lat))
        look = {"c": color} if marker == "x" else {"edgecolors": color, "facecolors": "none"}
        size = 60 if marker == "x" else 320
        axes.scatter(col, row, s=size, marker=marker, linewidths=1.6, label=label, **look)


def state(row: dict[str, str], threshold: float) -> str:
    """Return the state of a crater or a detection at a threshold."""
    above = bool(row["probability"]) and float(row["probability"]) >= threshold
    if row["state"] in ("found", "missed"):
        return "found" if above else "missed"
    return row["state"] if above else "below"


def draw_map(axes, path: Path) -> None:
    """Show a probability map."""
    import rasterio

    with rasterio.open(path) as dataset:
        probability = dataset.read(1)
    shown = axes.imshow(probability, cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title("probability.tif, a pixel a window")
    axes.figure.colorbar(shown, ax=axes, shrink=0.75)


if __name__ == "__main__":
    tutorial(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
