from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from craters.evaluation import Scored
from craters.evaluation.intervals import paired_bootstrap
from craters.semi_supervised import Verdict, verdict
from craters.semi_supervised.verdict import choose, compare_with_supervised


def made(method: str, difference: float, reach: float, n: int = 50) -> Verdict:
    return Verdict(
        method, "supervised", "macro_f1", 0.8 + difference, 0.8, difference, difference - reach,
        difference + reach, 0.95, "patches", n, 1, 5,
    )  # fmt: skip


def predictions(n: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    called = np.where(random.random(n) < right, labels, 1 - labels)
    return labels, 0.1 + 0.8 * called


def test_the_paired_interval_is_that_of_paired_draws_by_hand() -> None:
    labels, first = predictions(80, 0.9, 0)
    second = predictions(80, 0.7, 1)[1]
    scored = Scored(labels=labels, probability=first)
    value, reference_value, interval = paired_bootstrap(scored, second, draws=400, seed=3)

    def gain(columns: np.ndarray, weights: np.ndarray) -> float:
        ours, theirs = (
            f1_score(columns[0], values >= 0.5, average="macro", sample_weight=weights)
            for values in columns[1:]
        )
        return ours - theirs

    columns = np.array([labels, first, second])
    assert value - reference_value == pytest.approx(gain(columns, np.ones(80)))
    prior = np.array(list(itertools.product((0, 1), repeat=3))).T  # label, ours, theirs
    columns = np.concatenate([columns, prior], axis=1)
    # Gamma weights of this shape vary the mean as Student's t does with 79 degrees of freedom.
    shape = (79 * (1.959964 / 1.990450) ** 2 - 1) / 80
    random = np.random.default_rng(3)
    found = [
        gain(columns, np.append(random.standard_gamma(shape, 80),
                                random.standard_gamma(np.full(8, 0.25 * shape))))
        for _ in range(400)
    ]  # fmt: skip
    assert interval.low == pytest.approx(np.quantile(found, 0.025), abs=1e-6)
    assert interval.high == pytest.approx(np.quantile(found, 0.975), abs=1e-6)


def test_a_claim_between_two_equals_is_as_rare_as_the_level_says() -> None:
    """Without a prior it is claimed in 13 of these 200 samples of 60 labels."""
    random, claims = np.random.default_rng(0), 0
    for _ in range(200):
        labels = random.integers(0, 2, 60)
        both = [np.where(random.random(60) < 0.9, labels, 1 - labels) for _ in range(2)]
        _, _, interval = paired_bootstrap(Scored(labels=labels, probability=both[0]), both[1],
                                          draws=300)  # fmt: skip
        claims += not interval.low <= 0 <= interval.high
    assert claims <= 12


def test_pairing_makes_the_interval_of_two_like_predictions_narrow() -> None:
    labels, first = predictions(400, 0.8, 0)
    second = first.copy()
    second[:2] = 1 - second[:2]
    _, _, interval = paired_bootstrap(Scored(labels=labels, probability=first), second)
    assert interval.high - interval.low < 0.02


def test_a_verdict_says_helped_only_where_the_interval_leaves_zero_out() -> None:
    labels, good = predictions(300, 0.95, 0)
    bad = predictions(300, 0.7, 1)[1]
    groups = np.arange(300) // 10
    plain = Scored(labels=labels, probability=bad, groups=groups, decision_threshold=0.9)
    better = dataclasses.replace(plain, probability=good)
    helped = compare_with_supervised("fixmatch", plain, good, n_folds=5)
    assert helped.outcome == "helped"
    assert helped.sentence.startswith("The unlabeled data helped: fixmatch 0.9")
    assert "300 labels, 5 folds, 1 seed" in helped.sentence
    assert compare_with_supervised("x", better, bad, n_folds=5).outcome == "did not help"
    same = compare_with_supervised("x", better, good, n_folds=5)
    assert (same.difference, same.outcome) == (0, "no difference can be shown")
    assert "groups" in helped.interval_by
    assert (helped.fell_back, helped.n_groups) == (False, 30)


def test_where_a_class_is_of_one_image_patches_are_drawn() -> None:
    labels, good = predictions(100, 0.9, 0)
    scored = Scored(labels=labels, probability=good, groups=np.where(labels, "a", "b"))
    found = compare_with_supervised("x", scored, good, n_folds=5)
    assert "over patches" in found.interval_by
    assert (found.fell_back, found.n_groups) == (True, None)
    assert found.sentence.endswith(
        "All patches of a class are of one source image, so the interval is over single patches: "
        "it is too narrow."
    )
    unknown = compare_with_supervised(
        "x", dataclasses.replace(scored, groups=None), good, n_folds=5
    )
    assert (unknown.fell_back, unknown.n_groups) == (False, None)
    assert unknown.sentence.endswith("5 folds, 1 seed).")


def test_the_choice_is_the_product_of_two_normal_measurements() -> None:
    mean, spread = verdict.prior_of(50)["fixmatch"]
    found = choose([made("fixmatch", 0.02, 0.1)], 50).judgements[0]
    error = 0.1 / 1.959964
    weight = spread**2 / (spread**2 + error**2)
    assert found.error == pytest.approx(error)
    assert found.expected == pytest.approx(mean + weight * (0.02 - mean))
    assert found.spread == pytest.approx(math.sqrt(weight) * error)


def test_few_labels_can_only_veto_and_many_decide() -> None:
    assert choose([made("fixmatch", -0.01, 0.12)], 50).method == "fixmatch"
    assert choose([made("fixmatch", -0.30, 0.12)], 50).method == "supervised"
    assert choose([made("fixmatch", 0.02, 0.08, 100)], 100).method == "supervised"
    assert choose([made("fixmatch", 0.10, 0.04, 100)], 100).method == "fixmatch"
    kept = choose([made("fixmatch", -0.03, 0.005, 300)], 300)
    assert kept.method == "supervised"
    assert "supervised is kept" in kept.reason
    assert "fixmatch gained -3.0 points" in kept.reason


@pytest.mark.parametrize(("n", "tried"), [(4, True), (75, True), (300, True), (301, False)])
def test_candidates_by_labels_and_start(n: int, tried: bool) -> None:
    assert verdict.candidates(n, pretrained=False) == ["fixmatch"] * tried
    assert verdict.candidates(n, pretrained=True) == []
    assert all(spread > 0 for _, spread in verdict.prior_of(n).values())


def test_a_candidate_is_dropped_when_a_gain_is_unlikely() -> None:
    assert verdict.why_drop(made("fixmatch", 0.0, 0.3), 50) == ""
    why = verdict.why_drop(made("fixmatch", -0.10, 0.04, 200), 200)
    assert why.startswith("fixmatch gained -10.0 points in the first fold")
    assert why.endswith("0% likely: dropped.")
