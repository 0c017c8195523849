"""Corrected counts against catalogues: how often their 95 % intervals hold the number of craters.

Run `python -m circles.counts [SET ...]` in benchmarks/. For `tiles` it needs the detectors of the
folds, which `make circles` trains. In each region (image, of other sets than `tiles`), detections
are counted in bins of diameter and corrected by their probabilities, and by the recall in all
others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from circles import images as real
from circles import measure, training
from circles.plan import RULES, SCENES, SHIPPED
from craters.detection import LabeledImage
from craters.detection.circle_training.validation import scene_probabilities
from craters.detection.size_frequency.distribution import corrected_counts
from craters.detection.size_frequency.recall import RecallTable
from craters.evaluation import operating_point, wilson_limits
from craters.maps.catalogues.matching.pairing import COUNTED
from harness import BenchError
from harness.inputs import find_data

EDGES = (10.0, 14.1, 20.0, 28.3, 48.0)  # px
GROUPS = 10  # of synthetic scenes: each has few craters


def main() -> None:
    """Print a line for each set that is named, or can be measured."""
    for name in sys.argv[1:] or RULES:
        held, bins = coverage(name)
        print(f"{name}: {held} of {bins} intervals hold the number of craters ({held / bins:.2f})")


def coverage(name: str) -> tuple[int, int]:
    """Return in how many bins of regions the interval holds the number, and their number."""
    images = real.load_images(name, find_data(None).parent)
    if name == "tiles":
        found = training.out_of_fold(images, real.fold_of(images))
        calibration = training.load(SHIPPED).description.calibration
    else:
        detector = training.load(SHIPPED)
        found = [training.detect(detector, image) for image in images]
        calibration = detector.description.calibration
    groups, probability = _groups(name, images), scene_probabilities(found, calibration)
    truth, hits, rows = _by_region(name, images, found, probability, groups)
    edges = np.maximum(np.array(EDGES), RULES[name].least)
    edges = np.unique(edges)
    held = bins = 0
    for region, (diameters, p, error) in rows.items():
        others = [each for each in rows if each != region]
        recall = _recall(
            edges, sum(truth[each] for each in others), sum(hits[each] for each in others)
        )
        counts = corrected_counts(diameters, p, edges, error=error, recall=recall).inside
        known = np.isfinite(counts.low)
        inside = (counts.low <= truth[region]) & (truth[region] <= counts.high)
        held, bins = held + int(inside[known].sum()), bins + int(known.sum())
    if not bins:
        raise BenchError(f"{name}: fewer than two regions")
    return held, bins


def _groups(name: str, images: Sequence[LabeledImage]) -> np.ndarray:
    if name == SCENES:
        return np.array([str(number % GROUPS) for number in range(len(images))])
    return np.array([image.group for image in images])


def _by_region(
    name: str,
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    groups: np.ndarray,
) -> tuple[dict, dict, dict]:
    """Return numbers of craters and of found ones in bins, and the detections, by region."""
    rule, truth, hits, rows = RULES[name], {}, {}, {}
    edges = np.unique(np.maximum(np.array(EDGES), rule.least))
    scatter = training.load(SHIPPED).description.calibration.scatter
    for region in np.unique(groups):
        own = np.flatnonzero(groups == region)
        p = np.concatenate([probability[row] for row in own])
        threshold = operating_point(p).threshold
        sure = [probability[row] >= threshold for row in own]
        circles = [found[row][keep] for row, keep in zip(own, sure, strict=True)]
        p = [probability[row][keep] for row, keep in zip(own, sure, strict=True)]
        _, catalogue, matching = measure.matched([images[row] for row in own], circles, p, rule)
        sizes = catalogue.diameters[matching.target_crater]
        hit = matching.detection_target[matching.detection_state == measure.HIT]
        truth[region] = np.histogram(sizes[matching.target_state == COUNTED], edges)[0]
        hits[region] = np.histogram(sizes[hit], edges)[0]
        inside = [
            _is_inside(image, each, rule.border)
            for image, each in zip([images[row] for row in own], circles, strict=True)
        ]
        kept = np.concatenate(inside)
        diameters = np.concatenate(circles)["diameter"][kept]
        within = (diameters >= edges[0]) & (diameters < edges[-1])
        rows[region] = diameters[within], np.concatenate(p)[kept][within], scatter
    return truth, hits, rows


def _is_inside(image: LabeledImage, circles: np.ndarray, border: float) -> np.ndarray:
    """Return which circles are as far from the edge as craters that count."""
    height, width = image.pixels.shape
    row, col = circles["row"], circles["col"]
    return (
        (row + 0.5 >= border) & (col + 0.5 >= border)
        & (row + 0.5 <= height - border) & (col + 0.5 <= width - border)
    )  # fmt: skip


def _recall(edges: np.ndarray, craters: np.ndarray, hits: np.ndarray) -> RecallTable:
    """Return the recall in bins with craters, with Wilson's intervals."""
    some = craters > 0
    intervals = [wilson_limits(k, n) for k, n in zip(hits[some], craters[some], strict=True)]
    return RecallTable(
        edges=np.column_stack([edges[:-1], edges[1:]])[some],
        recall=hits[some] / craters[some],
        interval=np.array(intervals),
    )


if __name__ == "__main__":
    main()
