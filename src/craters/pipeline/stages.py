"""Run the main job in memory: train, pseudo-label, retrain, evaluate, predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from craters.core import NullProgress, Progress, torch_threads, usable_threads
from craters.data import JobData, PatchSet, SymmetryReport, choose_symmetry, patches, splits
from craters.evaluation import LEAST_PATCHES, Scored, decide, fit_temperature, measure, scores
from craters.models import Network
from craters.pipeline.result import JobResult, Phase
from craters.semi_supervised import SUPERVISED, CrossFit, Learned, folds, methods, pseudo_labels
from craters.settings import JobSettings
from craters.training import (
    NoStore,
    StateStore,
    Trainer,
    TrainingRun,
    TrainingSet,
    TrainState,
    derive_seed,
    human_only,
    predict_logits,
    sigmoid,
    take,
)

ONE_SIDED = 0.02  # share of the rarer prediction below which a network is called one-sided
NOTHING_SURE = "no patch of one class is confident enough: no pseudo-label was given."
NO_POOL = "there is no unlabeled patch: no pseudo-label was given."
WORTH_A_WARNING = 0.05  # change of the crater share that is reported as a shift

COMPARING = ("auto", *methods.METHODS)  # methods that are compared with supervised

# Purposes that seeds are derived for.
_SPLIT, INITIAL, FINAL, _RESPLIT, _REFIT, _MEASURED, _TEACHER, _SURE = range(8)


def check_data(data: JobData, config: JobSettings) -> None:
    """Check, before training, that the data can be split as the settings require.

    Raises
    ------
    DataError
        If a class or a source image is too rare.
    """
    if config.method in COMPARING:
        folds.draw_folds(data.train, data.pool, 0)
    else:
        draw_split(data, config)


def draw_split(data: JobData, config: JobSettings) -> splits.Split:
    """Draw the validation set from the human labels.

    Raises
    ------
    DataError
        If a class or a source image is too rare to split.
    """
    patches.check_two_classes(data.train, round(1 / config.validation_share))
    return splits.validation_split(data.train, config.validation_share, _seed32(config, _SPLIT))


def run_phases(
    data: JobData,
    config: JobSettings,
    *,
    store: StateStore | None = None,
    progress: Progress | None = None,
) -> JobResult:
    """Train, pseudo-label, retrain, evaluate and predict, without writing files.

    Parameters
    ----------
    data : JobData
    config : JobSettings
    store : StateStore, optional
        Stores the training state after each epoch, so that a job can be resumed.
    progress : Progress, optional
        Progress callback for lines, warnings and training states.

    Returns
    -------
    JobResult
        Bit-for-bit reproducible with the same arguments and number of threads.

    Raises
    ------
    DataError, DeadNetworkError
    """
    store, progress = store or NoStore(), progress or NullProgress()
    with torch_threads(usable_threads(config.threads)):
        _report_data(data, progress)
        symmetry = _symmetry(data.train, config, progress)
        trainer = Trainer(
            settings=config.training,
            symmetry=symmetry.allowed,
            pool=data.pool.images,
            store=store,
            progress=progress,
        )
        job = _Job(config=config, progress=progress, symmetry=symmetry, trainer=trainer, data=data)
        if config.method in COMPARING:
            return _compared(job, data)
        split = draw_split(data, config)
        n = len(split.validation)
        progress.say(f"Validation: {n} human-labeled patches, {split.rule}.")
        if config.method == "supervised":
            return _supervised(job, data, split)
        if config.method == "pseudo-label":
            return _pseudo_labeled(job, data, split)
        return _original(job, data, split)


def _original(job: _Job, data: JobData, split: splits.Split) -> JobResult:
    """Train, add pseudo-labels "without crater", and train again from scratch."""
    config, progress, trainer = job.config, job.progress, job.trainer
    human = human_only(data.train)
    fit_on, choose_by = take(human, split.train), take(human, split.validation)
    early = TrainingRun(
        name="initial", train=fit_on, validation=choose_by, purpose=INITIAL, is_early=True
    )
    late = TrainingRun(name="final", train=fit_on, validation=choose_by, purpose=FINAL)
    progress.plan(
        trainer.planned_epochs(early, *[late] * (2 if config.protocol == "original" else 1))
    )
    first = job.measure(early, *trainer.train(early)[0])
    merged, labeled = _add_pseudo_labels(data.pool, first.network, config, fit_on, human)
    _report_balance(fit_on, merged, progress)
    clean = TrainingRun(name="final", train=merged, validation=choose_by, purpose=FINAL)
    runs, rule = [clean], split.rule
    if config.protocol == "original":
        flattering, rule = _original_part(labeled, config, progress)
        runs = [flattering, dataclasses.replace(clean, name="final_clean")]
    last = [
        job.measure(run, *trained) for run, trained in zip(runs, trainer.train(*runs), strict=True)
    ]
    return _conclude(job, data, split.rule, [first, *last], last[0].network, labeled, rule)


def _supervised(job: _Job, data: JobData, split: splits.Split) -> JobResult:
    """Train and measure on the human labels, then train the final network on all of them.

    The original recipe selects its epoch on validation, so its measured network is the final one.
    """
    human = human_only(data.train)
    run = TrainingRun(
        name="supervised",
        train=take(human, split.train),
        validation=take(human, split.validation),
        purpose=INITIAL,
        is_early=True,
    )
    runs = [run]
    if job.config.network != "original":
        runs.append(TrainingRun(name="refit", train=human, validation=None, purpose=_REFIT))
    job.progress.plan(job.trainer.planned_epochs(*runs))
    trained = job.trainer.train(*runs)  # in parallel
    first = job.measure(run, *trained[0])
    return _conclude(job, data, split.rule, [first], trained[-1][0], human, split.rule)


def _pseudo_labeled(job: _Job, data: JobData, split: splits.Split) -> JobResult:
    """Train, pseudo-label confident patches of both classes, and train again from scratch.

    Networks that are measured use only pool rows that share no copy or source image with the
    validation set. The final network uses pseudo-labels from a network trained on all human labels.
    """
    trainer, pool, human = job.trainer, data.pool, human_only(data.train)
    apart = folds.pool_apart(pool, data.train.take(split.validation))
    fit_on, choose_by = take(human, split.train), take(human, split.validation)
    early = TrainingRun(name="initial", train=fit_on, validation=choose_by, purpose=INITIAL)
    teacher = TrainingRun(name="teacher", train=human, validation=None, purpose=_TEACHER)
    job.progress.plan(2 * trainer.planned_epochs(early, teacher))
    (network, state), (teacher_network, _) = trainer.train(early, teacher)  # in parallel
    first = job.measure(early, network, state)
    merged = _add_sure(pool.take(apart), network, fit_on, job.config)
    labeled = _add_sure(pool, teacher_network, human, job.config)
    _report_balance(human, labeled, job.progress)
    if len(labeled) == len(human):
        job.progress.warn(NOTHING_SURE if len(pool) else NO_POOL)
    final = TrainingRun(name="final", train=merged, validation=choose_by, purpose=FINAL)
    (network, state), (kept, _) = trainer.train(
        final, TrainingRun(name="refit", train=labeled, validation=None, purpose=_REFIT)
    )
    phases = [first, job.measure(final, network, state)]
    return _conclude(job, data, split.rule, phases, kept, labeled, split.rule)


def _add_sure(
    pool: PatchSet, network: Network, start: TrainingSet, config: JobSettings
) -> TrainingSet:
    """Add confident pseudo-labels, in the class shares of the labels."""
    few = methods.candidates(len(pool), config.seed)
    probability = sigmoid(predict_logits(network, pool.images[few]))
    random = np.random.default_rng(derive_seed(config.seed, _SURE))
    share = float(start.labels.mean())
    return pseudo_labels.add_sure(start, pool, few, probability, share, random)


def _compared(job: _Job, data: JobData) -> JobResult:
    """Train by a semi-supervised method, or the one that `auto` chooses, measured by cross-fitting.

    Methods are compared with one `compact` network per fold. If the final network is of another
    kind, it is measured on the first of these folds.
    """
    config, progress, trainer = job.config, job.progress, job.trainer
    learned = methods.learn(config.method, data.train, data.pool, _judging(trainer))
    _report_learned(learned, progress)
    kept = TrainingRun(
        name="refit",
        train=learned.labeled,
        validation=None,
        purpose=_REFIT,
        unlabeled=learned.unlabeled,
    )
    phases = [job.cross_fitted(learned.supervised)]
    if learned.method != SUPERVISED:
        phases.append(job.cross_fitted(learned.measured))
    rule = learned.folds.rule
    if trainer.settings == _judging(trainer).settings:
        network = trainer.train(kept)[0][0]
    else:
        run = dataclasses.replace(learned.measured.runs[0], name="measured", purpose=_MEASURED)
        (measured, state), (network, _) = trainer.train(run, kept)
        phases = [phases[0], job.measure(run, measured, state)]
        rule = f"the first of {rule}"
    first = learned.folds.rule
    return _conclude(job, data, first, phases, network, learned.labeled, rule, learned)


def _judging(trainer: Trainer) -> Trainer:
    """Return a trainer of one `compact` network, for the comparison of methods."""
    settings = dataclasses.replace(trainer.settings, network="compact", members=1)
    return dataclasses.replace(trainer, settings=settings)


def _report_learned(learned: Learned, progress: Progress) -> None:
    """Report the pool's class share, the verdicts, the choice and the pseudo-labels."""
    if learned.share is not None:
        progress.say(learned.share.sentence)
    for verdict in learned.verdicts.values():
        progress.say(verdict.sentence)
    if learned.choice is not None:
        progress.say(f"Method auto: {learned.choice.reason}")
    for counts in learned.rounds:
        progress.say(
            f"Round {counts.number}: {counts.with_crater} pseudo-labels with and "
            f"{counts.without_crater} without crater."
        )
    if learned.method == "self-training" and not learned.rounds[-1].with_crater:
        progress.warn(NOTHING_SURE)


