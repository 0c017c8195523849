"""Metrics of binary classification, from confusion counts or by scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import ConfigError, DataError
from craters.evaluation.scored import Scored

# scikit-learn is imported in the functions that use it: counts need numpy only.

_TINY = np.finfo(np.float64).tiny  # instead of a divisor of 0; weights may be small


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of one prediction on labeled patches; shares are 0..1.

    Parameters
    ----------
    n : int
        Number of patches.
    decision_threshold : float
        Minimum probability of a patch predicted "with crater".
    loss : float
        Mean binary cross-entropy.
    brier : float
        Mean squared difference of probability and label, 0 best (Brier 1950,
        doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).
    accuracy, balanced_accuracy, macro_f1 : float
        Balanced accuracy is the mean recall of the classes that are present.
    crater_precision, crater_recall, crater_f1 : float
        Of the class "with crater"; 0 if no patch is predicted so.
    other_precision, other_recall, other_f1 : float
        Of the class "without crater".
    average_precision, roc_auc : float or None
        Independent of the threshold; None if a class is absent.
    confusion_matrix : list of list of int
        Rows true, columns predicted: [[TN, FP], [FN, TP]].
    """

    n: int
    decision_threshold: float
    loss: float
    brier: float
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


@dataclasses.dataclass(frozen=True)
class PriorFigures:
    """Expected metrics where the share of craters is `prior`.

    Parameters
    ----------
    prior : float
        Share of windows that contain a crater, 0..1.
    precision : float
        Share of the windows predicted "with crater" that contain one; 0 if none is predicted.
    recall : float
        Share of the windows with a crater that are found; independent of the prior.
    false_positives_per_1000 : float
        Windows without a crater that are predicted "with crater", per 1000 windows.
    """

    prior: float
    precision: float
    recall: float
    false_positives_per_1000: float


def confusion_table(labels: np.ndarray, called: np.ndarray) -> np.ndarray:
    """Compute the confusion matrix.

    Parameters
    ----------
    labels, called : ndarray of int, shape (N,)
        0 or 1.

    Returns
    -------
    ndarray of int, shape (2, 2)
        Rows true, columns predicted: [[TN, FP], [FN, TP]].

    Examples
    --------
    >>> confusion_table(np.array([0, 0, 1]), np.array([0, 1, 1])).tolist()
    [[1, 1], [0, 1]]
    """
    cell = 2 * np.asarray(labels, np.int64) + np.asarray(called, np.int64)
    return np.bincount(cell, minlength=4).reshape(2, 2)


def accuracy(table: np.ndarray) -> np.ndarray:
    """Compute the accuracy of confusion matrices (..., 2, 2)."""
    counts = np.asarray(table, np.float64)
    return (counts[..., 0, 0] + counts[..., 1, 1]) / np.maximum(counts.sum((-1, -2)), _TINY)


def recalls(table: np.ndarray) -> np.ndarray:
    """Compute the recall of each class of tables (..., 2, 2): shape (..., 2); 0 if absent."""
    return _share_right(table, -1)


def precisions(table: np.ndarray) -> np.ndarray:
    """Compute the precision of each class, as `recalls`; 0 if never predicted."""
    return _share_right(table, -2)


def _share_right(table: np.ndarray, axis: int) -> np.ndarray:
    counts = np.asarray(table, np.float64)
    return counts[..., [0, 1], [0, 1]] / np.maximum(counts.sum(axis), _TINY)


def class_f1(table: np.ndarray) -> np.ndarray:
    """Compute the F1 of each class, as `recalls`; 0 if absent and never predicted.

    F1 is 2 TP / (2 TP + FP + FN).
    """
    counts = np.asarray(table, np.float64)
    return 2 * counts[..., [0, 1], [0, 1]] / np.maximum(counts.sum(-1) + counts.sum(-2), _TINY)


def macro_f1(table: np.ndarray) -> np.ndarray:
    """Compute macro F1, the mean F1 of both classes, of tables (..., 2, 2).

    Parameters
    ----------
    table : array-like, shape (..., 2, 2)
        Counts, rows true, columns predicted.

    Returns
    -------
    ndarray, shape (...)

    Examples
    --------
    >>> macro_f1([[3, 0], [0, 5]]).item(), macro_f1([[0, 0], [0, 5]]).item()
    (1.0, 0.5)
    """
    return class_f1(table).mean(-1)


