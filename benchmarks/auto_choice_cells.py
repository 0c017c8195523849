"""One draw of `auto_choice.py`: what `auto` finds in the folds of the labels, and takes."""

from __future__ import annotations

import time
from pathlib import Path

from craters import semi_supervised
from craters.augment import choose_symmetry
from craters.fitting import Trainer
from craters.settings import RunConfig
from craters.train import torch_threads
from harness import Row
from unlabeled_cells import draw_cell


def choose_cell(*, tell, data: Path, cell: tuple[str, int | str, int]) -> Row:  # noqa: ARG001
    """Cross-fit the candidates on the labels of a draw; the kept network is not trained here."""
    name, labels, draw = cell
    labeled, pool, *_ = draw_cell(data, name, labels, draw)
    config = RunConfig(data, data, method="auto", network="compact", seed=draw, threads=1)
    symmetry = choose_symmetry(config.symmetry, labeled.images, labeled.labels)
    clock = time.process_time()
    with torch_threads(1):
        trainer = Trainer(config, symmetry.allowed, pool.images)
        found = semi_supervised.learn("auto", labeled, pool, trainer)
    return {
        "method": found.method,
        "share": None if found.share is None else found.share.share,
        "folds": {
            method: {"difference": one.difference, "low": one.low, "high": one.high}
            for method, one in found.verdicts.items()
        },
        "seconds": time.process_time() - clock,
    }
