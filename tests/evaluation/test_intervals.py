from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from sklearn.metrics import f1_score

from craters.errors import ConfigError, DataError
from craters.evaluation import Scored, bootstrap_interval, macro_f1, measure, paired_difference
from craters.evaluation.intervals import STATISTICS, weighted_statistic


def drawn(n: int, seed: int, share: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (np.arange(n) < round(n * share)).astype(int)
    return labels, expit(random.normal(2 * (labels - 0.5), 1.0))


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.51, 1.0]),
                          st.integers(0, 3)), min_size=2, max_size=25),
       st.sampled_from(STATISTICS), st.sampled_from([0.2, 0.5, 1.0]))  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_weights_equal_repeated_rows_through_scikit_learn(rows, statistic, threshold) -> None:
    labels, probability, weights = (np.array(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(rows)), weights)
    if len(np.unique(labels[repeated])) < 2:
        return
    plain = getattr(
        measure(
            Scored(
                labels=labels[repeated],
                probability=probability[repeated],
                decision_threshold=threshold,
            )
        ),
        statistic,
    )
    figure = weighted_statistic(
        Scored(labels=labels, probability=probability, decision_threshold=threshold), statistic
    )
    assert figure(weights) == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_interval_contains_the_point(statistic: str) -> None:
    for seed in range(3):
        labels, probability = drawn(150, seed)
        point = getattr(measure(Scored(labels=labels, probability=probability)), statistic)
        found = bootstrap_interval(
            Scored(labels=labels, probability=probability), statistic, draws=300
        )
        assert found.low < point < found.high
        groups = np.random.default_rng(seed).integers(0, 30, 150)
        grouped = bootstrap_interval(
            Scored(labels=labels, probability=probability, groups=groups), statistic, draws=300
        )
        assert grouped.low < point < grouped.high
        assert (found.n_groups, grouped.n_groups) == (None, len(np.unique(groups)))


def test_equal_to_scipys_bootstrap_within_chance() -> None:
    labels, probability = drawn(200, 4)
    called = (probability >= 0.5).astype(float)
    theirs = stats.bootstrap(
        (called[labels == 1],), np.mean, method="percentile", n_resamples=20000,
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    ours = bootstrap_interval(
        Scored(labels=labels, probability=probability), "crater_recall", draws=20000
    )
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.013)


def test_equal_to_the_plain_loop_over_groups() -> None:
    labels, probability = drawn(60, 5)
    groups = np.random.default_rng(2).integers(10, 22, 60)  # in the order of their names
    names, units = np.unique(groups, return_inverse=True)
    shape = (11 * (1.281552 / 1.363430) ** 2 - 1) / 12  # 80 %: normal and t of 11 degrees
    random, found = np.random.default_rng(9), []
    called = np.append(probability >= 0.4, [0, 1, 0, 1])
    for _ in range(80):
        weights = np.append(random.standard_gamma(shape, len(names))[units],
                            random.standard_gamma(np.full(4, 0.5 * shape)))  # fmt: skip
        found.append(
            f1_score(np.append(labels, [0, 0, 1, 1]), called, average="macro",
                     sample_weight=weights)
        )  # fmt: skip
    interval = bootstrap_interval(
        Scored(labels=labels, probability=probability, decision_threshold=0.4, groups=groups),
        "macro_f1",
        draws=80,
        level=0.8,
        seed=9,
    )
    limits = tuple(np.quantile(found, [0.1, 0.9]))
    assert (interval.low, interval.high) == pytest.approx(limits, abs=1e-6)
    assert interval.method == "Bayesian bootstrap over groups"


def correlated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 images of 10 patches; an image is either right throughout or wrong throughout."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), 10)
    labels = np.tile([0, 1], 200)
    right = (random.random(40) < 0.8)[groups]
    return labels, np.where(right == (labels == 1), 0.9, 0.1), groups


def test_groups_that_are_alike_widen_the_interval() -> None:
    """With ten equal patches an image the standard error is sqrt(10) times as large."""
    ratios = []
    for seed in range(5):
        labels, probability, groups = correlated(seed)
        alone = bootstrap_interval(Scored(labels=labels, probability=probability), "accuracy")
        grouped = bootstrap_interval(
            Scored(labels=labels, probability=probability, groups=groups), "accuracy"
        )
        ratios.append((grouped.high - grouped.low) / (alone.high - alone.low))
    assert np.mean(ratios) == pytest.approx(np.sqrt(10), rel=0.15)


