from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as measures

from craters.errors import ConfigError, DataError
from craters.evaluation import (
    Scored,
    at_prior,
    confident_mistakes,
    decide,
    measure,
    precision_recall_points,
)
from craters.evaluation.metrics import (
    accuracy,
    class_f1,
    confusion_table,
    macro_f1,
    precisions,
    recalls,
    roc_points,
)


def test_known_answer_of_the_original_authors_matrix() -> None:
    """260 TN, 43 FP, 21 FN, 335 TP: macro F1 0.9016 and crater recall 0.941, as reported.

    The author also reports accuracy 0.8953 for that run; the matrix says 595 / 659 = 0.9029.
    """
    counts = {(0, 0): 260, (0, 1): 43, (1, 0): 21, (1, 1): 335}
    labels = np.concatenate([np.full(n, label) for (label, _), n in counts.items()])
    called = np.concatenate([np.full(n, call) for (_, call), n in counts.items()])
    found = measure(Scored(labels=labels, probability=np.where(called == 1, 0.9, 0.1)))
    assert found.confusion_matrix == [[260, 43], [21, 335]]
    assert found.n == 659
    assert found.macro_f1 == pytest.approx(0.9016, abs=5e-5)
    assert found.crater_recall == pytest.approx(0.941, abs=5e-4)
    assert found.accuracy == pytest.approx(595 / 659)
    assert found.crater_precision == pytest.approx(335 / 378)
    assert found.other_recall == pytest.approx(260 / 303)


def test_perfect_and_worst() -> None:
    labels = np.array([0, 1, 1, 0])
    best, worst = (
        measure(Scored(labels=labels, probability=labels * 0.98 + 0.01)),
        measure(Scored(labels=labels, probability=0.99 - labels * 0.98)),
    )
    assert (best.macro_f1, best.roc_auc, best.average_precision) == (1.0, 1.0, 1.0)
    assert (worst.macro_f1, worst.accuracy, worst.roc_auc) == (0.0, 0.0, 0.0)
    assert best.loss == pytest.approx(-np.log(0.99))


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
       st.floats(0, 1))  # fmt: skip
def test_equal_to_definitions(rows: list[tuple[int, float]], threshold: float) -> None:
    labels = np.array([label for label, _ in rows])
    probability = np.array([p for _, p in rows])
    found = measure(Scored(labels=labels, probability=probability, decision_threshold=threshold))
    (tn, fp), (fn, tp) = found.confusion_matrix
    assert tn + fp + fn + tp == len(rows)
    assert tp == sum(label == 1 and p >= threshold for label, p in rows)
    assert fp == sum(label == 0 and p >= threshold for label, p in rows)
    assert found.accuracy == pytest.approx((tn + tp) / len(rows))
    assert found.crater_f1 == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0)
    assert found.macro_f1 == pytest.approx((found.crater_f1 + found.other_f1) / 2)
    assert found.brier == pytest.approx(np.mean((probability - labels) ** 2))
    both = len(set(labels)) == 2
    assert (found.roc_auc is None) == (not both)
    assert (found.average_precision is None) == (not both)
    if both:
        assert found.balanced_accuracy == pytest.approx(
            (found.crater_recall + found.other_recall) / 2
        )


def test_the_threshold_itself_is_a_crater() -> None:
    assert decide(np.array([0.5, np.nextafter(0.5, 0)]), 0.5).tolist() == [1, 0]
    assert decide(np.array([0.5]), 0.5).dtype == np.int32


def test_precision_recall_points_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels, probability = random.integers(0, 2, 50), random.random(50)
    for ours, theirs in zip(
        precision_recall_points(Scored(labels=labels, probability=probability)),
        measures.precision_recall_curve(labels, probability),
        strict=True,
    ):
        assert np.array_equal(ours, theirs)


