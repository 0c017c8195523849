"""The main job in memory: train, pseudo-label, retrain, evaluate, predict."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from craters import evaluate, patches, pseudo_label, splits
from craters.augment import SymmetryReport, choose_symmetry
from craters.calibration import LEAST_PATCHES, fit_temperature
from craters.job_data import JobData
from craters.networks import EnsembleNet, Network
from craters.patches import PatchSet
from craters.pseudo_label import TrainingSet
from craters.recipes import TrainConfig, derive_seed, modern_recipe
from craters.settings import RunConfig, usable_threads
from craters.train import (
    Examples,
    TrainState,
    build_network,
    fit,
    predict_logits,
    sigmoid,
    torch_threads,
)

ONE_SIDED = 0.02  # share of the rarer answer below which a network is called one-sided
WORTH_A_WARNING = 0.05  # change of the crater share that is told as a shift

_SPLIT, INITIAL, FINAL, _RESPLIT, _REFIT = range(5)  # purposes that seeds are derived for


@dataclasses.dataclass(frozen=True)
class Phase:
    """One trained network with what it was chosen by.

    Parameters
    ----------
    name : str
        "initial", "final", "final_clean" beside the original protocol's, or "supervised".
    network : Network
    state : TrainState
        History, kept epoch and restarts.
    train, validation : TrainingSet
    logits, probability : ndarray, shape (n,), float32
        Of "with crater", on the validation patches.
    metrics : evaluate.Metrics
        On the validation patches.
    """

    name: str
    network: Network
    state: TrainState
    train: TrainingSet
    validation: TrainingSet
    logits: np.ndarray
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
        How validation was drawn for the first and the last phase.
    phases : list of Phase
        In the order of training: "initial", "final" and, under the original protocol,
        "final_clean"; or "supervised" alone.
    network : Network
        Predicts the test set and is kept as the model. For the method "supervised" it was trained
        on all human labels, so no figure here is its own.
    temperature : float
        Fitted on the validation patches of `final`; 1 for the original network, which is left as
        its script left it. Test probabilities are after it, validation figures before.
    symmetry : SymmetryReport
    labeled : TrainingSet
        Every label that the last phase may have used: human, then pseudo.
    pool_probability, test_probability : ndarray, float32
        Of "with crater": the pool by the first phase's network, the test set by `network`.
    test_predicted : ndarray, int32
    test_metrics : evaluate.Metrics or None
        Where the truth of the test set is at hand.
    """

    config: RunConfig
    data: JobData
    split_rule: str
    final_split_rule: str
    phases: list[Phase]
    network: Network
    temperature: float
    symmetry: SymmetryReport
    labeled: TrainingSet
    pool_probability: np.ndarray
    test_probability: np.ndarray
    test_predicted: np.ndarray
    test_metrics: evaluate.Metrics | None

    @property
    def initial(self) -> Phase:
        """The first phase."""
        return self.phases[0]

    @property
    def final(self) -> Phase:
        """The phase whose validation figures are the headline."""
        return self.phases[min(1, len(self.phases) - 1)]

    @property
    def final_clean(self) -> Phase | None:
        """Under the original protocol, the last phase as the clean protocol does it."""
        return self.phases[2] if len(self.phases) > 2 else None

    @property
    def n_pseudo(self) -> int:
        """Pseudo-labels that were added."""
        return int((self.labeled.origin == pseudo_label.PSEUDO).sum())


