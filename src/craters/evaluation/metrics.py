"""Arrays in, numbers out: the measures of a two-class prediction, by scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import check_labels
from craters.errors import ConfigError, DataError

# scikit-learn is imported where it measures: deciding and checking need numpy only.


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
    brier : float
        Mean squared distance of the probability from the label, 0 best (Brier 1950,
        doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).
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
    """What a classifier would show where craters are as rare as `prior`.

    Parameters
    ----------
    prior : float
        The share of windows that hold a crater, 0..1.
    precision : float
        Share of the windows called "with crater" that hold one; 0 where none would be called.
    recall : float
        Share of the windows with a crater that are found; the prior does not change it.
    false_positives_per_1000 : float
        Windows without a crater that are called "with crater", in 1000 windows.
    """

    prior: float
    precision: float
    recall: float
    false_positives_per_1000: float


def check_probability(probability: np.ndarray) -> np.ndarray:
    """Return probabilities as float64, or say why they cannot be used.

    Parameters
    ----------
    probability : array-like, shape (N,)
        Of "with crater", 0..1.

    Raises
    ------
    DataError
        When nothing is there, or a value is out of range or NaN.

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
            "Turn logits into probabilities first.",
        )
    return values


def check_predictions(
    labels: np.ndarray, probability: np.ndarray, *, both_classes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int8 and probabilities as float64, or say why they cannot be used.

    Parameters
    ----------
    labels : array-like, shape (N,)
        0 without crater, 1 with crater.
    probability : array-like, shape (N,)
        Of "with crater", 0..1.
    both_classes : bool
        Refuse labels that hold one class only.

    Raises
    ------
    DataError
        When lengths differ, nothing is there, or values are out of range.

    Examples
    --------
    >>> labels, probability = check_predictions([0, 1], [0.25, 0.5])
    >>> labels.dtype, probability.dtype
    (dtype('int8'), dtype('float64'))
    """
    values = check_probability(probability)
    column = check_labels(np.asarray(labels), len(values), "labels")
    if both_classes and len(np.unique(column)) < 2:
        raise DataError(
            f"all {len(column)} labels are {column[0]}, expected both classes",
            "Take a set that holds patches with and without craters.",
        )
    return column, values


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
    from sklearn import metrics as measures

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
        brier=float(measures.brier_score_loss(labels, probability, pos_label=1)),
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

    Examples
    --------
    >>> precision, recall, _ = precision_recall_points(np.array([0, 1]), np.array([0.2, 0.7]))
    >>> precision.tolist(), recall.tolist()
    ([0.5, 1.0, 1.0], [1.0, 1.0, 0.0])
    """
    from sklearn import metrics as measures

    return measures.precision_recall_curve(labels, probability)


def roc_points(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the receiver operating characteristic of the class "with crater".

    Returns
    -------
    false_positive_rate, recall : ndarray, shape (K,)
        From (0, 0) to (1, 1); corners only.

    Examples
    --------
    >>> false_rate, recall = roc_points(np.array([0, 1]), np.array([0.2, 0.7]))
    >>> false_rate.tolist(), recall.tolist()
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    from sklearn import metrics as measures

    false_rate, recall, _ = measures.roc_curve(labels, probability)
    return false_rate, recall


def at_prior(metrics: Metrics, prior: float) -> PriorFigures:
    """Say what precision becomes where craters have another share than in the measured set.

    Recall and specificity do not depend on the share of craters, precision does: a balanced test
    set flatters a classifier that will scan a plain with few craters. It holds where the windows
    of each class look like those that were measured.

    Parameters
    ----------
    metrics : Metrics
        Measured on patches of both classes.
    prior : float
        Share of windows that hold a crater, above 0 and below 1, e.g. 0.03.

    Raises
    ------
    ConfigError
        When `prior` is not between 0 and 1.
    DataError
        When a class was absent from the measured patches.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [10, 10])
    >>> found = measure(labels, np.where(np.arange(20) % 10 == 0, 0.7, labels * 0.8))
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


def confident_mistakes(
    labels: np.ndarray, probability: np.ndarray, decision_threshold: float, most: int = 12
) -> np.ndarray:
    """Find the wrong predictions that are farthest from the threshold, worst first.

    Returns
    -------
    ndarray of int
        At most `most` row numbers.

    Examples
    --------
    >>> confident_mistakes(np.array([0, 0, 1]), np.array([0.6, 0.9, 0.8]), 0.5).tolist()
    [1, 0]
    """
    wrong = np.flatnonzero(decide(probability, decision_threshold) != labels)
    distance = np.abs(probability[wrong] - decision_threshold)
    return wrong[np.argsort(-distance, kind="stable")[:most]]
