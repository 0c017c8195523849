"""Whether the unlabeled data helped: paired differences, the choice by `auto`, and plain words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from craters.evaluation import Scored, intervals

Outcome = Literal["helped", "did not help", "no difference can be shown"]

SUPERVISED = "supervised"
LEVEL = 0.95
SURE_ENOUGH = 0.9  # least probability of a gain for which `auto` leaves `supervised`

# What a method gains over `supervised` in macro F1, before anything is tried: mean and standard
# deviation, by the most labels that the row is for. Up to 300 from the benchmark of three data sets
# (docs/unlabeled.md), beyond judgements; the spread is over draws, pools and data sets.
PRIORS: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = (
    (75, {"fixmatch": (0.04, 0.025)}),
    (300, {"fixmatch": (0.015, 0.02)}),
    (500, {"fixmatch": (0.0, 0.02)}),
    (math.inf, {"self-training": (0.001, 0.005)}),
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The paired difference between a method and `supervised`, on the same held-out labels.

    Parameters
    ----------
    method, reference : str
    measure : str
    value, reference_value : float
        Of both, pooled over the folds.
    difference, low, high : float
        Method minus reference, with its interval.
    level : float
    interval_by : str
        How the interval was made.
    n_labels, n_seeds, n_folds : int
    """

    method: str
    reference: str
    measure: str
    value: float
    reference_value: float
    difference: float
    low: float
    high: float
    level: float
    interval_by: str
    n_labels: int
    n_seeds: int
    n_folds: int

    @property
    def outcome(self) -> Outcome:
        """Say "helped" or "did not help" only where the interval leaves 0 out."""
        if self.low > 0:
            return "helped"
        return "did not help" if self.high < 0 else "no difference can be shown"

    @property
    def sentence(self) -> str:
        """Say it in plain words, with the numbers."""
        word = {
            "helped": "The unlabeled data helped",
            "did not help": "The unlabeled data did not help",
            "no difference can be shown": "Whether the unlabeled data helped cannot be shown",
        }[self.outcome]
        seeds = "1 seed" if self.n_seeds == 1 else f"{self.n_seeds} seeds"
        folds = "1 fold" if self.n_folds == 1 else f"{self.n_folds} folds"
        return (
            f"{word}: {self.method} {self.value:.4f} against {self.reference} "
            f"{self.reference_value:.4f} in macro F1, {100 * self.difference:+.1f} points "
            f"({self.level:.0%} interval {100 * self.low:+.1f} to {100 * self.high:+.1f}; "
            f"{self.n_labels} labels, {folds}, {seeds})."
        )


def compare_with_supervised(
    method: str, scored: Scored, probability: np.ndarray, *, n_folds: int
) -> Verdict:
    """Compare out-of-fold predictions of a method with those of `supervised`, at threshold 0.5.

    Parameters
    ----------
    method : str
    scored : Scored
        Human labels as `supervised` predicts them, each by a network that was trained without
        that patch's fold. Whole source images are drawn where each class has several.
    probability : ndarray, shape (N,)
        Of "with crater", likewise by the method.
    n_folds : int
    """
    ours = dataclasses.replace(scored, probability=probability, decision_threshold=0.5)
    value, reference_value, interval = intervals.paired_bootstrap(
        intervals.with_drawable_groups(ours), scored.probability, level=LEVEL
    )
    return Verdict(
        method=method,
        reference=SUPERVISED,
        measure="macro_f1",
        value=value,
        reference_value=reference_value,
        difference=value - reference_value,
        low=interval.low,
        high=interval.high,
        level=LEVEL,
        interval_by=interval.method,
        n_labels=len(scored),
        n_seeds=1,
        n_folds=n_folds,
    )


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What `auto` makes of one candidate.

    Parameters
    ----------
    method : str
    prior : (float, float)
        Mean and standard deviation of its gain before it was tried.
    found, error : float
        Its gain by cross-validation over the labels, and the standard error of that.
    expected, spread : float
        Mean and standard deviation of the gain after both.
    chance : float
        Probability that there is a gain.
    """

    method: str
    prior: tuple[float, float]
    found: float
    error: float
    expected: float
    spread: float
    chance: float


@dataclasses.dataclass(frozen=True)
class Choice:
    """The method that `auto` takes, why, and what it makes of each candidate."""

    method: str
    reason: str
    judgements: list[Judgement]


def candidates(n_labels: int) -> list[str]:
    """Name the methods that `auto` tries for so many labels.

    Examples
    --------
    >>> candidates(50)
    ['fixmatch']
    """
    return list(prior_of(n_labels))


def prior_of(n_labels: int) -> dict[str, tuple[float, float]]:
    """Return what each candidate is expected to gain, in macro F1: mean, standard deviation."""
    return next(prior for most, prior in PRIORS if n_labels <= most)


def choose(verdicts: Sequence[Verdict], n_labels: int) -> Choice:
    """Weigh what was found against what was expected, and abstain where no gain is likely.

    Prior and cross-validation are combined as two normal measurements of one gain: with 50 labels
    the folds can only veto a method that fails badly, with thousands they decide.

    Parameters
    ----------
    verdicts : sequence of Verdict
        Of the candidates for this number of labels.
    n_labels : int

    Returns
    -------
    Choice
        The candidate of the greatest expected gain among those whose gain has a probability of at
        least 0.9; `supervised` where there is none.
    """
    judgements = [_judge(verdict, prior_of(n_labels)[verdict.method]) for verdict in verdicts]
    good = [found for found in judgements if found.chance >= SURE_ENOUGH]
    if good:
        best = max(good, key=lambda found: found.expected)
        reason = f"{_words(best)}: taken."
        return Choice(method=best.method, reason=reason, judgements=judgements)
    words = "; ".join(map(_words, judgements))
    reason = f"{words}: below {SURE_ENOUGH:.0%}, so supervised is kept."
    return Choice(method=SUPERVISED, reason=reason, judgements=judgements)


def _judge(verdict: Verdict, prior: tuple[float, float]) -> Judgement:
    """Combine two measurements by their precisions."""
    mean, spread = prior
    reach = 2 * _normal_quantile(0.5 + verdict.level / 2)
    error = max((verdict.high - verdict.low) / reach, 1e-4)
    trust, evidence = 1 / spread**2, 1 / error**2
    expected = (mean * trust + verdict.difference * evidence) / (trust + evidence)
    after = math.sqrt(1 / (trust + evidence))
    chance = (1 + math.erf(expected / after / math.sqrt(2))) / 2
    return Judgement(
        method=verdict.method,
        prior=prior,
        found=verdict.difference,
        error=error,
        expected=expected,
        spread=after,
        chance=chance,
    )


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def _words(found: Judgement) -> str:
    return (
        f"{found.method} gained {100 * found.found:+.1f} points in the folds (standard error "
        f"{100 * found.error:.1f}), where {100 * found.prior[0]:+.1f} was expected "
        f"(+- {100 * found.prior[1]:.1f}): a gain is {found.chance:.0%} likely"
    )