class Listener(Protocol):
    """What a job tells while it works."""

    def plan(self, epochs: int) -> None:
        """Take the number of epochs of all trainings together."""

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

    def plan(self, epochs: int) -> None:
        """Drop the number of epochs."""

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
    job = _Job(config, store, listener, _symmetry(data.train, config, listener))
    fit_on = pseudo_label.take(human, split.train)
    choose_by = pseudo_label.take(human, split.validation)
    listener.plan(job.planned_epochs(fit_on, human))
    listener.say(f"Validation: {len(choose_by)} human-labeled patches, {split.rule}.")
    first = job.phase("initial" if config.method == "original" else "supervised", fit_on, choose_by)
    if config.method == "supervised":
        network = first.network if config.network == "original" else job.refit(human)
        return _conclude(job, data, split, [first], network, human, split.rule)
    pool_probability = sigmoid(predict_logits(first.network, data.pool.images))
    rows = pseudo_label.confident_without_crater(pool_probability, config.pseudo_threshold)
    merged, labeled = (
        pseudo_label.add_pseudo_labels(
            start, data.pool, rows, np.zeros(len(rows)), pool_probability[rows]
        )
        for start in (fit_on, human)
    )
    _tell_balance(fit_on, merged, listener)
    if config.protocol == "clean":
        last = [job.phase("final", merged, choose_by)]
        return _conclude(job, data, split, [first, *last], last[0].network, labeled, split.rule)
    last = [_original_phase(job, labeled), job.phase("final_clean", merged, choose_by)]
    rule = _resplit(labeled, config).rule
    return _conclude(job, data, split, [first, *last], last[0].network, labeled, rule)


def _conclude(
    job: _Job,
    data: JobData,
    split: splits.Split,
    phases: list[Phase],
    network: Network,
    labeled: TrainingSet,
    final_rule: str,
) -> JobResult:
    """Predict the pool and the test set, and gather everything."""
    config = job.config
    measured = phases[min(1, len(phases) - 1)]
    temperature = _temperature(measured, config)
    test_probability = sigmoid(predict_logits(network, data.test.images) / temperature)
    has_truth = bool((data.test.labels >= 0).all())
    return JobResult(
        config=config,
        data=data,
        split_rule=split.rule,
        final_split_rule=final_rule,
        phases=phases,
        network=network,
        temperature=temperature,
        symmetry=job.symmetry,
        labeled=labeled,
        pool_probability=sigmoid(predict_logits(phases[0].network, data.pool.images)),
        test_probability=test_probability,
        test_predicted=evaluate.decide(test_probability, config.threshold_final),
        test_metrics=(
            evaluate.measure(data.test.labels, test_probability, config.threshold_final)
            if has_truth
            else None
        ),
    )


def _temperature(measured: Phase, config: RunConfig) -> float:
    """Fit the temperature where the recipe leaves the network under-confident."""
    labels = measured.validation.labels
    if config.network == "original" or len(labels) < LEAST_PATCHES or len(np.unique(labels)) < 2:
        return 1.0
    return fit_temperature(labels, measured.logits)


def _symmetry(train: PatchSet, config: RunConfig, listener: Listener) -> SymmetryReport:
    """Choose the transforms of `compact`; the original network is trained without any."""
    if config.network == "original":
        return SymmetryReport(("identity",), {}, "no random transforms")
    report = choose_symmetry(config.symmetry, train.images, train.labels)
    listener.say(f"{report.sentence[0].upper()}{report.sentence[1:]}.")
    return report


def _original_phase(job: _Job, labeled: TrainingSet) -> Phase:
    """Train the last phase on a new split of everything, as the original did."""
    split = _resplit(labeled, job.config)
    train = pseudo_label.take(labeled, split.train)
    validation = pseudo_label.take(labeled, split.validation)
    n_pseudo = int((validation.origin == pseudo_label.PSEUDO).sum())
    job.listener.warn(
        f"protocol original: validation is drawn again after merging; {n_pseudo} of its "
        f"{len(validation)} labels are the model's own, and patches that chose the first network "
        "are trained on: its figures flatter."
    )
    return job.phase("final", train, validation)


