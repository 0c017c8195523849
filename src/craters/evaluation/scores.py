"""What a job says of its predictions: the threshold by an aim, and figures with their intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES, PatchSet
from craters.errors import DataError
from craters.evaluation import calibration, conformal, intervals
from craters.evaluation.metrics import at_prior, measure

PRIOR = 0.03  # of windows that hold a crater, where an image is searched


STATISTICS = (
    "macro_f1", "accuracy", "roc_auc", "average_precision", "crater_precision", "crater_recall",
)  # fmt: skip
RISK = 0.1  # of prediction sets: how often the true class may be missing
FEW_GROUPS = 20  # below it, an interval over groups is too narrow

_FIGURE_WORDS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "crater_precision": "crater precision",
    "crater_recall": "crater recall",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score (0 best)",
}

FLATTERS = (
    "It was chosen on the validation patches, so their figures at it flatter; those without a "
    "threshold (ROC AUC, average precision, Brier score, calibration) do not depend on it."
)


def decision_threshold(
    labels: np.ndarray, probability: np.ndarray, aim: str | None, given: float
) -> float:
    """Return the threshold of predictions: the given one, or the one that serves an aim.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        Of validation patches.
    probability : ndarray, shape (N,)
        After the temperature, as predictions are.
    aim : str or None
        As `calibration.choose_threshold` takes it.
    given : float
        Holds where there is no aim.

    Raises
    ------
    DataError
        When validation cannot reach the aim; says what it can.

    Examples
    --------
    >>> labels, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9])
    >>> decision_threshold(labels, probability, None, 0.5)
    0.5
    >>> round(decision_threshold(labels, probability, "macro_f1", 0.5), 6)
    0.65
    """
    if aim is None:
        return given
    try:
        return calibration.choose_threshold(labels, probability, aim)
    except DataError as error:
        raise DataError(
            f"aim {aim}, on {len(labels)} validation patches: {error.message}",
            "Ask for less, by another --aim and --resume: what is trained is kept.",
        ) from error


def groups_of(ids: np.ndarray, known: PatchSet) -> np.ndarray | None:
    """Find the source images of patches by their ids.

    Parameters
    ----------
    ids : ndarray of str, shape (N,)
        All of them among `known.ids`.
    known : PatchSet

    Returns
    -------
    ndarray of str, shape (N,), or None
        None where source images are unknown.

    Examples
    --------
    >>> from craters.data import make_patch_set
    >>> groups = np.array(["east", "west"])
    >>> images = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    >>> known = make_patch_set(images, groups=groups)
    >>> groups_of(known.ids[[1, 0, 1]], known).tolist()
    ['west', 'east', 'west']
    """
    if known.groups is None:
        return None
    by_id = dict(zip(known.ids.tolist(), known.groups.tolist(), strict=True))
    return np.array([by_id[name] for name in ids.tolist()])


def score(
    labels: np.ndarray,
    probability: np.ndarray,
    decision_threshold: float,
    groups: np.ndarray | None = None,
    *,
    n_pseudo: int = 0,
) -> dict[str, Any]:
    """Gather what `evaluate.measure` does not say: intervals, calibration, a realistic prior.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1.
    probability : ndarray, shape (N,)
        Of "with crater", after the temperature.
    decision_threshold : float
    groups : ndarray, shape (N,), optional
        The source image of each patch.
    n_pseudo : int
        How many labels are pseudo-labels; above 0 no interval is given.

    Returns
    -------
    dict
        Plain values. "intervals" holds [low, high] by the names of `STATISTICS`; where there can
        be none it is empty, and "no_interval" says why.

    Examples
    --------
    >>> labels = np.tile([0, 1], 30)
    >>> probability = np.where(np.arange(60) % 5 == 0, 0.5, 0.2 + 0.6 * labels)
    >>> found = score(labels, probability, 0.5)
    >>> found["intervals_by"]["method"], sorted(found["intervals"]) == sorted(STATISTICS)
    ('percentile bootstrap over patches, within classes', True)
    >>> score(labels, probability, 0.5, np.full(60, "east"))["no_interval"]
    'no interval: all patches without crater are of one group (east), expected at least two groups'
    """
    mean, high = calibration.calibration_floor(probability)
    metrics = measure(labels, probability, decision_threshold)
    both = len(np.unique(labels)) == 2
    return _intervals(labels, probability, decision_threshold, groups, n_pseudo) | {
        "calibration": {
            "ece": calibration.expected_calibration_error(labels, probability),
            "ece_of_a_perfect_model": {"mean": mean, "p95": high},
        },
        "at_prior": dataclasses.asdict(at_prior(metrics, PRIOR)) if both else None,
    }


def _intervals(
    labels: np.ndarray,
    probability: np.ndarray,
    decision_threshold: float,
    groups: np.ndarray | None,
    n_pseudo: int,
) -> dict[str, Any]:
    """Find the intervals, or say in a sentence why there are none."""
    try:
        if n_pseudo:
            raise DataError(f"{n_pseudo} of the {len(labels)} labels are pseudo-labels")
        found = {
            name: intervals.bootstrap_interval(
                labels, probability, name, groups, decision_threshold=decision_threshold
            )
            for name in STATISTICS
        }
    except DataError as error:
        reason = f"no interval: {error.message}"
        return {"intervals": {}, "intervals_by": None, "no_interval": reason}
    one = found[STATISTICS[0]]  # all of them are of the same draws
    return {
        "intervals": {name: [interval.low, interval.high] for name, interval in found.items()},
        "intervals_by": {
            "level": one.level,
            "method": one.method,
            "n_groups": one.n_groups,
            "skipped": one.skipped,
            "remark": _doubt(one.n_groups),
        },
        "no_interval": None,
    }


def _doubt(n_groups: int | None) -> str | None:
    if n_groups is None:
        return "source images are unknown: intervals by patch are too narrow"
    if n_groups < FEW_GROUPS:
        return f"with fewer than {FEW_GROUPS} groups intervals are too narrow"
    return None


def figure_rows(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Lay out the figures of a scored set: name, value, and its interval or what to read it by.

    Parameters
    ----------
    row : dict
        The fields of `evaluate.Metrics` and of `score`.

    Returns
    -------
    list of (str, str, str)
    """
    rows = []
    for name, word in _FIGURE_WORDS.items():
        value = "n/a" if row[name] is None else f"{row[name]:.4f}"
        rows.append((word, value, _limits(row["intervals"].get(name))))
    floor = row["calibration"]["ece_of_a_perfect_model"]
    rows += [
        ("calibration error", f"{100 * row['calibration']['ece']:.1f} %", ""),
        (
            "that of a perfect model",
            f"{100 * floor['mean']:.1f} %",
            f"up to {100 * floor['p95']:.1f} %",
        ),
    ]
    prior, where = row["at_prior"], f"where {100 * PRIOR:g} % hold a crater"
    for name, word, form in (
        ("precision", f"precision {where}", ".4f"),
        ("recall", f"recall {where}", ".4f"),
        ("false_positives_per_1000", "false calls in 1000 such windows", ".0f"),
    ):
        rows.append((word, format(prior[name], form) if prior else "n/a", ""))
    return rows


