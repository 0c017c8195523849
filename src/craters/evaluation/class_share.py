"""Estimate the share of unlabeled patches with a crater (class prior)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from craters.data import check_groups, check_labels
from craters.errors import ConfigError, DataError
from craters.evaluation.resampling import (
    Draw,
    bootstrap,
    group_weights,
    has_both,
    percentile_limits,
    row_weights,
    table_counts,
)

ShareMethod = Literal["likelihood", "confusion"]

LEAST_OF_A_CLASS = 5  # labeled patches, to fit two parameters

LEAST_P = 0.01  # of the fit of a mix of the labeled classes, to state a share

_FIT_BINS = 4, 10  # fewest and most bins of logits of the test of fit
_IN_BIN = 10  # labeled patches of the rarer class in a bin, on average
_LEAST_TO_TEST = 80  # labeled patches of the rarer class: with fewer, chance fires the test
_SHARES = np.linspace(0, 1, 101)  # that are tried for the best fit
_FEWEST_SETS = 3  # measured sets, for an interval without labels
_LEAST_SHARE = 1e-3  # of measured sets, so that their log odds are finite
_MOST_BINS = 4096  # bins of pool logits; enough for a million patches
_RATIO_LIMIT = 30.0  # of the log likelihood ratio, so that no single patch dominates
_ROOT_ERROR = 1e-15  # tolerance of the maximum-likelihood share


@dataclasses.dataclass(frozen=True)
class ClassShare:
    """The share of patches with a crater in an unlabeled set.

    Parameters
    ----------
    share, low, high : float
        The estimate and its bootstrap interval, 0..1.
    level : float
        Confidence level.
    method : str
    n_labeled, n_pool : int
    labeled_share : float
        Share of craters in the labeled patches, for comparison.
    p_of_fit : float
        P-value of the test that the predictions on the unlabeled set are those of a mix of the two
        labeled classes, as the estimate assumes; 1 without a test, which needs 80 of each class.
    """

    share: float
    low: float
    high: float
    level: float
    method: str
    n_labeled: int
    n_pool: int
    labeled_share: float
    p_of_fit: float = 1.0

    @property
    def is_estimable(self) -> bool:
        """Whether the predictions may be those of a mix of the labeled classes."""
        return self.p_of_fit >= LEAST_P

    @property
    def sentence(self) -> str:
        """Describe the estimate in words."""
        if not self.is_estimable:
            return (
                "The share of unlabeled patches that contain a crater cannot be estimated: the "
                "predictions on them are not those of any mix of the labeled patches with and "
                f"without crater (p = {self.p_of_fit:.3f}), so they show other terrain; of the "
                f"labeled ones, {self.labeled_share:.1%}."
            )
        return (
            f"About {self.share:.1%} of the unlabeled patches contain a crater ({self.level:.0%} "
            f"interval {self.low:.1%} to {self.high:.1%}); of the labeled ones, "
            f"{self.labeled_share:.1%}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON: share and interval are None if not estimable."""
        content = dataclasses.asdict(self) | {"sentence": self.sentence, "used": self.share}
        return content if self.is_estimable else content | dict.fromkeys(("share", "low", "high"))


@dataclasses.dataclass(frozen=True)
class CalledShare:
    """The share of patches that a model calls "with crater", where no label says more.

    Parameters
    ----------
    share : float
        Of `n` patches, 0..1.
    low, high : float or None
        Ends of the interval of the true share; None if the error of the model is not known.
    n : int
    n_sets : int
        Number of measured sets that the interval rests on.
    """

    share: float
    low: float | None
    high: float | None
    n: int
    n_sets: int

    @property
    def sentence(self) -> str:
        """Describe the share in words, without a full stop."""
        text = f"{self.share:.1%} of {self.n:,} patches are called with crater"
        if self.low is None or self.high is None:
            return text
        return f"{text}; the true share may lie between {self.low:.1%} and {self.high:.1%}"

    @property
    def remark(self) -> str:
        """State what the interval is based on."""
        if self.low is None:
            return (
                "How far the share called with crater is from the true share was not measured for "
                "this model: only labels can show it."
            )
        return (
            f"The interval of the true share is as wide as the model's largest error on "
            f"{self.n_sets} sets of real patches with labels; it would hold for {self.n_sets} of "
            f"{self.n_sets + 1} sets that differ as those do. Labels make it narrow."
        )


