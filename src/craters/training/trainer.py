"""Trainings of a job: which networks a phase needs, trained side by side, kept epoch by epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np

from craters.core import NullProgress, Progress, Send, Task, run_tasks, usable_threads
from craters.data import choose_symmetry, make_patch_set, validation_split
from craters.models import EnsembleNet, Network
from craters.settings import JobSettings, TrainingSettings
from craters.training.distillation import TEACHERS, Distillation, Weights, build_teacher
from craters.training.fixmatch import FixMatch
from craters.training.loop import Examples, Objective, TrainState, build_network, fit
from craters.training.recipes import (
    TrainConfig,
    agreement_recipe,
    derive_seed,
    distillation_recipe,
    modern_recipe,
)
from craters.training.training_set import TrainingSet

_BETWEEN_NEWS = 1.0  # seconds; few labels make many short epochs, and a state has megabytes
_TEACHING = 100  # offset of the purposes that teachers' seeds are derived for


class StateStore(Protocol):
    """Where training states are kept between epochs."""

    def load(self, phase: str) -> TrainState | None:
        """Return what an interrupted training left, if anything."""

    def save(self, phase: str, state: TrainState) -> None:
        """Keep the state after an epoch."""


class NoStore:
    """Keeps nothing: the job cannot be resumed."""

    def load(self, phase: str) -> TrainState | None:  # noqa: ARG002
        """Return nothing."""
        return None

    def save(self, phase: str, state: TrainState) -> None:
        """Forget the state."""


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """How a training learns from unlabeled patches.

    Parameters
    ----------
    kind : {"fixmatch", "distillation"}
        By agreement between changed pictures of a patch (`consistency.FixMatch`), or from the
        answers of three networks that learned the labels (`distill.Distillation`).
    pool : ndarray, shape (N, S, S), uint8
    pool_share, labeled_share : float
        Of craters, for "fixmatch"; above 0 and below 1.
    """

    kind: Literal["fixmatch", "distillation"]
    pool: np.ndarray
    pool_share: float = 0.5
    labeled_share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Fitting:
    """One network's training, ready to be sent to another process.

    Parameters
    ----------
    key : str
        Names its state in the store.
    network : str
    side : int
    symmetry : tuple of str
    train : Examples
    validation : Examples or None
    config : TrainConfig
    teachers : tuple of dict
        Weights of `compact` networks that teach it; empty where labels do.
    pool : ndarray, shape (N, S, S), uint8
        What teachers are asked about beside the labeled patches.
    agreement : Unlabeled or None
        Of kind "fixmatch", where there is such an objective.
    """

    key: str
    network: str
    side: int
    symmetry: tuple[str, ...]
    train: Examples
    validation: Examples | None
    config: TrainConfig
    teachers: tuple[Weights, ...] = ()
    pool: np.ndarray | None = None
    agreement: Unlabeled | None = None


def _fit(*, send: Send, fitting: Fitting, state: TrainState | None) -> TrainState:
    """Train one network, wherever this process is."""
    return fit(
        build_network(fitting.network, fitting.side, fitting.symmetry),
        fitting.train,
        fitting.validation,
        fitting.config,
        objective=_objective(fitting),
        state=state,
        on_epoch=_Throttled(send),
    )[1]


def _trained(fitting: Fitting, state: TrainState) -> Network:
    """Return the network that a finished training kept, in evaluation mode."""
    network = build_network(fitting.network, fitting.side, fitting.symmetry)(0)
    network.load_state_dict(state.best_weights)
    return network.eval()


def _objective(fitting: Fitting) -> Objective | None:
    """Choose what a step lowers; None stands for the cross-entropy with the labels."""
    if fitting.teachers:
        pool = fitting.train.images[:0] if fitting.pool is None else fitting.pool
        teacher = build_teacher(fitting.teachers, fitting.side)
        return Distillation(teacher, pool, fitting.config)
    if (found := fitting.agreement) is not None:
        return FixMatch(
            pool=found.pool,
            config=fitting.config,
            pool_share=found.pool_share,
            labeled_share=found.labeled_share,
        )
    return None


class _Throttled:
    """Sends the first state, the last, every restart, and some of the others."""

    def __init__(self, send: Send) -> None:
        self.send, self.next, self.attempt = send, 0.0, 0

    def __call__(self, state: TrainState) -> None:
        now = time.monotonic()
        if now >= self.next or state.finished or state.attempt > self.attempt:
            self.send(state)
            self.next, self.attempt = now + _BETWEEN_NEWS, state.attempt


class _EpochReporter:
    """Saves the state after every epoch and reports it."""

    def __init__(self, store: StateStore, progress: Progress) -> None:
        self.store, self.progress = store, progress
        self.reported: dict[str, int] = {}

    def __call__(self, key: str, state: TrainState) -> None:
        self.store.save(key, state)
        for sentence in state.restarts[self.reported.get(key, 0) :]:
            self.progress.warn(
                f"phase {key}: {sentence}; another one is started from another seed."
            )
        self.reported[key] = len(state.restarts)
        self.progress.epoch(key, state)


@dataclasses.dataclass(frozen=True)
class Part:
    """What one phase of a job trains on.

    Parameters
    ----------
    name : str
        Of the phase.
    train : TrainingSet
    validation : TrainingSet or None
        None trains by a recipe that chooses nothing.
    purpose : int
        The phase's number, from which seeds are derived.
    is_early : bool
        Whether the original recipe's first-phase epochs and step size hold.
    unlabeled : Unlabeled or None
        How the pool is learned from; the teachers of a `dense` network learn so, too.
    """

    name: str
    train: TrainingSet
    validation: TrainingSet | None
    purpose: int
    is_early: bool = False
    unlabeled: Unlabeled | None = None


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains the networks of phases as a job's settings say.

    Parameters
    ----------
    settings : TrainingSettings
    symmetry : tuple of str
        Transforms that keep the light.
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches that `dense` networks are taught on.
    store : StateStore
    progress : Progress
    """

    settings: TrainingSettings
    symmetry: tuple[str, ...]
    pool: np.ndarray
    store: StateStore = dataclasses.field(default_factory=NoStore)
    progress: Progress = dataclasses.field(default_factory=NullProgress)

    def train(self, *parts: Part) -> list[tuple[Network, TrainState]]:
        """Train all networks of some phases that do not wait for each other.

        Returns
        -------
        list of (Network, TrainState)
            For each part, its network (an ensemble, where more than one is asked for) and the
            state of its first member.
        """
        teachers = self._teachers(parts)
        fittings = [
            self._fitting(part, number, teachers.get(part.name, ()))
            for number in range(self.settings.members)
            for part in parts
        ]
        states = dict(
            run_tasks(self._tasks(fittings), threads=self._threads, on_message=self._reporter)
        )
        networks = {each.key: _trained(each, states[each.key]) for each in fittings}
        result = []
        for part in parts:
            keys = [_key(part.name, number) for number in range(self.settings.members)]
            members = [networks[key] for key in keys]
            joined = members[0] if len(members) == 1 else EnsembleNet(members).eval()
            result.append((joined, states[keys[0]]))
        return result

    def planned_epochs(self, *parts: Part) -> int:
        """Count the epochs of all trainings of some parts."""
        count = 0
        for part in parts:
            count += self.settings.members * self._recipe(part, 0).epochs
            if self._is_taught(part):
                count += TEACHERS * self._teacher_fitting(part, 0).config.epochs
        return count

    @property
    def _threads(self) -> int:
        return usable_threads(self.settings.threads)

    @property
    def _reporter(self) -> _EpochReporter:
        return _EpochReporter(self.store, self.progress)

    def _tasks(self, fittings: Sequence[Fitting]) -> list[Task]:
        """Announce trainings, and take each up where an interrupted one stopped."""
        tasks = []
        for fitting in fittings:
            build = build_network(fitting.network, fitting.side, fitting.symmetry)
            self.progress.network(fitting.key, build(0))
            state = self.store.load(fitting.key)
            tasks.append(Task(fitting.key, _fit, {"fitting": fitting, "state": state}))
        return tasks

    def _teachers(self, parts: Sequence[Part]) -> dict[str, tuple[Weights, ...]]:
        """Train the teachers of each part, on what that part may use."""
        parts = [part for part in parts if self._is_taught(part)]
        if not parts:
            return {}
        fittings = [
            self._teacher_fitting(part, number) for number in range(TEACHERS) for part in parts
        ]
        states = dict(
            run_tasks(self._tasks(fittings), threads=self._threads, on_message=self._reporter)
        )
        return {
            part.name: tuple(
                states[_key(f"{part.name}-teacher", number)].best_weights
                for number in range(TEACHERS)
            )
            for part in parts
        }

    def _is_taught(self, part: Part) -> bool:
        """Tell whether other networks' answers are learned instead of labels."""
        by_method = part.unlabeled is not None and part.unlabeled.kind == "distillation"
        return by_method or self.settings.network == "dense"

    def _teacher_fitting(self, part: Part, number: int) -> Fitting:
        seed = derive_seed(self.settings.seed, _TEACHING + part.purpose, number)
        images = part.train.images
        make = _own_recipe(part)
        recipe = make(len(images), images.shape[1], seed=seed, symmetry=self.symmetry)
        return dataclasses.replace(
            self._fitting(part, number, ()),
            key=_key(f"{part.name}-teacher", number),
            network="compact",
            config=self._in_epochs(recipe),
        )

    def _fitting(self, part: Part, number: int, teachers: tuple[Weights, ...]) -> Fitting:
        return Fitting(
            key=_key(part.name, number),
            network=self.settings.network,
            side=part.train.images.shape[1],
            symmetry=self.symmetry,
            train=Examples(part.train.images, part.train.labels),
            validation=(
                Examples(part.validation.images, part.validation.labels)
                if part.validation is not None
                else None
            ),
            config=self._recipe(part, number),
            teachers=teachers,
            pool=self._taught_on(part) if teachers else None,
            agreement=None if teachers else _agreement(part),
        )

    def _taught_on(self, part: Part) -> np.ndarray:
        return self.pool if part.unlabeled is None else part.unlabeled.pool

    def _recipe(self, part: Part, number: int) -> TrainConfig:
        settings = self.settings
        seed = derive_seed(settings.seed, part.purpose, *([number] if number else []))
        if settings.network == "original":
            return TrainConfig(
                epochs=settings.initial_epochs if part.is_early else settings.final_epochs,
                learning_rate=settings.initial_lr if part.is_early else settings.final_lr,
                batch_size=settings.batch_size,
                seed=seed,
            )
        make = distillation_recipe if self._is_taught(part) else _own_recipe(part)
        side = part.train.images.shape[1]
        return self._in_epochs(make(len(part.train), side, seed=seed, symmetry=self.symmetry))

    def _in_epochs(self, recipe: TrainConfig) -> TrainConfig:
        """Take as many epochs as are asked for, or the recipe's own."""
        return dataclasses.replace(recipe, epochs=self.settings.epochs or recipe.epochs)


