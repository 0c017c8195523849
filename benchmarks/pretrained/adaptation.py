"""Compare ways of adapting the shipped network to patches without labels.

`python -m pretrained.adaptation`, run in the folder of the benchmarks, adapts the network to each
set of real patches without their labels, and prints its figures before and after. On one core it
takes about ten minutes.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import harness
from craters.data import normalize
from craters.models import (
    Classifier,
    Network,
    read_description,
    read_weights,
    restore_network,
    turn_to_frame,
)
from harness import MODEL
from pretrained import scores, sets

MOST = 2000  # patches of a set, evenly spaced
CONFIDENT = 0.95  # of pseudo-labels in self-training
MEASURES = ("macro_f1", "best_macro_f1", "roc_auc", "average_precision")
_BATCH = 64

Adapt = Callable[[Network, Tensor], None]


def main() -> None:
    """Adapt the network to each set, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the themis48 arrays")
    parser.add_argument("--cache", type=Path, help="folder of the cached sets")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = restore_network(read_description(MODEL), read_weights(MODEL))
    heads = "".join(f"{name:>19}" for name in (*MEASURES, "predicted share"))
    print(f"{'set':14} {'adaptation':22}{heads}{'seconds':>9}")
    for one in sets.load_sets(harness.find_data(options.data).parent, cache=options.cache):
        few = one.take(np.linspace(0, len(one) - 1, min(MOST, len(one))).round().astype(int))
        images = torch.from_numpy(normalize(in_frame(few)))
        for name, adapt in ADAPTATIONS.items():
            torch.manual_seed(options.seed)
            start, adapted = time.monotonic(), copy.deepcopy(network)
            adapt(adapted, images)
            probability = predict(adapted, images)
            seconds = time.monotonic() - start
            row = scores.figures(few.labels, probability, 0)
            cells = "".join(f"{row[name]:19.3f}" for name in MEASURES)
            print(f"{one.name:14} {name:22}{cells}{probability.mean():19.3f}{seconds:9.1f}")
        print(f"{'':14} n = {len(few)}, true share of craters {few.labels.mean():.3f}", flush=True)


def in_frame(one: sets.LabeledSet) -> np.ndarray:
    """Turn the patches of each group to the light that the network expects."""
    classifier = Classifier.load(MODEL, threads=1)
    frame = classifier.description.light
    assert frame is not None
    images = np.empty_like(one.images)
    for name, light in classifier.find_light(one.images, groups=one.groups).groups.items():
        rows = one.groups == name
        images[rows] = turn_to_frame(one.images[rows], light.azimuth, frame)
    return images


def predict(network: Network, images: Tensor) -> np.ndarray:
    """Return the probability of a crater, averaged over the symmetries of the network."""
    network.eval()
    with torch.no_grad():
        logits = [network(part) for part in images.split(_BATCH)]
    return torch.sigmoid(torch.cat(logits)).numpy()


def keep(_network: Network, _images: Tensor) -> None:
    """Adapt nothing."""


def batch_norm(weight: float) -> Adapt:
    """Estimate the statistics of BatchNorm again on the pool; mix them in by `weight`."""

    def adapt(network: Network, images: Tensor) -> None:
        layers = batch_norms(network)
        before = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
        network.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
            layer.train()
        with torch.no_grad():
            for part in images[torch.randperm(len(images))].split(_BATCH):
                network(part)
        for layer, (mean, variance) in zip(layers, before, strict=True):
            layer.running_mean.lerp_(mean, 1 - weight)
            layer.running_var.lerp_(variance, 1 - weight)

    return adapt


def entropy(network: Network, images: Tensor) -> None:
    """Minimise the entropy of the predictions by scales and offsets of BatchNorm, one epoch.

    As Wang et al., Tent (2021, arXiv 2006.10726), with the statistics of each batch.
    """
    network.eval()
    layers = batch_norms(network)
    for layer in layers:
        layer.train()
    weights = [weight for layer in layers for weight in layer.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    for part in images[torch.randperm(len(images))].split(_BATCH):
        logits = network(part)
        probability = torch.sigmoid(logits)
        surprise = nn.functional.binary_cross_entropy_with_logits(logits, probability)
        optimizer.zero_grad()
        surprise.backward()
        optimizer.step()


def self_training(*, balanced: bool = False, keep_share: bool = False) -> Adapt:
    """Train on the confident predictions as labels, two rounds of two epochs; BatchNorm is kept.

    `balanced`: as many of each class, the surest first, as Zou et al. (2018, arXiv 1810.07911).
    `keep_share`: then the offset is set so that as many patches are called with crater as before.
    """

    def adapt(network: Network, images: Tensor) -> None:
        called = float((predict(network, images) >= 0.5).mean())
        _train_on_itself(network, images, balanced=balanced)
        if keep_share and 0 < called < 1:
            probability = np.quantile(predict(network, images).astype(np.float64), 1 - called)
            network.last.bias.data -= float(np.log(probability / (1 - probability)))

    return adapt


def _train_on_itself(network: Network, images: Tensor, *, balanced: bool) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for _ in range(2):
        probability = torch.from_numpy(predict(network, images))
        rows = confident(probability, balanced=balanced)
        if len(rows) < _BATCH:
            return
        for _ in range(2):
            for part in rows[torch.randperm(len(rows))].split(_BATCH):
                logits = network(images[part])
                labels = (probability[part] > 0.5).float()
                loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def confident(probability: Tensor, *, balanced: bool) -> Tensor:
    """Return the rows whose prediction is confident."""
    craters = torch.nonzero(probability >= CONFIDENT).squeeze(1)
    others = torch.nonzero(probability <= 1 - CONFIDENT).squeeze(1)
    if balanced:
        count = min(len(craters), len(others))
        craters = craters[torch.argsort(-probability[craters])[:count]]
        others = others[torch.argsort(probability[others])[:count]]
    return torch.cat([craters, others])


def batch_norms(network: Network) -> list[nn.BatchNorm2d]:
    """Return the BatchNorm layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


ADAPTATIONS: dict[str, Adapt] = {
    "none": keep,
    "BatchNorm": batch_norm(1.0),
    "BatchNorm, half": batch_norm(0.5),
    "entropy": entropy,
    "self-training": self_training(),
    "self-training, share": self_training(keep_share=True),
    "self-training, equal": self_training(balanced=True),
}

if __name__ == "__main__":
    main()
