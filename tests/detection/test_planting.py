"""Plant craters: where pixels change, by which light, and the contrast that is measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from craters.detection import PlantingWindow
from craters.detection.planting import estimate_blur, local_spread, measure_contrast, plant
from craters.models import CIRCLE_DTYPE, conformal_shape

FIELDS = [(name, "f8") for name in ("row", "col", "diameter", "freshness")]


def ground(spread: float = 8.0, side: int = 200, azimuth: float = 270.0) -> PlantingWindow:
    random = np.random.default_rng(0)
    pixels = np.clip(np.rint(random.normal(128, spread, (side, side))), 1, 255).astype(np.uint8)
    none = np.zeros(0, CIRCLE_DTYPE)
    return PlantingWindow("image", pixels, np.zeros(pixels.shape, bool), azimuth, none, np.zeros(0))


def crater(row: float, col: float, diameter: float, freshness: float = 1.0) -> np.ndarray:
    return np.array([(row, col, diameter, freshness)], FIELDS)


def test_only_pixels_around_a_planted_crater_change() -> None:
    window = ground()
    window.missing[100:110, 90:100] = True
    planted = plant(window, crater(100, 80, 20), np.array([150.0]), 0.7, seed=1)
    rows, cols = np.nonzero(planted != window.pixels)
    distance = np.hypot(rows - 100, cols - 80)
    assert len(rows) > 300
    assert distance.max() < 2.3 * 10 + 3
    assert not window.missing[rows, cols].any()


@pytest.mark.parametrize("place", [(0, 0), (199, 3), (100, 199)])
def test_craters_at_the_edges_of_the_image_are_cut_off(place: tuple[int, int]) -> None:
    window = ground()
    planted = plant(window, crater(*place, 20), np.array([150.0]), 0.7, seed=1)
    assert planted.shape == window.pixels.shape
    assert (planted != window.pixels).any()


def test_light_from_the_other_side_gives_the_negative() -> None:
    left = ground(spread=0)
    right = dataclasses.replace(left, azimuth=90.0)
    one, other = (
        plant(each, crater(100, 100, 24), np.array([120.0]), 0.7, seed=3).astype(int) - 128
        for each in (left, right)
    )
    assert np.abs(one + other).max() <= 1
    assert one[95:106, 90:96].mean() < -10  # the wall that faces away from the light
    assert one[95:106, 105:111].mean() > 10


def test_light_from_above_is_that_from_the_left_turned() -> None:
    above = dataclasses.replace(ground(spread=0), azimuth=0.0)
    planted = plant(above, crater(100, 100, 24), np.array([120.0]), 0.7, seed=3).astype(int) - 128
    assert planted[90:96, 95:106].mean() < -10
    assert planted[105:111, 95:106].mean() > 10


def test_equal_seeds_plant_equal_bytes_and_others_other_forms() -> None:
    window, gain = ground(), np.array([150.0])
    one, same, other = (
        plant(window, crater(100, 100, 30, 0.6), gain, 0.7, seed=seed) for seed in (1, 1, 2)
    )
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_contrast_grows_with_gain_and_falls_with_wear() -> None:
    window = ground(spread=4)
    contrast = [
        float(
            measure_contrast(
                window,
                crater(100, 100, 20),
                0.7,
                plant(window, crater(100, 100, 20, freshness), np.array([gain]), 0.7, seed=1),
            )[0]
        )
        for gain, freshness in ((0.0, 1.0), (60.0, 1.0), (120.0, 1.0), (120.0, 0.3))
    ]
    assert abs(contrast[0]) < 0.15
    assert contrast[1] > 0.4
    assert contrast[2] > 1.3 * contrast[1]  # not twice: the spread grows with the crater
    assert 0 < contrast[3] < 0.5 * contrast[2]


def test_in_a_stretched_map_craters_are_round_on_the_ground() -> None:
    """Plate carree at latitude 60: a column covers half the ground of a row."""
    shape = conformal_shape(np.array([[0, -100.0], [50, 0]]))
    gain, sides, contrast = np.array([60.0]), [], []
    for stretch, diameter in ((np.eye(2), 30.0), (shape, 30 * np.sqrt(2))):
        one = crater(150, 150, diameter)
        level, rough = (
            dataclasses.replace(ground(spread, side=300), shape=stretch) for spread in (0.0, 25.0)
        )
        rows, cols = np.nonzero(np.abs(plant(level, one, gain, 0.7, seed=1).astype(int) - 128) > 3)
        sides.append((np.ptp(rows) + 1, np.ptp(cols) + 1))
        pixels = plant(rough, one, gain, 0.7, seed=1)
        contrast.append(float(measure_contrast(rough, one, 0.7, pixels)[0]))
    assert sides[1][0] == pytest.approx(sides[0][0], abs=2)
    assert sides[1][1] == pytest.approx(2 * sides[0][1], abs=3)
    assert contrast[1] == pytest.approx(contrast[0], rel=0.15)


def test_contrast_is_unknown_where_most_pixels_are_missing() -> None:
    window = ground()
    window.missing[:, :105] = True
    assert np.isnan(measure_contrast(window, crater(100, 100, 20), 0.7)[0])


def test_the_spread_is_that_of_valid_pixels_with_a_floor() -> None:
    window = ground(spread=8)
    window.pixels[:, :100] = 0
    window.missing[:, :100] = True
    spread = local_spread(window, crater(100, 150, 20), window.pixels)
    assert spread[0] == pytest.approx(8 + 3, abs=0.3)


@pytest.mark.parametrize("blur", [0.5, 1.6])
def test_the_blur_of_an_image_is_estimated_from_its_craters(blur: float) -> None:
    window = ground(spread=1, side=400)
    places = [(row, col) for row in range(40, 400, 60) for col in range(40, 400, 60)]
    craters = np.concatenate([crater(row, col, 12.0) for row, col in places])
    pixels = plant(window, craters, np.full(len(craters), 100.0), blur, seed=5)
    circles = np.zeros(len(craters), CIRCLE_DTYPE)
    for name in ("row", "col", "diameter"):
        circles[name] = craters[name]
    window = dataclasses.replace(
        window, pixels=pixels, circles=circles, probability=np.ones(len(circles))
    )
    assert estimate_blur([window], 0.9) == pytest.approx(blur, abs=0.41)
