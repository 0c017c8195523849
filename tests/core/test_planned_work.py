from __future__ import annotations

import pytest

from craters.core import PlannedWork


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
