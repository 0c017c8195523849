"""Judge a detector on images that it was not trained on: folds, calibration, figures, verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from craters.data import splits
from craters.detection.calibration import fit_calibration, fit_error_scale
from craters.detection.circle_training.matching import Matched, match_circles
from craters.detection.images import LabeledImage
from craters.errors import DataError
from craters.evaluation import (
    bootstrap,
    operating_point,
    percentile_limits,
    scene_probability,
)
from craters.maps.catalogues import (
    COUNTED,
    FALSE,
    HIT,
    MatchRule,
    make_curve,
    measure_diameters,
    recall_by_diameter,
)
from craters.models import Calibration, CircleDescription, raw_probability, size_strata

FOLDS = 4  # at most; 3 where there are many groups, each training being long
MANY = 9  # groups
PRECISION = 0.8  # expected at the operating point, as in a scan by default
LEAST_GROUPS = 3  # for a verdict

_DRAWS = 2000
_LEAST_HITS = 20  # whose diameters are compared with those of the catalogue
_EDGES = np.array([0.0, 8, 11.3, 16, 22.6, 32, 45.3, np.inf])  # px, of the table by diameter

BETTER, WORSE, UNSHOWN, TOO_FEW = (
    "better",
    "worse",
    "no difference can be shown",
    "too few groups to judge",
)


def assign_folds(images: Sequence[LabeledImage]) -> np.ndarray:
    """Return the fold of each image: whole groups, with about as many craters in each fold.

    Raises
    ------
    DataError
        If fewer than two groups have a crater that counts.
    """
    counts = {image.group: 0 for image in images}
    for image in images:
        counts[image.group] += int(image.craters["counted"].sum())
    with_craters = sum(count > 0 for count in counts.values())
    if with_craters < 2:
        raise DataError(
            f"only {with_craters} of {len(counts)} images, or groups of them, has craters that "
            "count, so none can be held out to judge the detector",
            "Give at least two images with craters; or another --group-by, --diameters.",
        )
    names = list(counts)
    units = np.repeat(names, [counts[name] + 1 for name in names])  # images without craters, too
    fold_of: dict[str, int] = {}
    count = FOLDS - 1 if with_craters >= MANY else min(FOLDS, with_craters)
    for number, split in enumerate(splits.whole_folds(units, count)):
        fold_of |= dict.fromkeys(units[split.validation].tolist(), number)
    return np.array([fold_of[image.group] for image in images])


def calibrate(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    rule: MatchRule,
    *,
    base: CircleDescription | None = None,
    scales: Sequence[float] | None = None,
    scales_diameters: bool = True,
) -> CircleDescription:
    """Return a description with calibration, error and diameter, from circles with known truth.

    Parameters
    ----------
    images : sequence of LabeledImage
        Not trained on.
    found : sequence of ndarray, `CIRCLE_DTYPE`
        Of each image.
    rule : MatchRule
    base : CircleDescription, optional
        Of the detector that found them.
    scales : sequence of float, optional
        As for `match_inputs`.
    scales_diameters : bool
        Whether diameters are brought to the median of the catalogue's.

    Raises
    ------
    DataError
        If there are too few craters or other circles.
    """
    base = base or CircleDescription()
    raw = [raw_probability(circles) for circles in found]
    matched = match_circles(images, found, raw, rule, scales)
    matching, circles = matched.matching, np.concatenate(found)
    judged = np.isin(matching.detection_state, (HIT, FALSE)) & (size_strata(circles) == 1)
    groups = np.repeat([image.group for image in images], [len(each) for each in found])
    is_crater = matching.detection_state == HIT
    calibration = fit_calibration(circles["logit"][judged], is_crater[judged], groups[judged])
    sure = is_crater & (calibration.slope * circles["logit"] + calibration.offset > 0)
    if sure.sum() < _LEAST_HITS:
        return dataclasses.replace(base, calibration=calibration)
    lengths = np.ones(len(images)) if scales is None else np.asarray(scales, float)
    length = np.repeat(lengths, [len(each) for each in found])[sure]
    crater = matching.target_crater[matching.detection_target[sure]]
    truth = matched.catalogue.diameters[crater] / length
    diameter, factor = circles["diameter"][sure], 1.0
    if scales_diameters:
        factor = float(np.median(truth / diameter))
    error_scale = fit_error_scale(factor * diameter - truth, factor * circles["error"][sure])
    return dataclasses.replace(
        base,
        calibration=calibration,
        error_scale=base.error_scale * error_scale,
        diameter_scale=base.diameter_scale * factor,
    )


def rescaled(
    circles: np.ndarray, before: CircleDescription, after: CircleDescription
) -> np.ndarray:
    """Return circles with the diameters and errors of another description of the detector."""
    changed = circles.copy()
    factor = after.diameter_scale / before.diameter_scale
    changed["diameter"] *= factor
    changed["error"] *= factor * after.error_scale / before.error_scale
    return changed


def scene_probabilities(found: Sequence[np.ndarray], calibration: Calibration) -> list[np.ndarray]:
    """Return the probability of the circles of images that are one scene, as a scan does."""
    circles = np.concatenate(found)
    if not calibration.candidates:
        return [raw_probability(each) for each in found]
    scene = scene_probability(
        circles["logit"],
        slope=calibration.slope,
        offset=calibration.offset,
        share=calibration.share,
        strata=size_strata(circles),
    )
    return np.split(scene.probability, np.cumsum([len(each) for each in found])[:-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Circles of each image with their probability, and which are detections.

    Parameters
    ----------
    found, probability, is_called : list of ndarray
    """

    found: list[np.ndarray]
    probability: list[np.ndarray]
    is_called: list[np.ndarray]

    @property
    def called(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The detections, and their probability."""
        pairs = zip(self.found, self.probability, self.is_called, strict=True)
        kept = [(circles[keep], p[keep]) for circles, p, keep in pairs]
        return [circles for circles, _ in kept], [p for _, p in kept]


def judge_scene(found: Sequence[np.ndarray], description: CircleDescription) -> Judged:
    """Return circles as a scan judges those of its images: one calibration, one threshold."""
    probability = scene_probabilities(found, description.calibration)
    threshold = operating_point(np.concatenate(probability), PRECISION).threshold
    return Judged(list(found), probability, [p >= threshold for p in probability])


def judge_held_out(
    truth: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    folds: np.ndarray,
    rule: MatchRule,
    *,
    base: CircleDescription,
    scales: Sequence[float],
) -> Judged:
    """Judge circles as a scan of all images would, each fold calibrated by the others.

    Parameters
    ----------
    truth : sequence of LabeledImage
    found : sequence of ndarray, `CIRCLE_DTYPE`
        Of detectors that were not trained on the image.
    folds : ndarray of int, shape (I,)
    rule, base, scales
        As for `calibrate`. Where the other folds have too few circles, `base` is used as it is; if
        that is not calibrated either, probabilities are the network's own.
    """
    evidence: list[np.ndarray] = [np.empty(0)] * len(truth)
    changed, is_calibrated = list(evidence), True
    for fold in np.unique(folds):
        others = np.flatnonzero(folds != fold).tolist()
        try:
            description = calibrate(
                [truth[row] for row in others], [found[row] for row in others], rule, base=base,
                scales=[scales[row] for row in others],
            )  # fmt: skip
        except DataError:
            description = base
        of = description.calibration
        is_calibrated &= of.candidates > 0
        for row in np.flatnonzero(folds == fold).tolist():
            changed[row] = rescaled(found[row], base, description)
            odds = np.log(of.share / (1 - of.share))
            evidence[row] = of.slope * found[row]["logit"] + of.offset - odds
    # The log likelihood ratios of all folds have one meaning, so that one scene can be judged.
    scene = [np.array(circles) for circles in changed]
    for circles, ratio in zip(scene, evidence, strict=True):
        circles["logit"] = ratio
    if is_calibrated:
        probability = scene_probabilities(scene, Calibration(candidates=1))
    else:  # the share of craters behind the network's own probability is unknown
        probability = [raw_probability(circles) for circles in changed]
    threshold = operating_point(np.concatenate(probability), PRECISION).threshold
    return Judged(changed, probability, [p >= threshold for p in probability])


@dataclasses.dataclass(frozen=True, eq=False)
class Figures:
    """How good detections are, by a catalogue.

    Parameters
    ----------
    counts : ndarray of int, shape (I, 3)
        Hits, false detections, and craters of each image.
    average_precision : float
        Of all circles, at every threshold of the network's own probability.
    ratio, scatter, within_error, distance : float or None
        Of the hits: median ratio of the diameters, its scatter, share of craters within one stated
        error, median distance of the centres in the unit of the matching.
    by_diameter : list of dict
        Recall by diameter in pixels.
    matched : Matched
        The detections and craters.
    """

    counts: np.ndarray
    average_precision: float
    ratio: float | None
    scatter: float | None
    within_error: float | None
    distance: float | None
    by_diameter: list[dict[str, Any]]
    matched: Matched

    @property
    def rates(self) -> np.ndarray:
        """Recall, precision and F1."""
        return rates_of(self.counts.sum(axis=0))


def rates_of(counts: np.ndarray) -> np.ndarray:
    """Return recall, precision and F1 of hits, false detections and craters, (..., 3) to (..., 3).

    Examples
    --------
    >>> rates_of(np.array([8, 2, 16])).round(3).tolist()
    [0.5, 0.8, 0.615]
    """
    hits, false, craters = np.moveaxis(np.asarray(counts, float), -1, 0)
    tiny = 1e-9
    return np.stack(
        [
            hits / np.maximum(craters, tiny),
            hits / np.maximum(hits + false, tiny),
            2 * hits / np.maximum(hits + false + craters, tiny),
        ],
        axis=-1,
    )


def average_precision(
    truth: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    rule: MatchRule,
    scales: Sequence[float],
) -> float:
    """Return the average precision of circles in the order of the network's own probability."""
    raw = [raw_probability(circles) for circles in found]
    whole = match_circles(truth, found, raw, rule, scales)
    curve = make_curve(whole.matching, whole.detections)
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * np.nan_to_num(curve.precision)))


