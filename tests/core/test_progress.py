"""The time left, by a clock that the tests set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from craters.core import TimeLeft


def estimates(
    seconds: Sequence[float], weights: Sequence[float], before: float = 0.0
) -> list[tuple[float, float, float | None]]:
    """Finish pieces that take some seconds each, reported with weights as their share.

    Returns
    -------
    list of (elapsed share of the time, true time left, estimated time left)
        After each piece.
    """
    now, total = 0.0, sum(weights) / (1 - before)
    left = TimeLeft(lambda: now)
    left.update(before)
    rows, share = [], before
    for taken, weight in zip(seconds, weights, strict=True):
        now += taken
        share += weight / total
        left.update(share)
        rows.append((now / sum(seconds), sum(seconds) - now, left.seconds))
    return rows


def check(rows: list[tuple[float, float, float | None]]) -> None:
    """Expect "unknown" at first, and at most 30 % of error from a fifth to 19/20 of the time."""
    assert rows[0][2] is None
    late = [row for row in rows if 0.25 <= row[0] <= 0.95]
    assert len(late) > 5
    for _, true, estimated in late:
        assert estimated == pytest.approx(true, rel=0.3)
    assert rows[-1][2] == pytest.approx(0, abs=1e-9)


def test_even_pieces_give_the_exact_time() -> None:
    rows = estimates([2.0] * 50, [1.0] * 50)
    check(rows)
    assert all(estimated == pytest.approx(true) for share, true, estimated in rows[10:])


@pytest.mark.parametrize("seed", range(5))
def test_uneven_pieces_are_within_30_percent_if_their_work_is_known(seed: int) -> None:
    random = np.random.default_rng(seed)
    work = np.sort(random.lognormal(0, 0.7, 200))  # the largest last: by number they would mislead
    check(estimates(work * random.uniform(0.7, 1.3, 200), work.tolist()))
    by_number = estimates(work.tolist(), [1.0] * 200)
    assert any(
        estimated is not None and estimated < 0.7 * true
        for share, true, estimated in by_number
        if 0.2 < share < 0.9
    )


def test_work_of_an_earlier_process_took_no_time_of_this_one() -> None:
    check(estimates([3.0] * 30, [1.0] * 30, before=0.7))


def test_time_passes_between_two_reports() -> None:
    now = 0.0
    left = TimeLeft(lambda: now)
    assert left.text == "time left unknown"
    left.update(0.0)
    now = 10.0
    left.update(0.5)
    now = 14.0
    assert left.seconds == 6
    now = 30.0  # later than expected, so that the rest takes longer, too
    assert left.seconds == 30
    left.update(1.0)
    assert (left.seconds, left.text) == (0, "almost finished")


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [(50, "about 50 s left"), (300, "about 5 min left"), (9000, "about 2.5 h left")],
)
def test_the_time_left_in_words(elapsed: float, text: str) -> None:
    now = 0.0
    left = TimeLeft(lambda: now)
    left.update(0.0)
    now = elapsed
    left.update(0.5)
    assert left.text == text


def test_work_that_was_finished_before_has_no_time_left() -> None:
    left = TimeLeft(lambda: 5.0)
    left.update(1.0)
    assert left.seconds == 0
