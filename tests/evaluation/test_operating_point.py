"""The operating point: known answers, simulated scenes, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from craters.errors import ConfigError
from craters.evaluation import operating_point, scene_probability, sigmoid


def simulate(share: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits of two normal classes whose log likelihood ratio is the logit itself."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < share
    spread = 2.0  # of both; means of +-2 make the log ratio equal to the logit
    return np.where(labels, 2.0, -2.0) + spread * rng.standard_normal(n), labels


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_the_share_of_a_scene_is_found(share: float) -> None:
    logits, labels = simulate(share, 20_000, 1)
    scene = scene_probability(logits, slope=1, offset=0, share=0.5)
    assert scene.share == pytest.approx(share, abs=0.01)
    assert scene.interval[0] < labels.mean() < scene.interval[1]
    ranks = np.argsort(scene.probability)
    for part in np.array_split(ranks, 5):
        assert scene.probability[part].mean() == pytest.approx(labels[part].mean(), abs=0.03)


def test_the_interval_of_the_share_covers_it() -> None:
    covered = 0
    for seed in range(200):
        logits, _ = simulate(0.3, 300, seed)
        low, high = scene_probability(logits, slope=1, offset=0, share=0.5).interval
        covered += low <= 0.3 <= high
    assert 182 <= covered <= 198


def test_strata_have_shares_of_their_own() -> None:
    few, few_labels = simulate(0.02, 20_000, 7)
    many, many_labels = simulate(0.5, 5_000, 8)
    strata = np.repeat([0, 1], [20_000, 5_000])
    logits = np.concatenate([few, many])
    scene = scene_probability(logits, slope=1, offset=0, share=0.5, strata=strata)
    for kind, labels in ((0, few_labels), (1, many_labels)):
        inside = scene.probability[strata == kind]
        assert inside.mean() == pytest.approx(labels.mean(), abs=0.01)
    assert scene.share == pytest.approx((few_labels.sum() + many_labels.sum()) / 25_000, abs=0.01)
    together = scene_probability(logits, slope=1, offset=0, share=0.5)
    assert together.probability[strata == 1].mean() < scene.probability[strata == 1].mean() - 0.05


def test_the_base_share_does_not_matter() -> None:
    logits, _ = simulate(0.2, 1000, 3)
    base = scene_probability(logits, slope=1, offset=0, share=0.5)
    other = scene_probability(logits, slope=1, offset=np.log(0.1 / 0.9), share=0.1)
    np.testing.assert_allclose(base.probability, other.probability, atol=1e-5)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_the_precision_is_as_expected(target: float) -> None:
    logits, labels = simulate(0.3, 30_000, 5)
    scene = scene_probability(logits, slope=1, offset=0, share=0.5)
    point = operating_point(scene.probability, target)
    detected = scene.probability >= point.threshold
    assert point.n == detected.sum()
    assert point.precision == pytest.approx(target, abs=1e-3)
    assert labels[detected].mean() == pytest.approx(target, abs=0.015)
    assert point.interval is not None
    assert point.interval[0] < point.precision < point.interval[1]
    wide = operating_point(scene.probability, target, scatter=0.5).interval
    assert wide is not None
    assert wide[0] < point.interval[0]
    assert wide[1] > point.interval[1]


@given(
    st.lists(st.floats(0, 1), max_size=30).map(np.array),
    st.floats(0.05, 1),
)
def test_the_lowest_threshold_is_chosen(probability: np.ndarray, target: float) -> None:
    point = operating_point(probability, target)
    means = [probability[probability >= value].mean() for value in np.unique(probability)]
    reached = [
        value
        for value, mean in zip(np.unique(probability), means, strict=True)
        if mean >= target + 1e-12
    ]
    if reached:
        assert point.threshold <= min(reached)
    if point.n == 0:
        assert point.precision is None
        assert not reached


def test_a_given_threshold_is_kept() -> None:
    probability = sigmoid(np.array([-2.0, 0.0, 2.0]))
    point = operating_point(probability, threshold=0.5)
    assert (point.threshold, point.n) == (0.5, 2)
    assert point.precision == pytest.approx(probability[1:].mean())
    assert operating_point(probability, threshold=0.99).precision is None


def test_no_candidates() -> None:
    scene = scene_probability(np.zeros(0), slope=1, offset=0, share=0.4)
    assert (scene.share, scene.interval, len(scene.probability)) == (0.4, (0.0, 1.0), 0)
    assert operating_point(scene.probability).n == 0


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="share is 1"):
        scene_probability(np.zeros(2), slope=1, offset=0, share=1.0)
    with pytest.raises(ConfigError, match="precision is 0"):
        operating_point(np.zeros(2), 0.0)


@pytest.mark.parametrize("logits", [[4.0], [0.5], [3.0, 2.0], [0.5] * 5])
def test_a_few_candidates_are_no_certainty(logits: list[float]) -> None:
    scene = scene_probability(np.array(logits), slope=1, offset=0, share=0.5)
    assert scene.share > 0.999
    point = operating_point(scene.probability, shift=scene.shift)
    assert point.precision is not None
    assert point.precision > 0.999
    odds = np.array(logits) + np.log(scene.interval[0] / (1 - scene.interval[0]))
    p = 1 / (1 + np.exp(-odds))  # at the lower end of the share
    low = p.mean() - 1.96 * np.sqrt((p * (1 - p)).sum()) / len(p)
    assert point.interval == pytest.approx((max(0, low), 1), abs=1e-3)
    assert low < 0.8


def test_the_interval_of_the_precision_covers_it_in_small_scenes() -> None:
    covered = known = 0
    for seed in range(200):
        logits, labels = simulate(0.3, 40, seed)
        scene = scene_probability(logits, slope=1, offset=0, share=0.5)
        point = operating_point(scene.probability, 0.6, shift=scene.shift)
        detected = scene.probability >= point.threshold
        if point.interval is not None:
            known += 1
            covered += point.interval[0] <= labels[detected].mean() <= point.interval[1]
    assert known > 190
    assert covered >= 0.95 * known
