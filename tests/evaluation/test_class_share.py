"""The share of craters in a pool: known answers, intervals that cover, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.errors import ConfigError, DataError
from craters.evaluation.class_share import (
    _likelihood,
    _platt,
    called_share,
    estimate_class_share,
)


def draw(random: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Patches of two kinds whose logits are normal: their likelihood ratio is known."""
    labels = (np.arange(n) < round(n * share)).astype(np.int8)
    return labels, 2.5 * (2 * labels - 1) + 2 * random.normal(size=n)


@pytest.mark.parametrize("method", ["likelihood", "confusion"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.4, 0.9])
def test_the_share_is_found_whatever_the_labeled_share(method: str, share: float) -> None:
    random = np.random.default_rng(7)
    labels, logits = draw(random, 500, 0.45)
    truth, pool = draw(random, 4000, share)
    found = estimate_class_share(labels, logits, pool, method=method, draws=20)
    assert abs(found.share - truth.mean()) < 0.03
    assert found.low <= found.share <= found.high
    assert (found.n_labeled, found.n_pool, found.labeled_share) == (500, 4000, 0.45)


def test_likelihood_is_where_the_em_of_saerens_ends() -> None:
    random = np.random.default_rng(3)
    labels, logits = draw(random, 300, 0.5)
    _, pool = draw(random, 1000, 0.15)
    slope, offset, _ = _platt(labels, logits, np.ones(300))
    probability = 1 / (1 + np.exp(-(slope * pool + offset)))
    share, old = 0.5, 0.5
    for _ in range(20_000):
        up, down = share / old * probability, (1 - share) / (1 - old) * (1 - probability)
        share = float((up / (up + down)).mean())
    ours = _likelihood(labels, logits, np.ones(300), pool, np.ones(1000))
    assert ours == pytest.approx(share, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(-2, 2), st.floats(0.2, 5))
def test_shifted_and_stretched_logits_give_the_same(seed: int, offset: float, slope: float) -> None:
    random = np.random.default_rng(seed)
    labels, logits = draw(random, 200, 0.4)
    _, pool = draw(random, 400, 0.1)
    plain = estimate_class_share(labels, logits, pool, draws=2)
    moved = estimate_class_share(labels, slope * logits + offset, slope * pool + offset, draws=2)
    assert moved.share == pytest.approx(plain.share, abs=5e-3)


def test_intervals_cover_as_often_as_they_say() -> None:
    hits = []
    for seed in range(25):
        random = np.random.default_rng(seed)
        labels, logits = draw(random, 150, 0.5)
        _, pool = draw(random, 400, 0.1)
        found = estimate_class_share(labels, logits, pool, draws=30, level=0.9, seed=seed)
        hits.append(found.low <= 0.1 <= found.high)
    assert np.mean(hits) >= 0.76


def test_groups_widen_the_interval_where_patches_of_an_image_resemble() -> None:
    random = np.random.default_rng(0)
    labels, logits = draw(random, 400, 0.5)
    groups = np.repeat(np.arange(20), 20)
    pool = 4 * np.repeat(random.random(20) < 0.3, 20) - 2 + random.normal(size=400)
    rows, images = (
        estimate_class_share(labels, logits, pool, pool_groups=given, draws=50)
        for given in (None, groups)
    )
    assert rows.share == images.share
    assert images.high - images.low > 1.5 * (rows.high - rows.low)


def test_a_large_pool_is_binned_without_harm_and_seeds_repeat() -> None:
    random = np.random.default_rng(1)
    labels, logits = draw(random, 300, 0.5)
    _, pool = draw(random, 4000, 0.2)
    once = estimate_class_share(labels, logits, pool, draws=20)
    many = estimate_class_share(labels, logits, np.tile(pool, 20), draws=20)
    assert many.share == pytest.approx(once.share, abs=1e-3)
    assert once == estimate_class_share(labels, logits, pool, draws=20)
    assert "of the unlabeled patches contain a crater (95% interval" in once.sentence


