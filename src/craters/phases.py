"""The main job in memory: train, pseudo-label, retrain, evaluate, predict."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np

from craters import evaluate, patches, pseudo_label, splits
from craters.errors import DataError
from craters.networks import Network
from craters.patches import PatchSet
from craters.pseudo_label import TrainingSet
from craters.settings import RunConfig, usable_threads
from craters.train import (
    Examples,
    TrainConfig,
    TrainState,
    build_original,
    derive_seed,
    fit,
    predict_logits,
    sigmoid,
    torch_threads,
)

WORTH_A_WARNING = 0.05  # change of the crater share that is told as a shift

_SPLIT, _INITIAL, _FINAL, _RESPLIT = range(4)  # purposes that seeds are derived for


@dataclasses.dataclass(frozen=True)
class JobData:
    """The four arrays of a job; `test.labels` are -1 where its truth is unknown."""

    train: PatchSet
    pool: PatchSet
    test: PatchSet

    @property
    def sets(self) -> dict[str, PatchSet]:
        """The sets by the names that tables use."""
        return {"labeled": self.train, "extra": self.pool, "test": self.test}


@dataclasses.dataclass(frozen=True)
class Phase:
    """One trained network with what it was chosen by.

    Parameters
    ----------
    name : str
        "initial", "final", or "final_clean" beside the original protocol's.
    network : Network
    state : TrainState
        History, kept epoch and restarts.
    train, validation : TrainingSet
    probability : ndarray, shape (n,), float32
        Of "with crater", on the validation patches.
    metrics : evaluate.Metrics
        On the validation patches.
    """

    name: str
    network: Network
    state: TrainState
    train: TrainingSet
    validation: TrainingSet
    probability: np.ndarray
    metrics: evaluate.Metrics


@dataclasses.dataclass(frozen=True)
class JobResult:
    """Everything that a job found; nothing of it is written yet.

    Parameters
    ----------
    config : RunConfig
    data : JobData
    split_rule, final_split_rule : str
        How validation was drawn for the two phases.
    initial, final : Phase
    final_clean : Phase or None
        Under the original protocol, the last phase as the clean protocol does it.
    labeled : TrainingSet
        Every label that the last phase may have used: human, then pseudo.
    pool_probability, test_probability : ndarray, float32
        Of "with crater": the pool by the first network, the test set by the last.
    test_predicted : ndarray, int32
    test_metrics : evaluate.Metrics or None
        Where the truth of the test set is at hand.
    """

    config: RunConfig
    data: JobData
    split_rule: str
    final_split_rule: str
    initial: Phase
    final: Phase
    final_clean: Phase | None
    labeled: TrainingSet
    pool_probability: np.ndarray
    test_probability: np.ndarray
    test_predicted: np.ndarray
    test_metrics: evaluate.Metrics | None

    @property
    def phases(self) -> list[Phase]:
        """The phases in the order of training."""
        return [self.initial, self.final, *([self.final_clean] if self.final_clean else [])]

    @property
    def n_pseudo(self) -> int:
        """Pseudo-labels that were added."""
        return int((self.labeled.origin == pseudo_label.PSEUDO).sum())


class Listener(Protocol):
    """What a job tells while it works."""

    def say(self, text: str) -> None:
        """Take a plain line."""

    def warn(self, text: str) -> None:
        """Take a warning."""

    def network(self, name: str, network: Network) -> None:
        """Take a network that is about to be trained."""

    def epoch(self, phase: str, state: TrainState) -> None:
        """Take the state after an epoch."""


class Silence:
    """A listener that keeps everything to itself."""

    def say(self, text: str) -> None:
        """Drop a plain line."""

    def warn(self, text: str) -> None:
        """Drop a warning."""

    def network(self, name: str, network: Network) -> None:
        """Drop a network."""

    def epoch(self, phase: str, state: TrainState) -> None:
        """Drop a state."""


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


def find_array(folder: Path, stem: str) -> Path:
    """Name the array `stem` in a folder: .npy, or .npz where only that is there."""
    packed = folder / f"{stem}.npz"
    plain = folder / f"{stem}.npy"
    return packed if packed.is_file() and not plain.is_file() else plain


def input_files(folder: Path) -> list[Path]:
    """List the files that a job reads from `folder`, those that are there."""
    stems = ["Xtrain1", "Ytrain1", "groups_train", "Xtrain1_extra", "groups_extra"]
    stems += ["Xtest1", "Ytest1", "groups_test"]
    return [path for stem in stems if (path := find_array(folder, stem)).is_file()]


def read_job_data(folder: Path) -> JobData:
    """Read and check every array of a job before anything is trained or written.

    Parameters
    ----------
    folder : Path
        Holds Xtrain1, Ytrain1, Xtrain1_extra and Xtest1; groups_train, groups_extra, groups_test
        and Ytest1 (the truth of the test set) may be absent.

    Raises
    ------
    DataError
        One clear line: file, found, expected, what to do.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected one with Xtrain1.npy, Ytrain1.npy, "
            "Xtrain1_extra.npy and Xtest1.npy"
        )

    def at(stem: str) -> Path:
        return find_array(folder, stem)

    train = patches.read_patches(at("Xtrain1"), at("Ytrain1"), at("groups_train"))
    pool = patches.read_patches(at("Xtrain1_extra"), None, at("groups_extra"))
    truth = at("Ytest1") if at("Ytest1").is_file() else None
    test = patches.read_patches(at("Xtest1"), truth, at("groups_test"))
    for other in (pool, test):
        if other.side != train.side:
            raise DataError(
                f"{other.source}: found patches of {other.side} x {other.side} pixels, expected "
                f"{train.side} x {train.side} as in {train.source}",
                "Cut all patches to one size.",
            )
    return JobData(train, pool, test)


