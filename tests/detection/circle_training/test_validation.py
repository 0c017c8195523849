"""Folds hold groups out whole; figures, calibration and verdict have known answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from craters.detection.circle_training.validation import (
    BETTER,
    TOO_FEW,
    UNSHOWN,
    WORSE,
    Figures,
    Judged,
    assign_folds,
    calibrate,
    compare_detectors,
    intervals,
    judge_held_out,
    measure_figures,
    rates_of,
)
from craters.detection.images import LabeledImage
from craters.errors import DataError
from craters.maps.catalogues import MatchRule
from craters.models import CircleDescription
from tests.detection.circle_training.tools import circles_of, grid, image_of, truth_of

RULE = MatchRule(smallest=10)


def test_folds_hold_groups_out_whole_with_about_equal_craters() -> None:
    images = [
        image_of(grid(count, 20), f"{group}{number}", group)
        for group, count in (("a", 20), ("b", 9), ("c", 8), ("d", 1), ("e", 4))
        for number in range(2)
    ]
    folds = assign_folds(images)
    assert sorted(set(folds)) == [0, 1, 2, 3]
    of_group = {image.group: fold for image, fold in zip(images, folds, strict=True)}
    assert all(of_group[image.group] == fold for image, fold in zip(images, folds, strict=True))
    assert of_group["d"] == of_group["e"]  # the smallest ones share a fold


def test_two_groups_with_craters_are_needed() -> None:
    images = [image_of(grid(5, 20), "a"), image_of(truth_of([(50, 50, 9)], counted=False), "b")]
    with pytest.raises(DataError, match="only 1 of 2 images"):
        assign_folds(images)


def figures_of(found: list[np.ndarray], images: list[LabeledImage]) -> Figures:
    judged = Judged(
        found=found,
        probability=[np.full(len(each), 0.9) for each in found],
        is_called=[np.ones(len(each), bool) for each in found],
    )
    return measure_figures(images, judged, RULE, [1.0] * len(images))


def test_figures_are_those_of_a_count_by_hand() -> None:
    craters = grid(16, 20)
    far = truth_of([(20, 200, 20), (380, 200, 20)])
    image = image_of(craters)
    figures = figures_of([np.concatenate([circles_of(craters[:12], diameter=1.1, col=2),
                                          circles_of(far)])], [image])  # fmt: skip
    assert figures.counts.tolist() == [[12, 2, 16]]
    np.testing.assert_allclose(figures.rates, [12 / 16, 12 / 14, 24 / 30])
    assert figures.ratio == pytest.approx(1.1)
    assert figures.distance == pytest.approx(2)
    assert figures.by_diameter[0]["recall"] == 12 / 16


def test_craters_that_are_not_counted_are_neither_missed_nor_make_false_ones() -> None:
    craters = grid(16, 20)
    craters["counted"][:6] = False
    figures = figures_of([circles_of(craters[:10])], [image_of(craters)])
    assert figures.counts.tolist() == [[4, 0, 10]]


def noisy(seed: int, share: float) -> tuple[list[LabeledImage], list[np.ndarray]]:
    """Return eight images, and circles: a share of their craters, and false ones."""
    random = np.random.default_rng(seed)
    images, found = [], []
    for number in range(8):
        craters = grid(36, 20)
        image = image_of(craters, f"image{number}")
        hits = circles_of(craters[random.random(36) < share], diameter=0.8)
        false = circles_of(truth_of([(row, col, 20.0) for row, col in
                                     random.uniform(10, 25, (12, 2))]))  # fmt: skip
        circles = np.concatenate([hits, false])
        circles["logit"] = np.where(np.arange(len(circles)) < len(hits), 1.5, -1.5)
        circles["logit"] += random.normal(0, 1, len(circles))
        circles["diameter"] *= 1 + random.normal(0, 0.05, len(circles))
        images.append(image)
        found.append(circles)
    return images, found


def test_calibration_brings_diameters_to_those_of_the_catalogue() -> None:
    images, found = noisy(0, 0.9)
    description = calibrate(images, found, RULE)
    assert description.diameter_scale == pytest.approx(1 / 0.8, rel=0.02)
    assert calibrate(images, found, RULE, scales_diameters=False).diameter_scale == 1
    base = CircleDescription(diameter_scale=1.1, error_scale=2.0)
    assert calibrate(images, found, RULE, base=base).diameter_scale == pytest.approx(
        1.1 / 0.8, rel=0.02
    )


def test_held_out_images_are_judged_by_the_calibration_of_the_others() -> None:
    images, found = noisy(1, 0.9)
    folds = np.arange(8) % 4
    base, scales = CircleDescription(), [1.0] * 8
    judged = judge_held_out(images, found, folds, RULE, base=base, scales=scales)
    called = np.concatenate(judged.is_called)
    p = np.concatenate(judged.probability)
    assert p[called].mean() == pytest.approx(0.8, abs=0.05)
    assert np.median(judged.found[0]["diameter"][:20]) == pytest.approx(20, rel=0.05)
    # Its own circles do not calibrate an image: labels of fold 0 change nothing there but others.
    lost = [image_of(image.craters[:0], image.name) if fold == 0 else image
            for image, fold in zip(images, folds, strict=True)]  # fmt: skip
    without = judge_held_out(lost, found, folds, RULE, base=base, scales=scales)
    np.testing.assert_array_equal(without.found[0]["error"], judged.found[0]["error"])
    assert not np.array_equal(without.found[1]["error"], judged.found[1]["error"])


def test_with_too_few_circles_an_uncalibrated_detector_keeps_its_own_probability() -> None:
    craters = grid(4, 20)
    images = [image_of(craters, name) for name in "abc"]
    found = [circles_of(craters, logit=logit) for logit in (3.0, 2.0, 1.8)]
    judged = judge_held_out(
        images, found, np.arange(3), RULE, base=CircleDescription(), scales=[1.0] * 3
    )
    expected = [1 / (1 + np.exp(-logit)) for logit in (3.0, 2.0, 1.8)]
    np.testing.assert_allclose([p[0] for p in judged.probability], expected)
    assert all(called.all() for called in judged.is_called)


def test_the_verdict_needs_an_interval_that_excludes_zero() -> None:
    images, good = noisy(2, 0.95)
    groups = [image.group for image in images]
    _, bad = noisy(3, 0.6)
    better, worse = (figures_of(found, images) for found in (good, bad))
    verdict = compare_detectors(better, worse, groups, 0)
    assert verdict.words == BETTER
    assert verdict.low < verdict.difference < verdict.high
    assert verdict.difference == pytest.approx(better.rates[2] - worse.rates[2])
    assert verdict.keeps_trained
    assert compare_detectors(worse, better, groups, 0).words == WORSE
    same = compare_detectors(better, better, groups, 0)
    assert (same.words, same.difference, same.keeps_trained) == (UNSHOWN, 0, False)
    few = compare_detectors(better, worse, ["a", "a", "a", "a", "b", "b", "b", "b"], 0)
    assert (few.words, few.groups) == (TOO_FEW, 2)
    assert intervals(better, ["a"] * 8, 0) is None
    limits = intervals(better, groups, 0)
    assert limits is not None
    assert (limits[:, 0] <= better.rates).all()
    assert (better.rates <= limits[:, 1]).all()
    assert dataclasses.replace(verdict, difference=-0.1).keeps_trained is False
    np.testing.assert_allclose(rates_of(np.array([[0, 0, 0]])), 0)
