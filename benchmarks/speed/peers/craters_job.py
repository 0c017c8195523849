"""Training by the package, for `job`: the original job, or `compact` from labels alone.

    python craters_job.py DATA THREADS SEED OUT.npy NETWORK [EPOCHS]

`original` does both phases with the original recipe; `compact` trains as CraterClassifier does, in
as many epochs as are named or as its recipe asks for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from craters.core import torch_threads
from craters.data import read_patches
from craters.pipeline import kept_network
from craters.training import RunConfig, predict_logits, sigmoid


def main(data: Path, threads: int, seed: int, out: Path, network: str, epochs: int = 0) -> None:
    """Train, and save the predictions for the test set."""
    config = RunConfig(
        data, data, method="original" if network == "original" else "supervised",
        network=network, start="random", seed=seed, threads=threads, epochs=epochs,
    )  # fmt: skip
    labeled = read_patches(data / "Xtrain1.npy", data / "Ytrain1.npy")
    kept = kept_network(labeled, read_patches(data / "Xtrain1_extra.npy"), config)
    with torch_threads(threads):
        logits = predict_logits(kept, read_patches(data / "Xtest1.npy").images)
    np.save(out, sigmoid(logits))


if __name__ == "__main__":
    place, count, number, made, kind, *more = sys.argv[1:]
    main(Path(place), int(count), int(number), Path(made), kind, *map(int, more))
