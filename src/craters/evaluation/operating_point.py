"""The threshold of a catalogue of candidates that gives a wanted precision, without its truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from craters.errors import ConfigError
from craters.evaluation.scored import sigmoid

_ROUNDS = 200  # of expectation and maximization, at most
_SAME = 1e-7  # change of the share at which they end
_LEAST_SHARE = 1e-4  # of craters among the candidates: keeps the odds finite
_DROP = 1.92  # of the log likelihood at the ends of a 95 % interval
_NORMAL = 1.96
_PART = 1 << 18  # candidates in temporary arrays at once: a scene may have millions


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
    logits = np.asarray(logits, np.float64)
    n = len(logits)
    if not n:
        return SceneProbability(np.zeros(0), share, (0.0, 1.0))
    kinds = np.zeros(n, int) if strata is None else np.asarray(strata)
    probability, total = np.empty(n), np.zeros(3)
    for kind in np.unique(kinds):
        inside = kinds == kind
        evidence = logits[inside]  # log likelihood ratio
        evidence *= slope
        evidence += offset - odds
        best = _best_share(evidence, share)
        ends = _share_interval(evidence, best)
        for part in _parts(evidence):
            evidence[part] = _posterior(evidence[part], best)
        probability[inside] = evidence
        total += np.array([best, *ends]) * len(evidence) / n
    return SceneProbability(probability, float(total[0]), (float(total[1]), float(total[2])))


def _parts(values: np.ndarray) -> Iterator[slice]:
    """Yield slices of limited size that make up an array."""
    for start in range(0, len(values), _PART):
        yield slice(start, min(start + _PART, len(values)))


def _best_share(evidence: np.ndarray, start: float) -> float:
    """Return the share of craters of the highest likelihood."""
    best = start
    for _ in range(_ROUNDS):
        last = best
        total = sum(float(_posterior(evidence[part], best).sum()) for part in _parts(evidence))
        best = min(max(total / len(evidence), _LEAST_SHARE), 1 - _LEAST_SHARE)
        if abs(best - last) < _SAME:
            break
    return best


def _posterior(evidence: np.ndarray, share: float) -> np.ndarray:
    return sigmoid(evidence + np.log(share / (1 - share)))


def _share_interval(evidence: np.ndarray, best: float) -> tuple[float, float]:
    """Return the shares whose likelihood is not much below that of the best."""
    ratio = np.minimum(evidence, 30)
    np.exp(ratio, out=ratio)

    def likelihood(share: float) -> float:
        return sum(float(np.log(share * ratio[part] + 1 - share).sum()) for part in _parts(ratio))

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
    rising = np.sort(np.asarray(probability, np.float64))
    falling = rising[::-1]
    if threshold is None:
        count = _count_precise(falling, target)
        threshold = float(falling[count - 1]) if count else float("inf")
    n = len(rising) - int(np.searchsorted(rising, threshold))  # with all of equal probability
    if not n:
        return OperatingPoint(threshold, None, None, 0)
    detected = falling[:n]
    ends = tuple(
        _shifted_precision(detected, sign * _NORMAL, scatter, off)
        for sign, off in zip((-1, 1), shift, strict=True)
    )
    return OperatingPoint(threshold, float(detected.mean()), (ends[0], ends[1]), n)


def _count_precise(falling: np.ndarray, target: float) -> int:
    """Return how many of the surest candidates have a mean probability of the target."""
    total = 0.0
    for part in _parts(falling):
        sums = falling[part].copy()
        sums[0] += total
        np.cumsum(sums, out=sums)
        is_precise = sums / np.arange(part.start + 1, part.stop + 1) >= target
        if not is_precise.all():  # the means fall
            return part.start + int(np.count_nonzero(is_precise))
        total = float(sums[-1])
    return len(falling)


def _shifted_precision(
    detected: np.ndarray, deviations: float, scatter: float, off: float
) -> float:
    """Return the precision at one end of its interval, so many standard deviations away."""
    total = variance = 0.0
    for part in _parts(detected):
        p = detected[part]
        logits = np.log(np.clip(p, 1e-9, 1 - 1e-9) / np.clip(1 - p, 1e-9, 1))
        shifted = sigmoid(logits + off + deviations * scatter)
        total += float(shifted.sum())
        variance += float((shifted * (1 - shifted)).sum())
    n = len(detected)
    return min(max(total / n + deviations * variance**0.5 / n, 0.0), 1.0)
