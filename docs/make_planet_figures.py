"""Make the contact sheets of docs/synthetic-mars.md: looks of synthetic planets and real images.

python docs/make_planet_figures.py; the real images are those of $CRATERS_DATA.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from craters.evaluation.figures import new_figure
from craters.synthetic import make_scene, sample_scenes

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
DATA = Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
SCENE, COLUMNS, GAP = 198, 8, 2  # px, patches, px
PATCH = 48  # px on the sheet
DPI = 100


class Sheet(NamedTuple):
    """A look with two of its scenes, and real images like it.

    `side` of the patches in pixels; `sets` of labeled real patches; `images`: file, and row and
    column of the corner that is cut.
    """

    look: str
    scenes: tuple[int, int]
    side: int
    title: str
    sets: tuple[str, ...]
    images: tuple[tuple[str, int, int], ...]


SHEETS = (
    Sheet(
        look="mars-thermal", scenes=(6, 2), side=48, title="THEMIS, daytime infrared",
        sets=("themis48",),
        images=(("themis_tiles/amazonis_1_27.tif", 100, 100),
                ("themis_tiles/arabia_11_38.tif", 100, 100)),
    ),
    Sheet(
        look="mars-visible", scenes=(0, 10), side=48, title="HRSC and CTX",
        sets=("hrsc", "ctx_mars"),
        images=(("hrsc/tile1_24.png", 1330, 800), ("ctx_mars/MC11E-F.png", 410, 20)),
    ),
    Sheet(
        look="moon", scenes=(7, 5), side=24, title="LROC NAC", sets=("nac_moon",),
        images=(("nac_moon/M1155395732.png", 300, 300), ("nac_moon/M134022629.png", 300, 300)),
    ),
    Sheet(
        look="mixed", scenes=(11, 8), side=48, title="HRSC and NAC; patches of THEMIS, HRSC, CTX",
        sets=("themis48", "hrsc", "ctx_mars"),
        images=(("hrsc/tile1_24.png", 560, 540), ("nac_moon/M180000082.png", 200, 400)),
    ),
)  # fmt: skip


def main() -> None:
    """Draw a sheet of each look."""
    for each in SHEETS:
        path = FIGURES / f"planets_{each.look}.png"
        titles = f"synthetic: {each.look}", f"real: {each.title}"
        draw((synthetic_sheet(each), real_sheet(each)), titles, path)


def synthetic_sheet(each: Sheet) -> np.ndarray:
    """Show two scenes of a look, and patches with and without crater."""
    scenes = [
        make_scene(SCENE, SCENE, seed=2, index=index, look=each.look).image for index in each.scenes
    ]
    made = sample_scenes(range(200), seed=1, size=each.side, look=each.look, per_scene=2)
    return sheet(scenes, made.images, made.labels)


def real_sheet(each: Sheet) -> np.ndarray:
    """Show two real images, and patches with and without crater."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pretrained import sets

    scenes = []
    for name, row, col in each.images:
        whole = np.asarray(Image.open(DATA / name))
        scenes.append(whole[row : row + SCENE, col : col + SCENE])
    patches, labels = [], []
    for one in sets.load_sets(DATA, each.sets):
        for label in (0, 1):
            rows = np.flatnonzero(one.labels == label)
            chosen = np.random.default_rng(0).permutation(rows)[: 2 * COLUMNS]
            patches.append(one.images[chosen])
            labels.append(one.labels[chosen])
    return sheet(scenes, np.concatenate(patches), np.concatenate(labels))


def sheet(scenes: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lay scenes above two rows of patches with and two without crater."""
    rows = [gapped(scenes, axis=1)]
    for label in (1, 0):
        chosen = np.random.default_rng(2).permutation(np.flatnonzero(labels == label))
        zoom = PATCH // images.shape[1]
        patches = images[chosen[: 2 * COLUMNS]].repeat(zoom, axis=1).repeat(zoom, axis=2)
        rows += [gapped(list(patches[k : k + COLUMNS]), axis=1) for k in (0, COLUMNS)]
    return gapped(rows, axis=0)


def gapped(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Join images of one height or width with white gaps."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    joined = [part for each in parts for part in (each, gap)][:-1]
    return np.concatenate(joined, axis=axis)


def draw(sheets: tuple[np.ndarray, np.ndarray], titles: tuple[str, str], path: Path) -> None:
    """Write two sheets side by side as a gray PNG, a pixel a pixel."""
    height, width = sheets[0].shape
    figure, axes = new_figure((2 * width + 40) / DPI, (height + 40) / DPI, 1, 2)
    for place, image, title in zip(axes, sheets, titles, strict=True):
        place.set_axis_off()
        place.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        place.set_title(title, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI)
    Image.open(stream).convert("L").save(path, optimize=True)


if __name__ == "__main__":
    main()
