"""The original job by the package, for `keras_parity`: train both stages, save their predictions.

    python craters_original.py DATA SEED OUT.npz

The file holds the split too, so that the other contender trains on the same rows, and each phase's
order of patches and dropout masks; OUT.start0.h5 and OUT.start1.h5 hold the weights that the phases
start from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from craters.data import read_job_data
from craters.models import reseed_dropout, write_keras_h5
from craters.pipeline import stages
from craters.training import RunConfig, TrainingSet, build_network, derive_seed


def rows_of(part: TrainingSet) -> np.ndarray:
    """Return the row numbers of a part's human labels; ids are FILE:ROW."""
    return np.array([int(name.rpartition(":")[2]) for name in part.ids])


def schedule(seed: int, epochs: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the random draws of the package in one stage.

    Returns
    -------
    orders : ndarray, shape (epochs, count), int16
        The order of the patches.
    masks : ndarray, shape (epochs, count, 8), bool
        The units that dropout keeps, patch by patch in that order.
    """
    network = build_network("original", 48)(0)
    orders = np.empty((epochs, count), np.int16)
    masks = np.empty((epochs, count, 8), bool)
    for epoch in range(epochs):
        drawn = derive_seed(seed, 0, 1, epoch)
        orders[epoch] = np.random.default_rng(drawn).permutation(count)
        reseed_dropout(network, drawn)
        for start in range(0, count, 32):
            batch = torch.empty(min(32, count - start), 8)
            kept = batch.bernoulli_(0.5, generator=network.dropout.generator)
            masks[epoch, start : start + 32] = kept.numpy()
    return orders, masks


def main(data: Path, seed: int, out: Path) -> None:
    """Run the job with its defaults, on one thread."""
    config = RunConfig(
        data=data, out=out, method="original", network="original", seed=seed, threads=1
    )
    result = stages.run_phases(read_job_data(data), config)
    drawn = {}
    for number, purpose in enumerate((stages.INITIAL, stages.FINAL)):
        phase_seed = derive_seed(seed, purpose)
        start = build_network("original", 48)(derive_seed(phase_seed, 0, 0))
        write_keras_h5(out.with_suffix(f".start{number}.h5"), start)
        epochs = (config.initial_epochs, config.final_epochs)[number]
        orders, masks = schedule(phase_seed, epochs, len(result.phases[number].train))
        drawn |= {f"orders{number}": orders, f"masks{number}": masks}
    np.savez_compressed(
        out,
        **drawn,
        train=rows_of(result.initial.train),
        validation=rows_of(result.initial.validation),
        initial=result.initial.scored.probability.astype(np.float32),
        final=result.final.scored.probability.astype(np.float32),
        test=result.test_probability,
        pseudo_labels=result.n_pseudo,
        restarts=[len(phase.state.restarts) for phase in result.phases],
        best_epochs=[phase.state.best_epoch for phase in result.phases],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
