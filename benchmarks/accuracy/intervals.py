"""Simulated coverage of the intervals of metrics, and claims of a difference between equals."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np

import harness
from craters.core import Progress
from craters.evaluation import Scored, macro_f1, percentile_limits
from craters.evaluation.intervals import (
    PRIOR,
    bootstrap_intervals,
    estimate,
    gain,
    weighted_statistic,
)
from craters.evaluation.resampling import bootstrap, row_weights, weight_shape
from harness import Bench, Keys, Row, Rows

NAME = "intervals"
TITLE = "How often intervals hold the truth"
RESULT_VERSION = 1
LABELS = (50, 100, 250, 700)
GROUPS = (6, 13)
RANKED = (50,)
SHARES = (0.5, 0.2)
ACCURACIES = (0.85, 0.95)
SAMPLES = {"patches": 2000, "groups": 2000, "ranking": 200}
DRAWS = {"patches": 1000, "groups": 1000, "ranking": 200}
GROUPED = 300  # patches in all groups together
TRUTH = 1_000_000  # patches whose metrics are the truth

_NOISE, _PLACE, _TRAINING = 0.6, 0.6, 0.35  # standard deviations; see `_draw`
_TITLES = {
    "covered_before": ["covered, percentile", 3],
    "covered": ["covered", 3],
    "width_before": ["mean width, percentile", 3],
    "width": ["mean width", 3],
    "claimed_before": ["claims between equals, percentile", 3],
    "claimed": ["claims between equals", 3],
    "auc_before": ["ROC AUC covered, percentile", 3],
    "auc": ["ROC AUC covered", 3],
    "ap_before": ["average precision covered, percentile", 3],
    "ap": ["average precision covered", 3],
}
_MACRO_F1 = list(_TITLES)[:6]
_RANKING = list(_TITLES)[6:]


@dataclasses.dataclass(frozen=True)
class Case:
    """One setting of the simulation.

    Parameters
    ----------
    kind : {"patches", "groups", "ranking"}
        What is independent, and which metrics are computed: macro F1, or those without a threshold.
    number : int
        Patches or groups.
    share, accuracy : float
        Of craters; of both predictions.
    """

    kind: str
    number: int
    share: float
    accuracy: float

    @property
    def label(self) -> str:
        """The name of its row."""
        unit = "groups" if self.kind == "groups" else "patches"
        metrics = " by rank" if self.kind == "ranking" else ""
        return (
            f"{self.number} {unit}{metrics}, {self.share:.0%} craters, accuracy {self.accuracy:.0%}"
        )


def cases() -> dict[str, Case]:
    """Return all settings by the name of their row."""
    sizes = [("patches", n) for n in LABELS]
    sizes += [("groups", n) for n in GROUPS] + [("ranking", n) for n in RANKED]
    made = [Case(*size, *rest) for size, *rest in itertools.product(sizes, SHARES, ACCURACIES)]
    return {case.label: case for case in made}


def run(bench: Bench, progress: Progress) -> Row:
    """Simulate the missing settings."""

    def measure(label: str, number: int) -> Row:
        case = cases()[label]
        row = _rank(case, number) if case.kind == "ranking" else _simulate(case, number)
        progress.say(f"{label}: " + ", ".join(f"{name} {row[name]:.3f}" for name in row))
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each setting depends on."""
    return {
        (label, 0): harness.row_key(
            bench, label, 0,
            {"samples": SAMPLES[case.kind], "draws": DRAWS[case.kind], "grouped": GROUPED},
            RESULT_VERSION,
        )
        for label, case in cases().items()
    }  # fmt: skip


def _draw(case: Case, count: int, groups: int | None, random: np.random.Generator) -> Any:
    """Draw labels, groups, and the scores of two equally good predictions; above 0 is a crater.

    Both predictions share what makes a patch hard; each adds noise of its own. Patches of a group
    also share a place, as each prediction sees it, and groups differ in their share of craters.
    """
    share, places = np.full(count, case.share), np.arange(count)
    common, own = random.normal(0, 0.8, count), [random.normal(0, _NOISE, count) for _ in range(2)]
    variance = 0.8**2 + _NOISE**2
    if groups is not None:
        places = np.arange(count) % groups
        share = random.beta(4 * case.share, 4 * (1 - case.share), groups)[places]
        common += random.normal(0, _PLACE, groups)[places]
        own = [column + random.normal(0, _TRAINING, groups)[places] for column in own]
        variance += _PLACE**2 + _TRAINING**2
    labels = (random.random(count) < share).astype(int)
    signal = NormalDist(0, variance**0.5).inv_cdf(case.accuracy) * (2 * labels - 1)
    return labels, places, [signal + common + column for column in own]


