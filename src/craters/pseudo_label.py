"""Labels given by the model, and where every training label came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.patches import PatchSet

HUMAN = "human"
PSEUDO = "pseudo"


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Labeled patches with the origin of every label, row by row.

    Parameters
    ----------
    images : ndarray, shape (N, H, W), uint8
    labels : ndarray, shape (N,), int8
        0 or 1.
    ids : ndarray of str, shape (N,)
    origin : ndarray of str, shape (N,)
        "human" or "pseudo".
    round : ndarray, shape (N,), int
        0 for human labels, else the round in which the label was given.
    probability : ndarray, shape (N,), float32
        Probability of "with crater" by which a pseudo-label was given; NaN for human labels.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    origin: np.ndarray
    round: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def human_only(patches: PatchSet) -> TrainingSet:
    """Start from human labels alone."""
    count = len(patches)
    return TrainingSet(
        images=patches.images,
        labels=patches.labels,
        ids=patches.ids,
        origin=np.full(count, HUMAN),
        round=np.zeros(count, np.int32),
        probability=np.full(count, np.nan, np.float32),
    )


def confident_without_crater(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Choose the unlabeled patches that the original script calls "without crater".

    The rule is one-sided: nothing is ever added to the class "with crater", so it shifts the
    class shares. It is kept because it is the original's.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Of "with crater".
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


def add_pseudo_labels(
    human: TrainingSet,
    pool: PatchSet,
    rows: np.ndarray,
    labels: np.ndarray,
    probability: np.ndarray,
    round_number: int = 1,
) -> TrainingSet:
    """Append rows of the pool with labels given by the model; human labels stay as they are.

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


def take(training: TrainingSet, rows: np.ndarray) -> TrainingSet:
    """Return the given rows as a training set of their own."""
    fields = dataclasses.fields(training)
    return TrainingSet(**{field.name: getattr(training, field.name)[rows] for field in fields})
