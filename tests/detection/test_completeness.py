"""Completeness by planted craters: known answers, seeds, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from craters.detection import PlantingWindow, Recall, completeness, measure_completeness
from craters.detection.completeness import (
    PLANTED_DTYPE,
    Completeness,
    Find,
    _image_recall,
)
from craters.detection.planting import plant
from craters.errors import DataError
from craters.models import CIRCLE_DTYPE
from tests.conftest import Estimates
from tests.detection.test_planting import crater, ground

EDGES = (8.0, 12.0, 30.0, 40.0)


def windows(count: int = 3) -> list[PlantingWindow]:
    """Make windows with nine craters each, which are their detections."""
    made = []
    for seed in range(count):
        plain = ground(side=420)
        places = [(row, col) for row in (40, 210, 380) for col in (40, 210, 380)]
        craters = np.concatenate([crater(row, col, 10.0 + 4 * (seed // 2)) for row, col in places])
        circles = np.zeros(len(craters), CIRCLE_DTYPE)
        for name in ("row", "col", "diameter"):
            circles[name] = craters[name]
        made.append(
            dataclasses.replace(
                plain,
                pixels=plant(plain, craters, np.full(len(craters), 120.0), 0.7, seed),
                circles=circles,
                probability=np.full(len(circles), 0.95),
            )
        )
    return made


def everywhere(*diameters: float) -> np.ndarray:
    """Return circles of these diameters at every fourth pixel."""
    rows, cols, sizes = np.meshgrid(np.arange(0, 420, 4), np.arange(0, 420, 4), diameters)
    circles = np.zeros(rows.size, CIRCLE_DTYPE)
    circles["row"], circles["col"], circles["diameter"] = rows.ravel(), cols.ravel(), sizes.ravel()
    return circles


def finder(found: np.ndarray, probability: float = 0.95) -> Find:
    return lambda *_: (found, np.full(len(found), probability))


def recalls(found: np.ndarray, **changes: object) -> dict[tuple[float, str], Recall]:
    settings = {"count": 30, "seed": 0} | changes
    measured = measure_completeness(windows(), finder(found), EDGES, **settings)  # type: ignore[arg-type]
    return {(each.low_px, each.freshness): each for each in measured.recalls}


def test_the_time_left_is_known_from_the_craters_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completeness, "_COSTS", {"measure": 0, "plant": 1, "recalls": 0})
    heard = Estimates()

    def find(*_: object) -> tuple[np.ndarray, np.ndarray]:
        heard.now += 1
        return everywhere(10)[:0], np.empty(0)

    measure_completeness(windows(), find, EDGES, count=150, progress=heard)
    assert heard.now > 15
    heard.check()


def test_a_detector_that_finds_everything_is_complete() -> None:
    measured = recalls(everywhere(10, 17, 30))
    assert {each.recall for each in measured.values() if each.planted} - {1.0} <= {math.nan}
    assert measured[8.0, "all"].planted == measured[8.0, "all"].found == 30
    assert measured[8.0, "all"].recall == measured[8.0, "fresh"].recall == 1.0
    assert sum(measured[30.0, name].planted for name in ("fresh", "worn", "degraded")) == 30


def test_a_detector_that_finds_nothing_has_recall_0() -> None:
    measured = recalls(everywhere()[:0])
    assert measured[8.0, "all"].found == 0
    assert measured[8.0, "all"].recall == measured[30.0, "fresh"].recall == 0.0
    assert 0 < measured[30.0, "fresh"].high < 0.5  # Wilson's interval of 0 of few


def test_a_detector_of_large_craters_misses_the_small_ones() -> None:
    measured = recalls(everywhere(40))
    assert measured[8.0, "fresh"].recall == 0.0
    assert measured[30.0, "fresh"].recall == measured[30.0, "degraded"].recall == 1.0


def test_no_recall_is_stated_for_sizes_without_detections() -> None:
    measured = recalls(everywhere(10, 17, 30))
    assert math.isnan(measured[30.0, "all"].recall)
    assert measured[30.0, "all"].planted == 30


def test_craters_are_planted_apart_inside_the_border() -> None:
    scene = windows()
    measured = measure_completeness(scene, finder(everywhere(10)), EDGES, count=40, border=50)
    planted = measured.planted
    assert planted.dtype == PLANTED_DTYPE
    for name in ("row", "col"):
        assert planted[name].min() >= 50
        assert planted[name].max() <= 420 - 50
    for number, window in enumerate(scene):
        mine = planted[planted["window"] == number]
        own = window.circles
        distance = np.hypot(*(mine[name][:, None] - own[name] for name in ("row", "col")))
        reach = 0.75 * (mine["diameter"][:, None] + own["diameter"]) / 2
        is_similar = mine["diameter"][:, None] < 3 * own["diameter"]
        assert not (is_similar & (distance < reach)).any()


def test_equal_seeds_give_equal_bytes_and_others_other_places() -> None:
    one, same, other = (
        measure_completeness(
            windows(), finder(everywhere(10)), EDGES, count=20, seed=seed
        ).planted.tobytes()
        for seed in (4, 4, 5)
    )
    assert one == same != other


def look(contrast: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which craters are found, and which surely, by chances that rise with the contrast."""
    luck = random.logistic(0, 1 / 6, len(contrast))
    return contrast > 0.8 + luck, contrast > 0.9 + luck


