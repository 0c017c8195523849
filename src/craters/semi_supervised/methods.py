"""Methods that learn from unlabeled patches, cross-fitted on the labels and judged.

Every method is trained without each fold of the labels and answers for that fold, and so is
`supervised`: from these answers come the pool's class share, calibrated pseudo-labels, the paired
verdict and the choice of `auto`. The network that is kept is trained on all labels.

Methods
-------
supervised
    Human labels only.
self-training
    Pseudo-labels of both classes, calibrated at the pool's class share, in the class shares of the
    labels, in two rounds, each network trained anew (Scudder 1965; Yarowsky 1995; with the shares
    kept, Zou et al. 2018, arXiv 1810.07911).
fixmatch
    Agreement between a weakly and a strongly changed patch (Sohn et al. 2020, arXiv 2001.07685)
    with answers aligned to the pool's class share (Berthelot et al. 2020, arXiv 1911.09785).
distillation
    Three networks learn the labels, a fourth learns their answers on labels and pool (Hinton et
    al. 2015, arXiv 1503.02531; Beyer et al. 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from craters.data import PatchSet
from craters.errors import DataError
from craters.evaluation import ClassShare, Scored, class_share
from craters.models import Network
from craters.semi_supervised import pseudo_labels, verdict
from craters.semi_supervised.folds import Folds, draw_folds
from craters.semi_supervised.verdict import SUPERVISED, Choice, Verdict
from craters.training import (
    Part,
    Trainer,
    TrainingSet,
    TrainState,
    Unlabeled,
    derive_seed,
    human_only,
    predict_logits,
    sigmoid,
    take,
)

METHODS = ("self-training", "fixmatch", "distillation")
NEED_SHARE = ("self-training", "fixmatch")
ROUNDS = 2  # of self-training
MOST_POOL = 20_000  # unlabeled patches that are learned from: bounds time and memory

_PURPOSES = {SUPERVISED: 10, "fixmatch": 20, "distillation": 30, "self-training": 40}
_POOL_DRAW, _PSEUDO_DRAW = 90, 91
_LEAST_SHARE = 0.01  # of a class in the pool, where odds are multiplied by a share
_LEAST_ALIGNED = 0.1  # of FixMatch: with less, a few sure answers outweigh all others


@dataclasses.dataclass(frozen=True)
class Round:
    """Pseudo-labels that one round of self-training gave for the last network.

    Parameters
    ----------
    number : int
    with_crater, without_crater : int
    """

    number: int
    with_crater: int
    without_crater: int

    @property
    def crater_share(self) -> float:
        """Share of craters among them."""
        return self.with_crater / max(1, self.with_crater + self.without_crater)


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """One method, trained without each fold.

    Parameters
    ----------
    method : str
    logits : ndarray, shape (N,), float32
        Of each human label's patch, by the network that did not see its fold.
    pool_logits : list of ndarray
        Of each fold's part of the pool, by that fold's network.
    parts : list of Part
        What each fold's network was trained on.
    first : (Network, TrainState)
        Of the first fold.
    """

    method: str
    logits: np.ndarray
    pool_logits: list[np.ndarray]
    parts: list[Part]
    first: tuple[Network, TrainState]


@dataclasses.dataclass(frozen=True)
class Learned:
    """What was tried, what was chosen, and what the kept network is to be trained on.

    Parameters
    ----------
    method : str
        Chosen or asked for.
    supervised : CrossFit
    tried : dict of CrossFit
        By method.
    verdicts : dict of Verdict
    share : ClassShare or None
        Of craters in the pool; None where too few labels tell nothing of it.
    choice : Choice or None
        Of `auto`.
    rounds : list of Round
        Of self-training.
    labeled : TrainingSet
        All labels for the kept network: human, then pseudo.
    unlabeled : Unlabeled or None
        How the kept network learns from the pool.
    folds : Folds
    candidates : ndarray of int
        Rows of the pool that were learned from.
    pool_probability : ndarray, shape (len(candidates),), float32
        By which pseudo-labels are chosen: calibrated, at the pool's class share; NaN where
        nothing was asked.
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
    method: str, labeled: PatchSet, pool: PatchSet, trainer: Trainer, *, judge: bool = True
) -> Learned:
    """Cross-fit a method, or the candidates of `auto`, and prepare the last training.

    Parameters
    ----------
    method : {"auto", "self-training", "fixmatch", "distillation"}
    labeled, pool : PatchSet
        Human labels; unlabeled patches.
    trainer : Trainer
        Of `compact`, one network; whatever is kept in the end, methods are judged by it.
    judge : bool
        Without, a named method is trained in folds only as far as its pseudo-labels need it, and
        there is no verdict; the kept network is the same.

    Raises
    ------
    DataError
        When labels or pool are too few for a method that was named; `auto` falls back to
        supervised and says why.
    """
    folds = draw_folds(labeled, pool, derive_seed(trainer.settings.seed, 0) % 2**32)
    few = candidates(len(pool), trainer.settings.seed)
    where = _Where(
        labeled=labeled, pool=pool.take(few), folds=folds, candidates=few, trainer=trainer
    )
    wanted = [method] if method != "auto" else verdict.candidates(len(labeled))
    parts = [where.part(SUPERVISED, number) for number in where.numbers]
    _plan(trainer, parts, wanted)
    supervised = _cross_fit(SUPERVISED, where, parts)
    share = _share(where, supervised, must=method in NEED_SHARE)
    wanted = [name for name in wanted if share is not None or name not in NEED_SHARE]
    tried: dict[str, CrossFit] = {}
    before: dict[str, CrossFit] = {}
    for name in wanted:
        if name == "self-training":
            before[name], last = _self_train(where, supervised, share, judge=judge)
            tried |= {name: last} if last is not None else {}
        elif judge or method == "auto":
            parts = [where.part(name, n, share) for n in where.numbers]
            tried[name] = _cross_fit(name, where, parts)
    verdicts = {
        name: _judge(name, where, found.logits, supervised.logits) for name, found in tried.items()
    }
    choice = None
    if method == "auto":
        choice = _choose(verdicts, len(labeled), share)
        method = choice.method
    return _conclude(method, where, supervised, tried, before, verdicts, share, choice)


