"""One training of `unlabeled.py`: a method on a budget of labels, measured on held-out places."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np

from craters import compare_cells, evaluate, kfold, phases
from craters.compare_settings import Cell
from craters.patches import PatchSet, make_patch_set
from craters.settings import RunConfig
from craters.train import predict_logits, sigmoid, torch_threads
from harness import Row
from unlabeled import region_file
from unlabeled_ideas import IDEAS, in_place_of_fixmatch

_FOLDS = 5  # of regions


def train_cell(*, tell, data: Path, cell: tuple[str, int, str, int]) -> Row:  # noqa: ARG001
    """Train what `craters run` would keep, and measure it where nothing was trained on."""
    name, labels, method, draw = cell
    labeled, pool, images, truth, true_share = draw_cell(data, name, labels, draw)
    kept_method = "fixmatch" if method in IDEAS else method
    config = RunConfig(data, data, method=kept_method, network="compact", seed=draw, threads=1)
    by_idea = in_place_of_fixmatch(method) if method in IDEAS else contextlib.nullcontext()
    shares: list[float] = []
    clock = time.process_time()
    with torch_threads(1), by_idea:
        network = phases.kept_network(labeled, pool, config, on_share=shares.append)
        probability = sigmoid(predict_logits(network, images))
    found = evaluate.measure(truth, probability)
    row = {
        "macro_f1": found.macro_f1,
        "roc_auc": found.roc_auc,
        "seconds": time.process_time() - clock,
        "labels": len(labeled),
        "pool": len(pool),
        "true_share": true_share,
    }
    return row | ({"share": shares[0]} if shares else {})


Drawn = tuple[PatchSet, PatchSet, np.ndarray, np.ndarray, float | None]


def draw_cell(data: Path, name: str, labels: int | str, draw: int) -> Drawn:
    """Return labels, pool, images and truth of the held-out places, the pool's share of craters."""
    if name.startswith("nanedi"):
        return _nanedi(data, name, labels, draw)
    return _themis(data, labels, draw)


def _themis(data: Path, labels: int | str, draw: int) -> Drawn:
    """Hold out one of five folds of regions; the truth of the pool is not known."""
    sets = compare_cells.read_compare_data(data)
    fold = compare_cells.draw_folds(sets, "region", _FOLDS).folds[draw % _FOLDS]
    cell = Cell("any", "compact", labels, draw, draw % _FOLDS + 1)
    labeled, pool = compare_cells.take_cell(sets, fold, cell, "extra")
    test = sets.labeled.take(fold.test)
    return labeled, pool, np.asarray(test.images), test.labels, None


def _nanedi(data: Path, name: str, labels: int | str, draw: int) -> Drawn:
    """Hold out one official fold; the labels that were not drawn are hidden."""
    found = kfold.read_fold_set(region_file(data, name))
    number = found.numbers[draw % len(found.numbers)]
    held_out = found.folds == number
    images = np.asarray(found.images)
    train = np.flatnonzero(~held_out)
    train = train[~is_copy(images[train], images[held_out])]
    rows = compare_cells.draw_labels(found.labels, train, Cell("any", "compact", labels, draw, 1))
    rest = np.setdiff1d(train, rows)
    return (
        make_patch_set(images[rows], found.labels[rows]),
        make_patch_set(images[rest]),
        images[held_out],
        found.labels[held_out],
        float(found.labels[rest].mean()),
    )


def is_copy(images: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Tell which patches are equal to one of others, or correlate with it by more than 0.95."""
    ours, theirs = (_centred(part) for part in (images, of))
    return (ours @ theirs.T).max(axis=1) > kfold.COPY_CORRELATION


def _centred(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
