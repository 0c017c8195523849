from __future__ import annotations

import numpy as np
import pytest

from craters.core import luminance

PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_luminance_is_that_of_pillow() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    colors = colors.reshape(52, -1, 3)
    expected = np.asarray(PIL.fromarray(colors).convert("L"))
    assert np.array_equal(luminance(*np.moveaxis(colors, -1, 0)), expected)


def test_luminance_of_a_palette_is_that_of_pillow() -> None:
    palette = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
    picture = PIL.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16), mode="P")
    picture.putpalette(palette.ravel().tolist())
    assert np.array_equal(luminance(*palette.T), np.asarray(picture.convert("L")).ravel())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.float32])
def test_gray_stays_gray(dtype: type) -> None:
    gray = np.array([0, 1, 3, 100, 127], dtype)
    if dtype != np.uint8:
        gray = np.append(gray, dtype(30_000))
    found = luminance(gray, gray, gray)
    assert found.dtype == dtype
    assert np.array_equal(found, gray)


def test_wide_types_do_not_overflow() -> None:
    white = np.array([65535], np.uint16)
    assert luminance(white, white, white) == 65535
    found = luminance(white, white * 0, white * 0)
    assert found == round(65535 * 0.299)
    assert luminance(*np.eye(3, dtype=np.float64)) == pytest.approx([0.299, 0.587, 0.114], abs=1e-5)