def draw_split(data: JobData, config: RunConfig) -> splits.Split:
    """Draw the validation set of human labels, or say why there can be none.

    Raises
    ------
    DataError
        When a class or a source image is too rare to split.
    """
    patches.check_two_classes(data.train, round(1 / config.validation_share))
    return splits.validation_split(data.train, config.validation_share, _seed32(config, _SPLIT))


def run_phases(
    data: JobData,
    config: RunConfig,
    *,
    store: StateStore | None = None,
    listener: Listener | None = None,
) -> JobResult:
    """Train, pseudo-label, retrain, evaluate and predict; write nothing.

    Parameters
    ----------
    data : JobData
    config : RunConfig
        `out` is not touched.
    store : StateStore, optional
        Takes the state after each epoch and gives it back to a resumed job.
    listener : Listener, optional
        Told what happens.

    Returns
    -------
    JobResult
        Equal for equal arguments, bit for bit, at an equal number of threads.

    Raises
    ------
    DataError, DeadNetworkError
    """
    store, listener = store or NoStore(), listener or Silence()
    with torch_threads(usable_threads(config)):
        return _run_phases(data, config, store, listener)


def _run_phases(
    data: JobData, config: RunConfig, store: StateStore, listener: Listener
) -> JobResult:
    split = draw_split(data, config)
    _tell_data(data, listener)
    human = pseudo_label.human_only(data.train)
    fit_on = pseudo_label.take(human, split.train)
    choose_by = pseudo_label.take(human, split.validation)
    listener.say(f"Validation: {len(choose_by)} human-labeled patches, {split.rule}.")
    initial = _phase("initial", fit_on, choose_by, config, store, listener)

    pool_probability = sigmoid(predict_logits(initial.network, data.pool.images))
    rows = pseudo_label.confident_without_crater(pool_probability, config.pseudo_threshold)
    merged, labeled = (
        pseudo_label.add_pseudo_labels(
            start, data.pool, rows, np.zeros(len(rows)), pool_probability[rows]
        )
        for start in (fit_on, human)
    )
    _tell_balance(fit_on, merged, listener)

    original = _original_phase(config, labeled, store, listener)
    clean_name = "final_clean" if original else "final"
    clean = _phase(clean_name, merged, choose_by, config, store, listener)
    final = original or clean
    test_probability = sigmoid(predict_logits(final.network, data.test.images))
    has_truth = bool((data.test.labels >= 0).all())
    return JobResult(
        config=config,
        data=data,
        split_rule=split.rule,
        final_split_rule=_resplit(labeled, config).rule if original else split.rule,
        initial=initial,
        final=final,
        final_clean=clean if original else None,
        labeled=labeled,
        pool_probability=pool_probability,
        test_probability=test_probability,
        test_predicted=evaluate.decide(test_probability, config.threshold_final),
        test_metrics=(
            evaluate.measure(data.test.labels, test_probability, config.threshold_final)
            if has_truth
            else None
        ),
    )


