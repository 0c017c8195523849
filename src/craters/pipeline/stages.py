"""Run the main job in memory: train, pseudo-label, retrain, evaluate, predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from craters.core import NullProgress, PlannedWork, Progress, torch_threads, usable_threads
from craters.data import JobData, PatchSet, SymmetryReport, patches, splits
from craters.models import CirclePatchNet, CircleSizes, Network
from craters.pipeline.job import Job
from craters.pipeline.light import choose_transforms
from craters.pipeline.messages import (
    NO_POOL,
    NOTHING_SURE,
    report_balance,
    report_data,
    report_learned,
)
from craters.pipeline.result import JobResult
from craters.pretraining import load_circle_start
from craters.semi_supervised import SUPERVISED, folds, methods, pseudo_labels, verdict
from craters.settings import JobSettings, parse_diameters
from craters.training import (
    NoStore,
    StateStore,
    Trainer,
    TrainingRun,
    TrainingSet,
    derive_seed,
    human_only,
    load_start,
    predict_logits,
    sigmoid,
    take,
)

LEAST_DIAMETER = 10  # px: of the craters that labels are about, if nothing says it

# Purposes that seeds are derived for.
_SPLIT, INITIAL, FINAL, _RESPLIT, _REFIT, _MEASURED, _TEACHER, _SURE = range(8)


def check_data(data: JobData, config: JobSettings) -> None:
    """Check, before training, that the data can be split as the settings require.

    Raises
    ------
    DataError
        If a class or a source image is too rare.
    """
    if _is_cross_fitted(resolve_settings(config, data.train)):
        folds.draw_folds(data.train, data.pool.take(np.arange(0)), 0)
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


def run_stages(
    data: JobData,
    config: JobSettings,
    *,
    store: StateStore | None = None,
    progress: Progress | None = None,
    planned: PlannedWork | None = None,
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
    planned : PlannedWork, optional
        Receives the trainings, besides what the caller does later.

    Returns
    -------
    JobResult
        Bit-for-bit reproducible with the same arguments and number of threads.

    Raises
    ------
    DataError, DeadNetworkError
    """
    store, progress = store or NoStore(), progress or NullProgress()
    config = resolve_settings(config, data.train, progress)
    with torch_threads(usable_threads(config.threads)):
        report_data(data, progress)
        symmetry = choose_transforms(data.train, data.pool, config, compare=True)
        if config.network != "original":
            progress.say(f"{symmetry.sentence[0].upper()}{symmetry.sentence[1:]}.")
        if symmetry.warning:
            progress.warn(symmetry.warning)
        trainer = _make_trainer(
            config, symmetry, data.pool, store=store, progress=progress, planned=planned
        )
        job = Job(config=config, data=data, symmetry=symmetry, trainer=trainer, progress=progress)
        if _is_cross_fitted(config):
            return _cross_fitted(job)
        split = draw_split(data, config)
        n = len(split.validation)
        progress.say(f"Validation: {n} human-labeled patches, {split.rule}.")
        if config.method == "supervised":
            return _supervised(job, split)
        if config.method == "pseudo-label":
            return _pseudo_labeled(job, split)
        return _original(job, split)


def _original(job: Job, split: splits.Split) -> JobResult:
    """Train, add pseudo-labels "without crater", and train again from scratch."""
    config, progress, trainer = job.config, job.progress, job.trainer
    human = human_only(job.data.train)
    train, validation = take(human, split.train), take(human, split.validation)
    initial = TrainingRun(
        name="initial", train=train, validation=validation, purpose=INITIAL, is_early=True
    )
    final = TrainingRun(name="final", train=train, validation=validation, purpose=FINAL)
    finals = [final]
    if config.protocol == "original":
        finals.append(dataclasses.replace(final, name="final_clean"))
    trainer.plan(initial)
    trainer.plan(*finals)
    first = job.evaluate(initial, *trainer.train(initial)[0])
    merged, labeled = _add_pseudo_labels(job.data.pool, first.network, config, train, human)
    report_balance(train, merged, progress)
    clean = dataclasses.replace(final, train=merged)
    runs, final_rule = [clean], split.rule
    if config.protocol == "original":
        resplit, final_rule = _resplit_run(labeled, config, progress)
        runs = [resplit, dataclasses.replace(clean, name="final_clean")]
    last = [
        job.evaluate(run, *trained) for run, trained in zip(runs, trainer.train(*runs), strict=True)
    ]
    return job.assemble(
        [first, *last],
        last[0].network,
        labeled,
        split_rule=split.rule,
        final_split_rule=final_rule,
    )