def _add_pseudo_labels(
    pool: PatchSet, network: Network, config: JobSettings, *starts: TrainingSet
) -> tuple[TrainingSet, ...]:
    """Add pseudo-labels "without crater" to some training sets."""
    probability = sigmoid(predict_logits(network, pool.images))
    rows = pseudo_labels.confident_without_crater(probability, config.pseudo_threshold)
    labels = np.zeros(len(rows))
    return tuple(
        pseudo_labels.add_pseudo_labels(start, pool, rows, labels, probability[rows])
        for start in starts
    )


def kept_network(
    labeled: PatchSet,
    pool: PatchSet,
    config: JobSettings,
    *,
    on_share: Callable[[float], None] | None = None,
) -> Network:
    """Train only the final network of a run, without the trainings that measure it.

    Parameters
    ----------
    labeled : PatchSet
        Human labels, the only ones used for fitting, early stopping and selection.
    pool : PatchSet
        Unlabeled patches.
    config : JobSettings
    on_share : callable, optional
        Called with the estimated share of craters in the pool, if the method estimates it.

    Returns
    -------
    Network
        In evaluation mode.

    Raises
    ------
    DataError, DeadNetworkError
    """
    config = dataclasses.replace(config, aim=None)  # the network does not depend on a threshold
    with torch_threads(usable_threads(config.threads)):
        if config.method in COMPARING:
            return _compared_network(labeled, pool, config, on_share)
        if config.method == "original" or config.network == "original":
            nothing = labeled.take(np.arange(1))  # placeholder test set
            return run_phases(JobData(train=labeled, pool=pool, test=nothing), config).network
        patches.check_two_classes(labeled, 1)
        human = human_only(labeled)
        symmetry = _symmetry(labeled, config, NullProgress())
        trainer = Trainer(settings=config.training, symmetry=symmetry.allowed, pool=pool.images)
        if config.method == "pseudo-label":
            teacher = trainer.train(
                TrainingRun(name="teacher", train=human, validation=None, purpose=_TEACHER)
            )[0][0]
            human = _add_sure(pool, teacher, human, config)
        return trainer.train(
            TrainingRun(name="refit", train=human, validation=None, purpose=_REFIT)
        )[0][0]


