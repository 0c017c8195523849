"""Train and compare semi-supervised methods by cross-fitting on the labels.

Every method, `supervised` included, is trained once without each fold of the labels and predicts
that fold. These out-of-fold predictions give the pool's class share, calibrated pseudo-labels, the
paired verdict and the choice of `auto`. The final network is trained on all labels.

Methods
-------
supervised
    Human labels only.
self-training
    Two rounds of pseudo-labels of both classes, calibrated at the pool's class share and sampled in
    the class shares of the labels. Each round trains new networks (Scudder 1965; Yarowsky 1995;
    class-balanced: Zou et al. 2018, arXiv 1810.07911).
fixmatch
    Consistency between a weakly and a strongly augmented patch (Sohn et al. 2020,
    arXiv 2001.07685), with predictions aligned to the pool's class share (Berthelot et al. 2020,
    arXiv 1911.09785).
distillation
    Three teacher networks learn the labels; a student learns their predictions on labeled and
    unlabeled patches (Hinton et al. 2015, arXiv 1503.02531; Beyer et al. 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np

from craters.data import PatchSet
from craters.errors import DataError
from craters.evaluation import ClassShare, Scored, class_share
from craters.models import Network
from craters.semi_supervised import pseudo_labels, verdict
from craters.semi_supervised.cross_fit import (
    PURPOSES,
    CrossFit,
    CrossFitContext,
    bounded,
    cross_fit,
)
from craters.semi_supervised.folds import FOLDS, Folds, draw_folds
from craters.semi_supervised.verdict import SUPERVISED, Choice, Verdict
from craters.settings import JobSettings
from craters.training import (
    Trainer,
    TrainingRun,
    TrainingSet,
    Unlabeled,
    derive_seed,
    predict_logits,
    sigmoid,
    take,
)

METHODS = ("self-training", "fixmatch", "distillation")
NEED_SHARE = ("self-training", "fixmatch")
ROUNDS = 2  # of self-training
MOST_POOL = 20_000  # unlabeled patches used for training: bounds time and memory

_POOL_DRAW, _PSEUDO_DRAW = 90, 91
_LEAST_IMAGES = 5  # of the pool, to draw whole images


@dataclasses.dataclass(frozen=True)
class Round:
    """Pseudo-label counts of one round of self-training, over the whole pool.

    Parameters
    ----------
    number : int
    with_crater, without_crater : int
    """

    number: int
    with_crater: int
    without_crater: int

    @property
    def crater_share(self) -> float | None:
        """Share of craters among them; None if there are none."""
        total = self.with_crater + self.without_crater
        return self.with_crater / total if total else None


@dataclasses.dataclass(frozen=True)
class Learned:
    """Result of `learn`: methods tried, the method chosen, and data for the final training.

    Parameters
    ----------
    method : str
        The requested method, or the one that `auto` chose.
    supervised : CrossFit
    tried : dict of CrossFit
        By method.
    verdicts : dict of Verdict
    share : ClassShare or None
        Of craters in the pool; None if the labels are too few to estimate it.
    choice : Choice or None
        The decision of `auto`.
    rounds : list of Round
        Rounds of self-training.
    labeled : TrainingSet
        Training set of the final network: human labels, then pseudo-labels.
    unlabeled : Unlabeled or None
        How the final network learns from the pool.
    folds : Folds
    candidates : ndarray of int
        Rows of the pool used for training.
    pool_probability : ndarray, shape (len(candidates),), float32
        Probability of "with crater" that selects pseudo-labels, calibrated at the pool's class
        share; NaN where no network may predict the patch.
    """

    method: str
    supervised: CrossFit
    tried: dict[str, CrossFit]
    verdicts: dict[str, Verdict]
    share: ClassShare | None
    choice: Choice | None
    rounds: list[Round]
    labeled: TrainingSet
    unlabeled: Unlabeled | None
    folds: Folds
    candidates: np.ndarray
    pool_probability: np.ndarray

    @property
    def measured(self) -> CrossFit:
        """The cross-fit of the chosen method."""
        return self.tried.get(self.method, self.supervised)


def learn(
    method: str,
    labeled: PatchSet,
    pool: PatchSet,
    trainer: Trainer,
    *,
    judge: bool = True,
    refit: TrainingRun | None = None,
) -> Learned:
    """Cross-fit a method, or the candidates of `auto`, and prepare the final training.

    Parameters
    ----------
    method : {"auto", "supervised", "self-training", "fixmatch", "distillation"}
    labeled, pool : PatchSet
        Human labels; unlabeled patches.
    trainer : Trainer
        Trains one `compact` network. Methods are compared with it, whatever the final network is.
    judge : bool
        If False, folds of a named method are trained only as far as its pseudo-labels need them,
        and there is no verdict. The final network is the same.
    refit : TrainingRun, optional
        The final training on all labels, if the method is `supervised`: it runs beside the folds.

    Raises
    ------
    DataError
        If labels or pool are too few for a named method; `auto` falls back to supervised and
        gives the reason.
    """
    folds = draw_folds(labeled, pool, derive_seed(trainer.settings.seed, 0) % 2**32)
    few = candidates(len(pool), trainer.settings.seed)
    context = CrossFitContext(
        labeled=labeled, pool=pool.take(few), folds=folds, candidates=few, trainer=trainer
    )
    wanted = [] if method == SUPERVISED else [method]
    if method == "auto":
        wanted = verdict.candidates(len(labeled), pretrained=trainer.is_pretrained)
    if not wanted:  # no network learns from the pool
        context = dataclasses.replace(context, folds=dataclasses.replace(folds, n_unplaced=0))
    runs = [context.training_run(SUPERVISED, number) for number in context.numbers]
    expected = {name: _expected_runs(name, context) for name in wanted}
    for batch in [[*runs, *([] if refit is None else [refit])], *_batches(method, expected)]:
        trainer.plan(*batch)
    supervised = cross_fit(SUPERVISED, context, runs, on_pool=bool(wanted), refit=refit)
    share = _share(context, supervised, must=method in NEED_SHARE) if wanted else None
    wanted = [name for name in wanted if share is not None or name not in NEED_SHARE]
    trainer.forget(*[run for name in expected.keys() - set(wanted) for run in expected[name]])
    tried: dict[str, CrossFit] = {}
    before: dict[str, CrossFit] = {}
    dropped: list[str] = []
    for name in wanted:
        if name == "self-training":
            before[name], last = _self_train(context, supervised, share, judge=judge)
            tried |= {name: last} if last is not None else {}
            continue
        runs = [context.training_run(name, n, share) for n in context.numbers]
        if method != "auto":
            tried |= {name: cross_fit(name, context, runs, on_pool=False)} if judge else {}
            continue
        first = trainer.train(runs[0])[0]
        if why := _why_drop(name, context, first[0], supervised):
            dropped.append(why)
            trainer.forget(*expected[name][1:])
        else:
            tried[name] = cross_fit(name, context, runs, on_pool=False, first=first)
    verdicts = {
        name: _judge(name, context, fitted.logits, supervised.logits)
        for name, fitted in tried.items()
    }
    choice = None
    if method == "auto":
        choice = _choose(verdicts, dropped, len(labeled), share)
        method = choice.method
    return _conclude(method, context, supervised, tried, before, verdicts, share, choice)


def _expected_runs(method: str, context: CrossFitContext) -> list[TrainingRun]:
    """Describe the trainings of a method before the share of craters and pseudo-labels are known.

    Only their names and the number of their patches count.
    """
    runs = [context.training_run(SUPERVISED, number) for number in context.numbers]
    if method == "self-training":
        names = [_round_name(n, fold) for n in range(1, ROUNDS + 1) for fold in context.numbers]
        return [
            dataclasses.replace(run, name=name)
            for run, name in zip(runs * ROUNDS, names, strict=True)
        ]
    unlabeled = _expected_unlabeled(method, context.pool)
    return [
        dataclasses.replace(run, name=f"{method}-fold{number + 1}", unlabeled=unlabeled)
        for number, run in enumerate(runs)
    ]


def _batches(method: str, expected: dict[str, list[TrainingRun]]) -> Iterator[list[TrainingRun]]:
    """Yield the expected runs that are trained at the same time."""
    for name, runs in expected.items():
        if name == "self-training":
            folds = len(runs) // ROUNDS
            yield from (runs[number * folds :][:folds] for number in range(ROUNDS))
        elif method == "auto":
            yield from (runs[:1], runs[1:])
        else:
            yield runs


def _expected_unlabeled(method: str, pool: PatchSet) -> Unlabeled | None:
    kind: Literal["fixmatch", "distillation"] = (
        "fixmatch" if method == "fixmatch" else "distillation"
    )
    return Unlabeled(kind, pool.images) if method == kind else None


def expected_final(run: TrainingRun, pool: PatchSet, config: JobSettings) -> TrainingRun:
    """Describe the final training by a method, or by the first one that `auto` tries."""
    method: str = config.method
    if method == "auto":
        tried = verdict.candidates(len(run.train), pretrained=config.start == "pretrained")
        method = tried[0] if tried else SUPERVISED
    return dataclasses.replace(run, unlabeled=_expected_unlabeled(method, pool))


def _round_name(number: int, fold: int) -> str:
    return f"self-training-round{number}-fold{fold + 1}"


def candidates(count: int, seed: int) -> np.ndarray:
    """Choose the pool rows to train on: all, or `MOST_POOL` drawn at random."""
    if count <= MOST_POOL:
        return np.arange(count)
    random = np.random.default_rng(derive_seed(seed, _POOL_DRAW))
    return np.sort(random.choice(count, MOST_POOL, replace=False))


def _share(context: CrossFitContext, supervised: CrossFit, *, must: bool) -> ClassShare | None:
    """Estimate the pool's share of craters from the predictions of all folds' networks."""
    if not any(len(logits) for logits in supervised.pool_logits):
        if must:
            raise DataError(
                f"{context.pool.source}: no unlabeled patch is left to learn from",
                "Give unlabeled patches that are not copies of the labeled ones.",
            )
        return None
    # A patch is repeated for each fold that may use it; the bootstrap draws its rows together,
    # and whole source images where several are known.
    rows = np.concatenate([context.pool_rows(number) for number in context.numbers])
    units = rows
    if context.pool.groups is not None and len(np.unique(context.pool.groups)) >= _LEAST_IMAGES:
        units = context.pool.groups[rows]
    pool_logits = np.concatenate(supervised.pool_logits)

    # Resample whole source images if each class has several of them, else single labels.
    failure: DataError | None = None
    for groups in [None] if context.labeled.groups is None else [context.labeled.groups, None]:
        try:
            estimate = class_share.estimate_class_share(
                context.labeled.labels, supervised.logits, pool_logits,
                groups=groups, pool_groups=units,
            )  # fmt: skip
        except DataError as error:
            failure = error
        else:
            return dataclasses.replace(estimate, n_pool=len(np.unique(rows)))
    if must and failure is not None:
        raise failure
    return None


def _self_train(
    context: CrossFitContext, supervised: CrossFit, share: ClassShare | None, *, judge: bool
) -> tuple[CrossFit, CrossFit | None]:
    """Train in rounds; return the cross-fit behind the final pseudo-labels, and the last one."""
    assert share is not None
    before = supervised
    for number in range(1, ROUNDS + 1):
        runs = [_taught(context, before, share, number, fold) for fold in context.numbers]
        if number == ROUNDS and not judge:
            return before, None
        last = cross_fit("self-training", context, runs, on_pool=number < ROUNDS)
        if number < ROUNDS:
            before = last
    return before, last


def _taught(
    context: CrossFitContext, before: CrossFit, share: ClassShare, number: int, fold: int
) -> TrainingRun:
    """Add one round of pseudo-labels, given by the fold's own network, to its training set."""
    rows = context.pool_rows(fold)
    probability = _calibrated(context, before, before.pool_logits[fold], share)
    purpose = PURPOSES["self-training"] + 10 * (number - 1) + fold
    train = take(context.human, context.folds.folds[fold].train)
    taught = _add(train, context, rows, probability, number, purpose)
    name = _round_name(number, fold)
    held_out = context.held_out(fold) if fold == 0 else None
    return TrainingRun(name=name, train=taught, validation=held_out, purpose=purpose)