def _samples(case: Case, seed: int) -> Iterator[Any]:
    """Draw samples that hold both classes, in two groups each where there are groups."""
    random = np.random.default_rng(seed)
    groups = case.number if case.kind == "groups" else None
    drawn = 0
    while drawn < SAMPLES[case.kind]:
        labels, places, scores = _draw(case, GROUPED if groups else case.number, groups, random)
        units = [len(np.unique(places[labels == label])) for label in (0, 1)]
        if min(units) >= (2 if groups else 1):
            drawn += 1
            yield labels, places if groups else None, scores


@functools.cache
def _truth(case: Case) -> dict[str, float]:
    """Compute the metrics of one prediction on very many patches."""
    groups = TRUTH // (GROUPED // case.number) if case.kind == "groups" else None
    labels, _, (score, _) = _draw(case, TRUTH, groups, np.random.default_rng(1))
    scored = Scored(labels=labels, probability=_as_probability(score))
    names = ("roc_auc", "average_precision") if case.kind == "ranking" else ("macro_f1",)
    return {name: weighted_statistic(scored, name)(np.ones(TRUTH)) for name in names}


def _as_probability(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))


def _simulate(case: Case, seed: int) -> Row:
    """Count covered truths and claimed differences, by the percentile bootstrap and now."""
    truth, draws = _truth(case)["macro_f1"], DRAWS[case.kind]
    counts = dict.fromkeys(_MACRO_F1, 0.0)
    for labels, places, scores in _samples(case, seed):
        called = [(score > 0).astype(int) for score in scores]
        if places is None:
            change = gain(labels, *called)
            both = {"": (estimate(labels, called[0]).macro_f1_interval, change["interval"])}
        else:
            both = {"": _bayesian(labels, places, called, draws)}
        both["_before"] = _percentiles(labels, places, called, draws)
        for word, ((low, high), (least, most)) in both.items():
            counts[f"covered{word}"] += low <= truth <= high
            counts[f"width{word}"] += high - low
            counts[f"claimed{word}"] += not least <= 0 <= most
    return {name: count / SAMPLES[case.kind] for name, count in counts.items()}


def _bayesian(
    labels: np.ndarray, places: np.ndarray, called: list[np.ndarray], draws: int
) -> tuple[Any, Any]:
    """Return the intervals over groups, as `bootstrap_interval` and `paired_bootstrap` do.

    All draws at once; those functions make them one by one, which would take hours here.
    """
    random, by_group = np.random.default_rng(0), _by_group(labels, places, called)
    shape = weight_shape(len(by_group))
    weights = random.standard_gamma(shape, (draws, len(by_group)))
    tables = weights @ by_group + random.standard_gamma(shape * PRIOR / 2, (draws, 8))
    every = _gains(by_group.sum(axis=0))
    return tuple(
        (min(low, point), max(high, point))
        for (low, high), point in zip(map(percentile_limits, _gains(tables)), every, strict=True)
    )


def _percentiles(
    labels: np.ndarray, places: np.ndarray | None, called: list[np.ndarray], draws: int
) -> tuple[Any, Any]:
    """Return the percentile bootstrap of macro F1 and of the difference, as it was before."""
    random = np.random.default_rng(0)
    if places is None:  # rows within each class
        counts = _by_group(labels, np.zeros_like(labels), called).reshape(2, 4)
        parts = [random.multinomial(row.sum(), row / row.sum(), draws) for row in counts]
        tables = np.concatenate(parts, axis=1)
    else:
        by_group = _by_group(labels, places, called)
        number = len(by_group)
        tables = random.multinomial(number, np.full(number, 1 / number), draws) @ by_group
    return tuple(map(percentile_limits, _gains(tables)))


