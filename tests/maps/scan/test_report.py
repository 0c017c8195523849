from __future__ import annotations

import numpy as np
import pytest

from craters.maps.scan import precision_sentence
from craters.maps.scan.report import MeasuredRates, expected_precision, measured_rates
from craters.models import ModelDescription


@pytest.mark.parametrize(
    ("matrix", "called", "reason"),
    [
        (None, 10, "has no confusion matrix of validation patches of both classes."),
        ([[9, 1], [0, 0]], 10, "has no confusion matrix of validation patches of both classes."),
        (
            [[0, 13], [0, 27]], 100,
            "detects 100.0 % of those with a crater and 100.0 % of those without, so its "
            "predictions carry no information.",
        ),
        ([[10, 0], [1, 9]], 0, "no window was called, and the model gave no false alarm"),
        (
            [[90, 10], [5, 95]], 4,
            "4.00 % of the windows are called with crater, fewer than the false alarms on "
            "validation patches without a crater (10.00 %) would give alone.",
        ),
        ([[90, 10], [5, 95]], 0, "0.00 % of the windows are called with crater, fewer than"),
        (
            [[90, 10], [40, 60]], 80,
            "80.0 % of the windows are called with crater, more than if all held one (recall on "
            "validation patches: 60.0 %).",
        ),
    ],
)  # fmt: skip
def test_why_precision_cannot_be_estimated(matrix, called: int, reason: str) -> None:
    metrics = {} if matrix is None else {"confusion_matrix": matrix}
    rates = measured_rates(ModelDescription("original", {}, 48, metrics=metrics))
    found = expected_precision(called, 100, rates)
    for name in ("prior", "precision", "prior_interval", "precision_interval"):
        assert found[name] is None
    assert reason in precision_sentence(found)
    assert "cannot be estimated" in precision_sentence(found)


def test_no_window_has_no_precision() -> None:
    assert (
        expected_precision(0, 0, MeasuredRates(9, 10, 1, 10))["why_unknown"]
        == "no window has a value"
    )


def test_one_window_is_no_certainty() -> None:
    rates = MeasuredRates(detected=60, craters=60, false_alarms=0, others=60)
    found = expected_precision(1, 400, rates)
    assert found["precision"] == 1.0
    low, high = found["precision_interval"]
    assert low < 0.05
    assert high > 0.9
    text = precision_sentence(found | {"recall": 1, "false_alarms": 0, "other_threshold": False})
    assert "about 100 % (95 % interval 0 to" in text


@pytest.mark.parametrize("share", [0.03, 0.3])
def test_the_intervals_cover_as_often_as_they_say(share: float) -> None:
    random, recall, alarms, windows = np.random.default_rng(3), 0.9, 0.03, 5000
    precision = share * recall / (share * recall + (1 - share) * alarms)
    covered, estimated = np.zeros(2), 0
    for _ in range(150):
        rates = MeasuredRates(
            detected=int(random.binomial(200, recall)), craters=200,
            false_alarms=int(random.binomial(300, alarms)), others=300,
        )  # fmt: skip
        craters = round(windows * share)
        called = random.binomial(craters, recall) + random.binomial(windows - craters, alarms)
        found = expected_precision(int(called), windows, rates)
        if found["prior"] is not None:
            estimated += 1
            for place, (name, truth) in enumerate((("prior", share), ("precision", precision))):
                low, high = found[f"{name}_interval"]
                covered[place] += low <= truth <= high
    assert estimated > 140
    assert (covered >= 0.91 * estimated).all()


def test_the_estimate_is_reported_with_its_intervals() -> None:
    text = precision_sentence({
        "prior": 0.05, "precision": 0.5, "recall": 0.9, "false_alarms": 0.05,
        "other_threshold": False, "prior_interval": (0.011, 0.089),
        "precision_interval": (0.1, 0.9), "why_unknown": "",
    })  # fmt: skip
    assert "about 5.0 % (95 % interval 1.1 to 8.9 %) of the windows hold a crater" in text
    assert "about 50 % (95 % interval 10 to 90 %) of the windows called with crater do" in text
