"""Conformal prediction: sets of classes with bounded error rate for each class.

Fitted on validation patches: the sorted scores of each class. Needs numpy only.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.data import CLASS_NAMES, check_labels
from craters.errors import ConfigError, DataError
from craters.evaluation.scored import Scored, check_probability

# The code of a prediction set is its place here: 1 for class 0, plus 2 for class 1.
SET_NAMES = ("none", *CLASS_NAMES, "unsure")


@dataclasses.dataclass(frozen=True)
class ConformalScores:
    """The sorted nonconformity scores of the calibration patches of each class.

    A score is one minus the probability of the true class. Plain numbers:
    `dataclasses.asdict` gives JSON values, and `ConformalScores(**loaded)` restores them.

    Parameters
    ----------
    without_crater, with_crater : tuple of float
        Ascending, 0..1, at least one each.

    Raises
    ------
    DataError
        If scores are missing, out of range or not sorted.

    Examples
    --------
    >>> ConformalScores([0.1, 0.4], [0.2]).without_crater
    (0.1, 0.4)
    """

    without_crater: tuple[float, ...]
    with_crater: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("without_crater", "with_crater"):
            scores = np.asarray(getattr(self, name), np.float64)
            usable = scores.ndim == 1 and len(scores) > 0
            if not (usable and scores[0] >= 0 and scores[-1] <= 1 and (np.diff(scores) >= 0).all()):
                raise DataError(
                    f"conformal scores {name}: expected at least one, ascending, 0..1",
                    "Make them by `fit_conformal`.",
                )
            object.__setattr__(self, name, tuple(scores.tolist()))


@dataclasses.dataclass(frozen=True)
class SetFigures:
    """Coverage and sizes of prediction sets on labeled patches; shares are 0..1.

    Parameters
    ----------
    n : int
        Patches.
    risk : float
        Requested rate, per class, at which sets miss the true class.
    coverage_without_crater, coverage_with_crater : float or None
        Share of the class whose set contains it; None if the class is absent.
    unsure, none : float
        Share of sets with both classes, and with no class.
    error_when_sure : float or None
        Share of single-class sets with the wrong class; None if there is no such set.
    """

    n: int
    risk: float
    coverage_without_crater: float | None
    coverage_with_crater: float | None
    unsure: float
    none: float
    error_when_sure: float | None


def fit_conformal(scored: Scored) -> ConformalScores:
    """Fit class-conditional conformal prediction on validation patches.

    Class-conditional (Mondrian): coverage is guaranteed for each class, whatever the class
    balance, if new patches are exchangeable with these.

    Parameters
    ----------
    scored : Scored
        Patches that no training used; both classes present.

    Returns
    -------
    ConformalScores

    Raises
    ------
    DataError
        If a class is absent.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5.

    Examples
    --------
    >>> fit_conformal(Scored(labels=[0, 1, 1], probability=[0.25, 0.5, 0.75]))
    ConformalScores(without_crater=(0.25,), with_crater=(0.25, 0.5))
    """
    scored.check_both_classes()
    without, crater = (
        np.sort(scores[scored.labels == label])
        for label, scores in enumerate(_nonconformity(scored.probability))
    )
    return ConformalScores(without_crater=tuple(without), with_crater=tuple(crater))


def _nonconformity(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nonconformity to each class: one minus the probability of that class."""
    return 1 - (1 - probability), 1 - probability


def conformal_quantiles(scores: ConformalScores, risk: float) -> tuple[float, float]:
    """Compute, for each class, the highest nonconformity that is included in prediction sets.

    `sets_by_quantiles` needs only these two numbers.

    Parameters
    ----------
    scores : ConformalScores
    risk : float
        Share of each class that may be missed, above 0 and below 1.

    Returns
    -------
    without_crater, with_crater : float
        0..1; 1 if the class has too few scores for this risk (about 1 / risk are needed), so that
        it is in every set.

    Raises
    ------
    ConfigError
        If `risk` is not between 0 and 1.

    Examples
    --------
    >>> scores = ConformalScores(np.linspace(0, 0.9, 10), np.linspace(0, 0.5, 6))
    >>> [round(limit, 6) for limit in conformal_quantiles(scores, 0.2)]
    [0.8, 0.5]
    >>> conformal_quantiles(scores, 0.05)
    (1.0, 1.0)
    """
    check_risk(risk)
    return _limit(scores.without_crater, risk), _limit(scores.with_crater, risk)