def _own_recipe(part: Part) -> Callable[..., TrainConfig]:
    """Choose the recipe of a network that learns from labels itself, not from teachers."""
    return modern_recipe if _agreement(part) is None else agreement_recipe


def _agreement(part: Part) -> Unlabeled | None:
    found = part.unlabeled
    return found if found is not None and found.kind == "fixmatch" else None


def _key(name: str, number: int) -> str:
    return name if number == 0 else f"{name}-{number + 1}"


def train_network(images: np.ndarray, labels: np.ndarray, name: str, seed: int) -> Network:
    """Train one network on labeled patches, as `craters run --method supervised` does at first.

    Parameters
    ----------
    images : ndarray, shape (n, S, S), uint8
    labels : ndarray, shape (n,)
        0 or 1.
    name : {"compact", "original"}
        `compact` is trained on all patches; `original` keeps a fifth to choose its epoch by.
    seed : int
    """
    side = images.shape[1]
    if name == "original":
        share = JobSettings.validation_share
        split = validation_split(make_patch_set(images, labels), share, seed % 2**32)
        train, validation = (
            Examples(images[rows], labels[rows]) for rows in (split.train, split.validation)
        )
        recipe = TrainConfig(
            epochs=JobSettings.initial_epochs, learning_rate=JobSettings.initial_lr, seed=seed
        )
        return fit(build_network(name, side), train, validation, recipe)[0]
    symmetry = choose_symmetry("auto", images, labels).allowed
    recipe = modern_recipe(len(labels), side, seed=seed, symmetry=symmetry)
    return fit(build_network(name, side, symmetry), Examples(images, labels), None, recipe)[0]
