"""What a pretraining needs to know of the network that it trains."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from craters.core import StrPath
from craters.pretraining.rounds import Rounds
from craters.settings import PretrainConfig
from craters.synthetic import Look
from craters.training import TrainConfig, TrainState


@dataclasses.dataclass(frozen=True)
class Recipe(abc.ABC):
    """How a network is pretrained; a resume compares its values."""

    @property
    @abc.abstractmethod
    def rounds(self) -> int:
        """Usual number of rounds."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """Steps of a round at scale 1."""

    @abc.abstractmethod
    def build(self, seed: int) -> Any:
        """Return the network with initial weights drawn from a seed."""

    @abc.abstractmethod
    def schedule(self, config: PretrainConfig) -> TrainConfig:
        """Return the settings of the training; its epochs are the rounds."""

    @abc.abstractmethod
    def stream(self, config: PretrainConfig, look: Look) -> Rounds[Any, Any]:
        """Return the stream of rounds."""

    @abc.abstractmethod
    def draw(self, images: Any, size: int, random: np.random.Generator) -> Any:
        """Draw a batch from a round."""

    @abc.abstractmethod
    def loss(self, network: Any, batch: Any, config: TrainConfig) -> tuple[Tensor, float]:
        """Return the loss of a batch, and the accuracy for the history."""

    @abc.abstractmethod
    def count(self, images: Any) -> int:
        """Return how many images a round has."""

    @abc.abstractmethod
    def describe(self, row: Mapping[str, float]) -> str:
        """Return a row of the history in words."""

    @abc.abstractmethod
    def write(self, folder: StrPath, state: TrainState, config: PretrainConfig, last: Any) -> Path:
        """Write the model folder of a finished training, with the images of its last round."""


def schedule(config: PretrainConfig, recipe: Recipe, **settings: Any) -> TrainConfig:
    """Return the schedule that all recipes share, with what differs."""
    return TrainConfig(
        epochs=config.rounds or recipe.rounds,
        seed=config.seed,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=0.1,
        ema_decay=0.998,
        keep="last",
        mixed_precision=True,
        device=config.device,
        **settings,
    )