def _limits(pair: list[float] | None) -> str:
    """Write an interval; one without width only says that the sample holds no counterexample."""
    if pair is None:
        return ""
    return f"{pair[0]:.4f} to {pair[1]:.4f}" if pair[0] < pair[1] else "every draw the same"


def conformal_scores(
    labels: np.ndarray, logits: np.ndarray, temperature: float
) -> dict[str, list[float]] | None:
    """Score validation patches for prediction sets, by class as the model folder keeps them.

    Parameters
    ----------
    labels, logits : ndarray, shape (N,)
        Of validation patches.
    temperature : float
        1 stands for "not calibrated".

    Returns
    -------
    dict of list of float, or None
        None where probabilities are not calibrated.

    Examples
    --------
    >>> conformal_scores(np.array([0, 1]), np.array([0.0, 0.0]), 2.0)
    {'without crater': [0.5], 'with crater': [0.5]}
    """
    if temperature == 1.0:
        return None
    probability = calibration.apply_temperature(logits, temperature)
    found = conformal.fit_conformal(labels, probability)
    rows = (found.without_crater, found.with_crater)
    return {name: list(row) for name, row in zip(CLASS_NAMES, rows, strict=True)}


def set_shares(
    by_class: dict[str, list[float]] | None, probability: np.ndarray, labels: np.ndarray
) -> dict[str, Any] | None:
    """Say what share of the test set prediction sets leave open, and how they did.

    Parameters
    ----------
    by_class : dict or None
        As `conformal_scores` returns it.
    probability : ndarray, shape (N,)
        Of the test set, after the temperature.
    labels : ndarray, shape (N,)
        Its truth; -1 where that is unknown.

    Returns
    -------
    dict or None
        Risk, n, the shares "unsure" and "none", and `conformal.SetFigures` as "against_truth"
        where the truth is known.

    Examples
    --------
    >>> by_class = {"without crater": [0.1] * 9 + [0.6], "with crater": [0.1] * 9 + [0.6]}
    >>> found = set_shares(by_class, np.array([0.05, 0.5, 0.95, 0.45]), np.full(4, -1))
    >>> found["unsure"], found["against_truth"]
    (0.5, None)
    """
    if by_class is None:
        return None
    scores = conformal.ConformalScores(*(tuple(by_class[name]) for name in CLASS_NAMES))
    sets = conformal.prediction_sets(probability, scores, RISK)
    is_known = bool((labels >= 0).all())
    truth = dataclasses.asdict(conformal.measure_sets(labels, sets, RISK)) if is_known else None
    return {
        "risk": RISK,
        "n": len(sets),
        "unsure": float(np.mean(sets == 3)),
        "none": float(np.mean(sets == 0)),
        "against_truth": truth,
    }
