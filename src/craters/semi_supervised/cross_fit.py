"""Train a method without each fold of the labels, and predict that fold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from craters.data import PatchSet
from craters.errors import DataError
from craters.evaluation import ClassShare
from craters.models import Network
from craters.semi_supervised.folds import Folds
from craters.semi_supervised.start_choice import (
    SHARES,
    StartChoice,
    choose_share,
    cross_fit_share,
)
from craters.semi_supervised.verdict import SUPERVISED
from craters.training import (
    KEPT,
    Trainer,
    TrainingRun,
    TrainingSet,
    TrainState,
    Unlabeled,
    human_only,
    predict_logits,
    take,
)

Predictor = Callable[[np.ndarray], np.ndarray]  # from patches to logits

PURPOSES = {SUPERVISED: 10, "fixmatch": 20, "distillation": 30, "self-training": 40}  # of seeds
LEAST_SHARE = 0.01  # of a class in the pool: keeps the odds finite
_LEAST_ALIGNED = 0.1  # for FixMatch: below it, a few confident predictions dominate


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """Out-of-fold predictions of one method.

    Parameters
    ----------
    method : str
    logits : ndarray, shape (N,), float32
        Out-of-fold logits of the human-labeled patches.
    pool_logits : list of ndarray
        Logits of the pool rows that each fold may use, by that fold's network; empty if not asked.
    runs : list of TrainingRun
        Training data of each fold's network.
    first : (Network, TrainState)
        The first fold's network and its final state.
    start_choice : StartChoice or None
        How far the networks move from the pretrained model; None for methods that use the pool,
        and for networks that start from random weights.
    refitted : Network or None
        The network of the run that was trained beside the folds, if any.
    """

    method: str
    logits: np.ndarray
    pool_logits: list[np.ndarray]
    runs: list[TrainingRun]
    first: tuple[Network, TrainState]
    start_choice: StartChoice | None = None
    refitted: Network | None = None


@dataclasses.dataclass(frozen=True)
class CrossFitContext:
    """Data, folds and trainer shared by all trainings of a cross-fit."""

    labeled: PatchSet
    pool: PatchSet
    folds: Folds
    candidates: np.ndarray
    trainer: Trainer

    @property
    def numbers(self) -> range:
        """Indices of the folds."""
        return range(len(self.folds.folds))

    @property
    def human(self) -> TrainingSet:
        """All human labels."""
        return human_only(self.labeled)

    @property
    def labeled_share(self) -> float:
        """Share of craters among the human labels."""
        return float(self.labeled.labels.mean())

    def pool_rows(self, number: int) -> np.ndarray:
        """Return the rows of `pool` that a fold may use for training."""
        return np.flatnonzero(np.isin(self.candidates, self.folds.folds[number].pool))

    def held_out(self, number: int) -> TrainingSet:
        """Return the held-out human labels of a fold; they do not influence the training."""
        return take(self.human, self.folds.folds[number].held_out)

    def training_run(
        self, method: str, number: int, share: ClassShare | None = None
    ) -> TrainingRun:
        """Describe the training of one fold's network by a method without pseudo-labels.

        Only the first fold's network is validated after each epoch, for the learning curve.
        """
        fold = self.folds.folds[number]
        return TrainingRun(
            name=f"{method}-fold{number + 1}",
            train=take(self.human, fold.train),
            validation=self.held_out(number) if number == 0 else None,
            purpose=PURPOSES[method] + number,
            unlabeled=self.unlabeled(method, self.pool_rows(number), share),
        )

    def unlabeled(
        self, method: str, rows: np.ndarray, share: ClassShare | None
    ) -> Unlabeled | None:
        """Describe how a method learns from rows of `pool`."""
        if method == "distillation":
            return Unlabeled("distillation", self.pool.images[rows])
        if method == "fixmatch":
            assert share is not None
            if len(rows) == 0:
                raise DataError(
                    f"{self.pool.source}: every unlabeled patch lies in a fold's held-out places",
                    "Give unlabeled patches from other places, or choose --method supervised.",
                )
            pool_share = bounded(share.share, _LEAST_ALIGNED)
            return Unlabeled(
                kind="fixmatch",
                pool=self.pool.images[rows],
                pool_share=pool_share,
                labeled_share=self.labeled_share,
            )
        return None


def bounded(share: float, least: float = LEAST_SHARE) -> float:
    """Return a share that is at least `least` and at most 1 - `least`."""
    return min(max(share, least), 1 - least)


def cross_fit(
    method: str,
    context: CrossFitContext,
    runs: Sequence[TrainingRun],
    *,
    on_pool: bool = True,
    refit: TrainingRun | None = None,
    first: tuple[Network, TrainState] | None = None,
) -> CrossFit:
    """Train the networks of all folds in parallel, and predict held-out labels and pool with each.

    Parameters
    ----------
    method : str
    context : CrossFitContext
    runs : sequence of TrainingRun
        Of each fold.
    on_pool : bool
        Whether to predict the pool.
    refit : TrainingRun, optional
        A training on all labels, in parallel with the folds.
    first : (Network, TrainState), optional
        The first fold's network, if it is trained already.
    """
    trainer, folds = context.trainer, context.folds.folds
    together = [*runs, *([refit] if refit is not None else [])]
    known = [] if first is None else [first]
    trained = [*known, *trainer.train(*together[len(known) :])]
    choice = None
    networks = [network for network, _ in trained]
    if method == SUPERVISED and trainer.is_pretrained:
        blends = [
            dict(zip(SHARES, trainer.blends(run, state, SHARES), strict=True))
            for run, (_, state) in zip(together, trained, strict=True)
        ]
        by_share = {KEPT: _out_of_fold(context, [trainer.start_logits] * len(folds))} | {
            share: _out_of_fold(
                context, _predictors([each[share] for each in blends[: len(folds)]])
            )
            for share in SHARES
            if share != KEPT
        }
        choice = choose_share(context.labeled.labels, by_share)
        held_out = [fold.held_out for fold in folds]
        logits = cross_fit_share(context.labeled.labels, held_out, by_share)
        networks = [each[choice.share] for each in blends]
    else:
        logits = _out_of_fold(context, _predictors(networks[: len(folds)]))
    return CrossFit(
        method=method,
        logits=logits,
        pool_logits=_pool_logits(context, networks[: len(folds)]) if on_pool else [],
        runs=list(runs),
        first=(networks[0], trained[0][1]),
        start_choice=choice,
        refitted=networks[-1] if refit is not None else None,
    )


def _predictors(networks: Sequence[Network]) -> list[Predictor]:
    return [functools.partial(predict_logits, network) for network in networks]


def _out_of_fold(context: CrossFitContext, predictors: Sequence[Predictor]) -> np.ndarray:
    """Predict the held-out labels of each fold by its predictor."""
    logits = np.full(len(context.labeled), np.nan, np.float32)
    for fold, predict in zip(context.folds.folds, predictors, strict=True):
        logits[fold.held_out] = predict(context.labeled.images[fold.held_out])
    return logits


def _pool_logits(context: CrossFitContext, networks: Sequence[Network]) -> list[np.ndarray]:
    """Predict the pool rows that each fold may use by its network."""
    return [
        predict_logits(network, context.pool.images[context.pool_rows(number)])
        for number, network in enumerate(networks)
    ]
