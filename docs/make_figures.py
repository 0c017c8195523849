"""Make the pictures that the documentation shows: python docs/make_figures.py.

Those of audits need the folders that `benchmarks/bench.py full --only audit` leaves behind.
"""

import csv
import os
import sys
from pathlib import Path

import numpy as np

from craters import make_patches
from craters.evaluation import save_figure
from craters.evaluation.figures import contact_sheet
from craters.quality.audit_report import stretch

FOLDER = Path(__file__).parent / "figures"
ROOT = FOLDER.parent.parent
AUDITS = ROOT / "benchmarks" / "work" / "audit"
DATA = Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
GAP = 3  # pixels between the two of a pair


def synthetic_patches() -> None:
    """Plot 24 synthetic patches of each class."""
    sample = make_patches(96, crater_share=0.5, seed=0)
    rows = np.concatenate([np.flatnonzero(sample.labels == label)[:24] for label in (1, 0)])
    captions = [
        f"{'with' if sample.labels[row] else 'without'} crater" if place % 12 == 0 else ""
        for place, row in enumerate(rows)
    ]
    save_figure(FOLDER / "synthetic_patches.png", contact_sheet(sample.images[rows], captions, 12))


def audited_labels(name: str, arrays: Path) -> None:
    """Plot the 12 labels of lowest confidence of an audit."""
    with _table(name, "labels").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:12]
    images = _squares(arrays)
    captions = [
        f"row {row['row']}\nlabel {row['label']}, p = {float(row['probability']):.2f}"
        for row in rows
    ]
    shown = np.array([stretch(images[int(row["row"])]) for row in rows])
    save_figure(FOLDER / f"audit_{name}_labels.png", contact_sheet(shown, captions))


def audited_copies(name: str, arrays: Path) -> None:
    """Plot 8 pairs of near copies of an audit, by increasing correlation."""
    with _table(name, "copies").open(newline="") as stream:
        near = [row for row in csv.DictReader(stream) if row["kind"] == "near"]
    near.sort(key=lambda row: float(row["correlation"]))
    rows = [near[place] for place in np.linspace(0, len(near) - 1, 8).astype(int)]
    images, pairs, captions = _squares(arrays), [], []
    for row in rows:
        first, second = (int(row[end].partition(":")[2]) for end in ("first", "second"))
        gap = np.full((images.shape[1], GAP), 255, np.uint8)
        sides = [stretch(images[first]), gap, stretch(images[second])]
        pairs.append(np.concatenate(sides, axis=1))
        labels = f"labels {row['first_label']} and {row['second_label']}"
        captions.append(f"{labels}\ncorrelation {float(row['correlation']):.3f}")
    figure = contact_sheet(np.array(pairs), captions, 4)
    figure.set_size_inches(9, 3.2)
    save_figure(FOLDER / f"audit_{name}_copies.png", figure)


def _table(name: str, kind: str) -> Path:
    path = AUDITS / name / f"{kind}.csv"
    if not path.is_file():
        sys.exit(f"{path}: is not there; run benchmarks/bench.py full --only audit first")
    return path


def _squares(arrays: Path) -> np.ndarray:
    images = np.load(arrays / "Xtrain1.npy")
    side = round(images.shape[1] ** 0.5)
    return images.reshape(-1, side, side)


if __name__ == "__main__":
    synthetic_patches()
    audited_labels("themis48", DATA / "themis48")
    audited_labels("nanedi", AUDITS / "nanedi-data")
    audited_copies("nanedi", AUDITS / "nanedi-data")
