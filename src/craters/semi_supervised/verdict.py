"""Test whether unlabeled data helped (paired differences), and choose the method for `auto`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from craters.evaluation import Scored, intervals

Outcome = Literal["helped", "did not help", "no difference can be shown"]

SUPERVISED = "supervised"
LEVEL = 0.95
SURE_ENOUGH = 0.9  # least probability of a gain for which `auto` leaves `supervised`
FELL_BACK = (
    "All patches of a class are of one source image, so the interval is over single patches: it is "
    "too narrow."
)
LIKELY = 0.5  # least probability of a gain, after the first fold, for which `auto` goes on

# Prior gain over `supervised` from random weights in macro F1: mean and standard deviation, for up
# to so many labels, from the benchmark on three data sets (docs/unlabeled.md). The standard
# deviation is over draws, pools and data sets.
PRIORS: tuple[tuple[int, dict[str, tuple[float, float]]], ...] = (
    (75, {"fixmatch": (0.04, 0.025)}),
    (300, {"fixmatch": (0.015, 0.02)}),
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The paired difference between a method and `supervised`, on the same held-out labels.

    Parameters
    ----------
    method, reference : str
    measure : str
    value, reference_value : float
        Macro F1 of method and reference, pooled over the folds.
    difference, low, high : float
        Method minus reference, with its interval.
    level : float
    interval_by : str
        How the interval was made.
    n_labels, n_seeds, n_folds : int
    n_groups : int or None
        Source images that the interval is over; None if it is over single patches.
    fell_back : bool
        Whether it is over single patches although source images are known, because all patches of
        a class are of one image. It is too narrow then.
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
    n_groups: int | None = None
    fell_back: bool = False

    @property
    def outcome(self) -> Outcome:
        """Verdict: "helped" or "did not help" only if the interval excludes 0."""
        if self.low > 0:
            return "helped"
        return "did not help" if self.high < 0 else "no difference can be shown"

    @property
    def sentence(self) -> str:
        """The verdict as a sentence, with the numbers."""
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
            f"{self.n_labels} labels, {folds}, {seeds}).{f' {FELL_BACK}' if self.fell_back else ''}"
        )


def compare_with_supervised(
    method: str, scored: Scored, probability: np.ndarray, *, n_folds: int
) -> Verdict:
    """Compare out-of-fold predictions of a method with those of `supervised`, at threshold 0.5.

    Parameters
    ----------
    method : str
    scored : Scored
        Out-of-fold predictions of `supervised` for the human labels. The interval is over whole
        source images if each class has several.
    probability : ndarray, shape (N,)
        Out-of-fold probability of "with crater" by the method.
    n_folds : int
    """
    ours = dataclasses.replace(scored, probability=probability, decision_threshold=0.5)
    drawable = intervals.with_drawable_groups(ours)
    value, reference_value, interval = intervals.paired_bootstrap(
        drawable, scored.probability, level=LEVEL
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
        n_groups=interval.n_groups,
        fell_back=scored.groups is not None and drawable.groups is None,
    )


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Prior, measured and posterior gain of one candidate method of `auto`.

    Parameters
    ----------
    method : str
    prior : (float, float)
        Prior mean and standard deviation of its gain.
    found, error : float
        Its gain in cross-validation over the labels, and the standard error.
    expected, spread : float
        Posterior mean and standard deviation of the gain.
    chance : float
        Posterior probability of a gain.
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
    """The method that `auto` chooses, the reason, and the expected gain of each candidate."""

    method: str
    reason: str
    judgements: list[Judgement]


def candidates(n_labels: int, *, pretrained: bool) -> list[str]:
    """Return the methods that `auto` tries for a number of labels, and for a start.

    From the pretrained model no method gained anything in the benchmark (docs/unlabeled.md).

    Examples
    --------
    >>> [candidates(n, pretrained=False) for n in (50, 301)], candidates(50, pretrained=True)
    ([['fixmatch'], []], [])
    """
    return [] if pretrained else list(prior_of(n_labels))


def prior_of(n_labels: int) -> dict[str, tuple[float, float]]:
    """Return the prior gain of each candidate in macro F1: mean, standard deviation."""
    return next((prior for most, prior in PRIORS if n_labels <= most), {})


def why_drop(verdict: Verdict, n_labels: int) -> str:
    """Return why a candidate is dropped after the first fold; empty if a gain is still likely."""
    judgement = _judge(verdict, prior_of(n_labels)[verdict.method])
    if judgement.chance >= LIKELY:
        return ""
    return f"{_words(judgement, 'first fold')}: dropped."


def choose(verdicts: Sequence[Verdict], n_labels: int) -> Choice:
    """Choose the method with the greatest expected gain, or `supervised` if no gain is likely.

    Prior and cross-validation are combined as two normal measurements of one gain. With 50 labels
    the folds can only veto a method that fails badly; with thousands they decide.

    Parameters
    ----------
    verdicts : sequence of Verdict
        Verdicts on the candidates for this number of labels.
    n_labels : int

    Returns
    -------
    Choice
        The candidate of the greatest expected gain among those whose gain has a probability of at
        least 0.9; `supervised` where there is none.
    """
    judgements = [_judge(verdict, prior_of(n_labels)[verdict.method]) for verdict in verdicts]
    good = [judgement for judgement in judgements if judgement.chance >= SURE_ENOUGH]
    if good:
        best = max(good, key=lambda judgement: judgement.expected)
        reason = f"{_words(best)}: taken."
        return Choice(method=best.method, reason=reason, judgements=judgements)
    words = "; ".join(map(_words, judgements))
    reason = f"{words}: below {SURE_ENOUGH:.0%}, so supervised is kept."
    return Choice(method=SUPERVISED, reason=reason, judgements=judgements)


def _judge(verdict: Verdict, prior: tuple[float, float]) -> Judgement:
    """Combine prior and measurement, weighted by their precisions."""
    mean, spread = prior
    reach = 2 * NormalDist().inv_cdf(0.5 + verdict.level / 2)
    error = max((verdict.high - verdict.low) / reach, 1e-4)
    prior_weight, data_weight = 1 / spread**2, 1 / error**2
    weight = prior_weight + data_weight
    expected = (mean * prior_weight + verdict.difference * data_weight) / weight
    posterior_sd = math.sqrt(1 / weight)
    chance = (1 + math.erf(expected / posterior_sd / math.sqrt(2))) / 2
    return Judgement(
        method=verdict.method,
        prior=prior,
        found=verdict.difference,
        error=error,
        expected=expected,
        spread=posterior_sd,
        chance=chance,
    )


def _words(judgement: Judgement, where: str = "folds") -> str:
    mean, spread = judgement.prior
    return (
        f"{judgement.method} gained {100 * judgement.found:+.1f} points in the {where} (standard "
        f"error {100 * judgement.error:.1f}), where {100 * mean:+.1f} was expected "
        f"(+- {100 * spread:.1f}): a gain is {judgement.chance:.0%} likely"
    )