def _supervised(job: Job, split: splits.Split) -> JobResult:
    """Train and evaluate on the human labels, then train the final network on all of them.

    The original recipe selects its epoch on validation, so the evaluated network is the final one.
    """
    human = human_only(job.data.train)
    run = TrainingRun(
        name="supervised",
        train=take(human, split.train),
        validation=take(human, split.validation),
        purpose=INITIAL,
        is_early=True,
    )
    runs = [run]
    if job.config.network != "original":
        runs.append(_refit_run(human))
    trained = job.trainer.train(*runs)  # in parallel
    stage = job.evaluate(run, *trained[0])
    return job.assemble(
        [stage], trained[-1][0], human, split_rule=split.rule, final_split_rule=split.rule
    )


def _pseudo_labeled(job: Job, split: splits.Split) -> JobResult:
    """Train, pseudo-label confident patches of both classes, and train again from scratch.

    Networks that are evaluated use only pool rows that share no copy or source image with the
    validation set. The final network uses pseudo-labels from a network trained on all human labels.
    """
    trainer, pool, human = job.trainer, job.data.pool, human_only(job.data.train)
    apart = folds.pool_apart(pool, job.data.train.take(split.validation))
    train, validation = take(human, split.train), take(human, split.validation)
    initial = TrainingRun(name="initial", train=train, validation=validation, purpose=INITIAL)
    teacher = _teacher_run(human)
    expected = dataclasses.replace(initial, name="final")
    trainer.plan(initial, teacher)
    trainer.plan(expected, _refit_run(human))
    (network, state), (teacher_network, _) = trainer.train(initial, teacher)  # in parallel
    first = job.evaluate(initial, network, state)
    merged = _add_confident(pool.take(apart), network, train, job.config)
    labeled = _add_confident(pool, teacher_network, human, job.config)
    report_balance(human, labeled, job.progress)
    if len(labeled) == len(human):
        job.progress.warn(NOTHING_SURE if len(pool) else NO_POOL)
    final = TrainingRun(name="final", train=merged, validation=validation, purpose=FINAL)
    (network, state), (final_network, _) = trainer.train(final, _refit_run(labeled))
    last = job.evaluate(final, network, state)
    return job.assemble(
        [first, last], final_network, labeled, split_rule=split.rule, final_split_rule=split.rule
    )


def _cross_fitted(job: Job) -> JobResult:
    """Train by a method that is measured by cross-fitting, or by the one that `auto` chooses.

    Methods are measured with one `compact` network per fold. If the final network is of another
    kind, it is evaluated on the first of these folds.
    """
    trainer, data = job.trainer, job.data
    comparison = _comparison_trainer(trainer)
    is_same = trainer.settings == comparison.settings
    beside = _beside_folds(job.config, trainer, data.train)
    expected = methods.expected_final(_refit_run(human_only(data.train)), data.pool, job.config)
    trainer.plan(expected, *([] if is_same else [_measured_run(expected)]))
    learned = methods.learn(job.config.method, data.train, data.pool, comparison, refit=beside)
    report_learned(learned, job.progress)
    stages = [job.evaluate_cross_fit(learned.supervised)]
    if learned.method != SUPERVISED:
        stages.append(job.evaluate_cross_fit(learned.measured))
    final_rule = learned.folds.rule
    refit = _learned_run(learned)
    if learned.supervised.refitted is not None:
        network = learned.supervised.refitted
    elif is_same:
        network = trainer.train(refit)[0][0]
    else:
        run = dataclasses.replace(_measured_run(learned.measured.runs[0]), blend=refit.blend)
        (measured, state), (network, _) = trainer.train(run, refit)
        stages = [stages[0], job.evaluate(run, measured, state)]
        final_rule = f"the first of {final_rule}"
    return job.assemble(
        stages,
        network,
        learned.labeled,
        split_rule=learned.folds.rule,
        final_split_rule=final_rule,
        learned=learned,
    )


