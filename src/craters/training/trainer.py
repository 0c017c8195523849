"""Train the networks of a job in parallel, with a resumable state after every epoch."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from craters.core import (
    NullProgress,
    PlannedWork,
    Progress,
    Send,
    Task,
    run_tasks,
    training_threads,
)
from craters.data import choose_symmetry, compose, make_patch_set, validation_split
from craters.models import CirclePatchNet, CompactNet, EnsembleNet, Network
from craters.settings import JobSettings, TrainingSettings
from craters.training.attempt import Build, TrainState
from craters.training.bags import BagObjective, CircleStart, bag_recipe, fit_line
from craters.training.distillation import TEACHERS, Distillation, Weights, build_teacher
from craters.training.fixmatch import FixMatch
from craters.training.loop import Examples, Objective, build_network, fit
from craters.training.recipes import (
    TrainConfig,
    agreement_recipe,
    derive_seed,
    distillation_recipe,
    from_pretrained,
    modern_recipe,
)
from craters.training.reporter import EpochReporter, NoStore, StateStore
from craters.training.start import (
    FINE_TUNED,
    KEPT,
    FrozenStart,
    Start,
    blend,
    load_start,
)
from craters.training.training_set import HUMAN, TrainingSet, take

COMPACT, CIRCLES = "compact", "circles"  # the networks that can start from pretrained weights

_SEND_INTERVAL = 1.0  # seconds; epochs may be short, and a state takes megabytes
_AGREEMENT_COST = 5.0  # of a labeled patch: itself, three of the pool in two views, one not learned
_TAUGHT_COST = 4.0  # of a labeled patch: itself and one of the pool, by student and teachers
_VALIDATION_COST = 0.5  # of a validation patch, which is predicted after each epoch
_TEACHER_PURPOSE = 100  # offset of the purpose numbers for teachers' seeds


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """How a training learns from unlabeled patches.

    Parameters
    ----------
    kind : {"fixmatch", "distillation"}
        Consistency between augmented views of a patch (`fixmatch.FixMatch`), or the predictions of
        three networks trained on the labels (`distillation.Distillation`).
    pool : ndarray, shape (N, S, S), uint8
    pool_share, labeled_share : float
        Share of craters, for "fixmatch"; above 0 and below 1.
    """

    kind: Literal["fixmatch", "distillation"]
    pool: np.ndarray
    pool_share: float = 0.5
    labeled_share: float = 0.5


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """Everything needed to train one network in another process.

    Parameters
    ----------
    key : str
        Name of its state in the store.
    network : str
    side : int
    symmetry : tuple of str
        Views of a patch that the network learns, and averages in its predictions.
    train : Examples
    validation : Examples or None
    config : TrainConfig
    teachers : tuple of dict
        Weights of its `compact` teacher networks; empty if it learns from labels.
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches for distillation.
    agreement : Unlabeled or None
        Unlabeled patches for FixMatch, of kind "fixmatch".
    start : Start or None
        Pretrained weights; None: training starts from random ones.
    fitted : Start or None
        The same weights with the last layer fitted to the labels, of which the training starts;
        None for networks that start from random weights.
    blend : float
        Share of the way from the start to the trained weights that is kept.
    teacher_view : str
        View of a patch that teachers with these weights expect.
    circles : CircleStart or None
        The start of the network "circles".
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
    start: Start | None = None
    fitted: Start | None = None
    blend: float = FINE_TUNED
    teacher_view: str = "identity"
    circles: CircleStart | None = None

    def build(self, start: Start | None) -> Build:
        """Return a function that builds the network with initial weights from a seed."""
        if (circles := self.circles) is not None:
            return lambda _: circles.build(self.side, self.symmetry)
        return build_network(self.network, self.side, self.symmetry, start)

    def trained(self, state: TrainState) -> Network:
        """Return the network that a finished training keeps, in evaluation mode."""
        return self.blends(state, [self.blend])[0]

    def blends(self, state: TrainState, shares: Iterable[float]) -> list[Network]:
        """Return the networks at some shares of the way from the start to the trained weights."""
        network = self.build(None)(0)
        network.load_state_dict(state.best_weights)
        if self.circles is not None:
            assert isinstance(network, CirclePatchNet)
            blended = [self.circles.blend(network, share) for share in shares]
            return [fit_line(each, self.train.images, self.train.labels) for each in blended]
        start, fitted = self.start, self.fitted
        if start is None or fitted is None:
            return [network.eval() for _ in shares]
        assert isinstance(network, CompactNet)
        return [blend(start if share == KEPT else fitted, network, share) for share in shares]


