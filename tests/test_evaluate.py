from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as measures

from craters.evaluate import confident_mistakes, decide, measure, precision_recall_points


def test_known_answer_of_the_original_authors_matrix() -> None:
    """260 TN, 43 FP, 21 FN, 335 TP: macro F1 0.9016 and crater recall 0.941, as reported.

    The author also reports accuracy 0.8953 for that run; the matrix says 595 / 659 = 0.9029.
    """
    counts = {(0, 0): 260, (0, 1): 43, (1, 0): 21, (1, 1): 335}
    labels = np.concatenate([np.full(n, label) for (label, _), n in counts.items()])
    called = np.concatenate([np.full(n, call) for (_, call), n in counts.items()])
    found = measure(labels, np.where(called == 1, 0.9, 0.1))
    assert found.confusion_matrix == [[260, 43], [21, 335]]
    assert found.n == 659
    assert found.macro_f1 == pytest.approx(0.9016, abs=5e-5)
    assert found.crater_recall == pytest.approx(0.941, abs=5e-4)
    assert found.accuracy == pytest.approx(595 / 659)
    assert found.crater_precision == pytest.approx(335 / 378)
    assert found.other_recall == pytest.approx(260 / 303)


def test_perfect_and_worst() -> None:
    labels = np.array([0, 1, 1, 0])
    best, worst = measure(labels, labels * 0.98 + 0.01), measure(labels, 0.99 - labels * 0.98)
    assert (best.macro_f1, best.roc_auc, best.average_precision) == (1.0, 1.0, 1.0)
    assert (worst.macro_f1, worst.accuracy, worst.roc_auc) == (0.0, 0.0, 0.0)
    assert best.loss == pytest.approx(-np.log(0.99))


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
       st.floats(0, 1))  # fmt: skip
def test_equal_to_definitions(rows: list[tuple[int, float]], threshold: float) -> None:
    labels = np.array([label for label, _ in rows])
    probability = np.array([p for _, p in rows])
    found = measure(labels, probability, threshold)
    (tn, fp), (fn, tp) = found.confusion_matrix
    assert tn + fp + fn + tp == len(rows)
    assert tp == sum(label == 1 and p >= threshold for label, p in rows)
    assert fp == sum(label == 0 and p >= threshold for label, p in rows)
    assert found.accuracy == pytest.approx((tn + tp) / len(rows))
    assert found.crater_f1 == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0)
    assert found.macro_f1 == pytest.approx((found.crater_f1 + found.other_f1) / 2)
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
        precision_recall_points(labels, probability),
        measures.precision_recall_curve(labels, probability),
        strict=True,
    ):
        assert np.array_equal(ours, theirs)


def test_most_confident_mistakes_come_first() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    probability = np.array([0.6, 0.99, 0.9, 0.3, 0.45])
    assert confident_mistakes(labels, probability, 0.5).tolist() == [1, 3, 0, 4]
    assert confident_mistakes(labels, probability, 0.5, most=2).tolist() == [1, 3]
    assert confident_mistakes(labels, labels.astype(float), 0.5).tolist() == []