def check_risk(risk: float) -> None:
    """Raise ConfigError unless a risk is above 0 and below 1.

    Raises
    ------
    ConfigError
    """
    if not 0 < risk < 1:
        raise ConfigError(
            f"risk is {risk:g}, expected a share above 0 and below 1", "10 % is written 0.1."
        )


def _limit(scores: tuple[float, ...], risk: float) -> float:
    """Return the highest score a with (1 + how many reach a) / (n + 1) >= risk."""
    # The small number keeps 0.07 * 100 from being 7.000000000000001, hence 8.
    reaching = math.ceil(risk * (len(scores) + 1) - 1e-9) - 1
    return scores[len(scores) - reaching] if reaching > 0 else 1.0


def prediction_sets(probability: np.ndarray, scores: ConformalScores, risk: float) -> np.ndarray:
    """Return the prediction set of each patch at the chosen risk.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Of "with crater", by the same network and temperature as those of `fit_conformal`.
    scores : ConformalScores
    risk : float
        Share of each class that may be missed, above 0 and below 1.

    Returns
    -------
    ndarray, shape (N,), int8
        Index into `SET_NAMES`: 0 none, 1 without crater, 2 with crater, 3 unsure (both). "none"
        resembles neither class at this risk; treat it like "unsure".

    Examples
    --------
    >>> scored = Scored(labels=np.repeat([0, 1], 9), probability=np.linspace(0.1, 0.9, 18))
    >>> scores = fit_conformal(scored)
    >>> sets = prediction_sets(np.array([0.05, 0.5, 0.95]), scores, 0.2)
    >>> [SET_NAMES[code] for code in sets]
    ['without crater', 'none', 'with crater']
    """
    return sets_by_quantiles(probability, conformal_quantiles(scores, risk))


def sets_by_quantiles(probability: np.ndarray, quantiles: tuple[float, float]) -> np.ndarray:
    """Build prediction sets from the limits of `conformal_quantiles`.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Of "with crater".
    quantiles : tuple of float
        Highest nonconformity of "without crater" and of "with crater".

    Returns
    -------
    ndarray, shape (N,), int8
        As in `prediction_sets`.

    Examples
    --------
    >>> sets_by_quantiles(np.array([0.1, 0.5, 0.9]), (0.6, 0.6)).tolist()
    [1, 3, 2]
    """
    other, crater = _nonconformity(check_probability(probability))
    codes = (other <= quantiles[0]).astype(np.int8)
    return codes + np.int8(2) * (crater <= quantiles[1]).astype(np.int8)


def measure_sets(labels: np.ndarray, sets: np.ndarray, risk: float) -> SetFigures:
    """Compute coverage and size of prediction sets on labeled patches not used for fitting.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1.
    sets : ndarray, shape (N,)
        Codes from `prediction_sets`.
    risk : float
        Risk of the sets; repeated in the result.

    Returns
    -------
    SetFigures

    Examples
    --------
    >>> found = measure_sets(np.array([0, 0, 1, 1]), np.array([1, 2, 2, 3]), 0.1)
    >>> found.coverage_without_crater, found.coverage_with_crater, found.unsure
    (0.5, 1.0, 0.25)
    """
    codes = np.asarray(sets)
    if codes.ndim != 1 or len(codes) == 0 or not np.isin(codes, range(4)).all():
        raise DataError("prediction sets: expected codes 0 to 3, one a row, at least one")
    column = check_labels(np.asarray(labels), len(codes), "labels")
    covered = (codes & (column + 1)) != 0
    sure = (codes == 1) | (codes == 2)
    return SetFigures(
        n=len(codes),
        risk=float(risk),
        coverage_without_crater=_share(covered[column == 0]),
        coverage_with_crater=_share(covered[column == 1]),
        unsure=float(np.mean(codes == 3)),
        none=float(np.mean(codes == 0)),
        error_when_sure=_share(~covered[sure]),
    )


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None
