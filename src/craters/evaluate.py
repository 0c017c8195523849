"""Arrays in, numbers out: the measures of a two-class prediction, by scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn import metrics as measures


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Measures of one prediction on labeled patches; shares are 0..1.

    Parameters
    ----------
    n : int
        Patches.
    decision_threshold : float
        A patch is "with crater" where its probability reaches it.
    loss : float
        Mean binary cross-entropy.
    accuracy, balanced_accuracy, macro_f1 : float
        Balanced: the mean recall of the classes that are present.
    crater_precision, crater_recall, crater_f1 : float
        Of the class "with crater"; 0 where no patch is predicted so.
    other_precision, other_recall, other_f1 : float
        Of the class "without crater".
    average_precision, roc_auc : float or None
        Without a threshold; None where a class is absent.
    confusion_matrix : list of list of int
        Rows true, columns predicted: [[TN, FP], [FN, TP]].
    """

    n: int
    decision_threshold: float
    loss: float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    crater_precision: float
    crater_recall: float
    crater_f1: float
    other_precision: float
    other_recall: float
    other_f1: float
    average_precision: float | None
    roc_auc: float | None
    confusion_matrix: list[list[int]]


def decide(probability: np.ndarray, decision_threshold: float) -> np.ndarray:
    """Call patches "with crater" (1) where the probability reaches the threshold, else 0.

    Examples
    --------
    >>> decide(np.array([0.2, 0.5, 0.9]), 0.5).tolist()
    [0, 1, 1]
    """
    return (probability >= decision_threshold).astype(np.int32)


def measure(
    labels: np.ndarray, probability: np.ndarray, decision_threshold: float = 0.5
) -> Metrics:
    """Measure probabilities against human labels.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 without crater, 1 with crater.
    probability : ndarray, shape (N,)
        Of "with crater".
    decision_threshold : float

    Returns
    -------
    Metrics

    Examples
    --------
    >>> result = measure(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9]))
    >>> result.accuracy, result.confusion_matrix
    (0.75, [[1, 1], [0, 2]])
    """
    probability = np.asarray(probability, np.float64)
    predicted = decide(probability, decision_threshold)
    precision, recall, f1, _ = measures.precision_recall_fscore_support(
        labels, predicted, labels=[0, 1], zero_division=0.0
    )
    present = np.unique(labels)
    both = len(present) == 2
    balanced = measures.recall_score(
        labels, predicted, labels=present, average="macro", zero_division=0.0
    )
    return Metrics(
        n=len(labels),
        decision_threshold=decision_threshold,
        loss=float(measures.log_loss(labels, probability, labels=[0, 1])),
        accuracy=float(measures.accuracy_score(labels, predicted)),
        balanced_accuracy=float(balanced),
        macro_f1=float(np.mean(f1)),
        crater_precision=float(precision[1]),
        crater_recall=float(recall[1]),
        crater_f1=float(f1[1]),
        other_precision=float(precision[0]),
        other_recall=float(recall[0]),
        other_f1=float(f1[0]),
        average_precision=(
            float(measures.average_precision_score(labels, probability)) if both else None
        ),
        roc_auc=float(measures.roc_auc_score(labels, probability)) if both else None,
        confusion_matrix=measures.confusion_matrix(labels, predicted, labels=[0, 1]).tolist(),
    )


def precision_recall_points(
    labels: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and thresholds of the class "with crater".

    Returns
    -------
    precision, recall : ndarray, shape (K + 1,)
        The last point is precision 1, recall 0.
    thresholds : ndarray, shape (K,)
    """
    return measures.precision_recall_curve(labels, probability)


def confident_mistakes(
    labels: np.ndarray, probability: np.ndarray, decision_threshold: float, most: int = 12
) -> np.ndarray:
    """Find the wrong predictions that are farthest from the threshold, worst first.

    Returns
    -------
    ndarray of int
        At most `most` row numbers.
    """
    wrong = np.flatnonzero(decide(probability, decision_threshold) != labels)
    distance = np.abs(probability[wrong] - decision_threshold)
    return wrong[np.argsort(-distance, kind="stable")[:most]]
