"""Targets and loss of the circle network: known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from craters.models import STRIDE, USUAL_DIAMETER
from craters.models.circles.decode import find_peaks
from craters.training import TRUTH_DTYPE, circle_loss, make_targets


def truth(*rows: tuple[float, float, float, bool]) -> np.ndarray:
    return np.array(list(rows), TRUTH_DTYPE)


def ideal(targets: object, number: int = 0, scale: float = 20.0) -> np.ndarray:
    """Return maps that reproduce the targets: a high logit at centres alone."""
    heat, geometry = targets.heat[number], targets.geometry[number]  # type: ignore[attr-defined]
    logit = np.where(heat > 0.999, scale, -scale)
    return np.stack([logit, *geometry[:3], np.full_like(heat, -3.0)]).astype(np.float32)


def test_ideal_maps_decode_to_the_truth() -> None:
    craters = truth((30.2, 41.7, 10.0, True), (70.0, 20.5, 25.0, True), (75.0, 90.0, 8.0, True))
    targets = make_targets([craters], 128)
    found = find_peaks(ideal(targets), (1, 31, 1, 31), stride=STRIDE, usual_diameter=USUAL_DIAMETER)
    order = np.argsort(found["row"])
    for name, start in (("row", STRIDE), ("col", STRIDE), ("diameter", 0)):
        np.testing.assert_allclose(found[name][order] + start, craters[name], atol=1e-3)


def test_the_loss_is_least_at_the_truth() -> None:
    targets = make_targets([truth((30, 40, 12, True)), truth()], 64)
    maps = torch.from_numpy(np.stack([ideal(targets, 0), ideal(targets, 1)]))
    best, error = circle_loss(maps, targets)
    assert error == pytest.approx(0)
    place = np.unravel_index(targets.heat[0].argmax(), targets.heat[0].shape)
    for channel, change in ((0, -25.0), (1, 0.5), (2, -0.5), (3, 0.3), (4, 2.0)):
        other = maps.clone()
        other[0, channel, place[0], place[1]] += change
        assert circle_loss(other, targets)[0] > best
    false = maps.clone()
    false[1, 0, 3, 3] = 3.0  # a crater where there is none
    assert circle_loss(false, targets)[0] > best + 1


def test_the_stated_error_is_that_of_the_diameter() -> None:
    """The likelihood is greatest where the error is as large as the network says."""
    targets = make_targets([truth((30, 40, 12, True))], 64)
    place = targets.heat[0] > 0.999
    losses = []
    for log_error in np.linspace(-4, 0, 41):
        maps = ideal(targets)
        maps[3][place] += 0.1  # 10 % too large
        maps[4] = log_error
        losses.append(float(circle_loss(torch.from_numpy(maps[None]), targets)[0]))
    assert np.linspace(-4, 0, 41)[int(np.argmin(losses))] < math.log(0.1) + 0.15


def test_ignored_craters_cost_nothing_and_counted_ones_beside_them_do() -> None:
    ignored = make_targets([truth((30, 40, 30, False))], 64)
    maps = torch.full((1, 5, 16, 16), -20.0)
    maps[0, 0, 7, 10] = 5.0  # in its middle
    assert float(circle_loss(maps, ignored)[0]) == pytest.approx(0, abs=1e-3)
    both = make_targets([truth((30, 40, 30, False), (30, 40, 8, True))], 64)
    assert both.weights[0, 7, 10] == 1
    missed = torch.full((1, 5, 16, 16), -20.0)
    assert float(circle_loss(missed, both)[0]) > 5


def test_craters_outside_the_image_leave_no_centre() -> None:
    targets = make_targets([truth((-20, 30, 12, True), (30, 80, 12, True), (-2, 30, 12, True))], 64)
    assert (targets.heat < 0.999).all()
    assert targets.heat.max() > 0.1  # the last one is a place above the first row
