"""Train the circle network on labeled patches: each is a bag of circles, and says if one counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.evaluation import sigmoid
from craters.models import CirclePatchNet, CircleSizes, Places, patch_levels, places_of
from craters.training.circles import CircleTargets, circle_loss
from craters.training.device import in_mixed_precision, to_device
from craters.training.loop import predict_logits
from craters.training.recipes import TrainConfig
from craters.training.start import between

SCENES = 3  # synthetic scenes of a step
CANVASES = 2  # images of a step that patches at full size are laid out in
CANVAS = 256  # px: their side, that of the scenes

_GAP = 4  # px between patches of an image
_MARGIN = 1.15  # circles this near to the smallest that counts may be there in a patch without
_JITTER = 0.12  # standard deviation of the log of the contrast of a patch
_PRIOR = 1.0  # strength of the prior of the line from circles to patches, as labels
_STEPS, _RATE = 200, 5e-4


class Rehearsal(Protocol):
    """Synthetic scenes with known circles, that keep what the network learned before."""

    def draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, CircleTargets]:
        """Draw scenes (count, 256, 256) of standardized brightness, with their targets."""


@dataclasses.dataclass(frozen=True, eq=False)
class CircleStart:
    """The circle detector that a training on patches starts from.

    Parameters
    ----------
    weights : mapping of ndarray
        As `read_weights` returns them.
    sizes : CircleSizes
        What the labels are about.
    rehearsal : Rehearsal
    """

    weights: Mapping[str, np.ndarray]
    sizes: CircleSizes
    rehearsal: Rehearsal

    def build(self, side: int, symmetry: tuple[str, ...]) -> CirclePatchNet:
        """Return the network of patches with these weights."""
        network = CirclePatchNet(side, self.sizes, symmetry)
        network.detector.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in self.weights.items()}
        )
        return network.eval()

    def blend(self, trained: CirclePatchNet, share: float) -> CirclePatchNet:
        """Return the network at a share of the way from the start to a trained network."""
        network = self.build(trained.side, trained.symmetry)
        ours, theirs = network.detector.state_dict(), trained.detector.state_dict()
        network.detector.load_state_dict(between(ours, theirs, share))
        return network


def fit_line(network: CirclePatchNet, images: np.ndarray, labels: np.ndarray) -> CirclePatchNet:
    """Fit slope and offset from the largest logit of a circle to the logit of a patch.

    Logistic regression on labeled patches (Platt 1999), with a prior at slope 1 and offset 0.

    Parameters
    ----------
    network : CirclePatchNet
        Changed in place.
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,)
        0 or 1.
    """
    from scipy.optimize import minimize

    network.line.copy_(torch.tensor([1.0, 0.0]))
    largest = predict_logits(network, images).astype(np.float64)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        logits = line[0] * largest + line[1]
        error = sigmoid(logits) - labels
        change = line - [1.0, 0.0]
        value = float(np.sum(np.logaddexp(0, logits) - labels * logits)) + _PRIOR * change @ change
        gradient = np.array([error @ largest, error.sum()]) + 2 * _PRIOR * change
        return value, gradient

    line = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    network.line.copy_(torch.from_numpy(line.astype(np.float32)))
    return network


def bag_recipe(
    n: int, side: int, *, seed: int = 0, symmetry: tuple[str, ...] = ("identity",)
) -> TrainConfig:
    """Return the recipe for the circle network on `n` labeled patches.

    About 200 steps, each with as many patches as fit into two images of 256 px. BatchNorm keeps its
    statistics: those of patches with gaps between them differ from those of images.
    """
    grids = [_per_row(length) ** 2 for length in _lengths(side)]
    batch = max(1, min(n, CANVASES * grids[0]))
    return TrainConfig(
        epochs=-(-_STEPS // max(1, n // batch)),
        learning_rate=_RATE,
        batch_size=batch,
        seed=seed,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=0.15,
        ema_decay=0.995,
        symmetry=symmetry,
        keep="last",
        mixed_precision=True,
        keep_statistics=True,
    )


@dataclasses.dataclass(frozen=True)
class BagObjective:
    """Learn from the labels of patches, and from synthetic scenes beside them.

    In a patch of label 1, the likeliest circle that counts becomes likelier; in a patch of label 0,
    all circles of these sizes become less likely. Places of other sizes learn nothing. Neither
    label moves or resizes a circle: scenes keep centres and diameters right.

    Parameters
    ----------
    sizes : CircleSizes
    rehearsal : Rehearsal
    config : TrainConfig
    """

    sizes: CircleSizes
    rehearsal: Rehearsal
    config: TrainConfig

    def __call__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[Tensor, int]:
        """Return the loss of a batch, and how many patches of it were classified correctly."""
        network = cast("CirclePatchNet", network)
        scenes, targets = self.rehearsal.draw(SCENES, random)
        contrast = np.exp(_JITTER * random.standard_normal((len(images), 1, 1)))
        levels = [level * contrast.astype(np.float32) for level in patch_levels(images)]
        canvases = [lay_out(level) for level in levels]
        together = np.concatenate([scenes, *canvases])
        with in_mixed_precision(self.config.mixed_precision, network):
            maps = network.detector(to_device(together, network)).float()
        loss, _ = circle_loss(maps[: len(scenes)], targets)
        parts, first = [], len(scenes)
        for level, canvas in zip(levels, canvases, strict=True):
            parts.append(cut_out(maps[first : first + len(canvas)], len(images), level.shape[1]))
            first += len(canvas)
        places = places_of(parts, images.shape[1])
        with torch.no_grad():
            logits = network.line[0] * places.largest(self.sizes) + network.line[1]
        correct = int(((logits > 0).cpu().numpy() == (labels == 1)).sum())
        return loss + bag_loss(places, labels, self.sizes), correct


def bag_loss(places: Places, labels: np.ndarray, sizes: CircleSizes) -> Tensor:
    """Return the loss of labeled patches: focal, as that of circles, for each patch with a crater.

    Parameters
    ----------
    places : Places
    labels : ndarray, shape (N,)
        0 or 1.
    sizes : CircleSizes
    """
    is_with = torch.from_numpy(labels == 1).to(places.logit.device)
    holds_any = is_with & places.inside(sizes).any(1)
    log_hit = functional.logsigmoid(places.largest(sizes)[holds_any])
    hits = -((1 - log_hit.exp()) ** 2 * log_hit).sum()
    is_wrong = (places.diameter >= sizes.least * _MARGIN) & (places.diameter <= sizes.most)
    logits = places.logit[is_wrong & places.is_measured & ~is_with[:, None]]
    misses = -(torch.sigmoid(logits) ** 2 * functional.logsigmoid(-logits)).sum()
    return (hits + misses) / holds_any.sum().clamp(min=1)


def _lengths(side: int) -> list[int]:
    """Return the sides of a patch's levels, in pixels."""
    return [level.shape[1] for level in patch_levels(np.zeros((1, side, side), np.uint8))]


