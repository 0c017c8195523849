"""The recipe of the circle detector: scenes of procedural planets, turned to their light."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from craters.core import StrPath, hardware_line, package_versions
from craters.data import transform, transform_places
from craters.models import (
    CIRCLES,
    CircleDescription,
    CircleNet,
    CircleSizes,
    LightFrame,
    find_model,
    new_circle_net,
    read_weights,
    standardize,
    write_circle_model,
)
from craters.pretraining.batches import FRAME, TURNS, WIDEST
from craters.pretraining.recipe import Recipe, schedule
from craters.pretraining.rounds import Rounds, Task
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION, PRESETS, Look, Scene, make_scenes
from craters.training import (
    TRUTH_DTYPE,
    CircleStart,
    CircleTargets,
    TrainConfig,
    TrainState,
    circle_loss,
    derive_seed,
    in_mixed_precision,
    make_targets,
    to_device,
)

SIDE = 256  # px of a scene
SCENES = 1000  # of a round at scale 1
BATCH = 8
USES = 2  # of each scene

COUNTED = 7.0, 26.0  # px: diameters of craters that the network must find
POSSIBLE = 5.0, 40.0  # px: diameters of those that it may find
_VISIBLE, _FAINT = 0.7, 0.2  # contrast of craters that it must find, and may find

_CHUNK = 25  # scenes of a task
_REHEARSED = 0.5  # size of the round of scenes that later trainings rehearse
_JITTER = 0.12  # standard deviation of the log of the contrast

_LIMITS = [
    "Craters below 8 px are found incompletely, and larger than a quarter of the image not at all.",
    "Trained on synthetic scenes alone; on real images, measure before you rely on it.",
    "The direction of light must be known or recognizable in the image.",
]


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Scenes with their craters, turned so that the light comes from the left.

    Parameters
    ----------
    brightness : ndarray, shape (N, S, S), float16
        As `standardize` gives it.
    craters : list of ndarray, `TRUTH_DTYPE`
    """

    brightness: np.ndarray
    craters: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class SceneStream(Rounds[Scenes, Scenes]):
    """The stream of scenes of a pretraining.

    Parameters
    ----------
    seed : int
    look : Look
    scale : float
        Multiplies `SCENES`.
    """

    seed: int
    look: Look
    scale: float = 1.0

    def tasks(self, number: int) -> list[Task]:
        """Return the tasks of a round: some scenes each."""
        count = max(1, round(SCENES * self.scale))
        scenes = range(number * count, (number + 1) * count)
        return [
            (prepare_scenes, (scenes[start : start + _CHUNK], self.seed, self.look))
            for start in range(0, count, _CHUNK)
        ]

    def gather(self, number: int, parts: Iterator[Scenes]) -> Scenes:  # noqa: ARG002
        """Join the scenes of a round."""
        joined = list(parts)
        return Scenes(
            brightness=np.concatenate([part.brightness for part in joined]),
            craters=[craters for part in joined for craters in part.craters],
        )


def prepare_scenes(scenes: range, seed: int, look: Look) -> Scenes:
    """Make scenes, turn them to their light and standardize their brightness."""
    made = make_scenes(scenes, seed=seed, side=SIDE, look=look)
    turned = [_turn(scene, number) for number, scene in zip(scenes, made, strict=True)]
    return Scenes(
        brightness=np.stack([brightness for brightness, _ in turned]),
        craters=[craters for _, craters in turned],
    )


def rehearsal_scenes(seed: int, threads: int) -> Scenes:
    """Make the scenes that a later training rehearses; their numbers are those of no pretraining.

    Parameters
    ----------
    seed : int
        Of the later training.
    threads : int
    """
    stream = SceneStream(seed=derive_seed(seed, 3) % 2**31, look=PRESETS["mixed"], scale=_REHEARSED)
    with contextlib.closing(stream.rounds(0, 1, threads)) as rounds:
        return next(rounds)


