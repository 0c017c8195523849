from __future__ import annotations

import numpy as np
import pytest

from craters.evaluation import Scored, scores
from craters.quality import evaluation_doubts


def doubts_of(probability: np.ndarray, labels: np.ndarray, aim: str | None = None) -> list[str]:
    scored = Scored(labels=labels, probability=probability)
    return evaluation_doubts(scored, scores.score(scored), "Xtest1", aim)


def sample(distance: float, n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels of both classes, and probabilities of a model with this distance of means."""
    random, labels = np.random.default_rng(seed), np.arange(n) % 2
    logits = distance * (labels - 0.5) + random.normal(size=n)
    return 1 / (1 + np.exp(-2 * logits)), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("distance", "n"), [(3, 200), (2, 200), (3, 40)])
def test_nothing_is_said_of_useful_models(distance: float, n: int, seed: int) -> None:
    assert doubts_of(*sample(distance, n, seed)) == []


def test_an_inverted_model_is_reported() -> None:
    probability, labels = sample(2.2)
    found = doubts_of(1 - probability, labels)
    assert found[0].startswith(
        "the model ranks the patches of Xtest1 the wrong way round (ROC AUC 0.0"
    )
    assert "is 1 the label of patches with a crater" in found[0]
    assert any(text.startswith("Accuracy on Xtest1 is") for text in found)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_answer_is_reported(value: float) -> None:
    found = doubts_of(np.full(100, value), np.arange(100) % 2)
    assert any("that of the commoner class alone 0.5000 (n = 100)" in text for text in found)
    assert any(f"of 100 patches lie between {value:.3f} and {value:.3f}" in text for text in found)
    assert any("does not lie above chance, 0.5000" in text for text in found)


def test_a_model_without_skill_is_reported() -> None:
    found = doubts_of(*sample(0.0))
    assert any(
        "interval of ROC AUC on Xtest1" in text and "not lie above chance" in text for text in found
    )


def test_a_threshold_that_wastes_the_ranking_is_reported() -> None:
    probability, labels = sample(2.1)
    logits = np.log(probability / (1 - probability)) - 4.5
    (found,) = doubts_of(1 / (1 + np.exp(-logits)), labels)
    called = logits >= 0
    assert 0.05 < called[labels == 1].mean() < 0.2
    assert found.startswith("the decision threshold 0.5 does not suit these patches: macro F1 is")
    assert f"with {called[labels == 1].mean():.0%} of the craters found" in found
    assert "although the ranking (ROC AUC 0.9" in found
    assert doubts_of(1 / (1 + np.exp(-logits)), labels, "precision>=0.99") == []
