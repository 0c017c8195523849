"""FixMatch: consistency between weakly and strongly augmented unlabeled patches."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.data import normalize, pad_for_shifts, shift_and_flip
from craters.training.device import in_mixed_precision, to_device
from craters.training.loop import cross_entropy
from craters.training.recipes import TrainConfig

_CONTRAST, _BRIGHTNESS, _NOISE = 0.3, 16 / 255, 6 / 255  # standard deviations
_HOLE = 1 / 3  # largest side of the hidden rectangle, as a share of the patch's


@dataclasses.dataclass(frozen=True)
class FixMatch:
    """FixMatch objective: labels plus consistency on unlabeled patches (Sohn et al. 2020).

    A confident prediction on a weakly augmented patch (shift, allowed flip) is the target for the
    strongly augmented one. Two corrections account for a pool whose share of craters differs from
    that of the labels. Predictions are aligned to the pool's estimated share before the confidence
    threshold (distribution alignment, Berthelot et al. 2020). Each class has the same weight in the
    loss as among the labels, so that the pool does not shift the network's prior.

    Parameters
    ----------
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches, at least one; may be memory-mapped.
    config : TrainConfig
    pool_share, labeled_share : float
        Estimated share of craters in the pool, and share among the labels; above 0 and below 1.
    confidence_threshold : float
        Predictions below it are ignored.
    unlabeled_ratio : int
        Unlabeled patches for each labeled one of a step.
    unlabeled_weight : float
        Weight of the loss on unlabeled patches.
    """

    pool: np.ndarray
    config: TrainConfig
    pool_share: float
    labeled_share: float
    confidence_threshold: float = 0.95
    unlabeled_ratio: int = 3
    unlabeled_weight: float = 1.0

    def __call__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[Tensor, int]:
        """Return the supervised plus consistency loss, and the number of correct labels."""
        count = len(images)
        weak, strong = self._draw(self.unlabeled_ratio * count, random)
        batch = np.concatenate([normalize(images), strong])
        with in_mixed_precision(self.config.mixed_precision, network):
            with torch.no_grad():  # BatchNorm by this batch, as below: no lagging averages
                weak_logits = network(to_device(weak, network)).float()
            # One pass, so that BatchNorm sees labeled and unlabeled patches together.
            logits = network(to_device(batch, network)).float()
        labeled_logits, strong_logits = logits.split([count, len(strong)])
        loss, correct = cross_entropy(labeled_logits, labels, self.config.label_smoothing)
        targets, weights = self._pseudo_targets(torch.sigmoid(weak_logits))
        unlabeled = functional.binary_cross_entropy_with_logits(strong_logits, targets, weights)
        return loss + self.unlabeled_weight * unlabeled, correct

    def _draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw patches of the pool, each weakly and strongly augmented."""
        rows = np.sort(random.integers(0, len(self.pool), count))
        padded = pad_for_shifts(self.pool[rows], self.config.shift)
        side, every = self.pool.shape[1], np.arange(count)
        views = [
            normalize(shift_and_flip(padded, every, side, self.config.symmetry, random))
            for _ in range(2)
        ]
        return views[0], change_strongly(views[1], random)

    def _pseudo_targets(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Return hard pseudo-labels and their weights, 0 below the confidence threshold."""
        aligned = align(probability, self.pool_share)
        targets = (aligned > 0.5).float()
        is_confident = torch.maximum(aligned, 1 - aligned) >= self.confidence_threshold
        crater = self.labeled_share / self.pool_share
        other = (1 - self.labeled_share) / (1 - self.pool_share)
        return targets, is_confident * (targets * crater + (1 - targets) * other)


def align(probability: Tensor, share: float) -> Tensor:
    """Rescale the odds of a batch to match the pool's share of craters (distribution alignment).

    Parameters
    ----------
    probability : Tensor, shape (N,)
        Probability of "with crater".
    share : float
        Share of craters in the pool.

    Returns
    -------
    Tensor, shape (N,)
    """
    mean = probability.mean().clamp(1e-4, 1 - 1e-4)
    crater, other = probability * share / mean, (1 - probability) * (1 - share) / (1 - mean)
    return crater / (crater + other)


def change_strongly(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Augment patches strongly, but preserve craters and the illumination direction.

    Varies contrast, brightness, noise and a brightness gradient, and masks a rectangle (cutout,
    DeVries & Taylor 2017).

    Parameters
    ----------
    images : ndarray, shape (N, S, S), float32
        Brightness 0..1.
    random : numpy Generator

    Returns
    -------
    ndarray, shape (N, S, S), float32
        Not clipped.
    """
    count, side = images.shape[:2]

    def draw(scale: float, *shape: int) -> np.ndarray:
        return scale * random.standard_normal((count, *shape), np.float32)

    mean = images.mean((1, 2), keepdims=True)
    changed = (images - mean) * np.exp(draw(_CONTRAST, 1, 1)) + mean + draw(_BRIGHTNESS, 1, 1)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    changed += draw(_BRIGHTNESS, 1, 1) * line[:, None] + draw(_BRIGHTNESS, 1, 1) * line
    changed += draw(_NOISE, side, side) * random.random((count, 1, 1), np.float32)
    largest = max(1, round(_HOLE * side))
    sizes = random.integers(0, largest + 1, (count, 2))
    corners = random.integers(0, side - sizes + 1)
    for image, (top, left), (height, width), level in zip(
        changed, corners, sizes, mean.ravel(), strict=True
    ):
        image[top : top + height, left : left + width] = level
    return changed
