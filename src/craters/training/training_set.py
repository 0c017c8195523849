"""Labeled patches of one training, with the origin of every label."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import PatchSet

HUMAN = "human"


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
    """Return a training set of human labels only."""
    count = len(patches)
    return TrainingSet(
        images=patches.images,
        labels=patches.labels,
        ids=patches.ids,
        origin=np.full(count, HUMAN),
        round=np.zeros(count, np.int32),
        probability=np.full(count, np.nan, np.float32),
    )


def take(training: TrainingSet, rows: np.ndarray) -> TrainingSet:
    """Return the given rows as a new training set."""
    fields = dataclasses.fields(training)
    return TrainingSet(**{field.name: getattr(training, field.name)[rows] for field in fields})
