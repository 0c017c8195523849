"""Small images with catalogues for the tests of trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from craters.detection import FineTuning, LabeledImage
from craters.models import CIRCLE_DTYPE
from craters.synthetic import make_scene
from craters.training import TRUTH_DTYPE

SHIFT = 3.0, -2.0  # px right and down, of the catalogue
SHORT = FineTuning(steps=4, batch_size=2, rehearsed=0.0)


def write_images(folder: Path, seeds: range, side: int = 200) -> Path:
    """Write scenes, and a catalogue of their craters that is shifted; return its path."""
    folder.mkdir(parents=True)
    rows = ["image,x_px,y_px,diameter_px,counted"]
    for seed in seeds:
        scene = make_scene(side, side, seed=seed, look="moon")
        Image.fromarray(scene.image).save(folder / f"image{seed}.png")
        rows += [
            f"image{seed}.png,{each['col'] + 0.5 + SHIFT[0]:.2f},"
            f"{each['row'] + 0.5 + SHIFT[1]:.2f},{each['diameter']:.2f},"
            f"{int(each['contrast'] > 0.5)}"
            for each in scene.craters[scene.craters["diameter"] > 6]
        ]
    catalogue = folder / "catalogue.csv"
    catalogue.write_text("\n".join(rows) + "\n")
    return catalogue


def truth_of(places: list[tuple[float, float, float]], counted: bool = True) -> np.ndarray:
    """Return craters of rows, columns and diameters."""
    craters = np.zeros(len(places), TRUTH_DTYPE)
    for name, values in zip(("row", "col", "diameter"), np.transpose(places), strict=True):
        craters[name] = values
    craters["counted"] = counted
    return craters


def image_of(
    craters: np.ndarray, name: str = "a", group: str = "", side: int = 400
) -> LabeledImage:
    """Return an empty image with craters."""
    pixels = np.full((side, side), 100, np.uint8)
    return LabeledImage(
        name=name,
        group=group or name,
        pixels=pixels,
        missing=np.zeros(pixels.shape, bool),
        craters=craters,
        azimuth=270.0,
    )


def circles_of(craters: np.ndarray, logit: float = 3.0, **changes: float) -> np.ndarray:
    """Return circles where craters are, moved or scaled by `row`, `col`, `diameter`."""
    circles = np.zeros(len(craters), CIRCLE_DTYPE)
    circles["row"] = craters["row"] + changes.get("row", 0)
    circles["col"] = craters["col"] + changes.get("col", 0)
    circles["diameter"] = craters["diameter"] * changes.get("diameter", 1)
    circles["error"], circles["logit"] = 1.0, logit
    return circles


def grid(count: int, diameter: float, side: int = 400) -> np.ndarray:
    """Return craters of one diameter on a grid, well inside an image."""
    steps = np.linspace(50, side - 50, int(np.ceil(np.sqrt(count))))
    places = [(row, col, diameter) for row in steps for col in steps][:count]
    return truth_of(places)