def test_most_confident_mistakes_come_first() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    probability = np.array([0.6, 0.99, 0.9, 0.3, 0.45])
    assert confident_mistakes(Scored(labels=labels, probability=probability)).tolist() == [
        1,
        3,
        0,
        4,
    ]
    assert confident_mistakes(Scored(labels=labels, probability=probability), most=2).tolist() == [
        1,
        3,
    ]
    assert (
        confident_mistakes(Scored(labels=labels, probability=labels.astype(float))).tolist() == []
    )


def test_roc_points_are_scikit_learns_and_hold_the_area() -> None:
    random = np.random.default_rng(1)
    labels, probability = random.integers(0, 2, 50), random.random(50)
    false_rate, recall = roc_points(Scored(labels=labels, probability=probability))
    theirs = measures.roc_curve(labels, probability)
    assert np.array_equal(false_rate, theirs[0])
    assert np.array_equal(recall, theirs[1])
    assert np.trapezoid(recall, false_rate) == pytest.approx(
        measure(Scored(labels=labels, probability=probability)).roc_auc
    )


def test_figures_at_a_prior_by_hand() -> None:
    """90 of 100 craters found, 5 of 100 others called: at 3 % craters, 27 of 75.5 calls hold."""
    labels = np.repeat([1, 0], 100)
    called = np.concatenate([np.arange(100) < 90, np.arange(100) < 5])
    found = at_prior(measure(Scored(labels=labels, probability=np.where(called, 0.8, 0.2))), 0.03)
    assert found.recall == pytest.approx(0.9)
    assert found.false_positives_per_1000 == pytest.approx(970 * 0.05)
    assert found.precision == pytest.approx(27 / (27 + 48.5))
    assert found.prior == 0.03


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_at_its_own_share_of_craters_nothing_changes(rows: list[tuple[int, float]]) -> None:
    labels, probability = (np.array(column) for column in zip(*rows, strict=True))
    if len(set(labels)) < 2:
        return
    found = measure(Scored(labels=labels, probability=probability))
    same, rarer = at_prior(found, labels.mean()), at_prior(found, labels.mean() / 2)
    assert same.precision == pytest.approx(found.crater_precision)
    assert rarer.precision <= same.precision + 1e-12
    false_positives = found.confusion_matrix[0][1]
    assert same.false_positives_per_1000 == pytest.approx(1000 * false_positives / len(labels))


def test_priors_that_cannot_be_used() -> None:
    found = measure(Scored(labels=np.array([0, 1]), probability=np.array([0.2, 0.7])))
    for prior in (0, 1, 3, -0.1, np.nan):
        with pytest.raises(ConfigError, match=f"prior is {prior:g}, expected a share"):
            at_prior(found, prior)
    with pytest.raises(DataError, match="a class is absent from the measured patches"):
        at_prior(measure(Scored(labels=np.array([1, 1]), probability=np.array([0.2, 0.7]))), 0.03)
    assert (
        at_prior(
            measure(Scored(labels=np.array([0, 1]), probability=np.array([0.2, 0.3]))), 0.03
        ).precision
        == 0
    )


tables = st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any)


@given(tables)
@settings(deadline=None)
def test_figures_of_counts_are_those_of_scikit_learn_on_the_rows(counts: list[int]) -> None:
    labels = np.repeat([0, 0, 1, 1], counts)
    called = np.repeat([0, 1, 0, 1], counts)
    table = confusion_table(labels, called)
    assert table.ravel().tolist() == counts
    precision, recall, f1, _ = measures.precision_recall_fscore_support(
        labels, called, labels=[0, 1], zero_division=0.0
    )
    assert precisions(table).tolist() == precision.tolist()
    assert recalls(table).tolist() == recall.tolist()
    assert class_f1(table).tolist() == f1.tolist()
    assert macro_f1(table) == np.mean(f1)
    assert accuracy(table) == measures.accuracy_score(labels, called)


@given(st.lists(tables, min_size=1, max_size=5))
def test_many_tables_at_once_are_as_one_by_one(counts: list[list[int]]) -> None:
    many = np.array(counts).reshape(-1, 2, 2)
    assert macro_f1(many).tolist() == [macro_f1(one) for one in many]
    assert accuracy(many).tolist() == [accuracy(one) for one in many]
