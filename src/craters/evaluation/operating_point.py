"""The threshold of a catalogue of candidates that gives a wanted precision, without its truth."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import ConfigError
from craters.evaluation.scored import sigmoid

_ROUNDS = 200  # of expectation and maximization, at most
_SAME = 1e-7  # change of the share at which they end
_LEAST_SHARE = 1e-4  # of craters among the candidates: keeps the odds finite
_DROP = 1.92  # of the log likelihood at the ends of a 95 % interval
_NORMAL = 1.96


@dataclasses.dataclass(frozen=True)
class SceneProbability:
    """Probabilities of the candidates of a scene, at its own share of craters.

    Parameters
    ----------
    probability : ndarray, shape (N,)
    share : float
        Share of craters among the candidates, estimated without truth.
    interval : tuple of float
        95 % interval of the share, if the scene is like those of the calibration; with strata, the
        mean of their intervals.
    """

    probability: np.ndarray
    share: float
    interval: tuple[float, float]

    @property
    def shift(self) -> tuple[float, float]:
        """How far the log odds of all probabilities may be off, since the share is uncertain."""
        low, best, high = np.clip(
            (self.interval[0], self.share, self.interval[1]), _LEAST_SHARE, 1 - _LEAST_SHARE
        )
        odds = np.log(np.array([low, best, high]) / (1 - np.array([low, best, high])))
        return float(odds[0] - odds[1]), float(odds[2] - odds[1])


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the precision expected of the candidates that reach it.

    Parameters
    ----------
    threshold : float
        Least probability of a detection; above 1 if no candidate can be one.
    precision : float or None
        Expected share of craters among the detections; None without detections.
    interval : tuple of float, or None
        95 % interval of the precision.
    n : int
        Number of detections.
    """

    threshold: float
    precision: float | None
    interval: tuple[float, float] | None
    n: int


def scene_probability(
    logits: np.ndarray,
    *,
    slope: float,
    offset: float,
    share: float,
    strata: np.ndarray | None = None,
) -> SceneProbability:
    """Calibrate the logits of a scene's candidates at the scene's own share of craters.

    `slope` and `offset` calibrate where the share of craters is `share`. The scene's share is the
    one of the highest likelihood, found by expectation and maximization (Saerens et al. 2002), if
    craters and other candidates have the logits that they have there and only their numbers differ.

    Parameters
    ----------
    logits : ndarray, shape (N,)
    slope, offset : float
        The logit of the probability is `slope` times the logit plus `offset`.
    share : float
        Above 0 and below 1.
    strata : ndarray of int, shape (N,), optional
        Kinds of candidates, such as small and large ones, each with a share of its own.

    Returns
    -------
    SceneProbability
        Without candidates, with the share and the interval 0 to 1.

    Raises
    ------
    ConfigError
        If the share is outside its limits.

    Examples
    --------
    >>> scene = scene_probability(np.array([4.0, 3.0, -4.0]), slope=1, offset=0, share=0.5)
    >>> round(scene.share, 2), scene.probability.round(2).tolist()
    (0.67, [0.99, 0.98, 0.04])
    """
    if not 0 < share < 1:
        raise ConfigError(f"share is {share:g}, expected more than 0 and less than 1")
    odds = np.log(share / (1 - share))
    evidence = slope * np.asarray(logits, np.float64) + offset - odds  # log likelihood ratio
    n = len(evidence)
    if not n:
        return SceneProbability(np.zeros(0), share, (0.0, 1.0))
    kinds = np.zeros(n, int) if strata is None else np.asarray(strata)
    probability, total = np.empty(n), np.zeros(3)
    for kind in np.unique(kinds):
        inside = kinds == kind
        best = _best_share(evidence[inside], share)
        probability[inside] = _posterior(evidence[inside], best)
        ends = _share_interval(evidence[inside], best)
        total += np.array([best, *ends]) * inside.sum() / n
    return SceneProbability(probability, float(total[0]), (float(total[1]), float(total[2])))


def _best_share(evidence: np.ndarray, start: float) -> float:
    """Return the share of craters of the highest likelihood."""
    best = start
    for _ in range(_ROUNDS):
        last = best
        best = float(np.clip(_posterior(evidence, best).mean(), _LEAST_SHARE, 1 - _LEAST_SHARE))
        if abs(best - last) < _SAME:
            break
    return best


def _posterior(evidence: np.ndarray, share: float) -> np.ndarray:
    return sigmoid(evidence + np.log(share / (1 - share)))


def _share_interval(evidence: np.ndarray, best: float) -> tuple[float, float]:
    """Return the shares whose likelihood is not much below that of the best."""
    ratio = np.exp(np.minimum(evidence, 30))

    def likelihood(share: float) -> float:
        return float(np.log(share * ratio + 1 - share).sum())

    least = likelihood(best) - _DROP
    ends = []
    for outside in (_LEAST_SHARE, 1 - _LEAST_SHARE):
        inside, limit = best, outside
        if likelihood(limit) >= least:
            ends.append(limit)
            continue
        for _ in range(40):
            middle = (inside + limit) / 2
            inside, limit = (middle, limit) if likelihood(middle) >= least else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def operating_point(
    probability: np.ndarray,
    target: float = 0.8,
    *,
    threshold: float | None = None,
    scatter: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> OperatingPoint:
    """Choose the lowest threshold at which the expected precision reaches a target.

    The expected precision is the mean probability of the detections. Its interval covers their
    number, how far calibrations of scenes differ, and the uncertainty of the scene's share, which
    is large where there are few candidates.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Calibrated at the scene's share of craters.
    target : float
        Wanted precision, above 0 and at most 1.
    threshold : float, optional
        Used instead of the target.
    scatter : float
        Standard deviation over scenes of the error of the calibration, in logits.
    shift : tuple of float
        Of `SceneProbability`; by default, the share counts as known.

    Returns
    -------
    OperatingPoint

    Raises
    ------
    ConfigError
        If the target is outside its limits.

    Examples
    --------
    >>> operating_point(np.array([0.9, 0.7, 0.2]), 0.8).n
    2
    """
    if not 0 < target <= 1:
        raise ConfigError(f"precision is {target:g}, expected more than 0, up to 1")
    falling = np.sort(np.asarray(probability, np.float64))[::-1]
    if threshold is None:
        means = np.cumsum(falling) / np.arange(1, len(falling) + 1)
        count = int(np.count_nonzero(means >= target))  # the means fall
        threshold = float(falling[count - 1]) if count else float("inf")
    detected = falling[falling >= threshold]  # with all candidates of equal probability
    if not len(detected):
        return OperatingPoint(threshold, None, None, 0)
    logits = np.log(np.clip(detected, 1e-9, 1 - 1e-9) / np.clip(1 - detected, 1e-9, 1))
    ends = []
    for sign, off in zip((-1, 1), shift, strict=True):
        shifted = sigmoid(logits + off + sign * _NORMAL * scatter)
        error = np.sqrt((shifted * (1 - shifted)).sum()) / len(shifted)
        ends.append(float(np.clip(shifted.mean() + sign * _NORMAL * error, 0, 1)))
    return OperatingPoint(threshold, float(detected.mean()), (ends[0], ends[1]), len(detected))