def measure_figures(
    truth: Sequence[LabeledImage],
    judged: Judged,
    rule: MatchRule,
    scales: Sequence[float],
) -> Figures:
    """Measure the detections of images by the craters that a catalogue lists there."""
    matched = match_circles(truth, *judged.called, rule, scales)
    matching, count = matched.matching, len(truth)
    states = ((matching.detection_image, matching.detection_state == HIT),
              (matching.detection_image, matching.detection_state == FALSE),
              (matching.target_image, matching.target_state == COUNTED))  # fmt: skip
    counts = np.stack([np.bincount(of[rows], minlength=count) for of, rows in states], axis=1)
    edges = _EDGES * float(np.median(scales))
    accuracy = measure_diameters(matching, matched.detections, matched.catalogue, edges)
    recalls = recall_by_diameter(matching, matched.detections, matched.catalogue, edges, 0.0)
    return Figures(
        counts=counts,
        average_precision=average_precision(truth, judged.found, rule, scales),
        ratio=accuracy.overall.median,
        scatter=accuracy.overall.scatter,
        within_error=accuracy.within_error,
        distance=accuracy.distance,
        by_diameter=[
            {
                "low": each.low,
                "high": each.high,
                "craters": each.n,
                "found": each.found,
                "recall": each.share,
                "interval": None if each.interval is None else [each.interval.low,
                                                                each.interval.high],
            }
            for each in recalls
            if each.n
        ],
        matched=matched,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the trained detector is better than the one that training started from.

    Parameters
    ----------
    trained, start : float
        F1 of both at their operating points.
    difference, low, high : float
        Trained minus start, with its 95 % interval; NaN without one.
    groups : int
        Groups with craters or detections, which the interval is over.
    words : str
        One of `BETTER`, `WORSE`, `UNSHOWN`, `TOO_FEW`.
    """

    trained: float
    start: float
    difference: float
    low: float
    high: float
    groups: int
    words: str

    @property
    def keeps_trained(self) -> bool:
        """Whether the trained detector is kept: it is better on these images."""
        return self.difference > 0


def intervals(figures: Figures, groups: Sequence[str], seed: int) -> np.ndarray | None:
    """Return the 95 % intervals of recall, precision and F1, (3, 2); None for too few groups."""
    tables = _by_group(figures.counts, groups)
    if len(tables) < LEAST_GROUPS:
        return None
    drawn = bootstrap(
        lambda random: random.exponential(size=len(tables)) @ tables,
        rates_of, draws=_DRAWS, seed=seed,
    )  # fmt: skip
    return np.stack(percentile_limits(drawn), axis=1)


def compare_detectors(
    trained: Figures, start: Figures, groups: Sequence[str], seed: int
) -> Verdict:
    """Compare two detectors on the same images by F1, paired by group.

    The interval is by the Bayesian bootstrap over groups (Rubin 1981); it covers the choice of
    images, not the randomness of training.
    """
    both = _by_group(np.concatenate([trained.counts, start.counts], axis=1), groups)
    values = float(trained.rates[2]), float(start.rates[2])
    difference, low, high, words = values[0] - values[1], np.nan, np.nan, TOO_FEW
    if len(both) >= LEAST_GROUPS:

        def gain(totals: np.ndarray) -> float:
            return float(rates_of(totals[:3])[2] - rates_of(totals[3:])[2])

        drawn = bootstrap(
            lambda random: random.exponential(size=len(both)) @ both,
            gain, draws=_DRAWS, seed=seed,
        )  # fmt: skip
        low, high = percentile_limits(drawn)
        words = BETTER if low > 0 else WORSE if high < 0 else UNSHOWN
    return Verdict(
        trained=values[0],
        start=values[1],
        difference=difference,
        low=float(low),
        high=float(high),
        groups=len(both),
        words=words,
    )


def _by_group(counts: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Sum the counts of each group, without groups that have none."""
    names, units = np.unique(np.asarray(groups), return_inverse=True)
    totals = np.zeros((len(names), counts.shape[1]))
    np.add.at(totals, units, counts)
    return totals[totals.any(axis=1)]