def _calibrated(
    context: CrossFitContext, before: CrossFit, logits: np.ndarray, share: ClassShare
) -> np.ndarray:
    """Convert pool logits to probabilities calibrated at the pool's share of craters."""
    line = class_share.calibration_line(context.labeled.labels, before.logits)
    return pseudo_labels.at_pool_share(logits, line, context.labeled_share, bounded(share.share))


def _add(
    train: TrainingSet,
    context: CrossFitContext,
    rows: np.ndarray,
    probability: np.ndarray,
    number: int,
    purpose: int,
) -> TrainingSet:
    random = np.random.default_rng(
        derive_seed(context.trainer.settings.seed, _PSEUDO_DRAW, purpose)
    )
    return pseudo_labels.add_sure(
        train, context.pool, rows, probability, context.labeled_share, random, number
    )


def _judge(
    method: str,
    context: CrossFitContext,
    logits: np.ndarray,
    reference: np.ndarray,
    n_folds: int = FOLDS,
) -> Verdict:
    supervised = Scored(
        labels=context.labeled.labels, probability=sigmoid(reference), groups=context.labeled.groups
    )
    return verdict.compare_with_supervised(method, supervised, sigmoid(logits), n_folds=n_folds)


def _why_drop(method: str, context: CrossFitContext, network: Network, supervised: CrossFit) -> str:
    """Return why the first fold rules out a candidate of `auto`; empty if it does not."""
    rows = context.folds.folds[0].held_out
    if len(np.unique(context.labeled.labels[rows])) < 2:
        return ""
    first = dataclasses.replace(context, labeled=context.labeled.take(rows))
    logits = predict_logits(network, first.labeled.images)
    measured = _judge(method, first, logits, supervised.logits[rows], n_folds=1)
    return verdict.why_drop(measured, len(context.labeled))