def _compared_network(
    labeled: PatchSet,
    pool: PatchSet,
    config: JobSettings,
    on_share: Callable[[float], None] | None,
) -> Network:
    """Train the final network of `_compared`, without a verdict unless the choice needs it."""
    symmetry = _symmetry(labeled, config, NullProgress())
    trainer = Trainer(settings=config.training, symmetry=symmetry.allowed, pool=pool.images)
    learned = methods.learn(config.method, labeled, pool, _judging(trainer), judge=False)
    if on_share is not None and learned.share is not None:
        on_share(learned.share.share)
    kept = TrainingRun(
        name="refit",
        train=learned.labeled,
        validation=None,
        purpose=_REFIT,
        unlabeled=learned.unlabeled,
    )
    return trainer.train(kept)[0][0]


def _conclude(
    job: _Job,
    data: JobData,
    split_rule: str,
    phases: list[Phase],
    network: Network,
    labeled: TrainingSet,
    final_rule: str,
    learned: Learned | None = None,
) -> JobResult:
    """Set the temperature and threshold, predict pool and test set, and build the result."""
    config = job.config
    place = min(1, len(phases) - 1)
    measured = phases[place]
    temperature = _temperature(measured, config)
    threshold = scores.decision_threshold(
        _as_predicted(measured, temperature, config.threshold_final).scored, config.aim
    )
    if config.aim is not None:
        job.progress.say(f"Decision threshold {threshold:.4g}, chosen for {config.aim}.")
    last = [
        _as_predicted(phase, _temperature(phase, config), threshold) for phase in phases[place:]
    ]
    test, has_truth = data.test, bool((data.test.labels >= 0).all())
    test_probability = sigmoid(predict_logits(network, test.images) / temperature)
    test_scored = None
    if has_truth:
        test_scored = Scored(
            labels=test.labels,
            probability=test_probability,
            decision_threshold=threshold,
            groups=test.groups,
        )
    return JobResult(
        config=config,
        data=data,
        split_rule=split_rule,
        final_split_rule=final_rule,
        phases=[*phases[:place], *last],
        network=network,
        temperature=temperature,
        decision_threshold=threshold,
        symmetry=job.symmetry,
        labeled=labeled,
        pool_probability=sigmoid(predict_logits(phases[0].network, data.pool.images)),
        test_probability=test_probability,
        test_predicted=decide(test_probability, threshold),
        test_scored=test_scored,
        learned=learned,
    )


