from __future__ import annotations

import numpy as np
import pytest

from craters.evaluation.resampling import (
    bootstrap,
    draw_counts,
    group_weights,
    percentile_limits,
    random_tables,
    random_weights,
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


def test_random_weights_vary_a_mean_as_students_t_does() -> None:
    """With 6 units its standard deviation is 2.571 / 1.960 times s / sqrt(6)."""
    values = np.array([1.0, 2.0, 4.0, 4.5, 7.0, 9.0])
    draw = random_weights(np.arange(6), np.array([1e-9]))
    drawn = bootstrap(lambda random: draw(random)[:6], lambda weights: weights / weights.sum(),
                      draws=20_000)  # fmt: skip
    expected = np.std(values, ddof=1) / np.sqrt(6) * 2.570582 / 1.959964
    assert np.std(drawn @ values) == pytest.approx(expected, rel=0.03)
    assert np.mean(drawn @ values) == pytest.approx(values.mean(), abs=0.05)


def test_random_tables_are_random_weights_of_their_rows() -> None:
    labels = np.repeat([0, 1], [6, 4])
    draw = random_weights(np.arange(10), np.array([0.5, 0.5]))
    cells = np.append(labels, [0, 1])
    by_rows = bootstrap(draw, lambda weights: np.bincount(cells, weights), draws=8000)
    tables = random_tables(np.array([6, 4]), 0.5, draws=8000)
    assert tables.mean(axis=0) == pytest.approx([6.5, 4.5], rel=0.02)
    for quantile in (0.025, 0.5, 0.975):
        ours, theirs = (np.quantile(each, quantile, axis=0) for each in (tables, by_rows))
        assert ours == pytest.approx(theirs, rel=0.06)
