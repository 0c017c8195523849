"""Learning from unlabeled patches by agreement: the same answer for a patch changed strongly."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.data import normalize, pad_for_shifts, shift_and_flip
from craters.training.loop import in_mixed_precision
from craters.training.recipes import TrainConfig

_CONTRAST, _BRIGHTNESS, _NOISE = 0.3, 16 / 255, 6 / 255  # standard deviations
_HOLE = 1 / 3  # largest side of the hidden rectangle, as a share of the patch's


@dataclasses.dataclass(frozen=True)
class FixMatch:
    """The objective of labels and of agreement on unlabeled patches (Sohn et al. 2020).

    The network's own confident answer on a weakly changed patch (shift, allowed flip) is what it
    shall give for the strongly changed one. Two things keep a pool apart whose share of craters is
    not the labeled one: answers are aligned to the pool's estimated share before they are judged
    (distribution alignment, Berthelot et al. 2020), and each class weighs in the loss as it does
    among the labels, so that the pool does not move the network's prior.

    Parameters
    ----------
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches, at least one; may be memory-mapped.
    config : TrainConfig
    pool_share, labeled_share : float
        Share of craters in the pool, estimated, and among the labels; above 0 and below 1.
    confidence_threshold : float
        Answers below it are not learned from.
    unlabeled_ratio : int
        Unlabeled patches for each labeled one of a step.
    unlabeled_weight : float
        Of the loss on unlabeled patches.
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
        """Compare with the labels, and strongly with weakly changed patches."""
        count = len(images)
        weak, strong = self._draw(self.unlabeled_ratio * count, random)
        batch = np.concatenate([normalize(images), strong])
        with in_mixed_precision(self.config.mixed_precision):
            with torch.no_grad():  # BatchNorm by this batch, as below: no lagging averages
                theirs = network(torch.from_numpy(weak)).float()
            # One pass, so that BatchNorm sees labeled and unlabeled patches together.
            logits = network(torch.from_numpy(batch)).float()
        ours, changed = logits.split([count, len(strong)])
        targets = torch.from_numpy(labels.astype(np.float32))
        smooth = self.config.label_smoothing
        loss = functional.binary_cross_entropy_with_logits(
            ours, targets * (1 - smooth) + smooth / 2
        )
        goals, weights = self._judge(torch.sigmoid(theirs))
        unlabeled = functional.binary_cross_entropy_with_logits(changed, goals, weights)
        correct = ((ours.detach() > 0) == (targets > 0.5)).sum()
        return loss + self.unlabeled_weight * unlabeled, int(correct)

    def _draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Take patches of the pool, each weakly and strongly changed; only those are padded."""
        rows = np.sort(random.integers(0, len(self.pool), count))
        padded = pad_for_shifts(self.pool[rows], self.config.shift)
        side, every = self.pool.shape[1], np.arange(count)
        views = [
            normalize(shift_and_flip(padded, every, side, self.config.symmetry, random))
            for _ in range(2)
        ]
        return views[0], change_strongly(views[1], random)

    def _judge(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Return hard answers, and how much each weighs: nothing where it is not confident."""
        aligned = align(probability, self.pool_share)
        goals = (aligned > 0.5).float()
        sure = torch.maximum(aligned, 1 - aligned) >= self.confidence_threshold
        crater = self.labeled_share / self.pool_share
        other = (1 - self.labeled_share) / (1 - self.pool_share)
        return goals, sure * (goals * crater + (1 - goals) * other)


def align(probability: Tensor, share: float) -> Tensor:
    """Move probabilities, by their odds, so that a batch agrees with the pool's share of craters.

    Parameters
    ----------
    probability : Tensor, shape (N,)
        Of "with crater".
    share : float
        Of craters in the pool.

    Returns
    -------
    Tensor, shape (N,)
    """
    mean = probability.mean().clamp(1e-4, 1 - 1e-4)
    crater, other = probability * share / mean, (1 - probability) * (1 - share) / (1 - mean)
    return crater / (crater + other)


def change_strongly(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change patches as much as a crater survives, and never where the light comes from.

    Contrast, brightness, noise, a slope of brightness across the patch, and a hidden rectangle
    (DeVries & Taylor 2017).

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
