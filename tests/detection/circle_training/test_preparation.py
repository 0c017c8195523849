"""Known shifts are found, limits are measured, and what may not be listed does not count."""

from __future__ import annotations

import numpy as np
import pytest

from craters.detection.circle_training.preparation import (
    measure_limit,
    register_images,
    stated_limit,
    with_unlisted,
    within_limit,
)
from craters.maps.catalogues import MatchRule
from tests.detection.circle_training.tools import circles_of, grid, image_of, truth_of

PX = ("px", 1.0)


def test_the_shift_of_each_image_is_taken_out() -> None:
    craters = grid(25, 30)
    images = [image_of(craters, name) for name in "ab"]
    found = [circles_of(craters, row=-4, col=6), circles_of(craters, row=2)]
    moved, shifts, origin = register_images(images, found, MatchRule())
    np.testing.assert_allclose(shifts, [[6, -4], [0, 2]], atol=1e-3)
    assert origin.tolist() == [2, 2]
    np.testing.assert_allclose(moved[0].craters["row"], craters["row"] - 4, atol=1e-3)
    np.testing.assert_allclose(moved[0].craters["col"], craters["col"] + 6, atol=1e-3)


def test_lengths_of_pixels_only_scale_the_matching() -> None:
    craters = grid(25, 30)
    found = circles_of(craters, col=6)
    for scale in (0.5, 100.0):
        _, shifts, _ = register_images([image_of(craters)], [found], MatchRule(), [scale])
        np.testing.assert_allclose(shifts, [[6, 0]], atol=1e-3)


def test_small_circles_that_are_not_listed_do_not_count() -> None:
    listed = truth_of([(100, 100, 20)])
    circles = circles_of(truth_of([(101, 100, 18), (200, 200, 11), (300, 300, 30)]))
    image = with_unlisted(image_of(listed), circles, smallest=12)
    assert image.craters["counted"].tolist() == [True, False]
    assert image.craters["row"].tolist() == [100, 200]
    large = with_unlisted(image_of(listed), circles, smallest=12, largest=25)
    assert large.craters["row"].tolist() == [100, 200, 300]


def test_craters_outside_the_limit_stay_but_do_not_count() -> None:
    image = within_limit(image_of(truth_of([(50, 50, 5), (90, 90, 10), (200, 200, 60)])), 8, 50)
    assert image.craters["counted"].tolist() == [False, True, False]


def test_the_limit_of_a_catalogue_is_measured() -> None:
    small, large = grid(49, 9), grid(49, 20)
    image = image_of(np.concatenate([large, small[:5]]))
    found = [circles_of(large), circles_of(small, row=14)]  # apart from the large ones
    image.craters["row"][len(large) :] += 14
    limit = measure_limit([image], [np.concatenate(found)], [1.0], PX)
    assert limit.origin == "measured"
    assert 9 < limit.smallest < 10.1
    assert limit.sentence.startswith("Measured: the catalogue is complete from")
    complete = image_of(np.concatenate([large, small]))
    complete.craters["row"][len(large) :] += 14
    limit = measure_limit([complete], [np.concatenate(found)], [1.0], PX)
    assert limit.smallest == 7
    assert "alike" in limit.sentence
    metres = measure_limit([image], [np.concatenate(found)], [100.0], ("km", 1000.0))
    assert 900 < metres.smallest < 1010


def test_with_few_circles_the_smallest_crater_is_the_limit() -> None:
    craters = truth_of([(50, 50, 12), (120, 120, 30)])
    limit = measure_limit([image_of(craters)], [circles_of(craters)], [1.0], PX)
    assert (limit.smallest, limit.origin) == (12, "smallest")
    assert "too few circles" in limit.sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1.0, None), "from 1 km on"),
        ((0.0, None), "throughout"),
        ((1.0, 4.5), "from 1 to 4.5 km"),
    ],
)
def test_a_stated_limit_is_reported(given: tuple[float, float | None], words: str) -> None:
    limit = stated_limit(given, ("km", 1000.0))
    assert limit.smallest == 1000 * given[0]
    assert limit.sentence == f"Stated: the catalogue is complete {words}"