def called_share(called: int, n: int, measured: Sequence[tuple[float, float]]) -> CalledShare:
    """Estimate a share of craters without labels, from the number of patches called so.

    The error of a model on other images is not random from patch to patch: it calls too many or too
    few craters in all of them, which nothing but labels shows. So the interval is not a bootstrap:
    it adds to the log odds of the share, in both directions, the largest error of log odds on sets
    of patches with labels. If those sets and these patches were drawn alike, it would hold with
    probability k / (k + 1) for k sets (the largest of k + 1 exchangeable errors is any of them).

    Parameters
    ----------
    called, n : int
        Patches called with crater, of at least one.
    measured : sequence of (float, float)
        For each set: share called with crater, and true share. Fewer than three: no interval.

    Returns
    -------
    CalledShare

    Examples
    --------
    >>> share = called_share(50, 100, [(0.5, 0.5), (0.2, 0.2), (0.5, 0.8)])
    >>> share.share, round(share.low, 3), round(share.high, 3)
    (0.5, 0.2, 0.8)
    """
    if not 0 <= called <= n or n < 1:
        raise DataError(f"found {called} of {n} patches called with crater, expected at most all")
    low = high = None
    if len(measured) >= _FEWEST_SETS:
        shares = np.clip(np.asarray(measured, np.float64), _LEAST_SHARE, 1 - _LEAST_SHARE)
        odds = np.log(shares / (1 - shares))
        error = float(np.abs(odds[:, 1] - odds[:, 0]).max())
        own = np.log((called + 0.5) / (n - called + 0.5))
        low, high = (float(1 / (1 + np.exp(-(own + step)))) for step in (-error, error))
        low, high = min(low, called / n), max(high, called / n)
    return CalledShare(called / n, low, high, n, len(measured))


