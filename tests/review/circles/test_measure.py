from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.labels import Circle, Place
from craters.review.circles.fields import draw_fields, field_of
from craters.review.circles.measure import FieldCounts, Located, count_fields, estimate, gain


def field(number: int, x: float, image: str = "A") -> Place:
    return Place(f"{image}/{number}", "field", image, x, 50, width=100, height=100, number=number)


def located(*circles: tuple[str, float, float, float]) -> Located:
    return Located.of([(image, Circle(x, y, d)) for image, x, y, d in circles])


def test_craters_and_detections_are_counted_in_their_field() -> None:
    fields = [field(0, 50), field(1, 150), field(2, 50, "B")]
    craters = located(
        ("A", 30, 30, 20), ("A", 70, 70, 20), ("A", 150, 50, 40), ("A", 250, 50, 40),
        ("B", 20, 20, 12), ("A", 60, 20, 5),
    )  # fmt: skip
    detections = located(
        ("A", 31, 30, 22),  # found
        ("A", 70, 76, 20),  # more than a quarter of the diameter away
        ("A", 150, 50, 62),  # too large
        ("A", 99, 10, 10),  # false
        ("A", 250, 50, 40),  # in no field
        ("B", 21, 20, 12),
        ("A", 60, 20, 5),  # both too small to count
    )
    counts = count_fields(fields, craters, detections)
    assert counts.craters.tolist() == [2, 1, 1]
    assert counts.found.tolist() == [1, 0, 1]
    assert counts.detections.tolist() == [3, 1, 1]
    assert counts.right.tolist() == [1, 0, 1]


def test_a_detection_inside_may_be_of_a_crater_whose_middle_is_outside() -> None:
    counts = count_fields([field(0, 50)], located(("A", 101, 50, 40)), located(("A", 99, 50, 40)))
    assert (counts.craters.sum(), counts.detections.sum(), counts.right.sum()) == (0, 1, 1)


def counts_of(craters: int, found: int, detections: int, right: int, fields: int) -> FieldCounts:
    return FieldCounts(*(np.full(fields, n) for n in (craters, found, detections, right)))


def test_no_figure_is_shown_below_the_stated_numbers() -> None:
    few_fields = estimate(counts_of(9, 8, 9, 7, fields=4))
    assert few_fields["recall"] is few_fields["precision"] is None
    few_circles = estimate(counts_of(3, 2, 5, 4, fields=6))
    assert few_circles["recall"] is None
    assert few_circles["precision"] == 0.8
    assert few_circles["craters"] == 18


def test_intervals_weight_fields_and_never_have_no_width() -> None:
    enough = estimate(counts_of(4, 4, 5, 4, fields=10))
    assert (enough["recall"], enough["precision"]) == (1.0, 0.8)
    low, high = enough["recall_interval"]
    assert 0.85 < low < 0.99
    assert high == 1.0
    random = np.random.default_rng(0)
    apart = np.zeros(30, int)
    apart[:15] = 6
    spread = FieldCounts(np.full(30, 6), apart, np.full(30, 6), random.integers(2, 7, 30))
    low, high = estimate(spread)["recall_interval"]
    assert high - low > 0.3  # half of the fields all found, half none: 180 circles are no 180 draws


def test_two_catalogues_are_compared_on_the_same_fields() -> None:
    before, after = counts_of(4, 2, 4, 2, fields=20), counts_of(4, 3, 4, 3, fields=20)
    found = gain(before, after)
    assert found is not None
    assert (found["recall"], found["precision"], found["fields"]) == (0.25, 0.25, 20)
    assert found["f1"] == pytest.approx(0.25)
    low, high = found["recall_interval"]
    assert 0.2 < low <= 0.25 <= high < 0.3  # paired: equal in all fields
    assert gain(counts_of(4, 2, 4, 2, fields=4), counts_of(4, 3, 4, 3, fields=4)) is None


def test_fields_cover_the_images_and_a_tenth_is_drawn() -> None:
    images = [("A", 1000, 1500), ("B", 300, 300)]
    fields = draw_fields(images, 100.0, 3, lambda _: True)
    assert len(fields) == 20  # of 150 + 9
    assert [each.number for each in fields] == list(range(20))
    assert {each.width for each in fields} == {100}
    assert draw_fields(images, 100.0, 3, lambda _: True) == fields
    assert draw_fields(images, 100.0, 4, lambda _: True) != fields
    without = draw_fields(images, 100.0, 3, lambda each: each.image == "B")
    assert {each.image for each in without} == {"B"}
    many = draw_fields([("A", 10_000, 10_000)], 100.0, 3, lambda _: True)
    assert len(many) == 300
    few = draw_fields([("A", 64, 64)], 200.0, 3, lambda _: True)
    assert [(each.width, each.height) for each in few] == [(64, 64)]


def test_each_point_has_one_field() -> None:
    fields = [field(0, 50), field(1, 150), field(2, 50, "B")]
    x = np.array([0.0, 99.9, 100.0, 200.0])
    assert field_of(fields, "A", x, np.full(4, 10.0)).tolist() == [0, 0, 1, -1]
