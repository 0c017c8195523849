"""The simulated reviewer of circles: what it answers, and the answers that an order needs."""

from __future__ import annotations

import numpy as np
import pytest

from circles import reviewer
from craters.detection import LabeledImage
from craters.models import CIRCLE_DTYPE
from harness import Row, Rows

TRUE, FALSE, UNLISTED = (40.0, 40.0, 20.0), (100.0, 100.0, 20.0), (150.0, 50.0, 12.0)


@pytest.fixture
def scene() -> tuple[LabeledImage, np.ndarray]:
    """An image with a crater and one that may be one, and circles there and elsewhere."""
    from craters.training import TRUTH_DTYPE

    craters = np.zeros(2, TRUTH_DTYPE)
    for crater, place, counted in zip(craters, (TRUE, UNLISTED), (True, False), strict=True):
        crater["row"], crater["col"], crater["diameter"] = place
        crater["counted"] = counted
    circles = np.zeros(2, CIRCLE_DTYPE)
    for circle, place in zip(circles, (TRUE, FALSE), strict=True):
        circle["row"], circle["col"], circle["diameter"] = place
        circle["logit"] = 2.0
    pixels = np.full((200, 200), 128, np.uint8)
    image = LabeledImage("one", "one", pixels, pixels == 0, craters, 270.0)
    return image, circles


def test_the_reviewer_corrects_craters_and_rejects_the_rest(
    scene: tuple[LabeledImage, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, circles = scene
    monkeypatch.setattr(reviewer, "SCATTER", 0.0)
    for wrong, places in ((0.0, [TRUE]), (1.0, [FALSE])):
        monkeypatch.setattr(reviewer, "WRONG", wrong)
        said = reviewer._said(image, circles, np.arange(2), np.random.default_rng(0))
        found = [(float(one["row"]), float(one["col"]), float(one["diameter"])) for one in said]
        assert found == places
        assert said["counted"].all()


def test_errors_of_the_reviewer_have_the_stated_size(
    scene: tuple[LabeledImage, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, circles = scene
    monkeypatch.setattr(reviewer, "WRONG", 0.0)
    random = np.random.default_rng(1)
    rows = [reviewer._said(image, circles, np.arange(2), random)["row"][0] for _ in range(400)]
    assert np.std(rows) == pytest.approx(reviewer.SCATTER, rel=0.15)
    assert np.mean(rows) == pytest.approx(TRUE[0], abs=0.4)


def test_the_least_number_of_answers_with_which_the_goal_is_reached() -> None:
    def row(recall: float) -> Row:
        return {"recall_at_rate": recall}

    rows = Rows(
        {
            (reviewer.EVERY, 0): row(0.93),
            (reviewer.QUEUE, 120): row(0.925),
            (reviewer.QUEUE, 60): row(0.90),
            (reviewer.RANDOM, 60): row(0.91),
        }
    )
    assert reviewer.answers_needed(rows, reviewer.QUEUE) == 120
    assert reviewer.answers_needed(rows, reviewer.RANDOM) is None
