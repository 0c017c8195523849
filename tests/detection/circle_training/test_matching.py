"""Circles are matched with craters in the unit of the catalogue."""

from __future__ import annotations

import numpy as np

from craters.detection.circle_training.matching import match_circles
from craters.maps.catalogues import COUNTED, FALSE, HIT, MatchRule
from tests.detection.circle_training.tools import circles_of, image_of, truth_of


def test_images_of_different_scales_are_matched_by_lengths() -> None:
    craters = truth_of([(100, 100, 20), (300, 300, 12)])
    images = [image_of(craters, "coarse"), image_of(craters, "fine")]
    found = [circles_of(craters), circles_of(craters, row=3)]
    probability = [np.full(2, 0.9)] * 2
    rule = MatchRule(smallest=1000)  # metres: 10 px of the coarse image, 100 px of the fine one
    matched = match_circles(images, found, probability, rule, [100.0, 10.0])
    assert matched.matching.detection_state[:2].tolist() == [HIT, HIT]
    assert (matched.matching.target_state == COUNTED).tolist() == [True, True, False, False]
    np.testing.assert_allclose(matched.catalogue.diameters, [2000, 1200, 200, 120])
    np.testing.assert_allclose(matched.matching.distance, [0, 0, 30, 30], atol=1e-6)


def test_a_circle_on_an_uncertain_crater_is_neither_a_hit_nor_false() -> None:
    craters = truth_of([(100, 100, 20), (300, 300, 20)])
    craters["counted"][1] = False
    away = truth_of([(200, 200, 20)])
    found = np.concatenate([circles_of(craters), circles_of(away)])
    matched = match_circles([image_of(craters)], [found], [np.full(3, 0.9)], MatchRule())
    states = matched.matching.detection_state
    assert states[0] == HIT
    assert states[1] not in (HIT, FALSE)
    assert states[2] == FALSE
    assert int((matched.matching.target_state == COUNTED).sum()) == 1
