"""Looks and craters for tests of the synthetic planets."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.synthetic import Look, Uniform
from craters.synthetic.craters import CRATER_DTYPE

CALM = {
    "azimuth": 270, "incidence": 50, "thermal": 0, "lambert": 1,
    "density": 0, "slope": 2, "smallest": 3, "largest": 2, "freshness": 0.5, "transition": 2000,
    "depth": 0.2, "rim": 0.2, "fill": 0, "clusters": 0, "ejecta": 0, "rays": 0, "rings": 0,
    "roughness": 0, "power": 2, "stretch": 1, "mesas": 1e-9, "hills": 0, "pits": 0, "domes": 0,
    "boulders": 0, "ridges": 0, "fractures": 0, "channels": 0, "dunes": 0, "layers": 0,
    "albedo": 0, "blur": 0.3, "noise": 0, "stripes": 0, "jpeg": 0, "mean": 128, "spread": 30,
    "gamma": 1, "levels": 0, "seams": 0, "missing": 0,
}  # fmt: skip
"""Level ground without craters, seen by a perfect sensor; mesas of no height keep it level."""


def calm(**changes: float) -> Look:
    """A look whose factors have one value each: those of `CALM`, changed."""
    values = CALM | changes
    return Look(**{field.name: always(values[field.name]) for field in dataclasses.fields(Look)})


def always(value: float) -> Uniform:
    return Uniform(value, value)


def factors(**changes: float):
    """The factors of a scene of such a look."""
    return calm(**changes).draw(np.random.default_rng(0))


def planted(*craters: tuple[float, float, float, float]) -> np.ndarray:
    """Craters by row, column, diameter and freshness."""
    return np.array(list(craters), CRATER_DTYPE)


def brighter_side(image: np.ndarray, row: float, col: float, radius: float) -> float:
    """Azimuth of the brighter side of a disc, in degrees clockwise from image up."""
    down = np.arange(image.shape[0])[:, None] - row
    right = np.arange(image.shape[1])[None, :] - col
    inside = np.hypot(down, right) <= radius
    excess = np.where(inside, image - image[inside].mean(), 0)
    return math.degrees(math.atan2((excess * right).sum(), -(excess * down).sum())) % 360


def angle_between(first: float, second: float) -> float:
    """Degrees between two azimuths."""
    return abs((first - second + 180) % 360 - 180)