def test_groups_of_one_row_are_as_wide_as_rows() -> None:
    labels, probability = drawn(300, 8)
    alone = bootstrap_interval(Scored(labels=labels, probability=probability), "roc_auc")
    grouped = bootstrap_interval(
        Scored(labels=labels, probability=probability, groups=np.arange(300)), "roc_auc"
    )
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The truth is 0.8; 200 intervals of 90 % over groups."""
    hits = 0
    for seed in range(200):
        labels, probability, groups = correlated(seed)
        scored = Scored(labels=labels, probability=probability, groups=groups)
        found = bootstrap_interval(scored, "accuracy", draws=200, level=0.9)
        hits += found.low <= 0.8 <= found.high
    assert 0.82 <= hits / 200 <= 0.96


@pytest.mark.parametrize(("n", "share", "right"), [(50, 0.2, 0.95), (100, 0.5, 0.95)])
def test_few_labels_with_few_errors_are_covered(n: int, share: float, right: float) -> None:
    """A percentile bootstrap within classes covers 86 % with 50 labels, 93 % with 100."""
    random, hits = np.random.default_rng(0), 0
    table = np.array([[(1 - share) * right, (1 - share) * (1 - right)],
                      [share * (1 - right), share * right]])  # fmt: skip
    for _ in range(200):
        labels = (random.random(n) < share).astype(int)
        called = np.where(random.random(n) < right, labels, 1 - labels)
        found = bootstrap_interval(
            Scored(labels=labels, probability=called.astype(float)), "macro_f1", draws=300
        )
        hits += found.low <= macro_f1(table) <= found.high
    assert hits / 200 >= 0.92


def test_few_groups_are_covered() -> None:
    """A percentile bootstrap covers 82 % with 6 groups."""
    hits = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        right = np.clip(random.normal(0.7, 0.12, 6), 0, 1)
        groups = np.repeat(np.arange(6), 40)
        labels = np.tile([0, 1], 120)
        called = np.where(random.random(240) < right[groups], labels, 1 - labels)
        scored = Scored(labels=labels, probability=called.astype(float), groups=groups)
        found = bootstrap_interval(scored, "accuracy", draws=300)
        hits += found.low <= 0.7 <= found.high
    assert 0.91 <= hits / 200 <= 0.99


def test_draws_that_lack_a_class_are_left_out() -> None:
    labels, probability = drawn(40, 6, share=0.1)
    groups = np.where(labels == 1, np.arange(40) % 2, 2)
    scored = Scored(labels=labels, probability=probability, groups=groups)
    with pytest.raises(DataError, match="without crater are of one group"):
        bootstrap_interval(scored, "crater_recall")
    groups = np.where(labels == 1, np.arange(40) % 2, 2 + np.arange(40) % 6)
    found = bootstrap_interval(
        Scored(labels=labels, probability=probability, groups=groups), "crater_recall", draws=500
    )
    assert (found.n_groups, found.skipped) == (8, 0)  # a weight is above 0
    assert 0 <= found.low <= found.high <= 1


def test_seeded_and_wider_at_a_higher_level() -> None:
    labels, probability = drawn(80, 7)
    first = bootstrap_interval(Scored(labels=labels, probability=probability), "macro_f1", seed=1)
    assert first == bootstrap_interval(
        Scored(labels=labels, probability=probability), "macro_f1", seed=1
    )
    assert first != bootstrap_interval(
        Scored(labels=labels, probability=probability), "macro_f1", seed=2
    )
    wide = bootstrap_interval(
        Scored(labels=labels, probability=probability), "macro_f1", seed=1, level=0.99
    )
    assert wide.low < first.low < first.high < wide.high
    assert (first.level, wide.level, first.skipped) == (0.95, 0.99, 0)


def test_a_perfect_prediction_on_few_patches_is_not_certain() -> None:
    labels = np.repeat([0, 1], 10)
    for statistic in STATISTICS:
        found = bootstrap_interval(
            Scored(labels=labels, probability=labels * 0.98 + 0.01), statistic
        )
        assert found.low < 0.985, statistic
        assert found.high == 1.0
    # Of 10 of 10, Jeffreys' interval of a share is 0.83 to 1 one-sided, 0.78 to 1 two-sided.
    recall = bootstrap_interval(
        Scored(labels=labels, probability=labels.astype(float)), "crater_recall", draws=20000
    )
    assert recall.low == pytest.approx(stats.beta.ppf(0.025, 10.5, 0.5), abs=0.03)


def test_bootstrap_refusals() -> None:
    labels, probability = drawn(20, 0)
    with pytest.raises(ConfigError, match="statistic is 'f1', expected one of macro_f1, accuracy"):
        bootstrap_interval(Scored(labels=labels, probability=probability), "f1")
    with pytest.raises(ConfigError, match="draws is 1, expected at least 2"):
        bootstrap_interval(Scored(labels=labels, probability=probability), "accuracy", draws=1)
    with pytest.raises(ConfigError, match="level is 95, expected a share"):
        bootstrap_interval(Scored(labels=labels, probability=probability), "accuracy", level=95)
    with pytest.raises(DataError, match="all 20 labels are 0"):
        bootstrap_interval(Scored(labels=np.zeros(20), probability=probability), "accuracy")
    with pytest.raises(DataError, match=r"all patches without crater are of one group \(7\)"):
        bootstrap_interval(
            Scored(labels=labels, probability=probability, groups=np.full(20, 7)), "accuracy"
        )
    hills = np.where(labels == 1, "hills", np.array([f"plain {row % 5}" for row in range(20)]))
    with pytest.raises(DataError, match=r"all patches with crater are of one group \(hills\)"):
        bootstrap_interval(Scored(labels=labels, probability=probability, groups=hills), "accuracy")
    with pytest.raises(DataError, match="expected one name or number for each of 20 images"):
        bootstrap_interval(
            Scored(labels=labels, probability=probability, groups=np.arange(19)), "accuracy"
        )


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1).map(lambda x: round(x, 3)),
                          st.floats(0, 1).map(lambda x: round(x, 3))), min_size=2, max_size=12),
       st.sampled_from([0.8, 0.95, 0.99]))  # fmt: skip
def test_paired_differences_are_those_of_scipys_t_test(rows, level) -> None:
    first, second = (np.array(column) for column in zip(*rows, strict=True))
    found = paired_difference(first, second, level)
    assert found.mean == pytest.approx(np.mean(first - second), abs=1e-12)
    assert (found.n, found.level) == (len(rows), level)
    if np.ptp(first - second) > 1e-6:
        theirs = stats.ttest_rel(first, second)
        limits = theirs.confidence_interval(level)
        assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=1e-9)
    swapped = paired_difference(second, first, level)
    names = {"better": "worse", "worse": "better"}
    assert swapped.verdict == names.get(found.verdict, found.verdict)


def test_verdicts_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.3027.
    found = paired_difference([2, 4, 6], [1, 2, 3])
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-6)
    assert found.verdict == "no difference can be shown"
    assert paired_difference([2, 4, 6], [1, 2, 3], 0.9).verdict == "better"
    assert paired_difference([1, 2, 3], [2, 4, 6], 0.9).verdict == "worse"
    assert paired_difference([0.5] * 3, [0.5] * 3).verdict == "no difference can be shown"


def test_two_pairs_or_pairs_without_spread_are_no_verdict() -> None:
    for first, second in (([2, 3], [1, 2]), ([0.9, 0.8], [0.5, 0.5]), ([0.5] * 2, [0.5] * 2),
                          ([0.3, 0.4, 0.5], [0.2, 0.3, 0.4])):  # fmt: skip
        found = paired_difference(first, second)
        assert (found.verdict, found.is_judged) == ("too few pairs to judge", False)
    assert paired_difference([0.30, 0.41, 0.52], [0.2, 0.3, 0.4]).verdict == "better"


def test_paired_refusals() -> None:
    for first, second in (([0.9], [0.8]), ([0.9, 0.8], [0.7]), ([[0.9, 0.8]], [[0.7, 0.6]])):
        with pytest.raises(DataError, match="expected the same seeds or folds for both"):
            paired_difference(first, second)
    with pytest.raises(DataError, match="NaN or infinite"):
        paired_difference([0.9, np.nan], [0.8, 0.7])
    with pytest.raises(ConfigError, match="level is 1, "):
        paired_difference([0.9, 0.8], [0.8, 0.7], 1)
