"""Write the model folder of a network, for `tiles`.

python craters_model.py DATA MODEL NETWORK RESOLUTION [WEIGHTS]

Trains on labels and pool as `CraterClassifier` does, or takes the WEIGHTS of a `dense`.
`dense-labels` is `dense` from the labels alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from craters import CraterClassifier
from craters.data import choose_symmetry
from craters.models import Network
from craters.training import Examples, build_network, fit
from craters.training.recipes import modern_recipe


def main(data: Path, model: Path, network: str, resolution: float, weights: str = "") -> None:
    """Write the model folder."""
    found = CraterClassifier(network.partition("-")[0], method="supervised", start="random")
    if network == "dense-labels":
        take(found, from_labels(data))
    elif weights:
        take(found, load(found.network, Path(weights)))
    else:
        train(found, data)
    found.save_model(model, resolution=resolution)


def train(found: CraterClassifier, data: Path) -> None:
    """Fit on labels and pool."""
    arrays = {path.stem: np.load(path) for path in data.glob("*.npy")}
    images = np.concatenate([arrays["Xtrain1"], arrays["Xtrain1_extra"]])
    labels = np.concatenate(
        [arrays["Ytrain1"].reshape(-1), np.full(len(arrays["Xtrain1_extra"]), -1)]
    )
    found.fit(images, labels, np.concatenate([arrays["groups_train"], arrays["groups_extra"]]))


def load(name: str, weights: Path) -> Network:
    """Build a network from its weights."""
    network = build_network(name, 48)(0)
    network.load_state_dict(load_file(weights))
    return network.eval()


def from_labels(data: Path) -> Network:
    """Train `dense` on the labels alone, as `compact` is trained: no pool, no teachers."""
    images, labels = (np.load(data / f"{name}train1.npy") for name in "XY")
    images, labels = images.reshape(-1, 48, 48), labels.reshape(-1)
    symmetry = choose_symmetry("auto", images, labels).allowed
    recipe = modern_recipe(len(images), 48, symmetry=symmetry)
    return fit(build_network("dense", 48, symmetry), Examples(images, labels), None, recipe)[0]


def take(found: CraterClassifier, network: Network) -> None:
    """Set the fitted attributes."""
    found.network_, found.side_, found.classes_ = network, 48, np.array([0, 1])


if __name__ == "__main__":
    place, made, kind, metres, *more = sys.argv[1:]
    main(Path(place), Path(made), kind, float(metres), *more)