def kept_network(
    labeled: PatchSet,
    pool: PatchSet,
    config: JobSettings,
    *,
    on_share: Callable[[float], None] | None = None,
) -> Network:
    """Train only the final network of a run, without the trainings that evaluate it.

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
    if "original" in (config.method, config.network):
        placeholder = labeled.take(np.arange(1))
        return run_stages(JobData(train=labeled, pool=pool, test=placeholder), config).network
    config = resolve_settings(config, labeled)
    is_cross_fitted = _is_cross_fitted(config)
    if not is_cross_fitted:
        patches.check_two_classes(labeled, 1)
    with torch_threads(usable_threads(config.threads)):
        symmetry = choose_transforms(labeled, pool, config)
        trainer = _make_trainer(config, symmetry, pool)
        if is_cross_fitted:
            comparison = _comparison_trainer(trainer)
            beside = _beside_folds(config, trainer, labeled)
            learned = methods.learn(
                config.method, labeled, pool, comparison, judge=False, refit=beside
            )
            if learned.supervised.refitted is not None:
                return learned.supervised.refitted
            if on_share is not None and learned.share is not None:
                on_share(learned.share.share)
            return trainer.train(_learned_run(learned))[0][0]
        train = human_only(labeled)
        if config.method == "pseudo-label":
            teacher = trainer.train(_teacher_run(train))[0][0]
            train = _add_confident(pool, teacher, train, config)
        return trainer.train(_refit_run(train))[0][0]


def _make_trainer(
    config: JobSettings,
    symmetry: SymmetryReport,
    pool: PatchSet,
    *,
    store: StateStore | None = None,
    progress: Progress | None = None,
    planned: PlannedWork | None = None,
) -> Trainer:
    """Return the trainer of a job with resolved settings."""
    circles = None
    if config.network == "circles":
        assert config.diameters is not None
        sizes = CircleSizes(*parse_diameters(config.diameters))
        circles = load_circle_start(sizes, config.seed, usable_threads(config.threads))
    return Trainer(
        settings=config.training,
        symmetry=symmetry.allowed,
        pool=pool.images,
        store=store or NoStore(),
        progress=progress or NullProgress(),
        turn=symmetry.turn,
        circles=circles,
        planned=planned or PlannedWork(),
    )


def resolve_settings(
    config: JobSettings, labeled: PatchSet, progress: Progress | None = None
) -> JobSettings:
    """Return the settings with what the labeled patches decide: the start, and method `auto`.

    For the network circles, also the diameters that the labels are about. The start is "random" for
    the network `original` and for sides that the pretrained model does not take. `auto` is
    "supervised" where no method is worth trying.
    """
    progress = progress or NullProgress()
    return _resolve_method(_resolve_start(config, labeled.side, progress), labeled, progress)


def _resolve_start(config: JobSettings, side: int, progress: Progress) -> JobSettings:
    if config.start == "random":
        return config
    if config.network == "original":
        return dataclasses.replace(config, start="random")
    if config.network == "circles":
        progress.say("Training starts from the circle detector.")
        return _resolve_diameters(config, side, progress)
    least, largest = load_start().sides
    if least <= side <= largest:
        progress.say("Training starts from the pretrained model.")
        return config
    progress.say(
        f"Training starts from random weights: the pretrained model takes patches of {least} to "
        f"{largest} px, these have {side}."
    )
    return dataclasses.replace(config, start="random")


def _resolve_diameters(config: JobSettings, side: int, progress: Progress) -> JobSettings:
    """Return the settings with diameters, by default those of `craters patches`."""
    if config.diameters is None:
        progress.say(
            f"The labels are taken to be about craters of {LEAST_DIAMETER} to {side} px: state "
            "others by --diameters."
        )
        config = dataclasses.replace(config, diameters=f"{LEAST_DIAMETER},{side}")
    assert config.diameters is not None
    CirclePatchNet(side, CircleSizes(*parse_diameters(config.diameters)))  # refuses other sides
    return config


def _resolve_method(config: JobSettings, labeled: PatchSet, progress: Progress) -> JobSettings:
    pretrained = config.start == "pretrained"
    if config.method != "auto" or verdict.candidates(len(labeled), pretrained=pretrained):
        return config
    why = (
        "from the pretrained model, unlabeled patches have not been found to help"
        if pretrained
        else f"with {len(labeled)} labels, unlabeled patches have not been found to help"
    )
    progress.say(f"Method auto: supervised; {why}.")
    return dataclasses.replace(config, method="supervised")


def _is_cross_fitted(config: JobSettings) -> bool:
    """Return whether a job with resolved settings is measured by cross-fitting."""
    if config.method == SUPERVISED:
        return config.start == "pretrained"
    return config.method in ("auto", *methods.METHODS)


def _refit_run(labeled: TrainingSet) -> TrainingRun:
    """Return the training of the final network, on all labels."""
    return TrainingRun(name="refit", train=labeled, validation=None, purpose=_REFIT)


def _beside_folds(config: JobSettings, trainer: Trainer, labeled: PatchSet) -> TrainingRun | None:
    """Return the final training if it can run beside the folds: it depends on labels alone."""
    is_same = trainer.settings == _comparison_trainer(trainer).settings
    if not is_same or config.method != SUPERVISED:
        return None
    return _refit_run(human_only(labeled))


def _learned_run(learned: methods.Learned) -> TrainingRun:
    """Return the training of the final network by the method that was chosen."""
    run = dataclasses.replace(_refit_run(learned.labeled), unlabeled=learned.unlabeled)
    choice = learned.measured.start_choice
    return run if choice is None else dataclasses.replace(run, blend=choice.share)


def _measured_run(run: TrainingRun) -> TrainingRun:
    """Return the training of the network of another kind that is evaluated on one fold."""
    return dataclasses.replace(run, name="measured", purpose=_MEASURED)


def _teacher_run(human: TrainingSet) -> TrainingRun:
    """Return the training of the network that pseudo-labels the pool for the final one."""
    return TrainingRun(name="teacher", train=human, validation=None, purpose=_TEACHER)


def _comparison_trainer(trainer: Trainer) -> Trainer:
    """Return a trainer of one `compact` network, for the comparison of methods.

    The network circles, which has one method, is compared with its start.
    """
    if trainer.circles is not None:
        return trainer
    settings = dataclasses.replace(trainer.settings, network="compact", members=1)
    return dataclasses.replace(trainer, settings=settings)


def _add_confident(
    pool: PatchSet, network: Network, start: TrainingSet, config: JobSettings
) -> TrainingSet:
    """Add confident pseudo-labels, in the class shares of the labels."""
    rows = methods.candidates(len(pool), config.seed)
    probability = sigmoid(predict_logits(network, pool.images[rows]))
    random = np.random.default_rng(derive_seed(config.seed, _SURE))
    share = float(start.labels.mean())
    return pseudo_labels.add_sure(start, pool, rows, probability, share, random)


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


def _resplit_run(
    labeled: TrainingSet, config: JobSettings, progress: Progress
) -> tuple[TrainingRun, str]:
    """Split all labels again for the last stage, as the original did; return the rule, too."""
    split = splits.row_split(labeled.labels, config.validation_share, _seed32(config, _RESPLIT))
    train = take(labeled, split.train)
    validation = take(labeled, split.validation)
    n_pseudo = int((validation.origin == pseudo_labels.PSEUDO).sum())
    progress.warn(
        f"protocol original: validation is drawn again after merging; {n_pseudo} of its "
        f"{len(validation)} labels are pseudo-labels, and patches that selected the first network "
        "are in training: its metrics are optimistic."
    )
    return TrainingRun(name="final", train=train, validation=validation, purpose=FINAL), split.rule


def _seed32(config: JobSettings, purpose: int) -> int:
    return derive_seed(config.seed, purpose) % 2**32  # limit of scikit-learn
