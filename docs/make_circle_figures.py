"""Make the figure of docs/circles.md: circles on images of four sensors, and the catalogues'.

python docs/make_circle_figures.py; the images are those of $CRATERS_DATA.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from circles import images as real  # noqa: E402
from circles import training  # noqa: E402
from circles.plan import RULES, SHIPPED  # noqa: E402
from craters.detection.circle_training.validation import scene_probabilities  # noqa: E402
from craters.evaluation import operating_point  # noqa: E402
from craters.evaluation.figures import BLUE, ORANGE, new_figure, save_figure  # noqa: E402

DATA = Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
SIDE = 400  # px of a view

# Set, image, first row and column of the view, and the sensor.
VIEWS = (
    ("tiles", "arabia_11_38", 0, 0, "THEMIS, Mars"),
    ("ctx_mars", "MC11E-F", 380, 0, "CTX, Mars"),
    ("hrsc", "tile1_24", 1250, 750, "HRSC, Mars"),
    ("nac_moon", "M134022629", 200, 250, "LROC NAC, Moon"),
)


def main() -> None:
    """Draw the views; circles also somewhat below the least diameter of the catalogue."""
    detector = training.load(SHIPPED)
    figure, axes = new_figure(9, 9.6, 2, 2)
    for axis, (name, wanted, row, col, title) in zip(axes.ravel(), VIEWS, strict=True):
        images = real.load_images(name, DATA)
        if name == "tiles":
            images = [image for image in images if image.group == "arabia"]
        found = [training.detect(detector, image) for image in images]
        probability = scene_probabilities(found, detector.description.calibration)
        threshold = operating_point(np.concatenate(probability)).threshold
        place = [image.name for image in images].index(wanted)
        image, sure = images[place], probability[place] >= threshold
        view = image.pixels[row : row + SIDE, col : col + SIDE]
        axis.imshow(view, cmap="gray", interpolation="nearest")
        least = RULES[name].least
        for circles, least_shown, style in (
            (image.craters, least, {"color": BLUE, "linestyle": ":", "linewidth": 1.4}),
            (found[place][sure], 0.75 * least, {"color": ORANGE, "linewidth": 1.2}),
        ):
            for one in circles[circles["diameter"] >= least_shown]:
                centre = float(one["col"] - col), float(one["row"] - row)
                axis.add_patch(Circle(centre, float(one["diameter"]) / 2, fill=False, **style))
        axis.set(xlim=(-0.5, view.shape[1] - 0.5), ylim=(view.shape[0] - 0.5, -0.5))
        axis.set_title(f"{title}, catalogue from {least:g} px")
        axis.axis("off")
    figure.legend(
        handles=[
            Line2D([], [], color=ORANGE, label="circles at the default threshold"),
            Line2D([], [], color=BLUE, linestyle=":", label="catalogue or annotator"),
        ],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    save_figure(ROOT / "docs" / "figures" / "circles.png", figure)


if __name__ == "__main__":
    main()
