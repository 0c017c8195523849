"""The circle network on patches: known answers of hand-made maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from craters.errors import ConfigError
from craters.models import (
    USUAL_DIAMETER,
    CirclePatchNet,
    CircleSizes,
    patch_levels,
    places_of,
    standardize,
)
from craters.models.circles.patches import count_levels_of, disc_share

SIZES = CircleSizes(10, 48)
LOW = -8.0  # logit of all other places


def hand_made(*circles: tuple[int, int, int, float, float]) -> list[Tensor]:
    """Make the maps of one patch of 48 px from circles: level, row, column, diameter, logit."""
    maps = [torch.zeros(1, 5, length, length) for length in (12, 6)]
    for each in maps:
        each[:, 0] = LOW
    for level, row, col, diameter, logit in circles:
        maps[level][0, 0, row, col] = logit
        maps[level][0, 3, row, col] = math.log(diameter / 2**level / USUAL_DIAMETER)
    return maps


@pytest.mark.parametrize(
    ("circle", "counts"),
    [
        ((0, 5, 5, 20.0, 2.0), True),
        ((1, 2, 3, 40.0, 2.0), True),
        ((0, 5, 5, 9.5, 2.0), False),  # too small
        ((1, 2, 3, 49.0, 2.0), False),  # too large
        ((0, 5, 5, 27.0, 2.0), False),  # not measured at full size
        ((1, 2, 3, 12.0, 2.0), False),  # not measured at half size
        ((0, 0, 0, 10.0, 2.0), True),  # 2 px from both edges: 0.55 of the disc is inside
        ((0, 0, 0, 20.0, 2.0), False),  # 0.40
    ],
)
def test_the_largest_logit_is_of_circles_that_count(
    circle: tuple[int, int, int, float, float], counts: bool
) -> None:
    places = places_of(hand_made(circle), 48)
    assert places.logit.shape == (1, 12 * 12 + 6 * 6)
    assert places.largest(SIZES).item() == (2.0 if counts else LOW)


def test_offsets_move_the_disc() -> None:
    maps = hand_made((0, 0, 5, 12.0, 2.0))
    maps[0][0, 1, 0, 5] = -0.75  # from 2 px below the edge to 1 px above it
    assert places_of(maps, 48).largest(SIZES).item() == LOW


@pytest.mark.parametrize(
    ("row", "col", "share"),
    [
        (24, 24, 1.0), (0, 24, 0.5), (24, 48, 0.5), (0, 0, 0.25), (24, -30, 0.0),
        (5, 24, 0.8045),  # a distance of half the radius: 1 - (acos(.5) - .5 sin(acos(.5))) / pi
    ],
)  # fmt: skip
def test_the_share_of_a_disc(row: float, col: float, share: float) -> None:
    place = [torch.tensor([value], dtype=torch.float32) for value in (row, col, 20)]
    assert disc_share(*place, 48).item() == pytest.approx(share, abs=0.01)


def test_levels_show_craters_up_to_the_side() -> None:
    assert [count_levels_of(side) for side in (24, 26, 27, 52, 53, 256)] == [1, 1, 2, 2, 3, 5]
    images = np.random.default_rng(0).integers(0, 255, (2, 50, 50)).astype(np.uint8)
    full, half = patch_levels(images)
    assert full.shape == (2, 64, 64)
    assert half.shape == (2, 32, 32)
    pixels, missing = np.zeros((64, 64), np.float32), np.ones((64, 64), bool)
    pixels[:50, :50], missing[:50, :50] = images[1], False
    np.testing.assert_array_equal(full[1], standardize(pixels, missing))


def test_a_patch_is_predicted_alone_as_among_others() -> None:
    torch.manual_seed(0)
    network = CirclePatchNet(48, SIZES, ("identity", "up-down")).eval()
    images = torch.rand(3, 48, 48)
    together = network(images)
    assert together.shape == (3,)
    np.testing.assert_allclose(network(images[1:2]).detach(), together[1:2].detach(), atol=1e-4)
    np.testing.assert_allclose(network(images.flip(1)).detach(), together.detach(), atol=1e-4)
    network.line.copy_(torch.tensor([2.0, 1.0]))
    np.testing.assert_allclose(network(images).detach(), 2 * together.detach() + 1, atol=1e-4)
    weights = sum(weight.numel() for weight in network.detector.parameters())
    assert sum(row.parameters for row in network.layers()) == weights


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="diameters are 5 to 48 px, expected at least 6.5"):
        CircleSizes(5, 48)
    with pytest.raises(ConfigError, match="the smaller one first"):
        CircleSizes(20, 20)
    with pytest.raises(ConfigError, match="at least 24 x 24"):
        CirclePatchNet(20, SIZES)
    with pytest.raises(ConfigError, match="at most 256"):
        CirclePatchNet(300, SIZES)
