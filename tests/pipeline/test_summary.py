from __future__ import annotations

from types import SimpleNamespace

import pytest

from craters.pipeline.summary import BEST_EPOCH, LAST_AVERAGE, START_IS_KEPT, kept_weights
from craters.training import FINE_TUNED, HALFWAY, KEPT


@pytest.mark.parametrize(
    ("network", "start", "share", "expected"),
    [
        ("original", "random", None, BEST_EPOCH),
        ("compact", "random", None, LAST_AVERAGE),
        ("dense", "pretrained", None, LAST_AVERAGE),  # only its teachers start from it
        ("compact", "pretrained", KEPT, START_IS_KEPT),
        ("compact", "pretrained", HALFWAY, "A mean of weights is kept: 40% the moving average"),
        ("compact", "pretrained", FINE_TUNED, "A mean of weights is kept: 80% the moving average"),
        ("compact", "pretrained", None, "A mean of weights is kept: 80% the moving average"),
    ],
)
def test_the_report_says_which_weights_are_kept(
    network: str, start: str, share: float | None, expected: str
) -> None:
    choice = None if share is None else SimpleNamespace(share=share)
    result = SimpleNamespace(
        config=SimpleNamespace(network=network, start=start),
        learned=SimpleNamespace(measured=SimpleNamespace(start_choice=choice)),
    )
    assert kept_weights(result).startswith(expected)
    assert ("lowest validation loss" in kept_weights(result)) == (network == "original")