def _per_row(length: int) -> int:
    """Return how many patches of a level fit side by side into an image."""
    return (CANVAS + _GAP) // (length + _GAP)


def lay_out(level: np.ndarray) -> np.ndarray:
    """Lay out patches (N, P, P) side by side in images (B, 256, 256), with gaps of 0."""
    n, length, _ = level.shape
    row, pitch = _per_row(length), length + _GAP
    canvases = np.zeros((-(-n // row**2), CANVAS, CANVAS), np.float32)
    for number, patch in enumerate(level):
        image, place = divmod(number, row**2)
        top, left = (pitch * each for each in divmod(place, row))
        canvases[image, top : top + length, left : left + length] = patch
    return canvases


def cut_out(maps: Tensor, n: int, length: int) -> Tensor:
    """Cut the maps of n patches out of those of images (B, 5, 64, 64): the reverse of `lay_out`."""
    row, pitch, places = _per_row(length), (length + _GAP) // 4, length // 4
    short = row * pitch - maps.shape[2]
    ends = (0, max(0, short)) * 2
    grid = functional.pad(maps, ends)[:, :, : row * pitch, : row * pitch]
    split = grid.reshape(len(maps), maps.shape[1], row, pitch, row, pitch)
    cells = split.permute(0, 2, 4, 1, 3, 5).reshape(-1, maps.shape[1], pitch, pitch)
    return cells[:n, :, :places, :places]