def _by_group(labels: np.ndarray, places: np.ndarray, called: list[np.ndarray]) -> np.ndarray:
    """Count patches by group, and by label and both predictions: shape (groups, 8)."""
    number, cells = int(places.max()) + 1, 4 * labels + 2 * called[0] + called[1]
    return np.bincount(8 * places + cells, minlength=8 * number).reshape(number, 8)


def _gains(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return macro F1 of the first prediction, and minus that of the second, of (..., 8) counts."""
    cells = tables.reshape(*tables.shape[:-1], 2, 2, 2)  # label, first, second
    ours, theirs = macro_f1(cells.sum(axis=-1)), macro_f1(cells.sum(axis=-2))
    return ours, ours - theirs


def _rank(case: Case, seed: int) -> Row:
    """Count covered truths of the metrics without a threshold."""
    truths = _truth(case)
    counts, draws = dict.fromkeys(_RANKING, 0), DRAWS["ranking"]
    for labels, _, scores in _samples(case, seed):
        scored = Scored(labels=labels, probability=_as_probability(scores[0]))
        found = bootstrap_intervals(scored, tuple(truths), draws=draws)
        for (name, truth), word in zip(truths.items(), ("auc", "ap"), strict=True):
            figure = weighted_statistic(scored, name)
            before = percentile_limits(bootstrap(row_weights(labels, None), figure, draws=draws))
            counts[word] += found[name].low <= truth <= found[name].high
            counts[f"{word}_before"] += before[0] <= truth <= before[1]
    return {name: count / SAMPLES["ranking"] for name, count in counts.items()}


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    contenders = [
        harness.contender(
            label,
            {0: row},
            _RANKING if cases()[label].kind == "ranking" else _MACRO_F1,
            baseline=False,
        )
        for (label, _), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Samples of labeled patches with two equally good predictions are drawn from a known "
            "distribution, whose metrics are the truth. A 95 % interval should hold the truth in "
            "0.95 of the samples, and the interval of the difference between the two predictions "
            "should exclude 0 in 0.05. The intervals are those of `craters run`, the Bayesian "
            "bootstrap with half a patch added for each class and answer; beside them those of "
            "earlier versions, the percentile bootstrap (within classes, or over groups). "
            f"Groups: {GROUPED} patches in all, with places that differ in difficulty and in their "
            "share of craters. Samples a row: "
            + ", ".join(f"{count:,} ({kind})" for kind, count in SAMPLES.items())
            + ", so that chance alone moves the figures by about 0.010, 0.010 and 0.030.",
        ],
        settings={"samples": SAMPLES, "draws": DRAWS},
        titles=_TITLES,
        tables={"Macro F1": tuple(_MACRO_F1), "Metrics without a threshold": tuple(_RANKING)},
        contenders=contenders,
        findings=_findings(rows),
    )


def _findings(rows: Rows) -> list[str]:
    """Give the ranges over settings."""
    findings = []
    for kind, words in (("patches", "single patches"), ("groups", "6 and 13 groups")):
        mine = [row for (label, _), row in rows.items() if cases()[label].kind == kind]
        if not mine:
            continue
        covered, before, claimed, claims = (
            [row[name] for row in mine]
            for name in ("covered", "covered_before", "claimed", "claimed_before")
        )
        findings.append(
            f"Macro F1, {words}: the 95 % interval holds the truth in {_range(covered)} "
            f"(percentile bootstrap: {_range(before)}); a difference between equals is claimed in "
            f"{_range(claimed)} ({_range(claims)}). Means and ranges over {len(mine)} settings."
        )
    mine = [row for (label, _), row in rows.items() if cases()[label].kind == "ranking"]
    if mine:
        auc, ap, before, ap_before = (
            [row[name] for row in mine] for name in ("auc", "ap", "auc_before", "ap_before")
        )
        findings.append(
            f"ROC AUC: {_range(auc)} ({_range(before)}); average precision: {_range(ap)} "
            f"({_range(ap_before)})."
        )
    return findings


def _range(values: list[float]) -> str:
    return f"{np.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"