@pytest.mark.parametrize("false", [0, 300])
def test_the_recall_of_the_image_weights_sure_detections_by_what_they_stand_for(
    false: int,
) -> None:
    """Of craters whose contrasts are another mix than the planted ones, the recall is right.

    False detections of little contrast, and of the probability of unsure craters, change nothing.
    """
    random = np.random.default_rng(0)
    planted = np.zeros(3000, PLANTED_DTYPE)
    planted["contrast"] = random.uniform(0, 3, len(planted))
    planted["is_found"], planted["is_sure"] = look(planted["contrast"], random)
    craters = random.uniform(0.4, 1.3, 3000)
    is_found, is_sure = look(craters, random)
    detected = np.zeros(int(is_found.sum()) + false, [("contrast", "f8"), ("probability", "f8")])
    real = detected[false:]
    real["contrast"], real["probability"] = craters[is_found], 0.6
    real["probability"][is_sure[is_found]] = 0.95
    detected["contrast"][:false], detected["probability"][:false] = 0.2, 0.6
    recall, low, high = _image_recall(planted, detected, random)
    assert abs(planted["is_found"].mean() - is_found.mean()) > 0.15  # what is corrected
    assert recall == pytest.approx(is_found.mean(), abs=0.04)
    assert low < is_found.mean() < high
    assert high - low < 0.15


def test_without_sure_detections_of_a_size_no_recall_is_stated() -> None:
    planted = np.zeros(100, PLANTED_DTYPE)
    detected = np.zeros(50, [("contrast", "f8"), ("probability", "f8")])
    detected["probability"] = 0.85
    assert math.isnan(_image_recall(planted, detected, np.random.default_rng(0))[0])


@pytest.mark.parametrize(
    ("values", "smallest"),
    [
        ((0.9, 0.95, 0.99), 8.0),
        ((0.6, 0.85, 0.9), 12.0),
        ((0.9, 0.7, 0.9), 30.0),
        ((0.9, 0.9, 0.5), None),
        ((0.5, 0.9, math.nan), 12.0),
        ((math.nan, math.nan, math.nan), None),
    ],
)
def test_the_smallest_diameter_is_where_all_larger_ones_can_be_trusted(
    values: tuple[float, ...], smallest: float | None
) -> None:
    rows = [
        Recall(low, high, "all", 1, 1, value, value, value)
        for low, high, value in zip(EDGES[:-1], EDGES[1:], values, strict=True)
    ]
    assert Completeness(np.zeros(0, PLANTED_DTYPE), rows, 0.7, []).smallest_px == smallest


def test_too_few_sure_detections_are_refused() -> None:
    doubtful = [
        dataclasses.replace(each, probability=np.full(len(each.circles), 0.5)) for each in windows()
    ]
    with pytest.raises(DataError, match=r"0 detections of a probability of at least 0\.9"):
        measure_completeness(doubtful, finder(everywhere(10)), EDGES)


def test_windows_without_room_are_refused() -> None:
    with pytest.raises(DataError, match="no ground for craters"):
        recalls(everywhere(10), border=209)


def test_intervals_are_no_narrower_than_those_of_a_share_of_the_sure_detections() -> None:
    measured = recalls(everywhere(10, 17, 30))
    sure = sum(
        int(((each.circles["diameter"] >= 8) & (each.circles["diameter"] < 12)).sum())
        for each in windows()
    )
    assert (measured[8.0, "all"].low, measured[8.0, "all"].high) == pytest.approx(
        (sure / (sure + 1.96**2), 1.0), abs=1e-3
    )
