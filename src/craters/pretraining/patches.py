"""The recipe of the classifier of patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from craters.core import StrPath
from craters.data import SYMMETRIES, normalize
from craters.models import Network, initialize, make_network
from craters.pretraining.batches import Batch, draw_batch
from craters.pretraining.model import NETWORK, SIDE, SYMMETRY, write_pretrained
from craters.pretraining.recipe import Recipe, schedule
from craters.pretraining.rounds import Round, Stream
from craters.settings import PretrainConfig
from craters.synthetic import Look
from craters.training import TrainConfig, TrainState, in_mixed_precision, to_device

BATCH = 64


@dataclasses.dataclass(frozen=True)
class PatchRecipe(Recipe):
    """How the classifier of patches is pretrained. The defaults are those of the shipped network.

    Parameters
    ----------
    learning_rate : float
        Peak rate of the one-cycle schedule.
    in_frame : bool
        Whether patches are turned so that their light comes from the left. Else the network sees
        light from all sides, has no output for it, and averages all eight symmetries.
    free : float
        Share of patches turned at random, from which the direction of light is learned.
    light_weight : float
        Weight of the error of the direction of light in the loss.
    channels : tuple of int
        As for `CompactNet`.
    patch_contrast : bool
        As for `CompactNet`.
    """

    learning_rate: float = 4e-3
    in_frame: bool = True
    free: float = 0.25
    light_weight: float = 0.2
    channels: tuple[int, int, int] = (24, 48, 96)
    patch_contrast: bool = True

    @property
    def rounds(self) -> int:
        """Usual number of rounds."""
        return 28

    @property
    def steps(self) -> int:
        """Steps of a round at scale 1."""
        return 1000

    @property
    def network_settings(self) -> dict[str, Any]:
        """The settings of the network, for the model folder."""
        return {"channels": list(self.channels), "patch_contrast": self.patch_contrast}

    def build(self, seed: int) -> Network:
        """Return the network with initial weights drawn from a seed."""
        network = make_network(
            NETWORK,
            SIDE,
            SYMMETRY if self.in_frame else tuple(SYMMETRIES),
            channels=self.channels,
            light=self.in_frame,
            patch_contrast=self.patch_contrast,
        )
        initialize(network, seed)
        return network

    def trained(self, seed: int, weights: dict[str, Tensor]) -> Network:
        """Return the network with trained weights, in evaluation mode."""
        network = self.build(seed)
        network.load_state_dict(weights)
        return network.eval()

    def schedule(self, config: PretrainConfig) -> TrainConfig:
        """Return the settings of the training."""
        return schedule(
            config, self, learning_rate=self.learning_rate, batch_size=BATCH, label_smoothing=0.05
        )

    def stream(self, config: PretrainConfig, look: Look) -> Stream:
        """Return the stream of patches."""
        return Stream.of(config, look)

    def draw(self, images: Round, size: int, random: np.random.Generator) -> Batch:
        """Draw a batch of patches of one side."""
        return draw_batch(images, size, random, free=self.free, in_frame=self.in_frame)

    def loss(self, network: Network, batch: Batch, config: TrainConfig) -> tuple[Tensor, float]:
        """Return the loss of a batch, and the share of correct labels.

        The loss is the cross-entropy plus the squared error of the direction of light.
        """
        images = to_device(normalize(batch.images), network)
        error = torch.zeros((), device=images.device)
        with in_mixed_precision(config.mixed_precision, network):
            if self.in_frame:
                logits, light = network.forward_with_light(images)
                error = functional.mse_loss(light.float(), to_device(batch.light, network))
            else:
                logits = network(images)
        labels, weights = (to_device(each, network) for each in (batch.labels, batch.weights))
        smoothed = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        each = functional.binary_cross_entropy_with_logits(
            logits.float(), smoothed, reduction="none"
        )
        right = (((logits.detach() > 0) == (labels > 0.5)) * weights).sum() / weights.sum()
        return (each * weights).mean() + self.light_weight * error, float(right)

    def count(self, images: Round) -> int:
        """Return how many patches a round has."""
        return sum(len(part.labels) for part in images.values())

    def describe(self, row: Mapping[str, float]) -> str:
        """Return a row of the history in words."""
        return (
            f"loss {row['loss']:.4f}, {row['accuracy']:.1%} of {row['patches']:,} patches correct."
        )

    def write(
        self, folder: StrPath, state: TrainState, config: PretrainConfig, last: Round
    ) -> Path:
        """Write the model folder; see `write_pretrained`."""
        network = self.trained(config.seed, state.best_weights)
        return write_pretrained(
            Path(folder), network, self.network_settings, config, state.history, last
        )