def measure(scored: Scored) -> Metrics:
    """Compute the metrics of predicted probabilities.

    Examples
    --------
    >>> found = Scored(labels=[0, 0, 1, 1], probability=[0.1, 0.6, 0.7, 0.9])
    >>> result = measure(found)
    >>> result.accuracy, result.confusion_matrix
    (0.75, [[1, 1], [0, 2]])
    """
    from sklearn import metrics as measures

    labels, probability = scored.labels, scored.probability
    table = confusion_table(labels, scored.called)
    precision, recall, f1 = precisions(table), recalls(table), class_f1(table)
    both = scored.has_both_classes
    return Metrics(
        n=len(labels),
        decision_threshold=scored.decision_threshold,
        loss=float(measures.log_loss(labels, probability, labels=[0, 1])),
        brier=float(measures.brier_score_loss(labels, probability, pos_label=1)),
        accuracy=float(accuracy(table)),
        balanced_accuracy=float(recall[table.sum(axis=1) > 0].mean()),
        macro_f1=float(macro_f1(table)),
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
        confusion_matrix=table.tolist(),
    )


def precision_recall_points(scored: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and thresholds of the class "with crater".

    Returns
    -------
    precision, recall : ndarray, shape (K + 1,)
        The last point is precision 1, recall 0.
    thresholds : ndarray, shape (K,)

    Examples
    --------
    >>> found = Scored(labels=[0, 1], probability=[0.2, 0.7])
    >>> precision, recall, _ = precision_recall_points(found)
    >>> precision.tolist(), recall.tolist()
    ([0.5, 1.0, 1.0], [1.0, 1.0, 0.0])
    """
    from sklearn import metrics as measures

    return measures.precision_recall_curve(scored.labels, scored.probability)


def roc_points(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Return the receiver operating characteristic of the class "with crater".

    Returns
    -------
    false_positive_rate, recall : ndarray, shape (K,)
        From (0, 0) to (1, 1); corners only.

    Examples
    --------
    >>> false_rate, recall = roc_points(Scored(labels=[0, 1], probability=[0.2, 0.7]))
    >>> false_rate.tolist(), recall.tolist()
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    from sklearn import metrics as measures

    false_rate, recall, _ = measures.roc_curve(scored.labels, scored.probability)
    return false_rate, recall


def at_prior(metrics: Metrics, prior: float) -> PriorFigures:
    """Estimate precision at another share of craters than in the measured set.

    Recall and specificity do not depend on the share of craters, precision does: a balanced test
    set overstates the precision of a scan with few craters. The estimate assumes that the windows
    of each class look like the measured patches.

    Parameters
    ----------
    metrics : Metrics
        Measured on patches of both classes.
    prior : float
        Share of windows that hold a crater, above 0 and below 1, e.g. 0.03.

    Raises
    ------
    ConfigError
        If `prior` is not between 0 and 1.
    DataError
        If a class is absent from the measured patches.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [10, 10])
    >>> probability = np.where(np.arange(20) % 10 == 0, 0.7, labels * 0.8)
    >>> found = measure(Scored(labels=labels, probability=probability))
    >>> round(found.crater_precision, 3), found.crater_recall, found.other_recall
    (0.909, 1.0, 0.9)
    >>> rare = at_prior(found, 0.03)
    >>> round(rare.precision, 3), round(rare.false_positives_per_1000, 6)
    (0.236, 97.0)
    """
    if not 0 < prior < 1:
        raise ConfigError(
            f"prior is {prior:g}, expected a share above 0 and below 1", "3 % is written 0.03."
        )
    if 0 in np.sum(metrics.confusion_matrix, axis=1):
        raise DataError(
            "a class is absent from the measured patches, so recall and specificity are not known",
            "Measure on patches with and without craters.",
        )
    true_share = prior * metrics.crater_recall
    false_share = (1 - prior) * (1 - metrics.other_recall)
    called = true_share + false_share
    return PriorFigures(
        prior=float(prior),
        precision=true_share / called if called else 0.0,
        recall=metrics.crater_recall,
        false_positives_per_1000=1000 * false_share,
    )


def confident_mistakes(scored: Scored, most: int = 12) -> np.ndarray:
    """Return the wrong predictions farthest from the threshold, worst first.

    Returns
    -------
    ndarray of int
        At most `most` row numbers.

    Examples
    --------
    >>> confident_mistakes(Scored(labels=[0, 0, 1], probability=[0.6, 0.9, 0.8])).tolist()
    [1, 0]
    """
    wrong = np.flatnonzero(scored.called != scored.labels)
    distance = np.abs(scored.probability[wrong] - scored.decision_threshold)
    return wrong[np.argsort(-distance, kind="stable")[:most]]
