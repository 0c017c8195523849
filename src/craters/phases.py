"""The main job in memory: train, pseudo-label, retrain, evaluate, predict."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters import evaluate, patches, pseudo_label, scores, splits
from craters.augment import SymmetryReport, choose_symmetry
from craters.calibration import LEAST_PATCHES, fit_temperature
from craters.fitting import Listener, NoStore, Part, Silence, StateStore, Trainer
from craters.job_data import JobData
from craters.networks import Network
from craters.patches import PatchSet
from craters.pseudo_label import TrainingSet
from craters.recipes import derive_seed
from craters.settings import RunConfig, usable_threads
from craters.train import TrainState, predict_logits, sigmoid, torch_threads

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
        Of "with crater", on the validation patches; probability of a last phase is after its
        temperature, as predictions are.
    metrics : evaluate.Metrics
        On the validation patches, by `probability`.
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
        its script left it.
    decision_threshold : float
        Of the last phase and of predictions: given, or chosen on validation for `config.aim`.
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
    decision_threshold: float
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
    symmetry = _symmetry(data.train, config, listener)
    trainer = Trainer(config, symmetry.allowed, data.pool.images, store, listener)
    job = _Job(config, listener, symmetry, trainer)
    fit_on = pseudo_label.take(human, split.train)
    choose_by = pseudo_label.take(human, split.validation)
    listener.say(f"Validation: {len(choose_by)} human-labeled patches, {split.rule}.")
    if config.method == "supervised":
        first, network = _supervised(job, fit_on, choose_by, human)
        return _conclude(job, data, split, [first], network, human, split.rule)
    early = Part("initial", fit_on, choose_by, INITIAL, is_early=True)
    late = Part("final", fit_on, choose_by, FINAL)
    listener.plan(
        trainer.planned_epochs(early, *[late] * (2 if config.protocol == "original" else 1))
    )
    first = job.measure(early, *trainer.train(early)[0])
    merged, labeled = _add_pseudo_labels(data.pool, first.network, config, fit_on, human)
    _tell_balance(fit_on, merged, listener)
    clean = Part("final", merged, choose_by, FINAL)
    parts, rule = [clean], split.rule
    if config.protocol == "original":
        flattering, rule = _original_part(labeled, config, listener)
        parts = [flattering, dataclasses.replace(clean, name="final_clean")]
    last = [
        job.measure(part, *found) for part, found in zip(parts, trainer.train(*parts), strict=True)
    ]
    return _conclude(job, data, split, [first, *last], last[0].network, labeled, rule)


def _supervised(
    job: _Job, fit_on: TrainingSet, choose_by: TrainingSet, human: TrainingSet
) -> tuple[Phase, Network]:
    """Train on the human labels; return what is measured, and the network that is kept.

    That is another one, trained on all human labels, validation included. The original recipe
    chooses its epoch by validation, so there the measured network stays.
    """
    part = Part("supervised", fit_on, choose_by, INITIAL, is_early=True)
    parts = [part]
    if job.config.network != "original":
        parts.append(Part("refit", human, None, _REFIT))
    job.listener.plan(job.trainer.planned_epochs(*parts))
    found = job.trainer.train(*parts)  # side by side: neither waits for the other
    return job.measure(part, *found[0]), found[-1][0]


def _add_pseudo_labels(
    pool: PatchSet, network: Network, config: RunConfig, *starts: TrainingSet
) -> tuple[TrainingSet, ...]:
    """Add what the network confidently calls "without crater" to some training sets."""
    probability = sigmoid(predict_logits(network, pool.images))
    rows = pseudo_label.confident_without_crater(probability, config.pseudo_threshold)
    labels = np.zeros(len(rows))
    return tuple(
        pseudo_label.add_pseudo_labels(start, pool, rows, labels, probability[rows])
        for start in starts
    )


def kept_network(labeled: PatchSet, pool: PatchSet, config: RunConfig) -> Network:
    """Train the network that a run would keep, without what only serves to measure it.

    Parameters
    ----------
    labeled : PatchSet
        Human labels; all that the method may use to fit, stop and choose.
    pool : PatchSet
        Unlabeled patches.
    config : RunConfig
        `data` and `out` are not touched.

    Returns
    -------
    Network
        In evaluation mode.

    Raises
    ------
    DataError, DeadNetworkError
    """
    config = dataclasses.replace(config, aim=None)  # a threshold is no part of the network
    with torch_threads(usable_threads(config)):
        if config.method != "supervised" or config.network == "original":
            nothing = labeled.take(np.arange(1))  # a test set that nobody asks about
            data = JobData(labeled, pool, nothing)
            return _run_phases(data, config, NoStore(), Silence()).network
        patches.check_two_classes(labeled, 1)
        human = pseudo_label.human_only(labeled)
        symmetry = _symmetry(labeled, config, Silence())
        trainer = Trainer(config, symmetry.allowed, pool.images)
        return trainer.train(Part("refit", human, None, _REFIT))[0][0]


def _conclude(
    job: _Job,
    data: JobData,
    split: splits.Split,
    phases: list[Phase],
    network: Network,
    labeled: TrainingSet,
    final_rule: str,
) -> JobResult:
    """Settle the threshold, predict the pool and the test set, and gather everything."""
    config = job.config
    place = min(1, len(phases) - 1)
    measured = phases[place]
    temperature = _temperature(measured, config)
    threshold = scores.decision_threshold(
        measured.validation.labels,
        sigmoid(measured.logits / temperature),
        config.aim,
        config.threshold_final,
    )
    if config.aim is not None:
        job.listener.say(f"Decision threshold {threshold:.4g}, chosen for {config.aim}.")
    last = [_as_predicted(phase, config, threshold) for phase in phases[place:]]
    test_probability = sigmoid(predict_logits(network, data.test.images) / temperature)
    has_truth = bool((data.test.labels >= 0).all())
    return JobResult(
        config=config,
        data=data,
        split_rule=split.rule,
        final_split_rule=final_rule,
        phases=[*phases[:place], *last],
        network=network,
        temperature=temperature,
        decision_threshold=threshold,
        symmetry=job.symmetry,
        labeled=labeled,
        pool_probability=sigmoid(predict_logits(phases[0].network, data.pool.images)),
        test_probability=test_probability,
        test_predicted=evaluate.decide(test_probability, threshold),
        test_metrics=(
            evaluate.measure(data.test.labels, test_probability, threshold) if has_truth else None
        ),
    )


def _as_predicted(phase: Phase, config: RunConfig, threshold: float) -> Phase:
    """Measure a last phase as predictions are made: after the temperature, at their threshold."""
    probability = sigmoid(phase.logits / _temperature(phase, config))
    metrics = evaluate.measure(phase.validation.labels, probability, threshold)
    return dataclasses.replace(phase, probability=probability, metrics=metrics)


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


def _original_part(labeled: TrainingSet, config: RunConfig, listener: Listener) -> tuple[Part, str]:
    """Split everything anew for the last phase, as the original did; say by which rule."""
    split = splits.row_split(labeled.labels, config.validation_share, _seed32(config, _RESPLIT))
    train = pseudo_label.take(labeled, split.train)
    validation = pseudo_label.take(labeled, split.validation)
    n_pseudo = int((validation.origin == pseudo_label.PSEUDO).sum())
    listener.warn(
        f"protocol original: validation is drawn again after merging; {n_pseudo} of its "
        f"{len(validation)} labels are the model's own, and patches that chose the first network "
        "are trained on: its figures flatter."
    )
    return Part("final", train, validation, FINAL), split.rule


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every training of a job shares."""

    config: RunConfig
    listener: Listener
    symmetry: SymmetryReport
    trainer: Trainer

    def measure(self, part: Part, network: Network, state: TrainState) -> Phase:
        """Measure the network of one phase on its validation patches."""
        assert part.validation is not None
        config, validation = self.config, part.validation
        logits = predict_logits(network, validation.images)
        probability = sigmoid(logits)
        threshold = config.threshold_initial if part.name == "initial" else config.threshold_final
        metrics = evaluate.measure(validation.labels, probability, threshold)
        self._warn_if_one_sided(part.name, evaluate.decide(probability, threshold))
        return Phase(
            part.name, network, state, part.train, validation, logits, probability, metrics
        )

    def _warn_if_one_sided(self, name: str, called: np.ndarray) -> None:
        """Tell of a network that is alive and yet says nearly the same of every patch."""
        share = float(called.mean())
        if min(share, 1 - share) < ONE_SIDED:
            word = "without crater" if share < 0.5 else "with crater"
            self.listener.warn(
                f"phase {name}: the network calls {max(share, 1 - share):.0%} of the validation "
                f"patches {word!r}; it has learned little. Try another --seed."
            )


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
