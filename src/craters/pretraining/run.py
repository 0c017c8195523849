"""Pretrain a network on the synthetic stream, resumable after every round."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Workspace,
    library_versions,
    torch_threads,
    usable_threads,
)
from craters.data import SYMMETRIES, normalize
from craters.models import Network, initialize, make_network, reseed_dropout
from craters.pretraining.batches import Batch, draw_batch
from craters.pretraining.model import NETWORK, SIDE, SYMMETRY, write_pretrained
from craters.pretraining.rounds import Round, Stream
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION, PRESETS, Look
from craters.training import (
    Attempt,
    TrainConfig,
    TrainState,
    checkpoint,
    derive_seed,
    descend,
    in_mixed_precision,
    prepare_attempt,
    record_epoch,
)

STEPS = 1000  # of a round
BATCH = 64

_STATE = "state.safetensors"
_LIBRARIES = ("numpy", "torch", "pillow")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is pretrained. The defaults are those of the shipped network.

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

    def stream(self, config: PretrainConfig, look: Look) -> Stream:
        """Return the stream of patches."""
        return Stream.of(config, look)

    def loss(self, network: Network, batch: Batch, config: TrainConfig) -> tuple[Tensor, float]:
        """Return the loss of a batch, and the share of correct labels.

        The loss is the cross-entropy plus the squared error of the direction of light.
        """
        images = torch.from_numpy(normalize(batch.images))
        error = torch.zeros(())
        with in_mixed_precision(config.mixed_precision):
            if self.in_frame:
                logits, light = network.forward_with_light(images)
                error = functional.mse_loss(light.float(), torch.from_numpy(batch.light))
            else:
                logits = network(images)
        labels, weights = torch.from_numpy(batch.labels), torch.from_numpy(batch.weights)
        smoothed = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        each = functional.binary_cross_entropy_with_logits(
            logits.float(), smoothed, reduction="none"
        )
        right = (((logits.detach() > 0) == (labels > 0.5)) * weights).sum() / weights.sum()
        return (each * weights).mean() + self.light_weight * error, float(right)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A finished pretraining.

    Parameters
    ----------
    folder : Path
        The model folder.
    history : list of dict
        For each round: loss, share of correct patches, number of patches.
    """

    folder: Path
    history: list[dict[str, float]]


def pretrain(
    config: PretrainConfig,
    *,
    look: Look | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a network on synthetic patches only, and write it as a model folder.

    Each round trains on new patches, which worker processes make during the round before.
    The same settings, versions and number of threads give the same weights, also after a resume.

    Parameters
    ----------
    config : PretrainConfig
    look : Look, optional
        Used instead of the preset `config.look`, for trials.
    recipe : Recipe, optional
        Another recipe, for trials.
    resume : bool
        Continue an interrupted pretraining of the same settings and versions.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); it is never deleted.
    progress : Progress, optional

    Returns
    -------
    Pretrained

    Raises
    ------
    ExistsError
        If the folder exists, or the pretraining to resume does not match.
    """
    progress = progress or NullProgress()
    look, recipe = look or PRESETS[config.look], recipe or Recipe()
    workspace = Workspace(
        config.out, "pretraining", record="model.json", resume=resume, force=force
    )
    workspace.refuse_existing()
    with workspace.open(_fingerprint(config, look, recipe), progress) as folder:
        state = train(config, look, recipe, folder / _STATE, progress)
        network = recipe.trained(config.seed, state.best_weights)
        stream = recipe.stream(config, look)
        threads = usable_threads(config.threads)
        (last,) = stream.rounds(config.rounds - 1, config.rounds, threads)
        model = write_pretrained(
            folder / "model", network, recipe.network_settings, config, state.history, last
        )
        workspace.publish(model)
    return Pretrained(config.out, state.history)


def _fingerprint(config: PretrainConfig, look: Look, recipe: Recipe) -> Fingerprint:
    settings = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in ("out", "threads")
    }
    return Fingerprint(
        settings={
            **settings,
            "look": dataclasses.asdict(look),
            "recipe": dataclasses.asdict(recipe),
            "generator": GENERATOR_VERSION,
        },
        inputs={},
        versions=library_versions(*_LIBRARIES),
    )


def train(
    config: PretrainConfig, look: Look, recipe: Recipe, path: Path, progress: Progress
) -> TrainState:
    """Train all rounds that are not finished.

    Parameters
    ----------
    config : PretrainConfig
    look : Look
    recipe : Recipe
    path : Path
        File of the state, which is written after each round.
    progress : Progress

    Returns
    -------
    TrainState
        With the moving average of the weights as `best_weights`.
    """
    state = checkpoint.load_state(path) if path.exists() else TrainState()
    schedule = TrainConfig(
        epochs=config.rounds,
        learning_rate=recipe.learning_rate,
        batch_size=BATCH,
        seed=config.seed,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=0.1,
        label_smoothing=0.05,
        ema_decay=0.998,
        keep="last",
        mixed_precision=True,
    )
    steps = max(1, round(STEPS * config.scale))
    attempt = prepare_attempt(recipe.build, steps * BATCH, schedule, state)
    stream = recipe.stream(config, look)
    threads = usable_threads(config.threads)
    own = max(1, threads // 2)
    with contextlib.closing(stream.rounds(state.epoch, config.rounds, threads)) as rounds:
        for patches in rounds:
            with torch_threads(own):
                row = _train_round(attempt, recipe, patches, state.epoch)
            record_epoch(attempt, row, state)
            checkpoint.save_state(path, state)
            progress.say(
                f"Round {state.epoch} of {config.rounds}: loss {row['loss']:.4f}, "
                f"{row['accuracy']:.1%} of {row['patches']:,} patches correct."
            )
    return state


def _train_round(attempt: Attempt, recipe: Recipe, patches: Round, number: int) -> dict[str, float]:
    """Train one round; return its mean loss and the share of correct patches."""
    config = attempt.config
    seed = derive_seed(config.seed, 1, number)
    random = np.random.default_rng(seed)
    reseed_dropout(attempt.network, seed)
    attempt.network.train()
    loss_sum = correct = 0.0
    for step in range(attempt.steps):
        batch = draw_batch(
            patches, config.batch_size, random, free=recipe.free, in_frame=recipe.in_frame
        )
        attempt.before_step(number * attempt.steps + step)
        loss, right = recipe.loss(attempt.network, batch, config)
        descend(attempt.optimizer, loss)
        attempt.after_step(number * attempt.steps + step)
        loss_sum += float(loss.detach())
        correct += right
    return {
        "epoch": number + 1,
        "loss": loss_sum / attempt.steps,
        "accuracy": correct / attempt.steps,
        "patches": sum(len(part.labels) for part in patches.values()),
    }
