"""Draws of labels: training sets, and the held-out places for evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accuracy.fixed_folds.folds import read_fold_set
from craters.compare import cells
from craters.data import COPY_CORRELATION, PatchSet, make_patch_set
from craters.settings import Cell
from harness import nanedi_file

_FOLDS = 5  # of regions

Drawn = tuple[PatchSet, PatchSet, np.ndarray, np.ndarray, float | None]


def draw_cell(data: Path, name: str, labels: int | str, draw: int) -> Drawn:
    """Return labels, pool, images and truth of the held-out places, the pool's share of craters."""
    if name.startswith("nanedi"):
        return _nanedi(data, name, labels, draw)
    return _themis(data, labels, draw)


def _themis(data: Path, labels: int | str, draw: int) -> Drawn:
    """Hold out one of five folds of regions; the truth of the pool is not known."""
    sets = cells.read_compare_data(data)
    fold = cells.draw_folds(sets, "region", _FOLDS).folds[draw % _FOLDS]
    cell = Cell("any", "compact", labels, draw, draw % _FOLDS + 1)
    labeled, pool = cells.take_cell(sets, fold, cell, "extra")
    test = sets.labeled.take(fold.test)
    return labeled, pool, np.asarray(test.images), test.labels, None


def _nanedi(data: Path, name: str, labels: int | str, draw: int) -> Drawn:
    """Hold out one official fold; the labels that were not drawn are hidden."""
    found = read_fold_set(nanedi_file(data, name.split()[1]))
    number = found.numbers[draw % len(found.numbers)]
    held_out = found.folds == number
    images = np.asarray(found.images)
    train = np.flatnonzero(~held_out)
    train = train[~is_copy(images[train], images[held_out])]
    rows = cells.draw_labels(found.labels, train, Cell("any", "compact", labels, draw, 1))
    rest = np.setdiff1d(train, rows)
    return (
        make_patch_set(images[rows], found.labels[rows]),
        make_patch_set(images).take(rest),
        images[held_out],
        found.labels[held_out],
        float(found.labels[rest].mean()) if len(rest) else None,
    )


def is_copy(images: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Tell which patches are equal to one of others, or correlate with it by more than 0.95."""
    ours, theirs = (_centred(part) for part in (images, of))
    return (ours @ theirs.T).max(axis=1) > COPY_CORRELATION


def _centred(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
