from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.calibration import calibration_curve

from craters.errors import ConfigError, DataError
from craters.evaluation import Scored, fit_temperature
from craters.evaluation.calibration import (
    apply_temperature,
    calibration_floor,
    choose_threshold,
    expected_calibration_error,
    reliability_points,
)
from craters.settings import parse_objective

seeds = st.integers(0, 2**32 - 1)


def planted(n: int, temperature: float, seed: int, scale: float = 2.0):
    """Labels drawn from sigmoid(logit / temperature)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, scale * temperature, n)
    return (random.random(n) < expit(logits / temperature)).astype(int), logits


def test_importing_needs_neither_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys; from craters.evaluation import calibration, conformal, intervals\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'torch', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 2.5, 8.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    found = [fit_temperature(*planted(4000, temperature, seed)) for seed in range(3)]
    assert np.mean(found) == pytest.approx(temperature, rel=0.05)


def test_temperature_known_by_hand() -> None:
    """A fifth of one sign is wrong: the best logit is log 4, whatever was given."""
    labels = np.repeat([0, 1, 0, 1], [16, 4, 4, 16])
    for logit in (0.5, 3.0, 9.0):
        logits = np.repeat([-logit, logit], 20)
        assert fit_temperature(labels, logits) == pytest.approx(logit / np.log(4), rel=1e-5)


def test_scaling_logits_scales_the_temperature_and_the_order_does_not_matter() -> None:
    labels, logits = planted(300, 1.4, 5)
    found = fit_temperature(labels, logits)
    assert fit_temperature(labels, 3 * logits) == pytest.approx(3 * found, rel=1e-5)
    assert fit_temperature(labels[::-1], logits[::-1]) == pytest.approx(found, rel=1e-6)
    assert fit_temperature(1 - labels, -logits) == pytest.approx(found, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.02, 50))
def test_a_fitted_temperature_never_makes_the_loss_worse(seed: int, temperature: float) -> None:
    labels, logits = planted(60, temperature, seed)
    if len(np.unique(labels)) < 2:
        return
    found = fit_temperature(labels, logits)
    assert 0.05 <= found <= 20
    against = np.where(labels == 1, -logits, logits)
    before, after = (np.logaddexp(0, against / t).mean() for t in (1, found))
    assert after <= before


def test_temperatures_at_the_limits() -> None:
    labels = np.repeat([0, 1], 10)
    assert fit_temperature(labels, 2.0 * labels - 1) == 1.0  # no error shows how sure they may be
    assert fit_temperature(labels, 1 - 2.0 * labels) == pytest.approx(20, rel=1e-4)  # all wrong
    assert fit_temperature(labels, np.zeros(20)) == 1.0


def test_temperature_refuses_what_cannot_be_fitted() -> None:
    labels = np.tile([0, 1], 10)
    with pytest.raises(DataError, match="found 9 patches without and 10 with crater, .*least 20"):
        fit_temperature(labels[1:], np.ones(19))
    with pytest.raises(DataError, match="found 0 patches without and 20 with crater"):
        fit_temperature(np.ones(20), np.ones(20))
    with pytest.raises(DataError, match="logit of row 3 is nan"):
        fit_temperature(labels, np.where(np.arange(20) == 3, np.nan, 1.0))
    with pytest.raises(DataError, match=r"logits have shape \(20, 1\)"):
        fit_temperature(labels, np.ones((20, 1)))
    with pytest.raises(DataError, match="found 20 labels for 19 images"):
        fit_temperature(labels, np.ones(19))


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4).map(lambda z: round(z, 6) + 0.0), min_size=1),
       st.floats(0.05, 20))  # fmt: skip
def test_temperature_never_changes_the_decision_at_half(logits: list[float], t: float) -> None:
    found = apply_temperature(np.array(logits), t)
    assert ((found >= 0.5) == (np.array(logits) >= 0)).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert np.allclose(found, expit(np.array(logits) / t), rtol=1e-12, atol=1e-300)
    assert (np.diff(found[np.argsort(logits)]) >= 0).all()


def test_apply_temperature_takes_any_shape_and_refuses_nonsense() -> None:
    logits = np.array([[-1.0, 2.0]], np.float32)
    assert apply_temperature(logits, 2.0).dtype == np.float64
    assert apply_temperature(logits, 2.0) == pytest.approx(expit([[-0.5, 1.0]]))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="temperature is .*, expected a number above 0"):
            apply_temperature(logits, bad)


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 1, 0])
    probability = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert expected_calibration_error(
        Scored(labels=labels, probability=probability), 1
    ) == pytest.approx(0.0)
    # Sums of three: 0.6 against 1, 2.4 against 2.
    assert expected_calibration_error(
        Scored(labels=labels, probability=probability), 2
    ) == pytest.approx(0.8 / 6)
    assert expected_calibration_error(
        Scored(labels=labels, probability=probability), 6
    ) == pytest.approx(2.4 / 6)
    assert expected_calibration_error(
        Scored(labels=labels, probability=probability), 60
    ) == pytest.approx(2.4 / 6)
    assert expected_calibration_error(
        Scored(labels=1 - labels, probability=np.full(6, 0.25))
    ) == pytest.approx(0.25)


@settings(deadline=None, max_examples=50)
@given(seeds, st.integers(1, 20))
def test_bins_are_those_of_scikit_learn_where_nothing_is_equal(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    probability, labels = random.random(bins * 10), random.integers(0, 2, bins * 10)
    observed, predicted = calibration_curve(labels, probability, n_bins=bins, strategy="quantile")
    found = reliability_points(Scored(labels=labels, probability=probability), bins)
    assert found.count.tolist() == [10] * bins
    assert found.predicted == pytest.approx(predicted)
    assert found.observed == pytest.approx(observed)
    error = expected_calibration_error(Scored(labels=labels, probability=probability), bins)
    assert error == pytest.approx(np.mean(np.abs(observed - predicted)))


tied = st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.45, 0.5, 0.9, 1.0]))


@settings(deadline=None)
@given(st.lists(tied, min_size=1, max_size=40), st.integers(1, 15), st.integers(0, 99))
def test_equal_probabilities_share_a_bin(rows, bins, seed) -> None:
    labels, probability = (np.array(column) for column in zip(*rows, strict=True))
    found = reliability_points(Scored(labels=labels, probability=probability), bins)
    assert len(found.count) <= min(bins, len(np.unique(probability)))
    assert found.count.sum() == len(rows)
    assert found.count @ found.observed == pytest.approx(labels.sum())
    assert found.count @ found.predicted == pytest.approx(probability.sum())
    order = np.random.default_rng(seed).permutation(len(rows))
    error = expected_calibration_error(Scored(labels=labels, probability=probability), bins)
    assert expected_calibration_error(
        Scored(labels=labels[order], probability=probability[order]), bins
    ) == pytest.approx(error)
    assert 0 <= error <= 1


def test_wilson_limits_by_formula() -> None:
    found = reliability_points(
        Scored(labels=np.repeat([1, 0], [3, 17]), probability=np.full(20, 0.2))
    )
    z, share, n = norm.ppf(0.975), 3 / 20, 20
    middle = (share + z**2 / 2 / n) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / 4 / n**2) / (1 + z**2 / n)
    assert (found.low[0], found.high[0]) == pytest.approx((middle - reach, middle + reach))


def test_a_calibrated_model_is_within_the_floor_and_a_bent_one_above() -> None:
    above_95 = 0
    for seed in range(40):
        labels, logits = planted(500, 1.0, seed)
        probability = apply_temperature(logits, 1)
        mean, quantile = calibration_floor(probability, draws=100)
        above_95 += (
            expected_calibration_error(Scored(labels=labels, probability=probability)) > quantile
        )
        bent = apply_temperature(logits, 3)
        assert (
            expected_calibration_error(Scored(labels=labels, probability=bent))
            > calibration_floor(bent, draws=20)[1]
        )
        assert 0 < mean < quantile
    assert above_95 <= 7  # 2 expected; more than 7 in one of 1000 times


def test_the_floor_by_hand() -> None:
    """One bin of n equal probabilities: the mean of |share - p|, as of a binomial."""
    n, p = 100, 0.3
    mean, quantile = calibration_floor(np.full(n, p), draws=4000)
    error = np.sqrt(p * (1 - p) / n)
    assert mean == pytest.approx(error * np.sqrt(2 / np.pi), rel=0.05)
    assert quantile == pytest.approx(1.96 * error, rel=0.06)
    assert calibration_floor(np.repeat([0.0, 1.0], 20)) == (0.0, 0.0)


def test_the_floor_falls_with_n_and_is_seeded() -> None:
    random = np.random.default_rng(0)
    floors = [calibration_floor(random.beta(0.3, 0.3, n))[0] for n in (100, 400, 1600)]
    assert floors[0] > 1.6 * floors[1] > 2.4 * floors[2]
    probability = random.random(90)
    assert calibration_floor(probability, seed=1) == calibration_floor(probability, seed=1)
    assert calibration_floor(probability, seed=1) != calibration_floor(probability, seed=2)


def test_calibration_refuses_what_it_cannot_use() -> None:
    labels, probability = np.array([0, 1]), np.array([0.2, 0.7])
    with pytest.raises(ConfigError, match="bins is 0"):
        expected_calibration_error(Scored(labels=labels, probability=probability), 0)
    with pytest.raises(ConfigError, match="draws is 0"):
        calibration_floor(probability, draws=0)
    with pytest.raises(DataError, match="probability of row 1 is 1.5, expected 0..1"):
        calibration_floor(np.array([0.2, 1.5]))
    with pytest.raises(DataError, match="probability of row 0 is nan"):
        reliability_points(Scored(labels=labels, probability=np.array([np.nan, 0.5])))
    with pytest.raises(DataError, match="found labels 0, 2"):
        expected_calibration_error(Scored(labels=np.array([0, 2]), probability=probability))


LABELS = np.array([0, 0, 0, 1, 0, 1, 1, 1])
PROBABILITY = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9])


def test_thresholds_by_hand() -> None:
    # One error at (0.2, 0.3] and at (0.4, 0.6]; of these 0.5 is nearest to 0.5.
    assert choose_threshold(Scored(labels=LABELS, probability=PROBABILITY), "macro_f1") == 0.5
    assert choose_threshold(
        Scored(labels=LABELS, probability=PROBABILITY), "recall>=0.95"
    ) == pytest.approx(0.25)
    assert choose_threshold(Scored(labels=LABELS, probability=PROBABILITY), "recall >= .75") == 0.5
    assert choose_threshold(Scored(labels=LABELS, probability=PROBABILITY), "precision>=0.9") == 0.5
    assert choose_threshold(
        Scored(labels=LABELS, probability=PROBABILITY), "precision>=.8"
    ) == pytest.approx(0.25)
    assert (
        choose_threshold(Scored(labels=1 - LABELS, probability=1 - PROBABILITY), "macro_f1") == 0.5
    )


def figures_by_hand(labels: np.ndarray, probability: np.ndarray, t: float) -> dict[str, float]:
    called = probability >= t
    tp, fp = (called & (labels == 1)).sum(), (called & (labels == 0)).sum()
    fn, tn = (labels == 1).sum() - tp, (labels == 0).sum() - fp
    f1 = [2 * hits / (2 * hits + fp + fn) for hits in (tp, tn)]
    return {"macro_f1": sum(f1) / 2, "recall": tp / (tp + fn), "precision": tp / max(tp + fp, 1)}


@settings(deadline=None)
@given(
    st.lists(tied | st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=30),
    st.sampled_from([0.3, 0.5, 0.9, 1.0]),
)
def test_no_other_threshold_serves_better(rows, least) -> None:
    labels, probability = (np.array(column) for column in zip(*rows, strict=True))
    if len(np.unique(labels)) < 2:
        return
    every = [figures_by_hand(labels, probability, t) for t in [*np.unique(probability), 0.5]]
    best = figures_by_hand(
        labels,
        probability,
        choose_threshold(Scored(labels=labels, probability=probability), "macro_f1"),
    )
    assert best["macro_f1"] == pytest.approx(max(of["macro_f1"] for of in every))
    for kept, free in (("recall", "precision"), ("precision", "recall")):
        aim = f"{kept}>={least}"
        served = [of[free] for of in every if of[kept] >= least - 1e-12]
        if served:
            found = figures_by_hand(
                labels,
                probability,
                choose_threshold(Scored(labels=labels, probability=probability), aim),
            )
            assert found[kept] >= least - 1e-12
            assert found[free] == pytest.approx(max(served))
        else:
            with pytest.raises(DataError, match=f"no decision threshold reaches {kept}"):
                choose_threshold(Scored(labels=labels, probability=probability), aim)


def test_ties_go_to_the_threshold_nearest_to_half_then_to_the_lower() -> None:
    labels = np.array([0, 1])
    assert (
        choose_threshold(Scored(labels=labels, probability=np.array([0.1, 0.95])), "macro_f1")
        == 0.5
    )
    assert choose_threshold(
        Scored(labels=labels, probability=np.array([0.6, 0.8])), "macro_f1"
    ) == pytest.approx(0.7)
    # Two plateaus with one error each, at 0.25 and 0.75, and two errors at 0.5.
    labels = np.array([0, 1, 0, 1])
    probability = np.array([0.125, 0.375, 0.625, 0.875])
    assert choose_threshold(Scored(labels=labels, probability=probability), "macro_f1") == 0.25
    assert (
        choose_threshold(Scored(labels=labels[::-1], probability=probability[::-1]), "macro_f1")
        == 0.25
    )


def test_aims_that_cannot_be_reached_or_read() -> None:
    with pytest.raises(DataError, match=r"reaches precision>=0.9: the best precision is 0.667, at"):
        choose_threshold(
            Scored(labels=np.array([1, 1, 0]), probability=np.array([0.3, 0.5, 0.5])),
            "precision>=0.9",
        )
    for aim in ("f1", "recall>0.9", "recall>=0", "recall>=1.2", "recall>=95%", ""):
        with pytest.raises(ConfigError, match='expected "macro_f1", "recall>=0.95" or "precision'):
            choose_threshold(Scored(labels=LABELS, probability=PROBABILITY), aim)
    with pytest.raises(DataError, match="all 2 labels are 1, expected both classes"):
        choose_threshold(
            Scored(labels=np.array([1, 1]), probability=np.array([0.2, 0.7])), "macro_f1"
        )


@pytest.mark.parametrize(
    ("aim", "parts"),
    [
        ("macro_f1", ("macro_f1", 0.0)),
        ("recall>=0.95", ("recall", 0.95)),
        (" precision >= 1 ", ("precision", 1.0)),
        ("recall>=.5", ("recall", 0.5)),
    ],
)
def test_threshold_objectives_are_parsed(aim: str, parts: tuple[str, float]) -> None:
    assert parse_objective(aim) == parts


@pytest.mark.parametrize("aim", ["", "macro f1", "recall>0.9", "recall>=0", "precision>=90"])
def test_other_forms_of_objectives_are_refused(aim: str) -> None:
    with pytest.raises(ConfigError, match='expected "macro_f1", "recall>=0.95" or'):
        parse_objective(aim)