def test_no_share_is_stated_of_a_pool_that_no_mix_of_the_labeled_classes_explains() -> None:
    random = np.random.default_rng(1)
    labels, logits = draw(random, 1000, 0.45)
    truth, pool = draw(random, 4000, 0.1)
    like = estimate_class_share(labels, logits, pool, draws=120)
    assert like.is_estimable
    assert like.to_dict()["share"] == like.share
    shifted = estimate_class_share(labels, logits, np.where(truth, pool, pool - 1.5), draws=120)
    assert not shifted.is_estimable
    assert shifted.p_of_fit < 0.01
    assert shifted.to_dict() | {"used": shifted.share} == shifted.to_dict()
    assert [shifted.to_dict()[name] for name in ("share", "low", "high")] == [None] * 3
    assert "cannot be estimated" in shifted.sentence
    few = estimate_class_share(labels[::8], logits[::8], pool - 1.5, draws=20)
    assert few.p_of_fit == 1  # so few labels cannot tell


@pytest.mark.parametrize("step", [-1.0, 1.0])
def test_the_interval_holds_the_share_of_a_pool_of_fainter_or_clearer_craters(step: float) -> None:
    """No test of fit shows this shift; the interval of the likelihood alone holds 4 of 12."""
    inside = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        labels, logits = draw(random, 600, 0.6)
        truth, pool = draw(random, 3000, 0.09)
        found = estimate_class_share(labels, logits, pool + step * truth, draws=60)
        assert found.is_estimable
        assert found.high < 0.2
        inside.append(found.low < 0.09 < found.high)
    assert sum(inside) == 6


def test_what_cannot_be_estimated_is_refused() -> None:
    random = np.random.default_rng(0)
    labels, logits = draw(random, 100, 0.5)
    with pytest.raises(DataError, match="found 96 labeled patches without and 4 with crater"):
        estimate_class_share((np.arange(100) >= 96).astype(int), logits, logits)
    with pytest.raises(DataError, match="pool logits: found"):
        estimate_class_share(labels, logits, np.array([]))
    with pytest.raises(DataError, match="finite"):
        estimate_class_share(labels, logits, np.array([np.nan]))
    with pytest.raises(ConfigError, match="method is 'guess'"):
        estimate_class_share(labels, logits, logits, method="guess")
    with pytest.raises(ConfigError, match="draws is 1"):
        estimate_class_share(labels, logits, logits, draws=1)


def odds(share: float) -> float:
    return float(np.log(share / (1 - share)))


def test_without_labels_the_interval_is_as_wide_as_the_largest_measured_error() -> None:
    measured = [(0.5, 0.5), (0.3, 0.25), (0.1, 0.2), (0.6, 0.5)]
    widest = abs(odds(0.2) - odds(0.1))
    found = called_share(3000, 10_000, measured)
    assert (found.share, found.n, found.n_sets) == (0.3, 10_000, 4)
    assert found.low is not None
    assert found.high is not None
    assert odds(found.low) == pytest.approx(odds(0.3) - widest, abs=1e-3)
    assert odds(found.high) == pytest.approx(odds(0.3) + widest, abs=1e-3)
    assert found.sentence == (
        "30.0% of 10,000 patches are called with crater; the true share may lie between 16.0% and "
        "49.1%"
    )
    assert "hold for 4 of 5 sets" in found.remark
    for called, truth in measured:  # it holds for the sets that it rests on
        own = called_share(round(called * 10_000), 10_000, measured)
        assert own.low is not None
        assert own.high is not None
        assert own.low - 1e-4 <= truth <= own.high + 1e-4


def test_without_labels_a_share_of_none_or_all_has_an_interval_too() -> None:
    measured = [(0.0, 0.1), (0.4, 0.4), (0.5, 0.5)]
    none, every = called_share(0, 50, measured), called_share(50, 50, measured)
    assert none.low == 0
    assert none.high == pytest.approx(1 - (every.low or 0))
    assert every.high == 1
    assert 0.3 < (none.high or 0) < 0.7


def test_without_measured_sets_there_is_no_interval() -> None:
    found = called_share(1, 4, [(0.5, 0.5), (0.4, 0.6)])
    assert (found.share, found.low, found.high) == (0.25, None, None)
    assert found.sentence == "25.0% of 4 patches are called with crater"
    assert "was not measured for this model" in found.remark
    for called, n in ((5, 4), (-1, 4), (0, 0)):
        with pytest.raises(DataError, match="patches called with crater, expected at most all"):
            called_share(called, n, [])
