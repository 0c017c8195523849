from __future__ import annotations

import pytest

from craters.core import PlannedWork, Steps, TimeLeft
from tests.conftest import Estimates


def test_the_share_counts_the_cost_of_epochs() -> None:
    work = PlannedWork()
    work.expect("supervised-fold1", 10, 1.0)
    work.expect("fixmatch-fold1", 10, 4.0)
    assert (work.pieces, work.finished, work.share) == (20, 0, 0)
    work.advance("supervised-fold1", 10, is_last=True)
    assert work.share == pytest.approx(0.2)
    work.expect("fixmatch-fold1", 30, 3.0)  # as it turns out
    assert work.share == pytest.approx(0.1)


def test_what_is_dropped_is_no_longer_expected() -> None:
    work = PlannedWork()
    work.expect("a", 5, 1.0)
    work.expect("b", 15, 1.0)
    work.advance("a", 5, is_last=True)
    work.forget(["a", "b", "unknown"])
    assert (work.pieces, work.share) == (5, 1)


def test_epochs_of_an_interrupted_job_are_finished_but_no_work_of_this_one() -> None:
    work = PlannedWork()
    work.expect("a", 20, 1.0)
    work.expect("b", 30, 1.0)
    work.resume("a", 15, is_last=False)
    work.resume("b", 10, is_last=True)  # stopped early
    assert (work.finished, work.pieces, work.share) == (25, 30, 0)
    work.advance("a", 17, is_last=False)
    assert work.share == pytest.approx(0.4)


def test_early_stopping_leaves_no_work() -> None:
    work = PlannedWork()
    work.expect("a", 50, 1.0)
    work.advance("a", 12, is_last=True)
    assert (work.pieces, work.share) == (12, 1)


def test_nothing_planned_is_no_progress() -> None:
    assert PlannedWork().share == 0


def test_the_time_left_knows_which_trainings_run_together() -> None:
    """Three folds and a final training on two processors, then the results on one."""
    work, epochs = PlannedWork(), 20
    sizes = {"fold1": 800.0, "fold2": 800.0, "fold3": 800.0, "final": 1200.0}
    work.expect("results", 1, 4000.0, batch="results", is_counted=False)
    for key, size in sizes.items():
        work.expect(key, epochs, size, batch="folds", threads=2)
    now, end = 0.0, epochs * (800 + 1200) + 4000
    left = TimeLeft(lambda: now)
    left.update(work.share)
    starts = {"fold1": 0.0, "fold2": 0.0, "fold3": epochs * 800.0, "final": epochs * 800.0}
    moments = sorted(
        (starts[key] + epoch * size, key, epoch)
        for key, size in sizes.items()
        for epoch in range(1, epochs + 1)
    )
    for now, key, epoch in moments:
        work.advance(key, epoch)
        left.update(work.share)
        if now < 0.19 * end:
            assert left.seconds is None
        if now > 0.25 * end:
            assert left.seconds == pytest.approx(
                end - now, rel=0.12
            )  # one of two trainings has reported its epoch
    assert (work.pieces, work.finished) == (80, 80)
    assert left.seconds == pytest.approx(4000)
    work.advance("results", 1)
    assert work.share == 1


def test_two_threads_are_faster_than_one_but_not_twice() -> None:
    work = PlannedWork()
    work.expect("alone", 10, 1.0, batch="alone", threads=2)
    work.expect("a", 10, 1.0, batch="pair", threads=2)
    work.expect("b", 10, 1.0, batch="pair", threads=2)
    work.advance("alone", 10)
    assert 1 / 3 < work.share < 1 / 2


def test_steps_report_percent_of_the_work() -> None:
    heard = Estimates()
    steps = Steps(heard, {"read": 1.0, "match": 3.0, "write": 4.0})
    steps.finish("read")
    within = steps.within("match")
    within.work(1, 3, "pairs")
    within.work(1, 4, "pairs", 2 / 3)
    steps.expect("write", 0.0)  # as it turns out, nothing is to be written
    steps.finish("match")
    assert heard.shares == pytest.approx([0, 1 / 8, 2 / 8, 3 / 8, 1])