def _as_predicted(phase: Phase, temperature: float, threshold: float) -> Phase:
    """Measure a last stage like predictions: temperature-scaled, at the decision threshold."""
    assert phase.scored.logits is not None
    scored = dataclasses.replace(
        phase.scored,
        probability=sigmoid(phase.scored.logits / temperature),
        decision_threshold=threshold,
    )
    return dataclasses.replace(phase, scored=scored, metrics=measure(scored))


def _temperature(measured: Phase, config: JobSettings) -> float:
    """Fit the temperature; 1 for the original network or too few validation patches."""
    scored = measured.scored
    is_fitted = config.network != "original" and len(scored) >= LEAST_PATCHES
    if not (is_fitted and scored.has_both_classes):
        return 1.0
    assert scored.logits is not None
    return fit_temperature(scored.labels, scored.logits)


def _symmetry(train: PatchSet, config: JobSettings, progress: Progress) -> SymmetryReport:
    """Choose the augmentation transforms; the original network is trained without any."""
    if config.network == "original":
        return SymmetryReport(("identity",), {}, "no random transforms")
    report = choose_symmetry(config.symmetry, train.images, train.labels)
    progress.say(f"{report.sentence[0].upper()}{report.sentence[1:]}.")
    return report


def _original_part(
    labeled: TrainingSet, config: JobSettings, progress: Progress
) -> tuple[TrainingRun, str]:
    """Split everything again for the last stage, as the original did; return the split rule too."""
    split = splits.row_split(labeled.labels, config.validation_share, _seed32(config, _RESPLIT))
    train = take(labeled, split.train)
    validation = take(labeled, split.validation)
    n_pseudo = int((validation.origin == pseudo_labels.PSEUDO).sum())
    progress.warn(
        f"protocol original: validation is drawn again after merging; {n_pseudo} of its "
        f"{len(validation)} labels are the model's own, and patches that chose the first network "
        "are trained on: its figures flatter."
    )
    return TrainingRun(name="final", train=train, validation=validation, purpose=FINAL), split.rule