def _original_phase(
    config: RunConfig, labeled: TrainingSet, store: StateStore, listener: Listener
) -> Phase | None:
    """Under the original protocol, train the last phase on a new split of everything."""
    if config.protocol == "clean":
        return None
    split = _resplit(labeled, config)
    train = pseudo_label.take(labeled, split.train)
    validation = pseudo_label.take(labeled, split.validation)
    n_pseudo = int((validation.origin == pseudo_label.PSEUDO).sum())
    listener.warn(
        f"protocol original: validation is drawn again after merging; {n_pseudo} of its "
        f"{len(validation)} labels are the model's own, and patches that chose the first network "
        "are trained on: its figures flatter."
    )
    return _phase("final", train, validation, config, store, listener)


def _resplit(labeled: TrainingSet, config: RunConfig) -> splits.Split:
    seed = _seed32(config, _RESPLIT)
    return splits.row_split(labeled.labels, config.validation_share, seed)


def _phase(
    name: str,
    train: TrainingSet,
    validation: TrainingSet,
    config: RunConfig,
    store: StateStore,
    listener: Listener,
) -> Phase:
    """Train one network, from where an interrupted training stopped, and measure it."""
    first = name == "initial"
    settings = TrainConfig(
        epochs=config.initial_epochs if first else config.final_epochs,
        learning_rate=config.initial_lr if first else config.final_lr,
        batch_size=config.batch_size,
        seed=derive_seed(config.seed, _INITIAL if first else _FINAL),
    )
    build = build_original(train.images.shape[1])
    listener.network(name, build(0))
    told = 0

    def on_epoch(state: TrainState) -> None:
        nonlocal told
        store.save(name, state)
        for sentence in state.restarts[told:]:
            listener.warn(f"phase {name}: {sentence}; another one is started from another seed.")
        told = len(state.restarts)
        listener.epoch(name, state)

    network, state = fit(
        build,
        Examples(train.images, train.labels),
        Examples(validation.images, validation.labels),
        settings,
        state=store.load(name),
        on_epoch=on_epoch,
    )
    probability = sigmoid(predict_logits(network, validation.images))
    threshold = config.threshold_initial if first else config.threshold_final
    metrics = evaluate.measure(validation.labels, probability, threshold)
    return Phase(name, network, state, train, validation, probability, metrics)


def _seed32(config: RunConfig, purpose: int) -> int:
    return derive_seed(config.seed, purpose) % 2**32  # scikit-learn takes no more


def _tell_data(data: JobData, listener: Listener) -> None:
    listener.say("Classes: 1 = with crater, 0 = without crater.")
    for name, found in data.sets.items():
        for note in found.notes:
            listener.say(f"Note: {note}.")
        counts = patches.class_counts(found.labels)
        known = (
            f"{counts['with_crater']} with crater, {counts['without_crater']} without "
            f"({counts['crater_share']:.1%} craters)"
            if counts["unlabeled"] == 0
            else "no labels"
        )
        listener.say(f"{name:8} {counts['n']:6} patches of {found.side} x {found.side}: {known}")
    for first, second, count in splits.repeats_between(data.sets):
        where = f"in {first} and {second}" if first != second else f"more than once in {first}"
        listener.warn(f"{count} patches stand {where}, byte for byte.")


def _tell_balance(before: TrainingSet, after: TrainingSet, listener: Listener) -> None:
    """Say what pseudo-labels do to the class shares of the training set."""
    old, new = patches.class_counts(before.labels), patches.class_counts(after.labels)
    for word, counts in (("before", old), ("after", new)):
        listener.say(
            f"Training set {word} pseudo-labels: {counts['with_crater']} with crater, "
            f"{counts['without_crater']} without ({counts['crater_share']:.1%} craters)"
        )
    shift = new["crater_share"] - old["crater_share"]
    if abs(shift) > WORTH_A_WARNING:
        listener.warn(
            f"pseudo-labels move the share of craters in the training set from "
            f"{old['crater_share']:.1%} to {new['crater_share']:.1%}: the next network will call "
            f"{'fewer' if shift < 0 else 'more'} patches craters than it should."
        )
