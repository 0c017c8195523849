from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from craters.errors import DataError
from craters.evaluation import Scored, decide, sigmoid


def test_predictions_are_checked_and_kept_in_one_precision() -> None:
    found = Scored(labels=np.array([[0.0], [1.0]]), probability=np.array([0, 1], np.float32))
    assert (found.labels.tolist(), found.probability.tolist()) == ([0, 1], [0.0, 1.0])
    assert (found.labels.dtype, found.probability.dtype) == (np.int8, np.float64)
    for bad, message in (
        ([0.5], "found 2 labels for 1 images"),
        ([], r"shape \(0,\)"),
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        ([0.5, -0.1], "row 1 is -0.1, expected 0..1"),
        ([np.inf, 0.5], "row 0 is inf"),
    ):
        with pytest.raises(DataError, match=message):
            dataclasses.replace(found, probability=np.array(bad))
    with pytest.raises(DataError, match="expected one name or number for each of 2 images"):
        dataclasses.replace(found, groups=["a"])
    with pytest.raises(DataError, match="all 2 labels are 0, expected both"):
        Scored(labels=np.zeros(2), probability=np.array([0.1, 0.2])).check_both_classes()


def test_groups_are_names() -> None:
    found = Scored(labels=[0, 1], probability=[0.1, 0.2], groups=np.array([7, 12]))
    assert found.groups.tolist() == ["7", "12"]


def test_the_threshold_is_rounded_as_the_probabilities_are() -> None:
    assert float(np.float32(0.7)) < 0.7
    assert decide(np.array([0.7, 0.6], np.float32), 0.7).tolist() == [1, 0]
    assert decide(np.array([0.7, 0.6]), np.float64(0.7)).tolist() == [1, 0]
    found = Scored(labels=[0, 1], probability=[0.3, 0.4], decision_threshold=0.4)
    assert (found.called.tolist(), found.called.dtype) == ([0, 1], np.int32)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1))
def test_sigmoid_is_scipys_and_never_overflows(logits: list[float]) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(np.array(logits, np.float32))
    assert found.dtype == np.float64
    assert found == pytest.approx(expit(np.array(logits)), rel=1e-15, abs=1e-300)
