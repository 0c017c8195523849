"""One draw of `share.py`: cross-fit on a budget of labels, estimate the share of known pools."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from craters import compare_cells, kfold, semi_supervised
from craters.class_share import estimate_class_share
from craters.compare_settings import Cell
from craters.fitting import Trainer
from craters.patches import make_patch_set
from craters.settings import RunConfig
from craters.train import torch_threads
from harness import Row
from share import SHARES
from unlabeled import region_file
from unlabeled_cells import is_copy


def train_cell(*, tell, data: Path, cell: tuple[str, int, int]) -> Row:  # noqa: ARG001
    """Return, for each share, the truth of a drawn pool and its estimate with the interval."""
    region, labels, draw = cell
    found = kfold.read_fold_set(region_file(data, region))
    images = np.asarray(found.images)
    everything = np.arange(len(images))
    rows = compare_cells.draw_labels(
        found.labels, everything, Cell("any", "compact", labels, draw, 1)
    )
    rest = np.setdiff1d(everything, rows)
    rest = rest[~is_copy(images[rest], images[rows])]
    labeled = make_patch_set(images[rows], found.labels[rows])
    config = RunConfig(data, data, method="fixmatch", seed=draw, threads=1)
    trainer = Trainer(config, ("identity", "up-down"), images[:0])
    clock = time.process_time()
    with torch_threads(1):
        learned = semi_supervised.learn(
            "fixmatch", labeled, make_patch_set(images[rest]), trainer, judge=False
        )
    fitted, truth = learned.supervised, found.labels[rest]
    random = np.random.default_rng(draw)
    shares = {}
    for share in SHARES:
        chosen = draw_pool(truth, share, random)
        pairs = zip(learned.folds.folds, fitted.pool_logits, strict=True)
        asked, logits = zip(*((np.sort(fold.pool), found) for fold, found in pairs), strict=True)
        asked, logits = np.concatenate(asked), np.concatenate(logits)
        drawn = np.isin(asked, chosen)
        one = estimate_class_share(
            labeled.labels, fitted.logits, logits[drawn], pool_groups=asked[drawn]
        )
        shares[f"{share:g}"] = {
            "truth": float(truth[chosen].mean()), "share": one.share, "low": one.low,
            "high": one.high,
        }  # fmt: skip
    return {"shares": shares, "seconds": time.process_time() - clock}


def draw_pool(truth: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Draw as many patches as there are for a share of craters."""
    craters, others = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    count = min(len(craters) / share, len(others) / (1 - share))
    return np.concatenate(
        [
            random.choice(craters, round(count * share), replace=False),
            random.choice(others, round(count * (1 - share)), replace=False),
        ]
    )
