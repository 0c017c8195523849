from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from craters.errors import ConfigError, DataError
from craters.evaluation import ConformalScores, Scored, fit_conformal, prediction_sets
from craters.evaluation.conformal import (
    SET_NAMES,
    conformal_quantiles,
    measure_sets,
    sets_by_quantiles,
)


def drawn(n: int, seed: int, share: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(n) < share).astype(int)
    labels[:2] = 0, 1
    return labels, np.round(expit(random.normal(3 * (labels - 0.5), 1.5)), 2)  # with ties


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 90), st.integers(0, 10**6),
       st.sampled_from([0.01, 0.05, 0.07, 0.1, 0.125, 0.2, 0.3, 0.6]))  # fmt: skip
def test_a_class_is_in_the_set_where_its_p_value_reaches_the_risk(
    n: int, seed: int, risk: float
) -> None:
    """Vovk, Gammerman and Shafer 2005: class-conditional p-values, without smoothing."""
    labels, probability = drawn(n, seed)
    _, new = drawn(60, seed + 1)
    ours = prediction_sets(new, fit_conformal(Scored(labels=labels, probability=probability)), risk)
    assert ours.dtype == np.int8
    for code, value in zip(ours.tolist(), new.tolist(), strict=True):
        p_values = []
        for label in (0, 1):
            known = probability[labels == label]
            scores = 1 - known if label else 1 - (1 - known)
            mine = 1 - value if label else 1 - (1 - value)
            reaching = sum(score >= mine for score in scores.tolist())
            p_values.append(Fraction(1 + reaching, 1 + len(known)))
        exact = Fraction(str(risk))
        assert code == (p_values[0] >= exact) + 2 * (p_values[1] >= exact)


def test_scores_are_sorted_by_class() -> None:
    scored = Scored(labels=[1, 0, 1, 0], probability=[0.25, 0.5, 0.75, 0.125])
    found = fit_conformal(scored)
    assert (found.without_crater, found.with_crater) == ((0.125, 0.5), (0.25, 0.75))


def test_quantiles_by_hand() -> None:
    nine = ConformalScores([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [0.25])
    # Risk 0.2 of 9 + 1: a p-value of 2/10 is needed, so one score must reach it: the highest.
    assert conformal_quantiles(nine, 0.2) == (0.9, 1.0)
    assert conformal_quantiles(nine, 0.1) == (1.0, 1.0)
    assert conformal_quantiles(nine, 0.3) == (0.8, 1.0)
    assert conformal_quantiles(nine, 0.31) == (0.7, 1.0)
    assert conformal_quantiles(nine, 0.95) == (0.1, 0.25)
    ninety_nine = ConformalScores(np.arange(99) / 100, [0.25])
    assert conformal_quantiles(ninety_nine, 0.07)[0] == 0.93  # 0.07 * 100 is not quite 7


def test_each_class_is_covered_on_exchangeable_data() -> None:
    """Counts over 60 fits; craters are rare, and still covered."""
    risk, missed, seen = 0.1, np.zeros(2), np.zeros(2)
    for seed in range(60):
        labels, probability = drawn(400, 2 * seed, share=0.15)
        scores = fit_conformal(Scored(labels=labels, probability=probability))
        truth, new = drawn(400, 2 * seed + 1, share=0.5)
        sets = prediction_sets(new, scores, risk)
        for label in (0, 1):
            seen[label] += (truth == label).sum()
            missed[label] += ((sets & (label + 1)) == 0)[truth == label].sum()
    # Rows of one fit are correlated: a third of them are counted as independent.
    limits = binom.ppf(0.999, seen // 3, risk) / (seen // 3)
    assert (missed / seen <= limits).all()
    assert (missed / seen > 0.05).all()  # and not by calling everything unsure


@given(st.integers(0, 10**6), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
@settings(deadline=None, max_examples=30)
def test_sets_grow_as_the_risk_falls(seed: int, first: float, second: float) -> None:
    labels, probability = drawn(40, seed)
    scores = fit_conformal(Scored(labels=labels, probability=probability))
    large = prediction_sets(probability, scores, min(first, second))
    small = prediction_sets(probability, scores, max(first, second))
    assert ((small & large) == small).all()


def test_names_and_codes() -> None:
    assert SET_NAMES == ("none", "without crater", "with crater", "unsure")
    codes = sets_by_quantiles(np.array([0.0, 0.3, 0.5, 0.7, 1.0]), (0.5, 0.5))
    assert [SET_NAMES[code] for code in codes] == [
        "without crater", "without crater", "unsure", "with crater", "with crater",
    ]  # fmt: skip
    assert sets_by_quantiles(np.array([0.5]), (0.4, 0.4)).tolist() == [0]


def test_scores_survive_json_and_predict_the_same() -> None:
    labels, probability = drawn(50, 3)
    scores = fit_conformal(Scored(labels=labels, probability=probability))
    loaded = ConformalScores(**json.loads(json.dumps(dataclasses.asdict(scores))))
    assert loaded == scores
    assert len(scores.with_crater) == labels.sum()
    stored = json.loads(json.dumps(conformal_quantiles(scores, 0.1)))
    assert (
        sets_by_quantiles(probability, stored) == prediction_sets(probability, loaded, 0.1)
    ).all()


def test_measured_by_hand() -> None:
    found = measure_sets(np.array([0, 0, 0, 1, 1]), np.array([1, 3, 0, 1, 2], np.int8), 0.2)
    assert (found.n, found.risk) == (5, 0.2)
    assert found.coverage_without_crater == pytest.approx(2 / 3)
    assert found.coverage_with_crater == 0.5
    assert (found.unsure, found.none) == (0.2, 0.2)
    assert found.error_when_sure == pytest.approx(1 / 3)
    empty = measure_sets(np.array([0]), np.array([3]), 0.2)
    assert (empty.coverage_with_crater, empty.error_when_sure) == (None, None)


def test_refusals() -> None:
    scores = ConformalScores([0.1], [0.2])
    for risk in (0.0, 1.0, -0.1, np.nan):
        with pytest.raises(ConfigError, match="risk is .*, expected a share above 0 and below 1"):
            prediction_sets(np.array([0.5]), scores, risk)
    with pytest.raises(DataError, match="all 3 labels are 0"):
        fit_conformal(Scored(labels=np.zeros(3), probability=np.full(3, 0.4)))
    with pytest.raises(DataError, match="probability of row 0 is nan"):
        prediction_sets(np.array([np.nan]), scores, 0.1)
    for bad in ([], [0.3, 0.1], [0.5, 1.5], [-0.1], [np.nan], [[0.1]]):
        with pytest.raises(DataError, match="conformal scores with_crater"):
            ConformalScores([0.1], bad)
    with pytest.raises(DataError, match="expected codes 0 to 3"):
        measure_sets(np.array([0]), np.array([4]), 0.1)
