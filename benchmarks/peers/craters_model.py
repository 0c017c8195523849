"""Train on labels and pool as `CraterClassifier` does, and write the model folder, for `tiles`.

python craters_model.py DATA MODEL NETWORK RESOLUTION
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from craters import CraterClassifier


def main(data: Path, model: Path, network: str, resolution: float) -> None:
    """Train; `dense` learns from the pool, too."""
    arrays = {path.stem: np.load(path) for path in data.glob("*.npy")}
    images = np.concatenate([arrays["Xtrain1"], arrays["Xtrain1_extra"]])
    labels = np.concatenate(
        [arrays["Ytrain1"].reshape(-1), np.full(len(arrays["Xtrain1_extra"]), -1)]
    )
    groups = np.concatenate([arrays["groups_train"], arrays["groups_extra"]])
    found = CraterClassifier(network, method="supervised").fit(images, labels, groups)
    found.save_model(model, resolution=resolution)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