def estimate_class_share(
    labels: np.ndarray,
    logits: np.ndarray,
    pool_logits: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    pool_groups: np.ndarray | None = None,
    method: ShareMethod = "likelihood",
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> ClassShare:
    """Estimate the share of craters in an unlabeled set from a classifier's predictions.

    Assumes label shift: patches of a class look alike in both sets, and only the class shares
    differ. If the pool shows other terrain, neither method is valid: `p_of_fit` is small if no mix
    of the labeled classes gives the distribution of the pool's logits. With few labels, only large
    differences show. The interval therefore spans those of both methods, which a pool of other
    terrain misleads to different degrees.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1, of patches that the network was not trained on; at least five of each class.
    logits : ndarray, shape (N,)
        Of those patches, by the network.
    pool_logits : ndarray, shape (M,)
        Of the unlabeled patches, by the same network, or by one trained alike.
    groups, pool_groups : ndarray, optional
        Source images; if given, the bootstrap draws whole images.
    method : {"likelihood", "confusion"}
        "likelihood": logits are calibrated by Platt scaling (1999), and the share of maximum
        likelihood is returned, to which the EM of Saerens et al. (2002) converges; Alexandari et
        al. (2020) found it the most accurate with such calibration. "confusion": the share that
        explains the number of pool patches predicted as craters, given the true and false positive
        rates on the labeled patches (BBSE, Lipton et al. 2018).
    draws : int
        Number of bootstrap draws, at least 2; each resamples labeled patches and pool.
    level : float
    seed : int

    Returns
    -------
    ClassShare

    Raises
    ------
    DataError
        If there are too few labels of a class, no pool, or non-finite values.
    ConfigError

    References
    ----------
    Saerens, Latinne and Decaestecker, Neural Computation 14, 2002; Lipton, Wang and Smola, ICML
    2018, arXiv 1802.03916; Alexandari, Kundaje and Shrikumar, ICML 2020, arXiv 1901.06852.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> labels, truth = np.repeat([0, 1], 200), random.random(2000) < 0.1
    >>> logits, pool = (3 * (2 * kind - 1) + 2 * random.normal(size=len(kind))
    ...                 for kind in (labels, truth))
    >>> found = estimate_class_share(labels, logits, pool)
    >>> found.low < 0.1 < found.high, bool(abs(found.share - truth.mean()) < 0.02)
    (True, True)
    """
    column, values = _check_labeled(labels, logits)
    pool = _check_finite(pool_logits, "pool logits")
    if method not in get_args(ShareMethod):
        raise ConfigError(f"method is {method!r}, expected likelihood or confusion")
    if draws < 2 or not 0 < level < 1:
        raise ConfigError(
            f"draws is {draws} and level {level:g}, expected at least 2, and a share of 1"
        )
    bins, centres = _bin(pool)
    full = np.bincount(bins, minlength=len(centres)).astype(float)
    estimates = _likelihood, _confusion
    estimate = estimates[get_args(ShareMethod).index(method)]
    share = estimate(column, values, np.ones(len(column)), centres, full)
    draw_labeled = row_weights(column, _check_groups(groups, len(column)))
    draw_pool = _pool_counts(bins, full, _check_groups(pool_groups, len(pool)))

    fit = _MixtureFit(column, values, centres, full)

    def statistic(drawn: tuple[np.ndarray, np.ndarray]) -> tuple[float, ...] | None:
        weights, counts = drawn
        if not has_both(column, weights):
            return None
        shares = (each(column, values, weights, centres, counts) for each in estimates)
        return *shares, fit.by_chance(weights, counts)

    drawn = bootstrap(
        lambda random: (draw_labeled(random), draw_pool(random)), statistic, draws=draws, seed=seed
    )
    if len(drawn) < 2:
        raise DataError(
            "the labeled patches of a class are of too few source images to draw from",
            "Omit the groups, and report that the interval is too narrow.",
        )
    low, high = percentile_limits(drawn[:, :2], (1 - level) / 2)
    can_test = np.bincount(column).min() >= _LEAST_TO_TEST
    p_of_fit = (1 + (drawn[:, 2] >= fit.distance).sum()) / (1 + len(drawn)) if can_test else 1
    return ClassShare(
        share=share,
        low=float(min(*low, share)),
        high=float(max(*high, share)),
        level=level,
        method=method,
        n_labeled=len(column),
        n_pool=len(pool),
        labeled_share=float(column.mean()),
        p_of_fit=float(p_of_fit),
    )


class _MixtureFit:
    """How well a mix of the labeled classes explains the distribution of the pool's logits.

    The distance is Pearson's, over some bins, at the share of the best fit. Its distribution by
    chance is that of draws of labeled patches, and of the pool around the best mix.

    Parameters
    ----------
    labels, logits : ndarray, shape (N,)
    centres, counts : ndarray, shape (B,)
        The bins of the pool.
    """

    def __init__(
        self, labels: np.ndarray, logits: np.ndarray, centres: np.ndarray, counts: np.ndarray
    ) -> None:
        rarer = int(np.bincount(labels, minlength=2).min())
        number = int(np.clip(rarer // _IN_BIN, *_FIT_BINS))
        steps = np.arange(1, number) / number
        edges = np.unique(
            np.mean([np.quantile(logits[labels == label], steps) for label in (0, 1)], axis=0)
        )
        self.labels, self.size = labels, len(edges) + 1
        self.labeled, self.pool = (np.searchsorted(edges, each) for each in (logits, centres))
        self.seen = self._shares(self.pool, counts)
        classes = self._classes(np.ones(len(labels)))
        self.distance, self.best = self._closest(classes, self.seen)

    def by_chance(self, weights: np.ndarray, counts: np.ndarray) -> float:
        """Return the distance of a draw of labeled patches and pool, if the best mix is true."""
        drawn = self.best + self._shares(self.pool, counts) - self.seen
        return self._closest(self._classes(weights), np.maximum(drawn, 0))[0]

    def _shares(self, bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
        counts = np.bincount(bins, weights=weights, minlength=self.size)
        return counts / counts.sum()

    def _classes(self, weights: np.ndarray) -> np.ndarray:
        """Return the distribution of each class over the bins, never 0."""
        rows = []
        for label in (0, 1):
            inside = self.labels == label
            counts = np.bincount(self.labeled[inside], weights[inside], minlength=self.size) + 0.5
            rows.append(counts / counts.sum())
        return np.array(rows)

    @staticmethod
    def _closest(classes: np.ndarray, seen: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the distance to the best mix, and that mix."""
        mixes = np.outer(1 - _SHARES, classes[0]) + np.outer(_SHARES, classes[1])
        distances = ((seen - mixes) ** 2 / mixes).sum(axis=1)
        place = int(distances.argmin())
        return float(distances[place]), mixes[place]


def calibration_line(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Fit the slope and offset that turn logits into log odds (Platt 1999).

    Parameters
    ----------
    labels, logits : ndarray, shape (N,)
        Of patches that the network was not trained on; at least five of each class.

    Returns
    -------
    slope, offset : float

    Raises
    ------
    DataError

    Examples
    --------
    >>> slope, offset = calibration_line(np.repeat([0, 1], 50), np.tile([-1.0, 1.0, 1, 1, 1], 20))
    >>> abs(slope) < 0.05, abs(offset) < 0.05
    (True, True)
    """
    column, values = _check_labeled(labels, logits)
    return _platt(column, values, np.ones(len(column)))[:2]


def _check_labeled(labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = _check_finite(logits, "logits")
    column = check_labels(np.asarray(labels), len(values), "labels").astype(np.int64)
    counts = np.bincount(column, minlength=2)
    if counts.min() < LEAST_OF_A_CLASS:
        raise DataError(
            f"found {counts[0]} labeled patches without and {counts[1]} with crater, expected at "
            f"least {LEAST_OF_A_CLASS} of each to estimate the share of a class",
            "Label more patches.",
        )
    return column, values


def _check_finite(logits: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(logits, np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise DataError(f"{name}: found {values.shape}, expected finite numbers of shape (N,)")
    return values


def _bin(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin pool patches by logit: return the bin of each patch, and the mean of each bin."""
    order = np.argsort(pool, kind="stable")
    bins = np.empty(len(pool), np.int64)
    count = min(len(pool), _MOST_BINS)
    bins[order] = np.arange(len(pool)) * count // len(pool)
    sums = np.bincount(bins, weights=pool, minlength=count)
    return bins, sums / np.bincount(bins, minlength=count)


def _check_groups(groups: np.ndarray | None, count: int) -> np.ndarray | None:
    return None if groups is None else check_groups(np.asarray(groups), count, "groups")


def _pool_counts(bins: np.ndarray, full: np.ndarray, groups: np.ndarray | None) -> Draw[np.ndarray]:
    """Prepare draws of the pool; a draw is the number of patches in each bin."""
    if groups is None:
        return table_counts(full)
    draw = group_weights(groups)
    return lambda random: np.bincount(bins, weights=draw(random), minlength=len(full))


def _likelihood(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray, pool: np.ndarray, n: np.ndarray
) -> float:
    """Find the maximum-likelihood share, the root of a decreasing derivative."""
    from scipy.optimize import brentq

    slope, offset, odds = _platt(labels, logits, weights)
    ratio = np.exp(np.clip(slope * pool + offset - odds, -_RATIO_LIMIT, _RATIO_LIMIT))

    def derivative(share: float) -> float:
        return float((n * (ratio - 1) / (share * ratio + 1 - share)).sum())

    if derivative(0.0) <= 0:
        return 0.0
    if derivative(1.0) >= 0:
        return 1.0
    return float(brentq(derivative, 0.0, 1.0, xtol=_ROOT_ERROR, rtol=_ROOT_ERROR))


def _platt(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> tuple[float, float, float]:
    """Fit p = sigmoid(slope * logit + offset) with Platt's softened targets; and the log odds."""
    from scipy.optimize import minimize

    count = np.bincount(labels, weights=weights, minlength=2)
    soft = np.where(labels == 1, (count[1] + 1) / (count[1] + 2), 1 / (count[0] + 2))
    scale = max(float(logits.std()), 1e-6)  # the solver works best near one
    values, share = logits / scale, weights / weights.sum()

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        line = coefficients[0] * values + coefficients[1]
        gap = share * (1 / (1 + np.exp(-np.clip(line, -50, 50))) - soft)
        value = (share * (np.logaddexp(0, line) - soft * line)).sum()
        return float(value), np.array([(gap * values).sum(), gap.sum()])

    slope, offset = minimize(loss, [1.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-7}).x
    return float(slope) / scale, float(offset), float(np.log(count[1] / count[0]))


def _confusion(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray, pool: np.ndarray, n: np.ndarray
) -> float:
    """Solve predicted = share * true + (1 - share) * false positive rate for the share."""
    called = logits > 0
    false_calls, right_calls = (
        np.average(called[labels == label], weights=weights[labels == label]) for label in (0, 1)
    )
    if right_calls - false_calls < 1e-3:
        return float(
            weights[labels == 1].sum() / weights.sum()
        )  # the network does not separate the classes
    share = (np.average(pool > 0, weights=n) - false_calls) / (right_calls - false_calls)
    return float(np.clip(share, 0, 1))
