"""Make the figures of docs/circles.md and the README: circles on real images.

python docs/make_circle_figures.py; the images are those of $CRATERS_DATA.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from circles import images as real  # noqa: E402
from circles import training  # noqa: E402
from circles.plan import RULES, SHIPPED  # noqa: E402
from craters.detection import LabeledImage  # noqa: E402
from craters.detection.circle_training.validation import scene_probabilities  # noqa: E402
from craters.evaluation import operating_point  # noqa: E402
from craters.evaluation.figures import BLUE, ORANGE, new_figure, save_figure  # noqa: E402
from craters.models import CircleDetector  # noqa: E402

DATA = Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
FIGURES = ROOT / "docs" / "figures"
SIDE = 400  # px of a view
YELLOW = "#ffd23f"

# Set, image, first row and column of the view, and the sensor.
VIEWS = (
    ("tiles", "arabia_11_38", 0, 0, "THEMIS, Mars"),
    ("ctx_mars", "MC11E-F", 380, 0, "CTX, Mars"),
    ("hrsc", "tile1_24", 1250, 750, "HRSC, Mars"),
    ("nac_moon", "M134022629", 200, 250, "LROC NAC, Moon"),
)
SCAN = ("ctx_mars", "MC11E-F", 400, 0)  # view of the README
SCAN_SHAPE = (280, 560)


def main() -> None:
    """Draw both figures."""
    detector = training.load(SHIPPED)
    save_figure(FIGURES / "circles.png", draw_sensors(detector))
    save_figure(FIGURES / "scan.png", draw_scan(detector))


def draw_sensors(detector: CircleDetector) -> Figure:
    """Draw views of four sensors with circles and the catalogue's craters."""
    figure, axes = new_figure(9, 9.6, 2, 2)
    for axis, (name, wanted, row, col, title) in zip(axes.ravel(), VIEWS, strict=True):
        image, circles = find(detector, name, wanted)
        least = RULES[name].least
        show(axis, image.pixels, row, col, (SIDE, SIDE))
        add_circles(axis, image.craters, least, color=BLUE, linestyle=":", linewidth=1.4)
        # Also somewhat below the least diameter of the catalogue.
        add_circles(axis, circles, 0.75 * least, color=ORANGE, linewidth=1.2)
        axis.set_title(f"{title}, catalogue from {least:g} px")
    figure.legend(
        handles=[
            Line2D([], [], color=ORANGE, label="circles at the default threshold"),
            Line2D([], [], color=BLUE, linestyle=":", label="catalogue or annotator"),
        ],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    return figure


def draw_scan(detector: CircleDetector) -> Figure:
    """Draw what a scan finds in a part of an image."""
    name, wanted, row, col = SCAN
    image, circles = find(detector, name, wanted)
    figure, (axis,) = new_figure(10, 5, 1, 1)
    show(axis, image.pixels, row, col, SCAN_SHAPE)
    add_circles(axis, circles, 0, color=YELLOW, linewidth=1.3)
    return figure


def find(detector: CircleDetector, name: str, wanted: str) -> tuple[LabeledImage, np.ndarray]:
    """Return an image of a set, and its circles at the set's default threshold."""
    images = real.load_images(name, DATA)
    if name == "tiles":
        images = [image for image in images if image.group == "arabia"]
    found = [training.detect(detector, image) for image in images]
    probability = scene_probabilities(found, detector.description.calibration)
    threshold = operating_point(np.concatenate(probability)).threshold
    place = [image.name for image in images].index(wanted)
    return images[place], found[place][probability[place] >= threshold]


def show(axis: Axes, pixels: np.ndarray, row: int, col: int, shape: tuple[int, int]) -> None:
    """Show a part of an image, in the pixels of the whole."""
    bottom, right = row + shape[0], col + shape[1]
    extent = (col - 0.5, right - 0.5, bottom - 0.5, row - 0.5)
    part = pixels[row:bottom, col:right]
    low, high = np.percentile(part, (0.1, 99.9))
    axis.imshow(part, cmap="gray", vmin=low, vmax=high, interpolation="nearest", extent=extent)
    axis.set(xlim=extent[:2], ylim=extent[2:])
    axis.axis("off")


def add_circles(axis: Axes, circles: np.ndarray, least: float, **style: Any) -> None:
    """Draw the circles of at least a diameter."""
    for one in circles[circles["diameter"] >= least]:
        centre = float(one["col"]), float(one["row"])
        axis.add_patch(Circle(centre, float(one["diameter"]) / 2, fill=False, **style))


if __name__ == "__main__":
    main()
