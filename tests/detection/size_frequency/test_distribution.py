"""Counts in bins: exact Poisson intervals, and corrected ones that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from craters.detection.size_frequency import distribution
from craters.detection.size_frequency.distribution import bin_edges, corrected_counts, raw_counts
from craters.detection.size_frequency.recall import RecallTable
from craters.evaluation import sigmoid

RECALL = RecallTable(
    edges=np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]),
    recall=np.array([0.5, 0.8, 0.9]),
    interval=np.array([[0.45, 0.55], [0.75, 0.85], [0.85, 0.94]]),
)


def power_law(count: int, random: np.random.Generator) -> np.ndarray:
    return np.asarray((1 - random.random(count)) ** -0.5)


def test_bins_hold_all_diameters() -> None:
    diameters = 2.0 ** (np.arange(-4, 9) / 2)  # every edge, but for rounding
    edges = bin_edges(diameters)
    assert edges.tolist() == pytest.approx((2.0 ** (np.arange(-4, 10) / 2)).tolist())
    assert raw_counts(diameters, edges).inside.value.tolist() == [1] * 13


def test_poisson_intervals_are_garwoods() -> None:
    """Of published tables: 0 to 3.689, 1.6235 to 11.668 for 5, 11.177 to 28.767 for 18."""
    counts = raw_counts(np.array([1.0] * 13 + [2.9] * 5), np.array([1.0, 1.5, 2.0, 3.0]))
    assert counts.inside.value.tolist() == [13, 0, 5]
    assert counts.inside.low[1:].tolist() == pytest.approx([0, 1.6235], abs=1e-3)
    assert counts.inside.high[1:].tolist() == pytest.approx([3.6889, 11.6683], abs=1e-3)
    assert counts.cumulative.value.tolist() == [18, 5, 5]
    assert counts.cumulative.low[0] == pytest.approx(10.668, abs=1e-3)
    assert counts.cumulative.high[0] == pytest.approx(28.448, abs=1e-3)


def test_certain_detections_have_the_intervals_of_raw_counts() -> None:
    """Probability 1 and complete: nothing is uncertain but the Poisson number."""
    diameters = power_law(200, np.random.default_rng(2))
    edges = bin_edges(diameters)
    raw = raw_counts(diameters, edges)
    found = corrected_counts(diameters, np.ones(200), edges, error=0.0)
    for one, other in ((found.inside, raw.inside), (found.cumulative, raw.cumulative)):
        assert one.value.tolist() == pytest.approx(other.value.tolist())
        assert one.low.tolist() == pytest.approx(other.low.tolist(), abs=1e-6)
        assert one.high.tolist() == pytest.approx(other.high.tolist(), abs=1e-6)


def test_corrections_are_the_probabilities_over_the_recall() -> None:
    edges = np.array([0.5, 1.0, 2.0, 4.0])
    diameters, p = np.array([0.7, 1.4, 1.5, 2.8]), np.array([0.5, 0.8, 0.9, 0.6])
    found = corrected_counts(diameters, p, edges, error=0.2, recall=RECALL)
    assert found.inside.value.tolist() == pytest.approx([np.nan, 1.7 / 0.5, 0.6 / 0.8], nan_ok=True)
    assert found.cumulative.value.tolist()[1:] == pytest.approx([3.4 + 0.75, 0.75])
    assert np.isnan([found.inside.low[0], found.cumulative.high[0]]).all()
    wider = corrected_counts(diameters, p, edges, error=1.5, recall=RECALL)
    assert wider.inside.low[1] < found.inside.low[1]
    plain = corrected_counts(diameters, p, edges, error=0.2)
    assert plain.inside.value.tolist() == pytest.approx([0.5, 1.7, 0.6])
    again = corrected_counts(diameters, p, edges, error=0.2)
    assert again.inside.low.tolist() == plain.inside.low.tolist()


def test_intervals_hold_the_number_of_craters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes of known rate: detections with a recall, and false ones, wrongly calibrated."""
    monkeypatch.setattr(distribution, "_DRAWS", 200)
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    rate, error = np.array([60.0, 20.0, 8.0]), 0.4
    inside, above = [], []
    for seed in range(150):
        random = np.random.default_rng(seed)
        true = RECALL.at(np.sqrt(edges[1:] * edges[:-1]), random.normal(size=1))[0]
        detected = random.poisson(rate * true)
        diameters, p = [], []
        shift = error * random.normal()
        for low, high, number in zip(edges[:-1], edges[1:], detected, strict=True):
            logits = random.uniform(-1, 4, 40 * (number + 1))
            is_crater = random.random(len(logits)) < sigmoid(logits + shift)
            last = int(np.searchsorted(np.cumsum(is_crater), number, "right"))
            diameters.append(np.full(last, np.sqrt(low * high)))
            p.append(sigmoid(logits[:last]))
        found = corrected_counts(
            np.concatenate(diameters),
            np.concatenate(p),
            edges,
            error=error,
            recall=RECALL,
            seed=seed,
        )
        total = np.cumsum(rate[::-1])[::-1]
        inside.append((found.inside.low <= rate) & (rate <= found.inside.high))
        above.append((found.cumulative.low <= total) & (total <= found.cumulative.high))
    assert 0.93 <= np.mean(inside) <= 0.995
    assert 0.93 <= np.mean(above) <= 0.995