def _fit(*, send: Send, task: TrainingTask, state: TrainState | None) -> TrainState:
    """Train one network, in a worker process."""
    return fit(
        task.build(task.fitted),
        task.train,
        task.validation,
        task.config,
        objective=_objective(task),
        state=state,
        on_epoch=_Throttled(send),
    )[1]


def _objective(task: TrainingTask) -> Objective | None:
    """Choose the training objective; None means cross-entropy with the labels."""
    if task.circles is not None:
        return BagObjective(task.circles.sizes, task.circles.rehearsal, task.config)
    if task.teachers:
        pool = task.train.images[:0] if task.pool is None else task.pool
        view = "identity" if task.network == COMPACT else task.teacher_view
        teacher = build_teacher(
            task.teachers, build_network(COMPACT, task.side, (view,), task.start)
        )
        return Distillation(teacher.to(task.config.device), pool, task.config)
    if (unlabeled := task.agreement) is not None:
        return FixMatch(
            pool=unlabeled.pool,
            config=task.config,
            pool_share=unlabeled.pool_share,
            labeled_share=unlabeled.labeled_share,
        )
    return None


class _Throttled:
    """Send the first state, the last, every restart, and otherwise at most one a second."""

    def __init__(self, send: Send) -> None:
        self.send, self.next, self.attempt = send, 0.0, 0

    def __call__(self, state: TrainState) -> None:
        now = time.monotonic()
        if now >= self.next or state.finished or state.attempt > self.attempt:
            self.send(state)
            self.next, self.attempt = now + _SEND_INTERVAL, state.attempt


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """Data and seed of the trainings of one stage of a job.

    Parameters
    ----------
    name : str
        Name of the stage.
    train : TrainingSet
    validation : TrainingSet or None
        None if the recipe does not select an epoch.
    purpose : int
        Number of the stage, from which seeds are derived.
    is_early : bool
        Whether the `original` network uses its initial epochs and learning rate.
    unlabeled : Unlabeled or None
        How the network learns from the pool; also applies to the teachers of a `dense` network.
    blend : float
        Share of the way from the start to the trained weights that is kept; `KEPT` keeps the
        pretrained model as it is. Without effect on networks that start from random weights.
    """

    name: str
    train: TrainingSet
    validation: TrainingSet | None
    purpose: int
    is_early: bool = False
    unlabeled: Unlabeled | None = None
    blend: float = FINE_TUNED


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Train networks with the settings of a job.

    Parameters
    ----------
    settings : TrainingSettings
    symmetry : tuple of str
        Transforms that preserve the illumination direction.
    pool : ndarray, shape (N, S, S), uint8
        Unlabeled patches for the distillation of `dense` networks.
    store : StateStore
    progress : Progress
    turn : str
        Transform that brings the light to where pretrained weights expect it.
    circles : CircleStart, optional
        The start of the network "circles".
    planned : PlannedWork
        Of all trainings of the job.
    """

    settings: TrainingSettings
    symmetry: tuple[str, ...]
    pool: np.ndarray
    store: StateStore = dataclasses.field(default_factory=NoStore)
    progress: Progress = dataclasses.field(default_factory=NullProgress)
    turn: str = "identity"
    circles: CircleStart | None = None
    planned: PlannedWork = dataclasses.field(default_factory=PlannedWork, repr=False, compare=False)

    def train(self, *runs: TrainingRun) -> list[tuple[Network, TrainState]]:
        """Train the networks of independent training runs in parallel.

        Returns
        -------
        list of (Network, TrainState)
            For each run, its network (an ensemble if `members` is above 1) and the state of its
            first member.
        """
        self.plan(*runs)
        teachers = self._teachers(runs)
        trainings = [
            self._training_task(run, number, teachers.get(run.name, ()))
            for number in range(self.settings.members)
            for run in runs
        ]
        states = dict(self._run(trainings))
        networks = {task.key: task.trained(states[task.key]) for task in trainings}
        result = []
        for run in runs:
            keys = [_key(run.name, number) for number in range(self.settings.members)]
            members = [networks[key] for key in keys]
            joined = members[0] if len(members) == 1 else EnsembleNet(members).eval()
            result.append((joined, states[keys[0]]))
        return result

    def blends(self, run: TrainingRun, state: TrainState, shares: Sequence[float]) -> list[Network]:
        """Return networks between the start of a finished training run and its trained weights.

        Parameters
        ----------
        run : TrainingRun
        state : TrainState
            Of its first member.
        shares : sequence of float
            Shares of the way; see `TrainingRun.blend`.
        """
        return self._training_task(run, 0, ()).blends(state, shares)

    def start_logits(self, images: np.ndarray) -> np.ndarray:
        """Predict the logits of patches by the pretrained model as it is, before training."""
        assert self._frozen is not None
        return self._frozen.logits(images)

    @property
    def is_pretrained(self) -> bool:
        """Whether networks, or the teachers of `dense`, start from the pretrained model."""
        return self._start is not None

    def plan(self, *runs: TrainingRun) -> None:
        """Expect some training runs at the same time, now or later; their data may still change."""
        before = self.planned.pieces
        threads = training_threads(self.settings.threads, self.settings.device)
        for key, epochs, cost, kind in self._work_of(runs):
            batch = f"{runs[0].name} {kind}"
            self.planned.expect(key, epochs, cost, batch=batch, threads=threads)
        if self.planned.pieces != before:
            self.progress.plan(self.planned.pieces)

    def forget(self, *runs: TrainingRun) -> None:
        """No longer expect some training runs."""
        self.planned.forget([key for key, *_ in self._work_of(runs)])
        self.progress.plan(self.planned.pieces)

    def planned_epochs(self, *runs: TrainingRun) -> int:
        """Count the epochs of all networks of some training runs."""
        return sum(epochs for _, epochs, *_ in self._work_of(runs))

    def _work_of(self, runs: Sequence[TrainingRun]) -> Iterator[tuple[str, int, float, str]]:
        """Yield key, epochs, cost of an epoch, and kind of all trainings of some runs."""
        for run in runs:
            validation = 0 if run.validation is None else _VALIDATION_COST * len(run.validation)
            cost = len(run.train) * _cost(run) + validation
            if self._is_taught(run):
                recipe = self._teacher_task(run, 0).config
                for number in range(TEACHERS):
                    yield _key(f"{run.name}-teacher", number), recipe.epochs, cost, "teachers"
                cost = len(run.train) * _TAUGHT_COST + validation
            for number in range(self.settings.members):
                yield _key(run.name, number), self._recipe(run, number).epochs, cost, "networks"

    def _run(self, trainings: Sequence[TrainingTask]) -> Iterator[tuple[str, TrainState]]:
        """Train networks in parallel, resuming interrupted trainings; yield their final states."""
        tasks = []
        for task in trainings:
            self.progress.network(task.key, task.build(None)(0))
            state = self.store.load(task.key)
            if state is not None:
                self.planned.resume(task.key, state.epoch, is_last=state.finished)
            tasks.append(Task(task.key, _fit, {"task": task, "state": state}))
        threads = training_threads(self.settings.threads, self.settings.device)
        reporter = EpochReporter(self.store, self.progress, self.planned)
        return run_tasks(tasks, threads=threads, on_message=reporter)

    def _teachers(self, runs: Sequence[TrainingRun]) -> dict[str, tuple[Weights, ...]]:
        """Train the teachers of each run on that run's data."""
        runs = [run for run in runs if self._is_taught(run)]
        if not runs:
            return {}
        trainings = {
            run.name: [self._teacher_task(run, number) for number in range(TEACHERS)]
            for run in runs
        }
        tasks = [task for group in zip(*trainings.values(), strict=True) for task in group]
        states = dict(self._run(tasks))
        return {
            name: tuple(task.trained(states[task.key]).state_dict() for task in group)
            for name, group in trainings.items()
        }

    def _is_taught(self, run: TrainingRun) -> bool:
        """Return whether a run learns from teacher networks instead of labels."""
        by_method = run.unlabeled is not None and run.unlabeled.kind == "distillation"
        return by_method or self.settings.network == "dense"

    def _teacher_task(self, run: TrainingRun, number: int) -> TrainingTask:
        seed = derive_seed(self.settings.seed, _TEACHER_PURPOSE + run.purpose, number)
        images = run.train.images
        make = _own_recipe(run)
        recipe = make(len(images), images.shape[1], seed=seed, symmetry=self._views(COMPACT))
        recipe = self._adapt(recipe, COMPACT, run.train)
        return dataclasses.replace(
            self._training_task(run, number, ()),
            key=_key(f"{run.name}-teacher", number),
            network=COMPACT,
            symmetry=recipe.symmetry,
            config=recipe,
            fitted=self._fitted(run.train),
        )

    def _training_task(
        self, run: TrainingRun, number: int, teachers: tuple[Weights, ...]
    ) -> TrainingTask:
        return TrainingTask(
            key=_key(run.name, number),
            network=self.settings.network,
            side=run.train.images.shape[1],
            symmetry=self._views(self.settings.network),
            train=Examples(run.train.images, run.train.labels),
            validation=(
                Examples(run.validation.images, run.validation.labels)
                if run.validation is not None
                else None
            ),
            config=self._recipe(run, number),
            teachers=teachers,
            pool=self._distillation_pool(run) if teachers else None,
            agreement=None if teachers else _agreement(run),
            start=self._start,
            fitted=self._fitted(run.train) if self.settings.network == COMPACT else None,
            blend=run.blend,
            teacher_view=self.turn,
            circles=self.circles,
        )

    @property
    def _start(self) -> Start | None:
        return load_start() if self.settings.start == "pretrained" else None

    def _views(self, network: str) -> tuple[str, ...]:
        """Return the views of a patch that a network learns: with pretrained weights, turned."""
        if self._start is None or network not in (COMPACT, CIRCLES):
            return self.symmetry
        return tuple(compose(name, self.turn) for name in self.symmetry)

    def _distillation_pool(self, run: TrainingRun) -> np.ndarray:
        return self.pool if run.unlabeled is None else run.unlabeled.pool

    def _recipe(self, run: TrainingRun, number: int) -> TrainConfig:
        settings = self.settings
        seed = derive_seed(settings.seed, run.purpose, *([number] if number else []))
        if settings.network == "original":
            return TrainConfig(
                epochs=settings.initial_epochs if run.is_early else settings.final_epochs,
                learning_rate=settings.initial_lr if run.is_early else settings.final_lr,
                batch_size=settings.batch_size,
                seed=seed,
                device=settings.device,
            )
        make = distillation_recipe if self._is_taught(run) else _own_recipe(run)
        make = make if self.circles is None else bag_recipe
        side = run.train.images.shape[1]
        views = self._views(settings.network)
        recipe = make(len(run.train), side, seed=seed, symmetry=views)
        return self._adapt(recipe, settings.network, run.train)

    def _adapt(self, recipe: TrainConfig, network: str, train: TrainingSet) -> TrainConfig:
        """Adapt a recipe to pretrained weights, and to the settings."""
        if self._frozen is not None and network == COMPACT:
            human = take(train, train.origin == HUMAN)
            mistakes = self._frozen.count_mistakes(human.images, human.labels)
            recipe = from_pretrained(recipe, len(train), mistakes)
        settings = self.settings
        return dataclasses.replace(
            recipe, epochs=settings.epochs or recipe.epochs, device=settings.device
        )

    @functools.cached_property
    def _frozen(self) -> FrozenStart | None:
        return None if self._start is None else FrozenStart(self._start, self._views(COMPACT))

    def _fitted(self, train: TrainingSet) -> Start | None:
        """Return the start with its last layer fitted to all labels of a training."""
        if self._frozen is None:
            return None
        return self._frozen.refit_last_layer(train.images, train.labels)


def _own_recipe(run: TrainingRun) -> Callable[..., TrainConfig]:
    """Choose the recipe of a network without teachers."""
    return modern_recipe if _agreement(run) is None else agreement_recipe


def _agreement(run: TrainingRun) -> Unlabeled | None:
    unlabeled = run.unlabeled
    return unlabeled if unlabeled is not None and unlabeled.kind == "fixmatch" else None


def _cost(run: TrainingRun) -> float:
    return 1.0 if _agreement(run) is None else _AGREEMENT_COST


def _key(name: str, number: int) -> str:
    return name if number == 0 else f"{name}-{number + 1}"


def train_network(images: np.ndarray, labels: np.ndarray, name: str, seed: int) -> Network:
    """Train one network on labeled patches, like the first stage of `craters run`.

    Parameters
    ----------
    images : ndarray, shape (n, S, S), uint8
    labels : ndarray, shape (n,)
        0 or 1.
    name : {"compact", "original"}
        `compact` is trained on all patches; `original` uses a fifth to select its epoch.
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
