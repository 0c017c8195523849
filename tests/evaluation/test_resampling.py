from __future__ import annotations

import numpy as np
import pytest

from craters.evaluation.resampling import (
    bootstrap,
    draw_counts,
    group_weights,
    percentile_limits,
    row_weights,
    table_counts,
)


def test_draws_are_those_of_the_seed_one_after_another() -> None:
    found = bootstrap(lambda random: draw_counts(9, random), np.asarray, draws=40, seed=3)
    random = np.random.default_rng(3)
    expected = [np.bincount(random.integers(0, 9, 9), minlength=9) for _ in range(40)]
    assert np.array_equal(found, expected)
    assert (found.sum(axis=1) == 9).all()


def test_a_table_is_drawn_as_all_draws_at_once() -> None:
    table = np.array([[5, 2], [0, 11]])
    found = bootstrap(table_counts(table), np.asarray, draws=30, seed=1)
    drawn = np.random.default_rng(1).multinomial(18, table.ravel() / 18, 30)
    assert np.array_equal(found, drawn.reshape(-1, 2, 2))


def test_rows_are_drawn_within_classes_and_groups_whole() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    within = bootstrap(row_weights(labels, None), np.asarray, draws=50)
    assert (within[:, labels == 0].sum(axis=1) == 2).all()
    assert (within[:, labels == 1].sum(axis=1) == 3).all()
    whole = bootstrap(group_weights(np.array(["b", "a", "a", "b", "c"])), np.asarray, draws=50)
    assert (whole[:, 1] == whole[:, 2]).all()
    assert (whole[:, 0] == whole[:, 3]).all()
    assert (whole[:, [0, 1, 4]].sum(axis=1) == 3).all()


def test_draws_without_a_statistic_are_left_out() -> None:
    found = bootstrap(
        lambda random: int(random.integers(4)), lambda drawn: drawn or None, draws=400
    )
    assert set(found.tolist()) == {1, 2, 3}
    assert len(found) == pytest.approx(300, abs=40)


def test_limits_leave_the_tails_out_of_each_column() -> None:
    values = np.stack([np.arange(101.0), 10 * np.arange(101.0)], axis=1)
    low, high = percentile_limits(values, 0.1)
    assert (low.tolist(), high.tolist()) == ([10.0, 100.0], [90.0, 900.0])
    assert percentile_limits(values[:, 0], 0.1) == (10.0, 90.0)