def _resplit(labeled: TrainingSet, config: RunConfig) -> splits.Split:
    seed = _seed32(config, _RESPLIT)
    return splits.row_split(labeled.labels, config.validation_share, seed)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every training of a job shares."""

    config: RunConfig
    store: StateStore
    listener: Listener
    symmetry: SymmetryReport

    def planned_epochs(self, fit_on: TrainingSet, human: TrainingSet) -> int:
        """Count the epochs of all trainings, as far as they are known before the first."""
        config = self.config
        parts = [("initial", fit_on)]
        if config.method == "original":
            parts += [("final", fit_on)] * (2 if config.protocol == "original" else 1)
        elif config.network != "original":
            parts.append(("refit", human))
        return config.members * sum(self._settings(*part, 0, 0).epochs for part in parts)

    def phase(self, name: str, train: TrainingSet, validation: TrainingSet) -> Phase:
        """Train the networks of one phase and measure them on its validation patches."""
        config, early = self.config, name in ("initial", "supervised")
        network, state = self._fit(name, train, validation, INITIAL if early else FINAL)
        logits = predict_logits(network, validation.images)
        probability = sigmoid(logits)
        threshold = config.threshold_initial if name == "initial" else config.threshold_final
        metrics = evaluate.measure(validation.labels, probability, threshold)
        self._warn_if_one_sided(name, evaluate.decide(probability, threshold))
        return Phase(name, network, state, train, validation, logits, probability, metrics)

    def _warn_if_one_sided(self, name: str, called: np.ndarray) -> None:
        """Tell of a network that is alive and yet says nearly the same of every patch."""
        share = float(called.mean())
        if min(share, 1 - share) < ONE_SIDED:
            word = "without crater" if share < 0.5 else "with crater"
            self.listener.warn(
                f"phase {name}: the network calls {max(share, 1 - share):.0%} of the validation "
                f"patches {word!r}; it has learned little. Try another --seed."
            )

    def refit(self, human: TrainingSet) -> Network:
        """Train once more on all human labels: the network that predicts and is kept.

        The original recipe chooses its epoch by validation, so there the measured network stays.
        """
        return self._fit("refit", human, None, _REFIT)[0]

    def _fit(
        self, name: str, train: TrainingSet, validation: TrainingSet | None, purpose: int
    ) -> tuple[Network, TrainState]:
        """Train the members of an ensemble one after another."""
        fitted = [
            self._fit_member(name, number, train, validation, purpose)
            for number in range(self.config.members)
        ]
        networks = [network for network, _ in fitted]
        joined = networks[0] if len(networks) == 1 else EnsembleNet(networks).eval()
        return joined, fitted[0][1]

    def _fit_member(
        self,
        name: str,
        number: int,
        train: TrainingSet,
        validation: TrainingSet | None,
        purpose: int,
    ) -> tuple[Network, TrainState]:
        """Train one network, from where an interrupted training stopped."""
        side = train.images.shape[1]
        build = build_network(self.config.network, side, self.symmetry.allowed)
        key = name if number == 0 else f"{name}-{number + 1}"
        settings = self._settings(name, train, purpose, number)
        self.listener.network(key, build(0))
        return fit(
            build,
            Examples(train.images, train.labels),
            None if validation is None else Examples(validation.images, validation.labels),
            settings,
            state=self.store.load(key),
            on_epoch=_Teller(key, self.store, self.listener),
        )

    def _settings(self, name: str, train: TrainingSet, purpose: int, number: int) -> TrainConfig:
        config = self.config
        seed = derive_seed(config.seed, purpose, *([number] if number else []))
        if config.network == "original":
            early = name in ("initial", "supervised")
            return TrainConfig(
                epochs=config.initial_epochs if early else config.final_epochs,
                learning_rate=config.initial_lr if early else config.final_lr,
                batch_size=config.batch_size,
                seed=seed,
            )
        side = train.images.shape[1]
        return modern_recipe(len(train), side, seed=seed, symmetry=self.symmetry.allowed)


class _Teller:
    """Keeps the state after every epoch and tells of it."""

    def __init__(self, key: str, store: StateStore, listener: Listener) -> None:
        self.key, self.store, self.listener = key, store, listener
        self.told = 0

    def __call__(self, state: TrainState) -> None:
        self.store.save(self.key, state)
        for sentence in state.restarts[self.told :]:
            self.listener.warn(
                f"phase {self.key}: {sentence}; another one is started from another seed."
            )
        self.told = len(state.restarts)
        self.listener.epoch(self.key, state)


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
