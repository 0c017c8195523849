"""Pretrain a network on the synthetic stream, resumable after every round."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Workspace,
    check_device,
    library_versions,
    torch_threads,
    usable_threads,
)
from craters.models import reseed_dropout
from craters.pretraining.circles import CircleRecipe
from craters.pretraining.patches import PatchRecipe
from craters.pretraining.recipe import Recipe
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION, PRESETS, Look
from craters.training import (
    Attempt,
    TrainState,
    checkpoint,
    derive_seed,
    descend,
    prepare_attempt,
    record_epoch,
)

_STATE = "state.safetensors"
_LIBRARIES = ("numpy", "torch", "pillow")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A finished pretraining.

    Parameters
    ----------
    folder : Path
        The model folder.
    history : list of dict
        For each round: loss, number of images, and `accuracy`: the share of correct patches, or for
        circles the mean error of the log diameter.
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
    """Train a network on synthetic images only, and write it as a model folder.

    Each round trains on new images, which worker processes make during the round before.
    On the CPU, the same settings, versions and number of threads give the same weights, also after
    a resume.

    Parameters
    ----------
    config : PretrainConfig
    look : Look, optional
        Used instead of the preset `config.look`, for trials.
    recipe : Recipe, optional
        Used instead of the usual one of `config.network`, for trials.
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
    ConfigError
        If torch does not find the device.
    """
    progress = progress or NullProgress()
    look = look or PRESETS[config.look]
    usual: Recipe = CircleRecipe() if config.network == "circles" else PatchRecipe()
    recipe = recipe or usual
    rounds = config.rounds or recipe.rounds
    workspace = Workspace(
        config.out, "pretraining", record="model.json", resume=resume, force=force
    )
    workspace.refuse_existing()
    check_device(config.device)
    with workspace.open(_fingerprint(config, look, recipe), progress) as folder:
        state = train(config, look, recipe, folder / _STATE, progress)
        (last,) = recipe.stream(config, look).rounds(
            rounds - 1, rounds, usable_threads(config.threads)
        )
        model = recipe.write(folder / "model", state, config, last)
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
    schedule = recipe.schedule(config)
    steps = max(1, round(recipe.steps * config.scale))
    attempt = prepare_attempt(recipe.build, steps * schedule.batch_size, schedule, state)
    stream = recipe.stream(config, look)
    threads = usable_threads(config.threads)
    own = max(1, threads // 2)
    progress.work(state.epoch, schedule.epochs, "rounds")
    with contextlib.closing(stream.rounds(state.epoch, schedule.epochs, threads)) as rounds:
        for images in rounds:
            with torch_threads(own):
                row = _train_round(attempt, recipe, images, state.epoch)
            record_epoch(attempt, row, state)
            checkpoint.save_state(path, state)
            progress.say(f"Round {state.epoch} of {schedule.epochs}: {recipe.describe(row)}")
            progress.work(state.epoch, schedule.epochs, "rounds")
    return state


def _train_round(attempt: Attempt, recipe: Recipe, images: Any, number: int) -> dict[str, float]:
    """Train one round; return its mean loss and accuracy."""
    config = attempt.config
    seed = derive_seed(config.seed, 1, number)
    random = np.random.default_rng(seed)
    reseed_dropout(attempt.network, seed)
    attempt.network.train()
    loss_sum = accuracy_sum = 0.0
    for step in range(attempt.steps):
        batch = recipe.draw(images, config.batch_size, random)
        attempt.before_step(number * attempt.steps + step)
        loss, accuracy = recipe.loss(attempt.network, batch, config)
        descend(attempt.optimizer, loss)
        attempt.after_step(number * attempt.steps + step)
        loss_sum += float(loss.detach())
        accuracy_sum += accuracy
    return {
        "epoch": number + 1,
        "loss": loss_sum / attempt.steps,
        "accuracy": accuracy_sum / attempt.steps,
        "patches": recipe.count(images),
    }
