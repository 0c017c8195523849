"""Each check of a training fires where it should, and stays silent where it should."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from craters.detection.circle_training.checks import check_training
from craters.detection.circle_training.preparation import Limit
from craters.detection.circle_training.result import START, TRAINED
from craters.detection.circle_training.validation import BETTER, UNSHOWN, Verdict
from craters.models import Calibration, CircleDescription
from tests.detection.circle_training.tools import image_of, truth_of

GOOD = Verdict(trained=0.9, start=0.8, difference=0.1, low=0.05, high=0.15, groups=8, words=BETTER)
LIMIT = Limit(smallest=1.0, largest=9.0, origin="stated", sentence="Stated")


def training(**changes: Any) -> SimpleNamespace:
    """Return what the checks read of a training of two images."""
    images = [image_of(truth_of([(50, 50, 20)]), name) for name in "ab"]
    images[1].pixels[:9] = 3
    parts = [SimpleNamespace(entries=np.array([row]), image=image)
             for row, image in enumerate(images)]  # fmt: skip
    read = {"parts": parts, "catalogue": _Catalogue(), "outside": 0, "without": [],
            "images": images}  # fmt: skip
    facts: dict[str, Any] = {
        "truth": images, "agreement": 0.9, "kept": TRAINED, "counted": 400, "dark": [],
        "calibrated": True, "limit": LIMIT, "config": SimpleNamespace(start="circles"),
        "description": CircleDescription(calibration=Calibration(candidates=500)),
    }  # fmt: skip
    verdict = changes.pop("verdict", GOOD)
    read |= {name: changes.pop(name) for name in ("parts", "without") if name in changes}
    facts |= changes
    validation = SimpleNamespace(verdict=verdict)
    return SimpleNamespace(read=SimpleNamespace(**read), validation=validation, **facts)


class _Catalogue:
    in_pixels = False

    def __len__(self) -> int:
        return 2


def fired(**changes: Any) -> dict[str, str]:
    made = check_training(training(**changes))  # type: ignore[arg-type]
    return {check.id: check.severity for check in made if check.state == "fired"}


def test_a_good_training_passes_all() -> None:
    assert fired() == {}
    assert len(check_training(training())) == 8  # type: ignore[arg-type]


SAME = [SimpleNamespace(entries=np.array([7])), SimpleNamespace(entries=np.array([7]))]
UNSURE = dataclasses.replace(GOOD, words=UNSHOWN)
FEW = dataclasses.replace(GOOD, groups=4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"parts": SAME}, {"T01": "severe"}),
        ({"agreement": 0.3}, {"T02": "severe"}),
        ({"verdict": UNSURE, "kept": START}, {"T03": "warning"}),
        ({"counted": 99}, {"T04": "warning"}),
        ({"verdict": FEW}, {"T04": "warning"}),
        ({"limit": dataclasses.replace(LIMIT, origin="measured")}, {"T05": "note"}),
        ({"limit": dataclasses.replace(LIMIT, origin="smallest")}, {"T05": "warning"}),
        ({"dark": ["a"]}, {"T06": "warning"}),
        ({"without": ["b"]}, {"T07": "note"}),
        ({"calibrated": False}, {"T08": "warning"}),
    ],
)
def test_each_check_fires(changes: dict[str, Any], expected: dict[str, str]) -> None:
    assert fired(**changes) == expected


def test_equal_images_of_two_groups_are_a_leak() -> None:
    images = [image_of(truth_of([(50, 50, 20)]), name) for name in "ab"]
    assert fired(truth=images) == {"T01": "severe"}


def test_every_check_is_explained() -> None:
    page = Path(__file__).parents[3] / "docs" / "train-circles.md"
    text = page.read_text()
    for check in check_training(training()):  # type: ignore[arg-type]
        assert f"| {check.id}" in text
