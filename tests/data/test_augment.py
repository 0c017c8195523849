from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from craters.data import SYMMETRIES, choose_symmetry, pad_for_shifts, read_patches, shift_and_flip
from craters.data.augment import measure_symmetry, transform
from craters.errors import ConfigError
from craters.models import layers
from tests.conftest import simple_patches

RAMP = np.arange(36, dtype=np.uint8).reshape(1, 6, 6)


def test_the_eight_transforms_are_the_square_s() -> None:
    expected = {
        "identity": RAMP[0],
        "up-down": np.flipud(RAMP[0]),
        "left-right": np.fliplr(RAMP[0]),
        "rotate-180": np.rot90(RAMP[0], 2),
        "transpose": RAMP[0].T,
        "rotate-90": np.rot90(RAMP[0]),
        "rotate-270": np.rot90(RAMP[0], 3),
        "anti-transpose": np.rot90(RAMP[0].T, 2),
    }
    assert set(expected) == set(SYMMETRIES)
    for name, image in expected.items():
        assert np.array_equal(transform(RAMP, name)[0], image), name
        theirs = layers.transform(torch.from_numpy(RAMP), name)[0].numpy()
        assert np.array_equal(theirs, image), name


@pytest.mark.parametrize(
    ("turn", "allowed"),
    [
        ("identity", ("identity", "up-down")),
        ("rotate-90", ("identity", "left-right")),
    ],
)
def test_the_light_is_found_from_the_craters(turn: str, allowed: tuple[str, ...]) -> None:
    images, labels = simple_patches(400, 5, side=32)
    # Centred craters with a clear light: dark on the left, or after the turn below or above.
    rows, columns = np.mgrid[:32, :32] - 15.5
    disc = (rows**2 + columns**2 < 100) * columns * 6
    lit = np.clip(images * 0 + 120 + labels[:, None, None] * disc, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 9, lit.shape).astype(np.uint8)
    report = measure_symmetry(transform(lit // 2 + noise, turn), labels)
    assert report.allowed == allowed
    assert report.correlation["identity"] == pytest.approx(1)
    assert report.correlation["rotate-180"] < -0.8


def test_real_craters_allow_the_up_down_flip(themis48: Path) -> None:
    patches = read_patches(themis48 / "Xtrain1.npy", themis48 / "Ytrain1.npy")
    report = choose_symmetry("auto", patches.images, patches.labels)
    assert report.allowed == ("identity", "up-down")
    assert report.correlation["left-right"] < 0
    assert report.sentence.startswith("symmetry auto: identity and up-down keep the light (")


def test_few_craters_measure_nothing() -> None:
    images, labels = simple_patches(30, 0)
    report = measure_symmetry(images, labels)
    assert report.allowed == ("identity",)
    assert "fewer than 20" in report.sentence


def test_fixed_choices_and_a_wrong_one() -> None:
    images, labels = simple_patches(4, 0)
    assert choose_symmetry("none", images, labels).allowed == ("identity",)
    assert len(choose_symmetry("dihedral", images, labels).allowed) == 8
    with pytest.raises(ConfigError, match="symmetry is 'x', expected auto, none"):
        choose_symmetry("x", images, labels)  # type: ignore[arg-type]


@given(shift=st.integers(0, 3), seed=st.integers(0, 50))
def test_crops_are_windows_of_the_padded_patch(shift: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    padded = pad_for_shifts(images, shift)
    rows = np.array([4, 0, 2, 2])
    batch = shift_and_flip(padded, rows, 8, ("identity",), np.random.default_rng(seed))
    for image, row in zip(batch, rows, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(padded[row], (8, 8)).reshape(-1, 8, 8)
        assert (windows == image).all(axis=(1, 2)).any()
    again = shift_and_flip(padded, rows, 8, ("identity",), np.random.default_rng(seed))
    assert np.array_equal(batch, again)
    assert np.array_equal(padded[:, shift : shift + 8, shift : shift + 8], images)


def test_only_allowed_transforms_are_drawn_and_all_of_them() -> None:
    rows = np.zeros(200, int)
    batch = shift_and_flip(RAMP, rows, 6, ("identity", "up-down"), np.random.default_rng(0))
    same = (batch == RAMP[0]).all(axis=(1, 2))
    flipped = (batch == np.flipud(RAMP[0])).all(axis=(1, 2))
    assert (same | flipped).all()
    assert 60 < same.sum() < 140