@dataclasses.dataclass(frozen=True)
class _Job:
    """Settings, data and trainer shared by all trainings of a job."""

    config: JobSettings
    progress: Progress
    symmetry: SymmetryReport
    trainer: Trainer
    data: JobData

    def measure(self, run: TrainingRun, network: Network, state: TrainState) -> Phase:
        """Measure the network of one stage on its validation patches."""
        assert run.validation is not None
        config = self.config
        scored = self._scored(
            run.validation,
            predict_logits(network, run.validation.images),
            config.threshold_initial if run.name == "initial" else config.threshold_final,
        )
        self._warn_if_one_sided(run.name, scored)
        return Phase(
            name=run.name,
            network=network,
            state=state,
            train=run.train,
            validation=run.validation,
            scored=scored,
            metrics=measure(scored),
        )

    def cross_fitted(self, cross_fit: CrossFit) -> Phase:
        """Measure a method on out-of-fold predictions of all human labels."""
        network, state = cross_fit.first
        human = human_only(self.data.train)
        scored = self._scored(human, cross_fit.logits, self.config.threshold_final)
        self._warn_if_one_sided(cross_fit.method, scored)
        return Phase(
            name=cross_fit.method,
            network=network,
            state=state,
            train=cross_fit.runs[0].train,
            validation=human,
            scored=scored,
            metrics=measure(scored),
            is_cross_fitted=True,
        )

    def _scored(self, validation: TrainingSet, logits: np.ndarray, threshold: float) -> Scored:
        is_human = bool((validation.origin != pseudo_labels.PSEUDO).all())
        return Scored(
            labels=validation.labels,
            probability=sigmoid(logits),
            decision_threshold=threshold,
            groups=scores.groups_of(validation.ids, self.data.train) if is_human else None,
            logits=logits,
        )

    def _warn_if_one_sided(self, name: str, scored: Scored) -> None:
        """Warn about a network that predicts the same class for nearly every patch."""
        share = float(scored.called.mean())
        if min(share, 1 - share) < ONE_SIDED:
            word = "without crater" if share < 0.5 else "with crater"
            self.progress.warn(
                f"stage {name}: the network calls {max(share, 1 - share):.0%} of the validation "
                f"patches {word!r}; it has learned little. Try another --seed."
            )


def _seed32(config: JobSettings, purpose: int) -> int:
    return derive_seed(config.seed, purpose) % 2**32  # limit of scikit-learn


def _report_data(data: JobData, progress: Progress) -> None:
    progress.say("Classes: 1 = with crater, 0 = without crater.")
    for name, array in data.sets.items():
        for note in array.notes:
            progress.say(f"Note: {note}.")
        counts = patches.class_counts(array.labels)
        known = (
            f"{counts['with_crater']} with crater, {counts['without_crater']} without "
            f"({counts['crater_share']:.1%} craters)"
            if counts["unlabeled"] == 0
            else "no labels"
        )
        known = known if len(array) else "none"
        progress.say(f"{name:8} {counts['n']:6} patches of {array.side} x {array.side}: {known}")
    if data.mixed_ranges:
        progress.warn(f"{data.mixed_ranges}. The range of a dark array may be misread: see Notes.")
    for first, second, count in splits.repeats_between(data.sets):
        where = f"in {first} and {second}" if first != second else f"more than once in {first}"
        progress.warn(f"{count} patches occur {where}, byte for byte.")


def _report_balance(before: TrainingSet, after: TrainingSet, progress: Progress) -> None:
    """Report how pseudo-labels change the class shares of the training set."""
    old, new = patches.class_counts(before.labels), patches.class_counts(after.labels)
    for word, counts in (("before", old), ("after", new)):
        progress.say(
            f"Training set {word} pseudo-labels: {counts['with_crater']} with crater, "
            f"{counts['without_crater']} without ({counts['crater_share']:.1%} craters)"
        )
    shift = new["crater_share"] - old["crater_share"]
    if abs(shift) > WORTH_A_WARNING:
        progress.warn(
            f"pseudo-labels move the share of craters in the training set from "
            f"{old['crater_share']:.1%} to {new['crater_share']:.1%}: the next network will call "
            f"{'fewer' if shift < 0 else 'more'} patches craters than it should."
        )
