"""Craters of a synthetic scene: sizes and ages, their relief, and the windows they touch."""

from __future__ import annotations

import math

import numpy as np

from craters.synthetic.terrain import box_around

CRATER_DTYPE = np.dtype([(name, "f8") for name in ("row", "col", "diameter", "freshness")])

MIN_DIAMETER = 8.0  # px: smaller craters are pits, which do not affect labels
SMALLEST, LARGEST = 3.0, 90.0  # px: range of diameters
SLOPE = 1.0  # of the cumulative size distribution, N(> D) ~ D ** -SLOPE


def draw_craters(height: int, width: int, density: float, rng: np.random.Generator) -> np.ndarray:
    """Draw craters from a power-law size distribution; their discs may extend over the edges."""
    largest = min(LARGEST, 0.4 * min(height, width))
    ends = SMALLEST**-SLOPE, largest**-SLOPE
    share = (MIN_DIAMETER**-SLOPE - ends[1]) / (ends[0] - ends[1])
    margin = largest / 2
    area = (height + 2 * margin) * (width + 2 * margin) / 256**2
    mean = density * area / share * math.exp(rng.normal(0, 0.3))
    craters = np.zeros(rng.poisson(mean), CRATER_DTYPE)
    craters["row"] = rng.uniform(-margin, height + margin, len(craters))
    craters["col"] = rng.uniform(-margin, width + margin, len(craters))
    craters["diameter"] = rng.uniform(ends[1], ends[0], len(craters)) ** (-1 / SLOPE)
    wear = np.minimum(craters["diameter"] / MIN_DIAMETER, 1)  # small craters degrade faster
    craters["freshness"] = wear * rng.beta(1.5, 1.2, len(craters))
    touching: np.ndarray = craters[touches(craters, 0, 0, height, width)]
    return touching


def paint_crater(
    relief: np.ndarray, albedo: np.ndarray, crater: np.void, rng: np.random.Generator
) -> None:
    """Add one crater to relief and albedo: bowl, rim and ejecta, degraded by its age."""
    diameter, fresh = float(crater["diameter"]), float(crater["freshness"])
    waves = rng.uniform(0, 2 * math.pi, 4)
    wall, feature, tint, breach = rng.random(4)
    box, dr, dc = box_around(relief.shape, crater["row"], crater["col"], 1.3 * diameter)
    if not (dr.size and dc.size):
        return
    angle = np.arctan2(dr, dc)
    uneven = (0.02 + 0.04 * (1 - fresh)) * np.cos(2 * angle + waves[0])
    uneven += 0.02 * np.cos(3 * angle + waves[1])
    radius = np.hypot(dr, dc) * (2 / diameter) * (1 + uneven)
    inside = 1 / (1 + np.exp(np.clip((radius - 1) / (0.03 + 0.06 * (1 - fresh)), -30, 30)))
    depth = diameter * (0.04 + 0.26 * fresh) * min(1.0, 30 / diameter) ** 0.4
    rim = 0.3 * depth / np.maximum(radius, 1) ** 3
    bowl = depth * (np.minimum(radius, 1) ** (2 + 4 * wall * (1.2 - fresh)) - 1) + 0.3 * depth
    if feature < 0.06 and diameter > 16:
        bowl += 0.35 * depth * np.exp(-((radius / 0.18) ** 2))  # central peak
    elif feature < 0.09 and diameter > 14:
        bowl += 0.35 * depth * np.exp(-(((radius - 0.5) / 0.12) ** 2))  # inner ring
    shape = inside * bowl + (1 - inside) * rim
    if breach > 0.35 + 0.6 * fresh:
        shape *= 1 - 0.8 * np.clip(np.cos(angle - waves[2]), 0, 1) ** 2
    ground = relief[box]
    smooth = inside * (0.1 + 0.8 * fresh)
    relief[box] = ground + smooth * (ground.mean() - ground) + shape
    lobes = 1 + 0.5 * np.cos(5 * angle + waves[3])
    blanket = np.exp(-((radius - 1.2) ** 2) / 0.15) * lobes - 0.6 * inside
    albedo[box] += 30 * (tint - 0.5) * fresh * blanket


def touches(
    craters: np.ndarray,
    row: int | np.ndarray,
    col: int | np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    """Return which craters' discs touch rectangles of square pixels.

    Parameters
    ----------
    craters : ndarray, shape (K,)
    row, col : int, or ndarray of int, shape (N, 1)
        First row and column of one rectangle, or of each.
    height, width : int
        In pixels.

    Returns
    -------
    ndarray of bool, shape (K,) or (N, K)
    """
    down = craters["row"] - np.clip(craters["row"], row - 0.5, row + height - 0.5)
    right = craters["col"] - np.clip(craters["col"], col - 0.5, col + width - 0.5)
    return np.asarray(np.hypot(down, right) <= craters["diameter"] / 2)