def _choose(
    verdicts: dict[str, Verdict], dropped: list[str], n_labels: int, share: ClassShare | None
) -> Choice:
    if dropped and not verdicts:
        reason = f"{' '.join(dropped)} Supervised is kept."
        return Choice(method=SUPERVISED, reason=reason, judgements=[])
    if not verdicts:
        why = (
            f"fewer than {class_share.LEAST_OF_A_CLASS} labels of a class, or no unlabeled patch"
            if share is None
            else "no method is expected to gain with so many labels"
        )
        reason = f"Nothing was tried ({why}): supervised is kept."
        return Choice(method=SUPERVISED, reason=reason, judgements=[])
    return verdict.choose(list(verdicts.values()), n_labels)


def _conclude(
    method: str,
    context: CrossFitContext,
    supervised: CrossFit,
    tried: dict[str, CrossFit],
    before: dict[str, CrossFit],
    verdicts: dict[str, Verdict],
    share: ClassShare | None,
    choice: Choice | None,
) -> Learned:
    """Assemble the training data of the final network, and the result."""
    labeled, rounds, everything = context.human, list[Round](), np.arange(len(context.pool))
    probability = np.full(len(context.pool), np.nan, np.float32)
    if share is not None:
        source = before.get(method, supervised)
        logits = _mean_logits(context, source)
        probability = _calibrated(context, source, logits, share)
    if method == "self-training":
        labeled = _add(labeled, context, everything, probability, ROUNDS, _PSEUDO_DRAW)
        rounds = _count_rounds(context, supervised, share, labeled)
    unlabeled = None
    if method in ("fixmatch", "distillation"):
        unlabeled = context.unlabeled(method, everything, share)
    return Learned(
        method=method,
        supervised=supervised,
        tried=tried,
        verdicts=verdicts,
        share=share,
        choice=choice,
        rounds=rounds,
        labeled=labeled,
        unlabeled=unlabeled,
        folds=context.folds,
        candidates=context.candidates,
        pool_probability=probability,
    )


def _count_rounds(
    context: CrossFitContext, supervised: CrossFit, share: ClassShare | None, labeled: TrainingSet
) -> list[Round]:
    """Count the pseudo-labels of the whole pool after the first and after the last round."""
    assert share is not None
    first = _calibrated(context, supervised, _mean_logits(context, supervised), share)
    earlier = _add(context.human, context, np.arange(len(context.pool)), first, 1, _PSEUDO_DRAW)
    rounds = []
    for number, training in ((1, earlier), (ROUNDS, labeled)):
        given = training.labels[training.origin == pseudo_labels.PSEUDO]
        craters = int((given == 1).sum())
        rounds.append(
            Round(number=number, with_crater=craters, without_crater=len(given) - craters)
        )
    return rounds


def _mean_logits(context: CrossFitContext, fitted: CrossFit) -> np.ndarray:
    """Average the logits of the networks that predict each patch of the pool."""
    total, count = np.zeros(len(context.pool)), np.zeros(len(context.pool))
    for number, logits in enumerate(fitted.pool_logits):
        rows = context.pool_rows(number)
        total[rows] += logits
        count[rows] += 1
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
