"""Targets and loss of the circle network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from craters.models import STRIDE, USUAL_DIAMETER

TRUTH_DTYPE = np.dtype([("row", "f4"), ("col", "f4"), ("diameter", "f4"), ("counted", "?")])
"""Craters of an image: centre and diameter in pixels (the centre of the first pixel is 0, 0), and
whether the network must find them; at the others, it may do either."""

_SHARPNESS = 24.0  # diameters of a crater over the standard deviation of its bump in the heat map
_LEAST_BUMP = 0.7  # places: standard deviation of the bump of a small crater
_IGNORED = 1 / 16  # of the diameter of a crater that does not count: radius where anything is right
_MEASURED = 0.3  # height of the bump from which a place learns centre and diameter
_FREE = 0.5  # height from which a place around a centre may fire

_DIAMETER_WEIGHT, _ERROR_WEIGHT = 2.0, 0.3  # of these losses, beside those of logit and offset
_LOG_ERRORS = -5.0, 1.0  # limits of the log of the relative error


@dataclasses.dataclass(frozen=True)
class CircleTargets:
    """What the network should give for a batch of images of S x S pixels.

    Parameters
    ----------
    heat : ndarray, shape (B, S / 4, S / 4), float32
        1 at the centre of a crater, falling to 0 around it.
    weights : ndarray, like `heat`
        0 where anything is right.
    geometry : ndarray, shape (B, 4, S / 4, S / 4), float32
        Offset of the centre down and right, in places; log of the diameter over the usual one;
        weight of the place.
    """

    heat: np.ndarray
    weights: np.ndarray
    geometry: np.ndarray


def make_targets(truths: Sequence[np.ndarray], side: int) -> CircleTargets:
    """Make the targets of a batch.

    Parameters
    ----------
    truths : sequence of ndarray, `TRUTH_DTYPE`
        Craters of each image, also some whose centre is outside.
    side : int
        Of the images, in pixels; a multiple of 4.
    """
    n, places = len(truths), side // STRIDE
    targets = CircleTargets(
        heat=np.zeros((n, places, places), np.float32),
        weights=np.ones((n, places, places), np.float32),
        geometry=np.zeros((n, 4, places, places), np.float32),
    )
    for number, craters in enumerate(truths):
        maps = CircleTargets(
            targets.heat[number], targets.weights[number], targets.geometry[number]
        )
        for crater in craters[np.argsort(craters["counted"], kind="stable")]:
            if crater["counted"]:
                _add_counted(maps, crater)
            else:
                _add_ignored(maps, crater)
    return targets


def _around(crater: np.void, reach: float, places: int) -> tuple[slice, slice, float, float]:
    """Return the rows and columns of places around a crater, and its centre in places."""
    row, col = ((float(crater[name]) + 0.5) / STRIDE for name in ("row", "col"))
    rows, cols = (
        slice(max(0, math.floor(middle - reach)), min(places, math.ceil(middle + reach) + 1))
        for middle in (row, col)
    )
    return rows, cols, row, col


def _add_counted(maps: CircleTargets, crater: np.void) -> None:
    """Add a crater that the network must find: a bump, and where it is and how large."""
    spread = max(float(crater["diameter"]) / _SHARPNESS, _LEAST_BUMP)
    rows, cols, row, col = _around(crater, 3 * spread + 1, len(maps.heat))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        return
    down = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5
    right = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] + 0.5
    middle = math.floor(row) + 0.5, math.floor(col) + 0.5  # of the place that holds the centre
    bump = np.exp(-((down - middle[0]) ** 2 + (right - middle[1]) ** 2) / (2 * spread**2))
    heat, weights = maps.heat[rows, cols], maps.weights[rows, cols]
    np.maximum(heat, bump, out=heat)
    np.maximum(weights, bump > _FREE, out=weights)  # also where an ignored crater is near
    geometry = maps.geometry[:, rows, cols]
    best = bump > np.maximum(geometry[3], _MEASURED)
    geometry[0][best] = np.broadcast_to(row - down, bump.shape)[best]
    geometry[1][best] = np.broadcast_to(col - right, bump.shape)[best]
    geometry[2][best] = math.log(float(crater["diameter"]) / USUAL_DIAMETER)
    geometry[3][best] = bump[best]


def _add_ignored(maps: CircleTargets, crater: np.void) -> None:
    """Give no weight to the middle of a crater that the network may find or not."""
    reach = max(float(crater["diameter"]) * _IGNORED, 1.0)
    rows, cols, row, col = _around(crater, reach + 1, len(maps.heat))
    down = np.arange(rows.start, rows.stop)[:, None] + 0.5 - row
    right = np.arange(cols.start, cols.stop)[None, :] + 0.5 - col
    maps.weights[rows, cols][down**2 + right**2 < reach**2] = 0


def circle_loss(maps: Tensor, targets: CircleTargets) -> tuple[Tensor, float]:
    """Return the loss of a batch, and the mean error of the log diameter.

    The focal loss of the heat map (Zhou et al. 2019) for each counted crater, plus absolute errors
    of offset and log diameter, plus the negative log likelihood of the error of the log diameter
    as a normal distribution, which does not move the diameter itself.

    Parameters
    ----------
    maps : Tensor, shape (B, 5, h, w), float32
        Output of the network.
    targets : CircleTargets
    """
    heat, weights, geometry = (
        torch.from_numpy(array).to(maps.device)
        for array in (targets.heat, targets.weights, targets.geometry)
    )
    logits = maps[:, 0]
    is_centre = (heat > 0.999).float()
    log_hit = functional.logsigmoid(logits)
    log_miss, probability = log_hit - logits, log_hit.exp()
    centres = is_centre * (1 - probability) ** 2 * log_hit
    others = (1 - is_centre) * weights * (1 - heat) ** 4 * probability**2 * log_miss
    focal = -(centres + others).sum() / is_centre.sum().clamp(min=1)
    share = geometry[:, 3] / geometry[:, 3].sum().clamp(min=1)
    offset = (maps[:, 1:3] - geometry[:, :2]).abs().sum(1)
    error = maps[:, 3] - geometry[:, 2]
    log_error = maps[:, 4].clamp(*_LOG_ERRORS)
    doubt = log_error + 0.5 * error.detach() ** 2 * torch.exp(-2 * log_error)
    diameter = (error.abs() * share).sum()
    total = focal + (offset * share).sum() + _DIAMETER_WEIGHT * diameter
    return total + _ERROR_WEIGHT * (doubt * share).sum(), float(diameter.detach())
