"""Blocks of stretched images, searched in pixels that are not stretched."""

from __future__ import annotations

import numpy as np
import pytest

from craters.models import CIRCLES, CircleBlock, CircleDetector, find_pretrained, raw_probability
from craters.models.circles import detector
from craters.models.circles.conformal import (
    ConformalBlock,
    conformal_shape,
    search_conformal,
)
from craters.synthetic import make_scene


@pytest.fixture(scope="module")
def circles() -> CircleDetector:
    return CircleDetector.load(find_pretrained(CIRCLES), threads=1)


TALL, WIDE = (np.array([[0, -50.0], [100, 0]]), np.array([[0, -100.0], [50, 0]]))  # pixels


@pytest.mark.parametrize("turn", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("stretch", [1.5, 3.0, 9.0])
def test_the_shape_takes_out_the_stretch(turn: float, stretch: float) -> None:
    cosine, sine = np.cos(turn), np.sin(turn)
    pixel = 100 * np.array([[sine, -cosine], [cosine, sine]]) / np.array([[1.0], [stretch]])
    shape = conformal_shape(pixel)
    assert shape is not None
    np.testing.assert_allclose(shape, shape.T)
    ground = pixel.T @ np.linalg.inv(shape)  # metres by a step in conformal pixels
    lengths = np.linalg.svd(ground, compute_uv=False)
    assert lengths[0] == pytest.approx(100)
    assert lengths[0] / lengths[1] == pytest.approx(max(1, stretch / 4))


def test_small_stretches_and_places_off_the_body_are_left() -> None:
    assert conformal_shape(np.array([[0, -100.0], [96, 0]])) is None
    assert conformal_shape(np.array([[0, np.nan], [50, 0]])) is None


@pytest.mark.parametrize("shape", [np.diag([1, 0.5]), np.array([[0.8, 0.2], [0.2, 0.7]])])
def test_a_block_reads_what_it_needs_and_no_more(
    circles: CircleDetector, shape: np.ndarray
) -> None:
    image = make_scene(200, 330, seed=1, missing=0.0).image
    block = CircleBlock(stage=0, row=64, col=96, height=90, width=130, levels=2)
    conformal = ConformalBlock(block, shape)
    asked = []

    def read(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append((row, col, height, width))
        return detector._reader_of(image, image == 0)(row, col, height, width)

    _, reduced = search_conformal(circles, read, conformal, 270)
    assert asked == [conformal.window]
    plain = circles.search(detector._reader_of(image, image == 0), block, 270)[1]
    np.testing.assert_array_equal(reduced, plain)
    row, col, height, width = conformal.window
    around = 0.9 * detector._AROUND  # the halo, in conformal pixels
    assert row < 64 - around
    assert col < 96 - around
    assert row + height > 64 + 90 + around
    assert col + width > 96 + 130 + around


def test_blocks_do_not_change_the_circles(
    circles: CircleDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_scene(300, 600, seed=2, look="moon").image
    whole = circles.detect(image, azimuth=270, pixel=WIDE)
    monkeypatch.setattr(detector, "BLOCK", 128)
    parts = circles.detect(image, azimuth=270, pixel=WIDE)
    assert len(whole) == len(parts) > 10
    for name in ("row", "col", "diameter", "logit"):
        np.testing.assert_allclose(parts[name], whole[name], atol=2e-2, err_msg=name)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_stretched_image_gives_the_craters_of_the_image(
    circles: CircleDetector, axis: int
) -> None:
    scene = make_scene(400, 400, seed=4, look="moon")
    stretched = np.repeat(scene.image, 2, axis=axis)
    base = circles.detect(scene.image, azimuth=scene.azimuth)
    pixel = (TALL, WIDE)[axis]
    found = circles.detect(stretched, azimuth=scene.azimuth, pixel=pixel)
    sure = base[raw_probability(base) >= 0.5]
    assert len(sure) >= 5
    name = ("row", "col")[axis]
    found[name] = (found[name] + 0.5) / 2 - 0.5
    found["diameter"] /= np.sqrt(2)
    distance = np.hypot(sure["row"][:, None] - found["row"], sure["col"][:, None] - found["col"])
    nearest = found[distance.argmin(axis=1)]
    close = (distance.min(axis=1) < 1.5) & (
        np.abs(np.log(nearest["diameter"] / sure["diameter"])) < 0.1
    )
    assert close.mean() >= 0.8