@dataclasses.dataclass(frozen=True)
class _Where:
    """What all trainings of a comparison share."""

    labeled: PatchSet
    pool: PatchSet
    folds: Folds
    candidates: np.ndarray
    trainer: Trainer

    @property
    def numbers(self) -> range:
        return range(len(self.folds.folds))

    @property
    def human(self) -> TrainingSet:
        return human_only(self.labeled)

    @property
    def labeled_share(self) -> float:
        return float(self.labeled.labels.mean())

    def pool_rows(self, number: int) -> np.ndarray:
        """Rows of `pool` that a fold may learn from."""
        return np.flatnonzero(np.isin(self.candidates, self.folds.folds[number].pool))

    def held_out(self, number: int) -> TrainingSet:
        """Human labels of a fold; the recipes of these networks choose nothing by them."""
        return take(self.human, self.folds.folds[number].held_out)

    def part(self, method: str, number: int, share: ClassShare | None = None) -> Part:
        """Say what one fold's network is trained on, by a method without pseudo-labels."""
        fold = self.folds.folds[number]
        return Part(
            name=f"{method}-fold{number + 1}",
            train=take(self.human, fold.train),
            validation=self.held_out(number),
            purpose=_PURPOSES[method] + number,
            unlabeled=self.unlabeled(method, self.pool_rows(number), share),
        )

    def unlabeled(
        self, method: str, rows: np.ndarray, share: ClassShare | None
    ) -> Unlabeled | None:
        """Say how a method learns from rows of `pool`."""
        if method == "distillation":
            return Unlabeled("distillation", self.pool.images[rows])
        if method == "fixmatch":
            assert share is not None
            if len(rows) == 0:
                raise DataError(
                    f"{self.pool.source}: every unlabeled patch is of a fold's held-out places",
                    "Give unlabeled patches of other places, or choose --method supervised.",
                )
            pool_share = _bounded(share.share, _LEAST_ALIGNED)
            return Unlabeled(
                kind="fixmatch",
                pool=self.pool.images[rows],
                pool_share=pool_share,
                labeled_share=self.labeled_share,
            )
        return None


