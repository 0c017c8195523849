"""Select pseudo-labels and add them to a training set, with the origin of every label."""

from __future__ import annotations

import numpy as np

from craters.data import PatchSet
from craters.evaluation import sigmoid
from craters.training import TrainingSet

PSEUDO = "pseudo"
CONFIDENCE = 0.9  # least calibrated probability of two-sided pseudo-labels


def confident_without_crater(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Select the unlabeled patches that the original script pseudo-labels "without crater".

    The rule is one-sided: it adds nothing to the class "with crater", so it shifts the class
    shares. It is kept to reproduce the original script.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Probability of "with crater".
    threshold : float
        Rows strictly below it are taken; 0 takes none.

    Returns
    -------
    ndarray of int
        Row numbers.

    Examples
    --------
    >>> confident_without_crater(np.array([0.1, 0.25, 0.9]), 0.25).tolist()
    [0]
    """
    return np.flatnonzero(probability < threshold)


def confident_both_ways(
    probability: np.ndarray, labeled_share: float, random: np.random.Generator
) -> np.ndarray:
    """Select confident unlabeled patches of both classes, in the class shares of the labels.

    A patch is confident if its predicted class has a probability of at least `CONFIDENCE`. All
    confident patches of one class are taken. Those of the other are drawn at random so that the
    share of craters equals that of the labels. A pool in which craters are rare then does not shift
    the network's prior, as the one-sided rule does.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Probability of "with crater", calibrated at the pool's share of craters.
    labeled_share : float
        Share of craters among the human labels, above 0 and below 1.
    random : numpy Generator

    Returns
    -------
    ndarray of int
        Sorted row numbers; the label of a row is 1 if its probability is above 0.5. Empty if one
        class has no confident patch.

    Examples
    --------
    >>> rows = confident_both_ways(
    ...     np.array([0.01, 0.02, 0.03, 0.99, 0.6]), 0.5, np.random.default_rng(0)
    ... )
    >>> len(rows), 3 in rows, 4 in rows
    (2, True, False)
    """
    sure = [
        np.flatnonzero(probability <= 1 - CONFIDENCE),
        np.flatnonzero(probability >= CONFIDENCE),
    ]
    shares = np.array([1 - labeled_share, labeled_share])
    most = np.array([len(rows) for rows in sure]) / shares  # patches, if that class were the limit
    counts = np.floor(most.min() * shares + 1e-9).astype(int)
    if counts.min() == 0:
        return np.zeros(0, np.int64)
    drawn = [random.permutation(rows)[:count] for rows, count in zip(sure, counts, strict=True)]
    return np.sort(np.concatenate(drawn))


def at_pool_share(
    logits: np.ndarray, line: tuple[float, float], labeled_share: float, pool_share: float
) -> np.ndarray:
    """Convert logits to calibrated probabilities at the pool's share of craters.

    Parameters
    ----------
    logits : ndarray, shape (N,)
    line : (float, float)
        Slope and offset that turn logits into log odds at the labels' share (Platt 1999).
    labeled_share, pool_share : float
        Shares of craters, above 0 and below 1. The odds are multiplied by the ratio of
        the two shares' odds (Saerens et al. 2002).

    Returns
    -------
    ndarray, shape (N,), float32

    Examples
    --------
    >>> round(float(at_pool_share(np.array([0.0]), (1.0, 0.0), 0.5, 0.1)[0]), 3)
    0.1
    """
    slope, offset = line
    shift = np.log(pool_share / (1 - pool_share)) - np.log(labeled_share / (1 - labeled_share))
    odds = np.clip(slope * np.asarray(logits, np.float64) + offset + shift, -50, 50)
    return sigmoid(odds).astype(np.float32)


def add_pseudo_labels(
    human: TrainingSet,
    pool: PatchSet,
    rows: np.ndarray,
    labels: np.ndarray,
    probability: np.ndarray,
    round_number: int = 1,
) -> TrainingSet:
    """Append pseudo-labeled rows of the pool to a training set.

    Parameters
    ----------
    human : TrainingSet
    pool : PatchSet
        Unlabeled patches.
    rows : ndarray of int, shape (n,)
        Accepted rows of the pool.
    labels : ndarray, shape (n,)
        Their labels.
    probability : ndarray, shape (n,)
        Probability of "with crater" by which they were accepted.
    round_number : int
        1 for the first round.
    """
    count = len(rows)
    return TrainingSet(
        images=np.concatenate([human.images, pool.images[rows]]),
        labels=np.concatenate([human.labels, labels.astype(human.labels.dtype)]),
        ids=np.concatenate([human.ids, pool.ids[rows]]),
        origin=np.concatenate([human.origin, np.full(count, PSEUDO)]),
        round=np.concatenate([human.round, np.full(count, round_number, np.int32)]),
        probability=np.concatenate([human.probability, probability.astype(np.float32)]),
    )


def add_sure(
    start: TrainingSet,
    pool: PatchSet,
    rows: np.ndarray,
    probability: np.ndarray,
    labeled_share: float,
    random: np.random.Generator,
    round_number: int = 1,
) -> TrainingSet:
    """Append the rows of the pool that `confident_both_ways` selects.

    Parameters
    ----------
    start : TrainingSet
    pool : PatchSet
        Unlabeled patches.
    rows : ndarray of int, shape (n,)
        Candidate rows of the pool.
    probability : ndarray, shape (n,)
        Probability of "with crater" of these rows.
    labeled_share : float
    random : numpy Generator
    round_number : int
    """
    chosen = confident_both_ways(probability, labeled_share, random)
    labels = (probability[chosen] > 0.5).astype(np.int8)
    return add_pseudo_labels(start, pool, rows[chosen], labels, probability[chosen], round_number)
