"""The pretrained network that trainings start from."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from craters.data import splits
from craters.evaluation import sigmoid
from craters.models import (
    PRETRAINED,
    CompactNet,
    LightFrame,
    find_pretrained,
    read_description,
    read_graph,
    read_weights,
)
from craters.training.loop import predict_pooled

FINE_TUNED = 0.8  # share of the way from the start to the trained weights
HALFWAY = 0.4
KEPT = 0.0  # the start as it is, its last layer included

_PRIOR = 0.3  # strength of the prior, in squares of a scaled weight a patch
_LEAST_FEATURE = 0.05  # added to the spread of a feature
_LIGHT = "light."  # of the layer for the direction of light, which labels cannot train


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights that a training starts from.

    Parameters
    ----------
    name : str
    version : str
        Of the generator of its patches.
    sha256 : str
        Of its graph, which holds the weights.
    settings : dict
        Settings of `CompactNet`.
    sides : tuple of int
        Least and largest side of a patch, in pixels.
    frame : LightFrame
        The light that the network expects.
    weights : dict of Tensor
    """

    name: str
    version: str
    sha256: str
    settings: dict[str, Any]
    sides: tuple[int, int]
    frame: LightFrame
    weights: dict[str, Tensor]

    @property
    def record(self) -> dict[str, str]:
        """What identifies the weights, for model.json and for resuming."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def build(self, side: int, symmetry: tuple[str, ...]) -> CompactNet:
        """Return a network of these weights, without the layer for the direction of light."""
        network = CompactNet(side, symmetry, **self.settings)
        network.load_state_dict(self.weights)
        return network


def blend(start: Start, network: CompactNet, share: float) -> CompactNet:
    """Return a network between a start and the network that was trained from it.

    Such a mean of weights often recognizes images of other places better than either network
    (Wortsman et al. 2022, arXiv 2109.01903).

    Parameters
    ----------
    start : Start
    network : CompactNet
    share : float
        0 gives the start, 1 the network.

    Returns
    -------
    CompactNet
        In evaluation mode.
    """
    blended = start.build(network.side, network.symmetry)
    blended.load_state_dict(between(start.weights, network.state_dict(), share))
    return blended.eval()


def between(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return weights at a share of the way from ours to theirs; counts are theirs."""
    return {
        name: torch.lerp(ours[name], weight, share) if weight.is_floating_point() else weight
        for name, weight in theirs.items()
    }


class FrozenStart:
    """A start as it is, which remembers the features of patches that several trainings need.

    Parameters
    ----------
    start : Start
    symmetry : tuple of str
        Views of a patch, which are averaged: their light is where the network expects it.
    """

    def __init__(self, start: Start, symmetry: tuple[str, ...]) -> None:
        self.start = start
        self.symmetry = symmetry
        self._networks: dict[int, CompactNet] = {}  # by the side of patches
        self._pooled: dict[bytes, np.ndarray] = {}  # by the content of the patch
        self._refitted: dict[bytes, Start] = {}  # by the content of patches and labels

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Predict the logits of patches (N, S, S), uint8: (N,), float32."""
        if len(images) == 0:
            return np.empty(0, np.float32)
        pooled = self._pool(images, splits.content_ids(images))
        with torch.inference_mode():
            return self._network(images).logits_of(pooled).numpy()

    def count_mistakes(self, images: np.ndarray, labels: np.ndarray) -> int:
        """Count the labels, 0 or 1, that the start gets wrong, at probability 0.5."""
        return int(((self.logits(images) > 0) != labels).sum())

    def refit_last_layer(self, images: np.ndarray, labels: np.ndarray) -> Start:
        """Fit the last layer to labels, 0 or 1; the other weights are unchanged.

        Logistic regression on the pooled features, with a Gaussian prior around the start's own
        last layer, near which it stays with few labels.
        """
        ids = splits.content_ids(images)
        key = hashlib.sha256(ids.tobytes() + labels.tobytes()).digest()
        if key not in self._refitted:
            features = torch.stack(self._pool(images, ids).unbind(1)).mean(0)
            self._refitted[key] = _refit(self.start, features.double().numpy(), labels)
        return self._refitted[key]

    def _network(self, images: np.ndarray) -> CompactNet:
        side = images.shape[1]
        if side not in self._networks:
            self._networks[side] = self.start.build(side, self.symmetry).eval()
        return self._networks[side]

    def _pool(self, images: np.ndarray, ids: np.ndarray) -> Tensor:
        """Return the pooled features of each view, (N, V, K), of patches with content ids."""
        keys = ids.tolist()
        new = {key: row for row, key in enumerate(keys) if key not in self._pooled}
        if new:
            found = predict_pooled(self._network(images), images[list(new.values())])
            self._pooled |= dict(zip(new, found, strict=True))
        return torch.from_numpy(np.stack([self._pooled[key] for key in keys]))


def _refit(start: Start, features: np.ndarray, labels: np.ndarray) -> Start:
    """Return a start whose last layer is fitted to features, shape (N, K), with labels."""
    from scipy.optimize import minimize

    weight, bias = (start.weights[f"last.{name}"].double().numpy() for name in ("weight", "bias"))
    scale = 1 / (features.std(axis=0) + _LEAST_FEATURE)
    own = features @ weight[0] + bias[0]
    strength, n = _PRIOR / len(labels), len(labels)

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        logits = own + (features * scale) @ change[:-1] + change[-1]
        error = (sigmoid(logits) - labels) / n
        cross_entropy = float(np.mean(np.logaddexp(0, logits) - labels * logits))
        gradient = np.append((features * scale).T @ error, error.sum())
        return cross_entropy + strength * float(change @ change), gradient + 2 * strength * change

    change = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x
    refitted = dict(start.weights)
    refitted["last.weight"] = torch.from_numpy((weight + scale * change[:-1]).astype(np.float32))
    refitted["last.bias"] = torch.from_numpy((bias + change[-1:]).astype(np.float32))
    return dataclasses.replace(start, weights=refitted)


def load_start() -> Start:
    """Load the pretrained model of this package as a start.

    Raises
    ------
    ModelError
        If this installation lacks it.
    """
    return _load(find_pretrained())


@functools.cache
def _load(folder: Path) -> Start:
    description, weights = read_description(folder), read_weights(folder)
    assert description.light is not None
    assert description.pretraining is not None
    return Start(
        name=PRETRAINED,
        version=description.pretraining["generator"],
        sha256=hashlib.sha256(read_graph(folder)).hexdigest(),
        settings=description.network_settings,
        sides=description.side_range,
        frame=description.light,
        weights={
            name: torch.from_numpy(np.array(array))
            for name, array in weights.items()
            if not name.startswith(_LIGHT)
        },
    )
