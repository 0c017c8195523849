"""Make the pictures that the documentation shows: python docs/make_figures.py."""

from pathlib import Path

import numpy as np

from craters import make_patches
from craters.figures import contact_sheet, save_figure

FOLDER = Path(__file__).parent / "figures"


def synthetic_patches() -> None:
    """Draw 24 patches of each class of the procedural Mars."""
    sample = make_patches(96, crater_share=0.5, seed=0)
    rows = np.concatenate([np.flatnonzero(sample.labels == label)[:24] for label in (1, 0)])
    captions = [
        f"{'with' if sample.labels[row] else 'without'} crater" if place % 12 == 0 else ""
        for place, row in enumerate(rows)
    ]
    save_figure(FOLDER / "synthetic_patches.png", contact_sheet(sample.images[rows], captions, 12))


if __name__ == "__main__":
    synthetic_patches()
