from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from craters.data import LookRange, measure_looks
from craters.errors import DataError


def patches(mean: float, deviation: float, n: int = 200) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.clip(random.normal(mean, deviation, (n, 16, 16)), 0, 255).astype(np.uint8)


def test_looks_are_mean_deviation_and_steps() -> None:
    images = patches(120, 20, 5000)  # more than one block
    flat = images.reshape(len(images), -1).astype(float)
    down, right = (np.abs(np.diff(images.astype(float), axis=axis)) for axis in (1, 2))
    expected = [flat.mean(1), flat.std(1), (down.mean((1, 2)) + right.mean((1, 2))) / 2]
    np.testing.assert_allclose(measure_looks(images), np.stack(expected, 1), rtol=1e-4)


def test_what_lies_outside_the_range_is_described() -> None:
    trained = LookRange.of(patches(120, 20))
    assert trained.brightness == pytest.approx((117, 122.5), abs=1.5)
    assert trained.differences_of(patches(120, 20)) == []
    assert trained.differences_of(patches(120, 20)[:0]) == []
    assert [text.partition(":")[0] for text in trained.differences_of(patches(60, 5))] == [
        "is darker than training patches",
        "is of less contrast than training patches",
        "is smoother than training patches",
    ]
    assert trained.differences_of(patches(60, 5), relative=True) == []
    blurred = patches(120, 20).astype(float)
    blurred = (120 + (blurred - 120).mean(2, keepdims=True) * 5 + 0 * blurred).astype(np.uint8)
    text = trained.differences_of(blurred, relative=True)[0]
    assert text.startswith("is smoother at equal contrast than training patches: ")
    half = np.concatenate([patches(120, 20, 70), patches(200, 20, 30)])
    assert trained.differences_of(half)[0].startswith(
        "is brighter than training patches: 30% are beyond 99 % of those (brightness 12"
    )
    few = np.concatenate([patches(120, 20, 80), patches(200, 20, 20)])
    assert trained.differences_of(few) == []


def test_it_is_stored_as_plain_values() -> None:
    trained = LookRange.of(patches(120, 20))
    assert LookRange.from_dict(dataclasses.asdict(trained)) == trained
    values = {name: list(ends) for name, ends in dataclasses.asdict(trained).items()}
    assert LookRange.from_dict(values) == trained
    del values["texture"]
    assert LookRange.from_dict(values).texture is None
    assert LookRange.from_dict(values).differences_of(patches(60, 5), relative=True) == []
    for wrong in ({}, values | {"contrast": [3, 2]}, values | {"contrast": 3}, []):
        with pytest.raises(DataError, match="expected"):
            LookRange.from_dict(wrong)