def _turn(scene: Scene, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn a scene by a multiple of 90 degrees into the frame of light.

    Light between two frames is turned to either of them, by the number of the scene.
    """
    scatter = ((number * 0.618) % 1 * 2 - 1) * (WIDEST - 45)
    turn = TURNS[round((scene.azimuth + scatter - FRAME) / 90) % 4]
    pixels = np.ascontiguousarray(transform(scene.image[None], turn)[0])
    brightness = standardize(pixels, pixels == 0).astype(np.float16)
    shape = scene.image.shape
    row, col = transform_places(scene.craters["row"], scene.craters["col"], shape, turn)
    diameter, contrast = scene.craters["diameter"], scene.craters["contrast"]

    def within(limits: tuple[float, float], least: float) -> np.ndarray:
        is_within: np.ndarray = (diameter >= limits[0]) & (diameter <= limits[1])
        return is_within & (contrast >= least)

    counted, possible = within(COUNTED, _VISIBLE), within(POSSIBLE, _FAINT)
    craters = np.zeros(len(row), TRUTH_DTYPE)
    for name, values in (("row", row), ("col", col), ("diameter", diameter)):
        craters[name] = values
    craters["counted"] = counted
    return brightness, craters[counted | possible]


@dataclasses.dataclass(frozen=True)
class CircleBatch:
    """Standardized brightness (B, S, S) float32, and targets."""

    brightness: np.ndarray
    targets: CircleTargets


def make_batch(
    brightness: np.ndarray, truths: list[np.ndarray], random: np.random.Generator
) -> CircleBatch:
    """Make a batch of images (B, S, S) and their craters, and vary the contrast of each."""
    contrast = np.exp(_JITTER * random.standard_normal((len(brightness), 1, 1)))
    return CircleBatch(
        brightness=brightness * contrast.astype(np.float32), targets=make_targets(truths, SIDE)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class SceneRehearsal:
    """Scenes that a later training rehearses, as `CircleStart` takes them."""

    scenes: Scenes

    def draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, CircleTargets]:
        """Draw scenes (count, 256, 256) of standardized brightness, with their targets."""
        batch = CircleRecipe().draw(self.scenes, count, random)
        return batch.brightness, batch.targets


def load_circle_start(
    sizes: CircleSizes, seed: int, threads: int, *, model: StrPath = CIRCLES
) -> CircleStart:
    """Load the circle detector as the start of a training on patches, with scenes to rehearse.

    Parameters
    ----------
    sizes : CircleSizes
        What the labels of the patches are about.
    seed : int
        Of the training.
    threads : int
    model : path-like
        A model folder, or `circles`: the detector that ships with craters.
    """
    return CircleStart(
        weights=read_weights(find_model(model)),
        sizes=sizes,
        rehearsal=SceneRehearsal(rehearsal_scenes(seed, threads)),
    )


@dataclasses.dataclass(frozen=True)
class CircleRecipe(Recipe):
    """How the circle detector is pretrained.

    Parameters
    ----------
    learning_rate : float
        Peak rate of the one-cycle schedule.
    """

    learning_rate: float = 2e-3

    @property
    def rounds(self) -> int:
        """Usual number of rounds."""
        return 24

    @property
    def steps(self) -> int:
        """Steps of a round at scale 1."""
        return USES * SCENES // BATCH

    def build(self, seed: int) -> CircleNet:
        """Return the network with initial weights drawn from a seed."""
        return new_circle_net(seed)

    def schedule(self, config: PretrainConfig) -> TrainConfig:
        """Return the settings of the training."""
        return schedule(config, self, learning_rate=self.learning_rate, batch_size=BATCH)

    def stream(self, config: PretrainConfig, look: Look) -> SceneStream:
        """Return the stream of scenes."""
        return SceneStream(seed=config.seed, look=look, scale=config.scale)

    def draw(self, images: Scenes, size: int, random: np.random.Generator) -> CircleBatch:
        """Draw scenes, flip half of them up-down and vary their contrast."""
        return make_batch(*self.draw_scenes(images, size, random), random)

    def draw_scenes(
        self, images: Scenes, size: int, random: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Draw scenes and flip half of them up-down; return their brightness and craters."""
        rows = random.integers(0, len(images.craters), size)
        brightness = images.brightness[rows].astype(np.float32)
        truths = [images.craters[row].copy() for row in rows]
        for number, flipped in enumerate(random.random(size) < 0.5):
            if flipped:
                brightness[number] = brightness[number, ::-1].copy()
                truths[number]["row"] = SIDE - 1 - truths[number]["row"]
        return brightness, truths

    def loss(
        self, network: CircleNet, batch: CircleBatch, config: TrainConfig
    ) -> tuple[Tensor, float]:
        """Return the loss of a batch, and the mean error of the log diameter."""
        with in_mixed_precision(config.mixed_precision, network):
            maps = network(to_device(batch.brightness, network))
        return circle_loss(maps.float(), batch.targets)

    def count(self, images: Scenes) -> int:
        """Return how many scenes a round has."""
        return len(images.craters)

    def describe(self, row: Mapping[str, float]) -> str:
        """Return a row of the history in words."""
        error = math.expm1(row["accuracy"])
        return f"loss {row['loss']:.4f}, diameters off by {error:.1%} in {row['patches']:,} scenes."

    def write(
        self,
        folder: StrPath,
        state: TrainState,
        config: PretrainConfig,
        last: Scenes,  # noqa: ARG002
    ) -> Path:
        """Write the model folder, without figures on real images."""
        network = self.build(config.seed)
        network.load_state_dict(state.best_weights)
        description = CircleDescription(
            light=LightFrame(FRAME, WIDEST),
            training={
                "images": f"{int(sum(row['patches'] for row in state.history)):,} synthetic scenes "
                f"of {SIDE} x {SIDE} px",
                "look": config.look,
                "generator": str(GENERATOR_VERSION),
                "rounds": len(state.history),
                "scale": config.scale,
                "seed": config.seed,
                "hardware": hardware_line(config.device),
            },
            limits=_LIMITS,
            versions=package_versions(),
        )
        return write_circle_model(folder, network.eval(), description, license_id="mit")
