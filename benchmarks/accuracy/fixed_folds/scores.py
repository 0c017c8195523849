"""Score fixed folds with and without copies, and average regions over folds and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from accuracy.fixed_folds.folds import Copies, FoldSet
from craters.evaluation import Scored, metrics
from craters.training import sigmoid

DECISION_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class Region:
    """A region with its out-of-fold predictions.

    Parameters
    ----------
    data : FoldSet
    copies : Copies
    seeds : list of int
    logits : ndarray, shape (seeds, N), float32
        Of each patch, by the networks trained without its fold.
    """

    data: FoldSet
    copies: Copies
    seeds: list[int]
    logits: np.ndarray

    def scores(self) -> list[list[FoldScore]]:
        """Score every fold, by seed."""
        return [score_folds(self.data, self.copies, logits) for logits in self.logits]


@dataclasses.dataclass(frozen=True)
class FoldScore:
    """Metrics of one held-out fold.

    Parameters
    ----------
    fold : int
        Its number.
    exact, near : int
        Its patches with a copy among the training patches, as in `Copies`.
    official : Metrics
        Of all its patches.
    without_copies : Metrics or None
        Of those without a copy; None if a class is missing among them.
    """

    fold: int
    exact: int
    near: int
    official: metrics.Metrics
    without_copies: metrics.Metrics | None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One metric of a region over its folds and seeds.

    Parameters
    ----------
    mean : float
        Mean over folds and seeds.
    standard_error : float or None
        Over folds, each the mean of its seeds; None with one fold.
    sd : float or None
        Standard deviation of the seeds' means; None with one seed.
    folds, seeds : list of float
        Mean of each fold over seeds, and mean of each seed over folds.
    """

    mean: float
    standard_error: float | None
    sd: float | None
    folds: list[float]
    seeds: list[float]


def score_folds(data: FoldSet, copies: Copies, logits: np.ndarray) -> list[FoldScore]:
    """Score the out-of-fold predictions of one seed, fold by fold.

    Parameters
    ----------
    data : FoldSet
    copies : Copies
    logits : ndarray, shape (N,)
        Of each patch, by the networks trained without its fold.
    """
    probability, scores = sigmoid(logits), []
    for number in data.numbers:
        rows = data.folds == number
        scores.append(
            FoldScore(
                fold=number,
                exact=int(copies.exact[rows].sum()),
                near=int(copies.near[rows].sum()),
                official=metrics.measure(
                    Scored(
                        labels=data.labels[rows],
                        probability=probability[rows],
                        decision_threshold=DECISION_THRESHOLD,
                    )
                ),
                without_copies=_measure_kept(data.labels, probability, rows & ~copies.either),
            )
        )
    return scores


def _measure_kept(
    labels: np.ndarray, probability: np.ndarray, rows: np.ndarray
) -> metrics.Metrics | None:
    """Score some rows; None unless they hold both classes."""
    if len(np.unique(labels[rows])) < 2:
        return None
    return metrics.measure(
        Scored(
            labels=labels[rows],
            probability=probability[rows],
            decision_threshold=DECISION_THRESHOLD,
        )
    )


def pooled_f1(data: FoldSet, logits: np.ndarray, rows: np.ndarray) -> float | None:
    """Return the crater F1 of the pooled predictions of all folds, on the chosen rows.

    Parameters
    ----------
    data : FoldSet
    logits : ndarray, shape (N,)
    rows : ndarray of bool, shape (N,)

    Returns
    -------
    float or None
        None where a class is absent from the rows.
    """
    measured = _measure_kept(data.labels, sigmoid(logits), rows)
    return None if measured is None else measured.crater_f1


def estimate(
    scores: Sequence[Sequence[FoldScore]], measure: str, *, without_copies: bool = False
) -> Estimate | None:
    """Average the scores of folds and seeds.

    Parameters
    ----------
    scores : sequence of sequence of FoldScore
        By seed, then by fold.
    measure : str
        A field of `metrics.Metrics`, such as "crater_f1".
    without_copies : bool
        Use the score without copies, over the folds that have one.

    Returns
    -------
    Estimate or None
        None where no fold has such a score.
    """
    rows = []
    for seed in scores:
        scored = [fold.without_copies if without_copies else fold.official for fold in seed]
        rows.append([getattr(metric, measure) for metric in scored if metric is not None])
    table = np.array(rows, np.float64)  # which folds have a score does not depend on the seed
    if table.shape[1] == 0:
        return None
    folds, seeds = table.mean(axis=0), table.mean(axis=1)
    return Estimate(
        mean=float(table.mean()),
        standard_error=float(folds.std(ddof=1) / len(folds) ** 0.5) if len(folds) > 1 else None,
        sd=float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        folds=folds.tolist(),
        seeds=seeds.tolist(),
    )
