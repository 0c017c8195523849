"""Knowledge distillation: train a network on the predictions of teacher networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.data import normalize, pad_for_shifts, shift_and_flip
from craters.models import EnsembleNet, Network
from craters.training.attempt import Build
from craters.training.device import in_mixed_precision, to_device
from craters.training.recipes import TrainConfig

TEACHERS = 3  # `compact` networks that teach one `dense`
Weights = dict[str, Tensor]

_CONTRAST, _BRIGHTNESS = 0.15, 8 / 255  # standard deviations of log contrast and brightness


def build_teacher(weights: Iterable[Weights], build: Build) -> Network:
    """Combine `compact` networks into one teacher ensemble.

    Parameters
    ----------
    weights : iterable of dict
        Weights of each network.
    build : callable
        Builds a `compact` network of one view. There is no test-time augmentation (the mean over
        mirrored views): the student sees all views and learns their mean at half the cost.

    Returns
    -------
    Network
        In evaluation mode.
    """
    networks = []
    for state_dict in weights:
        network = build(0)
        network.load_state_dict(state_dict)
        networks.append(network)
    return EnsembleNet(networks).eval()


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Distillation objective: match the teachers' probabilities (Hinton et al. 2015).

    Teachers and student see the same augmented patches: labeled and unlabeled ones at random
    offsets, with varied contrast, half of them mixed in pairs, so that the student learns the
    teachers' function and does not memorize single predictions (Beyer et al. 2022, "patient and
    consistent"). Labels enter only through the teachers.

    Parameters
    ----------
    teacher : Network
        In evaluation mode, on the device of the training; its logits are the target.
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches; may be empty or memory-mapped. Each step draws as many of them as
        labeled ones.
    config : TrainConfig
        Its shifts and transforms also apply to the pool.
    """

    teacher: Network
    pool: np.ndarray
    config: TrainConfig

    def __call__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,  # noqa: ARG002
        random: np.random.Generator,
    ) -> tuple[Tensor, int]:
        """Return the loss, and the number of labeled patches where student and teacher agree."""
        count = len(images)
        if len(self.pool):
            images = np.concatenate([images, self._draw(count, random)])
        batch = to_device(vary(normalize(images), random), network)
        with in_mixed_precision(self.config.mixed_precision, network):
            with torch.no_grad():
                target = torch.sigmoid(self.teacher(batch).float())
            logits = network(batch).float()
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        agree = (logits.detach() > 0) == (target > 0.5)
        return loss, int(agree[:count].sum())

    def _draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Draw and augment patches of the pool; only the drawn ones are padded."""
        rows = np.sort(random.integers(0, len(self.pool), count))
        padded = pad_for_shifts(self.pool[rows], self.config.shift)
        side = self.pool.shape[1]
        return shift_and_flip(padded, np.arange(count), side, self.config.symmetry, random)


def vary(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Vary contrast and brightness, and mix half of the patches in pairs (Zhang et al. 2018).

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
    count = len(images)
    contrast = np.exp(_CONTRAST * random.standard_normal((count, 1, 1), np.float32))
    brightness = _BRIGHTNESS * random.standard_normal((count, 1, 1), np.float32)
    mean = images.mean((1, 2), keepdims=True)
    varied = (images - mean) * contrast + mean + brightness
    partner = random.permutation(count)
    share = random.random((count, 1, 1), np.float32)
    share[random.random(count) < 0.5] = 1
    return share * varied + (1 - share) * varied[partner]
