"""The choice between the pretrained model, the fine-tuned network and the middle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from craters.evaluation import fit_temperature, sigmoid
from craters.semi_supervised.start_choice import SHARES, choose_share, cross_fit_share
from craters.training import FINE_TUNED, HALFWAY, KEPT


def answers(n: int, skill: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, skill * (2 * labels - 1) + random.normal(0, 1, n)


@pytest.mark.parametrize(("skill", "expected"), [(1.5, FINE_TUNED), (1.0, HALFWAY), (0.7, KEPT)])
def test_share_follows_the_evidence(skill: float, expected: float) -> None:
    labels, start = answers(400, 1.0, 0)
    _, tuned = answers(400, skill, 1)
    choice = choose_share(labels, {KEPT: start, FINE_TUNED: tuned})
    assert choice.share == expected
    assert choice.keeps_start == (expected == KEPT)
    assert ("lowers" if choice.gain > 0 else "raises") in choice.sentence
    assert f"by {abs(choice.gain):.3f}" in choice.sentence


def test_gain_is_the_difference_of_log_losses() -> None:
    labels, start = answers(100, 0.5, 1)
    _, tuned = answers(100, 1.5, 2)
    choice = choose_share(labels, {KEPT: start, FINE_TUNED: tuned})
    losses = [
        log_loss(labels, sigmoid(logits / fit_temperature(labels, logits)))
        for logits in (start, tuned)
    ]
    assert choice.gain == pytest.approx(losses[0] - losses[1], abs=1e-6)
    assert f"{choice.gain:.3f}" in choice.sentence
    assert "100 labels" in choice.sentence


@given(scale=st.floats(0.2, 5), seed=st.integers(0, 20))
def test_choice_does_not_depend_on_the_scale_of_logits(scale: float, seed: int) -> None:
    labels, start = answers(60, 0.7, seed)
    _, tuned = answers(60, 0.8, seed + 100)
    first = choose_share(labels, {KEPT: start, FINE_TUNED: tuned})
    second = choose_share(labels, {KEPT: start, FINE_TUNED: scale * tuned})
    assert first.gain == pytest.approx(second.gain, abs=1e-4)


def test_few_labels_have_no_temperature() -> None:
    labels, start = answers(10, 1.0, 3)
    choice = choose_share(labels, {KEPT: start, FINE_TUNED: 2 * start})
    loss = log_loss(labels, sigmoid(start)) - log_loss(labels, sigmoid(2 * start))
    assert choice.gain == pytest.approx(loss, abs=1e-6)


def test_each_fold_is_predicted_by_the_choice_of_the_others() -> None:
    labels, start = answers(90, 0.5, 4)
    folds = np.array_split(np.arange(90), 3)
    tuned = 3.0 * (2 * labels - 1) + np.random.default_rng(5).normal(0, 1, 90)
    tuned[folds[0]] = -tuned[folds[0]]  # fails there, so that the other folds' choices differ
    logits = dict(zip(SHARES, (start, (start + tuned) / 2, tuned), strict=True))
    chosen = cross_fit_share(labels, folds, logits)
    for number, rows in enumerate(folds):
        others = np.concatenate([part for place, part in enumerate(folds) if place != number])
        parts = {share: each[others] for share, each in logits.items()}
        share = choose_share(labels[others], parts).share
        assert chosen[rows] == pytest.approx(logits[share][rows], abs=1e-6)
    assert chosen[folds[0]] == pytest.approx(tuned[folds[0]], abs=1e-6)
    assert not np.allclose(chosen[folds[1]], tuned[folds[1]])