def _plan(trainer: Trainer, parts: list[Part], wanted: list[str]) -> None:
    """Tell how many epochs are ahead, at most: more labels may make longer and fewer ones."""
    folds = trainer.planned_epochs(*parts)
    trainings = [ROUNDS if name == "self-training" else 1 for name in wanted]
    trainer.progress.plan(folds * (1 + sum(trainings)) + folds // len(parts))


def candidates(count: int, seed: int) -> np.ndarray:
    """Choose the rows of a pool that are learned from: all, or `MOST_POOL` drawn at random."""
    if count <= MOST_POOL:
        return np.arange(count)
    random = np.random.default_rng(derive_seed(seed, _POOL_DRAW))
    return np.sort(random.choice(count, MOST_POOL, replace=False))


def _bounded(share: float, least: float = _LEAST_SHARE) -> float:
    return min(max(share, least), 1 - least)


def _cross_fit(method: str, where: _Where, parts: Sequence[Part]) -> CrossFit:
    """Train every fold's network, side by side, and ask it about its fold and its pool."""
    found = where.trainer.train(*parts)
    logits = np.full(len(where.labeled), np.nan, np.float32)
    pool_logits = []
    for number, (network, _) in enumerate(found):
        held_out = where.folds.folds[number].held_out
        logits[held_out] = predict_logits(network, where.labeled.images[held_out])
        pool_logits.append(predict_logits(network, where.pool.images[where.pool_rows(number)]))
    return CrossFit(
        method=method, logits=logits, pool_logits=pool_logits, parts=list(parts), first=found[0]
    )


def _share(where: _Where, supervised: CrossFit, *, must: bool) -> ClassShare | None:
    """Estimate the pool's share of craters from the answers of all folds' networks."""
    if not any(len(found) for found in supervised.pool_logits):
        if must:
            raise DataError(
                f"{where.pool.source}: no unlabeled patch is left to learn from",
                "Give unlabeled patches that are no copies of the labeled ones.",
            )
        return None
    # A patch stands once for each fold that may learn from it: it is drawn with all of these.
    rows = np.concatenate([where.pool_rows(number) for number in where.numbers])
    pool_logits = np.concatenate(supervised.pool_logits)

    # Whole source images of labels where each class has several, else single labels.
    failure: DataError | None = None
    for groups in [None] if where.labeled.groups is None else [where.labeled.groups, None]:
        try:
            found = class_share.estimate_class_share(
                where.labeled.labels, supervised.logits, pool_logits,
                groups=groups, pool_groups=rows,
            )  # fmt: skip
        except DataError as error:
            failure = error
        else:
            return dataclasses.replace(found, n_pool=len(np.unique(rows)))
    if must and failure is not None:
        raise failure
    return None


def _self_train(
    where: _Where, supervised: CrossFit, share: ClassShare | None, *, judge: bool
) -> tuple[CrossFit, CrossFit | None]:
    """Train in rounds; return the cross-fit that gave the last pseudo-labels, and the last one."""
    assert share is not None
    before = supervised
    for number in range(1, ROUNDS + 1):
        parts = [_taught(where, before, share, number, fold) for fold in where.numbers]
        if number == ROUNDS and not judge:
            return before, None
        last = _cross_fit("self-training", where, parts)
        if number < ROUNDS:
            before = last
    return before, last


def _taught(where: _Where, before: CrossFit, share: ClassShare, number: int, fold: int) -> Part:
    """Add the pseudo-labels that a fold's own network gives, in one round."""
    rows = where.pool_rows(fold)
    probability = _calibrated(where, before, before.pool_logits[fold], share)
    purpose = _PURPOSES["self-training"] + 10 * (number - 1) + fold
    train = take(where.human, where.folds.folds[fold].train)
    taught = _add(train, where, rows, probability, number, purpose)
    name = f"self-training-round{number}-fold{fold + 1}"
    return Part(name=name, train=taught, validation=where.held_out(fold), purpose=purpose)


def _calibrated(
    where: _Where, before: CrossFit, logits: np.ndarray, share: ClassShare
) -> np.ndarray:
    """Turn pool logits into probabilities at the pool's own share of craters."""
    line = class_share.calibration_line(where.labeled.labels, before.logits)
    return pseudo_labels.at_pool_share(logits, line, where.labeled_share, _bounded(share.share))


def _add(
    train: TrainingSet,
    where: _Where,
    rows: np.ndarray,
    probability: np.ndarray,
    number: int,
    purpose: int,
) -> TrainingSet:
    random = np.random.default_rng(derive_seed(where.trainer.settings.seed, _PSEUDO_DRAW, purpose))
    return pseudo_labels.add_sure(
        train, where.pool, rows, probability, where.labeled_share, random, number
    )


def _judge(method: str, where: _Where, logits: np.ndarray, reference: np.ndarray) -> Verdict:
    supervised = Scored(
        labels=where.labeled.labels, probability=sigmoid(reference), groups=where.labeled.groups
    )
    return verdict.compare_with_supervised(
        method, supervised, sigmoid(logits), n_folds=len(where.numbers)
    )


def _choose(verdicts: dict[str, Verdict], n_labels: int, share: ClassShare | None) -> Choice:
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
    where: _Where,
    supervised: CrossFit,
    tried: dict[str, CrossFit],
    before: dict[str, CrossFit],
    verdicts: dict[str, Verdict],
    share: ClassShare | None,
    choice: Choice | None,
) -> Learned:
    """Put together what the kept network is trained on."""
    labeled, rounds, everything = where.human, list[Round](), np.arange(len(where.pool))
    probability = np.full(len(where.pool), np.nan, np.float32)
    if share is not None:
        source = before.get(method, supervised)
        logits = _mean_logits(where, source)
        probability = _calibrated(where, source, logits, share)
    if method == "self-training":
        labeled = _add(labeled, where, everything, probability, ROUNDS, _PSEUDO_DRAW)
        rounds = _count_rounds(where, supervised, share, labeled)
    unlabeled = None
    if method in ("fixmatch", "distillation"):
        unlabeled = where.unlabeled(method, everything, share)
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
        folds=where.folds,
        candidates=where.candidates,
        pool_probability=probability,
    )


def _count_rounds(
    where: _Where, supervised: CrossFit, share: ClassShare | None, labeled: TrainingSet
) -> list[Round]:
    """Count what the whole pool was given: by the first round's networks, and for the last."""
    assert share is not None
    first = _calibrated(where, supervised, _mean_logits(where, supervised), share)
    earlier = _add(where.human, where, np.arange(len(where.pool)), first, 1, _PSEUDO_DRAW)
    found = []
    for number, training in ((1, earlier), (ROUNDS, labeled)):
        given = training.labels[training.origin == pseudo_labels.PSEUDO]
        craters = int((given == 1).sum())
        found.append(Round(number=number, with_crater=craters, without_crater=len(given) - craters))
    return found


def _mean_logits(where: _Where, found: CrossFit) -> np.ndarray:
    """Average over the networks that may be asked about each patch of the pool."""
    total, asked = np.zeros(len(where.pool)), np.zeros(len(where.pool))
    for number, logits in enumerate(found.pool_logits):
        rows = where.pool_rows(number)
        total[rows] += logits
        asked[rows] += 1
    return np.divide(total, asked, out=np.full(len(total), np.nan), where=asked > 0)
