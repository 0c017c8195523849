from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from craters.data import make_patch_set
from craters.semi_supervised.pseudo_labels import add_pseudo_labels, confident_without_crater
from craters.training import human_only, take


@given(st.lists(st.floats(0, 1, width=32), max_size=30), st.floats(0, 1))
def test_the_rule_is_one_sided_and_strict(values: list[float], threshold: float) -> None:
    rows = confident_without_crater(np.array(values, np.float32), threshold)
    expected = [row for row, p in enumerate(np.array(values, np.float32)) if p < threshold]
    assert rows.tolist() == expected


def test_a_threshold_of_zero_takes_nothing() -> None:
    assert len(confident_without_crater(np.array([0.0, 0.5]), 0.0)) == 0


def test_human_labels_stay_and_every_origin_is_reported() -> None:
    random = np.random.default_rng(0)
    human = human_only(
        make_patch_set(random.integers(0, 256, (6, 64)).astype(np.uint8), np.arange(6) % 2)
    )
    pool = make_patch_set(
        random.integers(0, 256, (4, 64)).astype(np.uint8), names=("pool.npy", "", "")
    )
    probability = np.array([0.1, 0.2], np.float32)
    merged = add_pseudo_labels(human, pool, np.array([3, 1]), np.zeros(2), probability)
    assert np.array_equal(merged.labels[:6], human.labels)
    assert np.array_equal(merged.images[:6], human.images)
    assert np.array_equal(merged.images[6:], pool.images[[3, 1]])
    assert merged.labels[6:].tolist() == [0, 0]
    assert merged.ids[6:].tolist() == ["pool:3", "pool:1"]
    assert merged.origin.tolist() == ["human"] * 6 + ["pseudo"] * 2
    assert merged.round.tolist() == [0] * 6 + [1, 1]
    assert np.isnan(merged.probability[:6]).all()
    assert np.array_equal(merged.probability[6:], probability)
    part = take(merged, np.array([7, 0]))
    assert part.ids.tolist() == ["pool:1", "images:0"]
    assert part.origin.tolist() == ["pseudo", "human"]
