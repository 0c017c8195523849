"""Predictions with their labels; logits to probabilities to predicted labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import check_groups, check_labels
from craters.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Labels and predicted probabilities of patches, validated once.

    Parameters
    ----------
    labels : array-like, shape (N,)
        0 without crater, 1 with crater; kept as int8.
    probability : array-like, shape (N,)
        Of "with crater", 0..1; kept as float64.
    decision_threshold : float
        Minimum probability of a patch predicted "with crater".
    groups : array-like, shape (N,), optional
        The source image of each patch, by name or whole number; kept as str.
    logits : ndarray, shape (N,), optional
        Before temperature scaling, if something is fitted to them.

    Raises
    ------
    DataError
        If lengths differ, there are no patches, or values are out of range.

    Examples
    --------
    >>> scored = Scored(labels=[0, 1], probability=[0.25, 0.5])
    >>> scored.labels.dtype, scored.probability.dtype, scored.called.tolist()
    (dtype('int8'), dtype('float64'), [0, 1])
    """

    labels: np.ndarray
    probability: np.ndarray
    decision_threshold: float = 0.5
    groups: np.ndarray | None = None
    logits: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = check_probability(self.probability)
        labels = check_labels(np.asarray(self.labels), len(values), "labels")
        object.__setattr__(self, "probability", values)
        object.__setattr__(self, "labels", labels)
        if self.groups is not None:
            groups = check_groups(np.asarray(self.groups), len(values), "groups")
            object.__setattr__(self, "groups", groups)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def called(self) -> np.ndarray:
        """Predicted label of each patch at the threshold: 1 with crater, 0 without; int32."""
        return decide(self.probability, self.decision_threshold)

    @property
    def has_both_classes(self) -> bool:
        """Whether the labels contain both classes."""
        return len(np.unique(self.labels)) == 2

    def check_both_classes(self) -> None:
        """Raise DataError if the labels contain one class only.

        Raises
        ------
        DataError
        """
        if not self.has_both_classes:
            raise DataError(
                f"all {len(self)} labels are {self.labels[0]}, expected both classes",
                "Use a set of patches with and without craters.",
            )


def check_probability(probability: np.ndarray) -> np.ndarray:
    """Return probabilities as float64; raise if they are invalid.

    Parameters
    ----------
    probability : array-like, shape (N,)
        Of "with crater", 0..1.

    Raises
    ------
    DataError
        If there are no values, or one is out of range or NaN.

    Examples
    --------
    >>> check_probability([0.25, 1]).tolist()
    [0.25, 1.0]
    """
    values = np.asarray(probability, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(
            f"probabilities have shape {values.shape}, expected (N,) with N of at least 1"
        )
    outside = ~((values >= 0) & (values <= 1))  # NaN is outside too
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"probability of row {row} is {values[row]:g}, expected 0..1",
            "Convert logits to probabilities first.",
        )
    return values


def decide(probability: np.ndarray, decision_threshold: float) -> np.ndarray:
    """Predict labels: 1 ("with crater") if the probability reaches the threshold, else 0.

    The threshold is rounded to the precision of the probabilities first.

    Parameters
    ----------
    probability : ndarray of float, any shape
    decision_threshold : float

    Returns
    -------
    ndarray of int32
        The same shape.

    Examples
    --------
    >>> decide(np.array([0.2, 0.5, 0.9]), 0.5).tolist()
    [0, 1, 1]
    >>> decide(np.array([0.7], np.float32), 0.7).tolist()
    [1]
    """
    return (probability >= probability.dtype.type(decision_threshold)).astype(np.int32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Convert logits to probabilities, 1 / (1 + exp(-logit)), without overflow.

    Parameters
    ----------
    logits : ndarray, any shape
        Computed in float64, whatever their precision.

    Returns
    -------
    ndarray, float64
        The same shape, 0..1.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    values = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)
