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
from scipy.optimize import minimize
from torch import Tensor

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
from craters.training.loop import predict_features, predict_logits

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


def refit_last_layer(
    start: Start, images: np.ndarray, labels: np.ndarray, symmetry: tuple[str, ...]
) -> Start:
    """Fit the last layer of a start to labels, the other weights unchanged.

    Logistic regression on the pooled features, with a Gaussian prior around the start's own last
    layer, near which it stays with few labels.

    Parameters
    ----------
    start : Start
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,)
        0 or 1.
    symmetry : tuple of str
        Views of a patch, whose features are averaged: their light is where the network expects it.

    Returns
    -------
    Start
        With another last layer.
    """
    network = start.build(images.shape[1], symmetry)
    features = predict_features(network, images).astype(np.float64)
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


def count_mistakes(
    start: Start, images: np.ndarray, labels: np.ndarray, symmetry: tuple[str, ...]
) -> int:
    """Count the labels that a start gets wrong, at probability 0.5.

    Parameters
    ----------
    start : Start
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,)
        0 or 1.
    symmetry : tuple of str
        Views of a patch; see `refit_last_layer`.
    """
    logits = predict_logits(start.build(images.shape[1], symmetry), images)
    return int(((logits > 0) != labels).sum())


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
