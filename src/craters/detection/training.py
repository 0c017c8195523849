"""Train the circle detector further, on images with catalogues of their craters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from craters.core import NullProgress, Progress, torch_threads
from craters.detection.images import LabeledImage, Level, draw_crop, make_levels
from craters.errors import DataError
from craters.models import CircleNet, LightFrame, network_weights, restore_circle_net
from craters.pretraining import (
    SIDE,
    CircleBatch,
    CircleRecipe,
    Scenes,
    make_batch,
    rehearsal_scenes,
)
from craters.training import (
    TrainConfig,
    TrainState,
    derive_seed,
    descend,
    prepare_attempt,
)

_LEVELS = (0.6, 0.28, 0.12)  # how often crops are of full size, a half and a quarter


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How the detector is trained further.

    Parameters
    ----------
    steps : int
    learning_rate : float
        Peak rate of the one-cycle schedule.
    rehearsed : float
        Share of synthetic scenes in each batch, which keeps what was learned before.
    share : float
        Share of the way from the given to the trained weights that is kept: such a mean often
        finds craters of other sensors better than either (Wortsman et al. 2022).
    batch_size : int
    seed : int
    device : str
        "cpu", "cuda" or "cuda:NUMBER".
    """

    steps: int = 800
    learning_rate: float = 1e-3
    rehearsed: float = 0.5
    share: float = 0.5
    batch_size: int = 8
    seed: int = 0
    device: str = "cpu"


def fine_tune(
    start: Mapping[str, np.ndarray],
    images: Sequence[LabeledImage],
    frame: LightFrame,
    how: FineTuning,
    *,
    threads: int = 1,
    scenes: Scenes | None = None,
    progress: Progress | None = None,
    on_step: Callable[[int], None] | None = None,
) -> CircleNet:
    """Train the detector from given weights on images with known craters.

    Parameters
    ----------
    start : mapping of ndarray
        Weights by name in torch, as `read_weights` returns them.
    images : sequence of LabeledImage
    frame : LightFrame
        The light that the network expects; images are turned to it.
    how : FineTuning
    threads : int
    scenes : Scenes, optional
        Those of `rehearsal_scenes`, if they are made already.
    progress : Progress, optional
    on_step : callable, optional
        Receives the number of finished steps after each tenth one.

    Returns
    -------
    CircleNet
        In evaluation mode: between the given weights and the moving average of the trained ones.

    Raises
    ------
    DataError
        If no image has a crater that counts.
    """
    if not any(image.craters["counted"].any() for image in images):
        raise DataError(
            f"none of the {len(images)} images has a crater that counts",
            "Give images with a catalogue of their craters.",
        )
    progress = progress or NullProgress()
    pyramids = [make_levels(image, frame, len(_LEVELS)) for image in images]
    config = TrainConfig(
        epochs=1,
        learning_rate=how.learning_rate,
        batch_size=how.batch_size,
        seed=how.seed,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=0.15,
        ema_decay=0.995,
        keep="last",
        mixed_precision=True,
        device=how.device,
    )
    attempt = prepare_attempt(
        lambda _: restore_circle_net(start), how.steps * how.batch_size, config, TrainState()
    )
    random = np.random.default_rng(derive_seed(how.seed, 2))
    recipe = CircleRecipe()
    with torch_threads(threads):
        if scenes is None and how.rehearsed:
            scenes = rehearsal_scenes(how.seed, threads)
        attempt.network.train()
        total = 0.0
        for step in range(attempt.steps):
            batch = _draw_batch(pyramids, scenes, how, random)
            attempt.before_step(step)
            loss, _ = recipe.loss(attempt.network, batch, config)
            descend(attempt.optimizer, loss)
            attempt.after_step(step)
            total += float(loss.detach())
            if on_step is not None and (step + 1) % 10 == 0:
                on_step(step + 1)
            if (step + 1) % 100 == 0:
                progress.say(f"Step {step + 1} of {attempt.steps}: loss {total / 100:.4f}.")
                total = 0.0
    return restore_circle_net(between(start, network_weights(attempt.evaluated), how.share))


def between(
    start: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray], share: float
) -> dict[str, np.ndarray]:
    """Return weights at a share of the way from one network to another, counts as of the latter."""
    return {
        name: ((1 - share) * start[name] + share * weight).astype(weight.dtype)
        if weight.dtype.kind == "f"
        else weight
        for name, weight in trained.items()
    }


def _draw_batch(
    pyramids: Sequence[Sequence[Level]],
    scenes: Scenes | None,
    how: FineTuning,
    random: np.random.Generator,
) -> CircleBatch:
    """Draw crops of images and synthetic scenes, and vary their contrast."""
    n_scenes = 0 if scenes is None else int(random.binomial(how.batch_size, how.rehearsed))
    brightness = np.empty((how.batch_size, SIDE, SIDE), np.float32)
    truths: list[np.ndarray] = []
    if scenes is not None and n_scenes:
        drawn = CircleRecipe().draw_scenes(scenes, n_scenes, random)
        brightness[:n_scenes], truths = drawn
    for place in range(n_scenes, how.batch_size):
        levels = pyramids[int(random.integers(len(pyramids)))]
        level = levels[int(random.choice(len(_LEVELS), p=_LEVELS))]
        brightness[place], craters = draw_crop(level, SIDE, random)
        truths.append(craters)
    return make_batch(brightness, truths, random)
