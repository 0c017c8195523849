"""The realism of synthetic patches: descriptions that ignore turns, and an AUC without leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from craters.data import SYMMETRIES, transform
from pretrained import realism, sets
from pretrained.realism import Described, auc
from pretrained.texture import BRIGHTNESS, describe_patches


def noise(n: int, side: int, seed: int, spread: float = 20) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = random.normal(0, 1, (n, side, side)).cumsum(1)  # rows and columns differ
    smooth /= smooth.std((1, 2), keepdims=True)
    return np.clip(np.rint(128 + spread * smooth), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [24, 28, 48])
def test_descriptions_do_not_depend_on_how_a_patch_is_turned(side: int) -> None:
    images = noise(6, side, 1)
    expected = describe_patches(images)
    assert np.isfinite(expected).all()
    assert (expected.std(0) > 0).sum() > 30
    for name in SYMMETRIES:
        turned = describe_patches(np.ascontiguousarray(transform(images, name)))
        np.testing.assert_allclose(turned, expected, rtol=2e-3, atol=2e-3)


def test_only_the_last_columns_know_brightness_and_contrast() -> None:
    one, other = describe_patches(noise(8, 32, 3, 20)), describe_patches(noise(8, 32, 3, 30))
    plain = slice(-BRIGHTNESS)
    np.testing.assert_allclose(one[:, plain], other[:, plain], rtol=0.1, atol=0.1)
    assert (other[:, -BRIGHTNESS + 1] > 1.3 * one[:, -BRIGHTNESS + 1]).all()  # standard deviation
    black = np.zeros((2, 24, 24), np.uint8)
    assert np.isfinite(describe_patches(black)).all()
    assert describe_patches(black)[:, -4].tolist() == [1, 1]  # share of black


def described(mean: float, seed: int, groups: int = 4) -> Described:
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (160, BRIGHTNESS + 2))
    features[:, 0] += mean
    return Described(features, np.arange(160) % groups)


def test_equal_sources_cannot_be_distinguished_and_different_ones_can() -> None:
    assert auc(described(0, 1), described(0, 2), "plain", 0) == pytest.approx(0.5, abs=0.1)
    assert auc(described(0, 1), described(6, 2), "plain", 0) > 0.99
    unlike_in_brightness = described(0, 2)
    unlike_in_brightness.features[:, -1] += 6
    assert auc(described(0, 1), unlike_in_brightness, "plain", 0) < 0.65
    assert auc(described(0, 1), unlike_in_brightness, "bright", 0) > 0.99


def test_a_mark_of_each_group_does_not_help() -> None:
    """In folds that cut groups, trees would know a source by the marks of its groups."""
    one, other = described(0, 3, groups=8), described(0, 4, groups=8)
    marks = np.random.default_rng(5).permutation(16)
    for each, own in ((one, marks[:8]), (other, marks[8:])):
        each.features[:, 1] = own[each.groups]
    assert auc(one, other, "plain", 0) < 0.75


def test_sources_hold_as_many_patches_with_as_without_crater(
    themis48: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sets, "CACHE", tmp_path)
    monkeypatch.setattr(realism, "PATCHES", 40)
    realism.draw_real.cache_clear()
    images, groups = realism.draw_real("themis48", 0, themis48.parent)
    assert images.shape == (40, 48, 48)
    (one,) = sets.load_sets(themis48.parent, ("themis48",))
    labels = {image.tobytes(): label for image, label in zip(one.images, one.labels, strict=True)}
    assert sum(labels[image.tobytes()] for image in images) == 20
    assert len(set(groups)) > 5
    made = realism.describe_look.__wrapped__("moon", 0, 24)
    assert len(made.groups) == 40
    assert len(set(made.groups)) >= 4
    realism.draw_real.cache_clear()
