"""Craters of a planet: their sizes, ages and clusters, and their shapes in relief and albedo.

The shapes of many craters are computed at once; craters are then laid down one by one, the oldest
first, because each erases what lies under it. Depths and rims follow the usual ratios of fresh
craters (Pike 1977: depth 0.2 D, rim 0.04 D; complex craters are shallower); erosion fills the
floor, lowers the rim and widens the transition.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from craters.synthetic.craters import touches

IMPACT_DTYPE = np.dtype(
    [(name, "f8") for name in ("row", "col", "diameter", "freshness", "contrast")]
)

COUNTED = 10.0  # px: `Look.density` counts craters from here
_REACH = 2.2  # radii that a crater's shape covers
_TAU = 2 * math.pi


def draw_impacts(
    side: int, size: int, scene: SimpleNamespace, rng: np.random.Generator
) -> np.ndarray:
    """Draw the craters of a scene, oldest first.

    Parameters
    ----------
    side, size : int
        Sides of the scene and of its patches, in pixels.
    scene : SimpleNamespace
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (K,), `IMPACT_DTYPE`
        Craters that touch the scene; their centres may lie outside it.
    """
    largest = max(1.5 * COUNTED, scene.largest * size)
    ends = scene.smallest**-scene.slope, largest**-scene.slope
    share = (COUNTED**-scene.slope - ends[1]) / (ends[0] - ends[1])
    margin = largest / 2
    mean = scene.density * ((side + 2 * margin) / (5 * size)) ** 2
    number = rng.poisson(min(mean / share, 600 * (side / 256) ** 2 + mean))
    diameter = rng.uniform(ends[1], ends[0], number) ** (-1 / scene.slope)
    row, col = rng.uniform(-margin, side + margin, (2, number))
    if scene.clusters:
        extra = _draw_secondaries(side, scene, rng)
        row, col, diameter = (
            np.concatenate(pair) for pair in zip((row, col, diameter), extra, strict=True)
        )
    craters = np.zeros(len(row), IMPACT_DTYPE)
    craters["row"], craters["col"], craters["diameter"] = row, col, diameter
    mean_fresh = min(max(scene.freshness, 0.05), 0.95)
    craters["freshness"] = rng.beta(2.2 * mean_fresh, 2.2 * (1 - mean_fresh), len(row))
    craters = craters[touches(craters, 0, 0, side, side)]
    age = craters["freshness"] + rng.normal(0, 0.15, len(craters))
    ordered: np.ndarray = craters[np.argsort(age, kind="stable")]
    return ordered


def _draw_secondaries(
    side: int, scene: SimpleNamespace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw clusters and chains of small craters of similar size."""
    parts = []
    for _ in range(rng.poisson(scene.clusters * side**2 / 256**2)):
        n, typical = int(rng.integers(4, 16)), rng.uniform(3, 14)
        turn, length, width = rng.uniform(0, math.pi), rng.uniform(1, 5), rng.uniform(0.2, 2)
        along, across = rng.normal(0, length * typical, n), rng.normal(0, width * typical, n)
        row = rng.uniform(0, side) + math.sin(turn) * along + math.cos(turn) * across
        col = rng.uniform(0, side) + math.cos(turn) * along - math.sin(turn) * across
        parts.append((row, col, typical * np.exp(rng.normal(0, 0.25, n))))
    if not parts:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    row, col, diameter = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, col, diameter


def lay_impacts(
    relief: np.ndarray,
    albedo: np.ndarray,
    craters: np.ndarray,
    scene: SimpleNamespace,
    rng: np.random.Generator,
) -> float:
    """Add craters to relief and albedo, in place and in the given order; set their contrast.

    Parameters
    ----------
    relief, albedo : ndarray, shape (H, W), float32
    craters : ndarray, shape (K,), `IMPACT_DTYPE`
    scene : SimpleNamespace
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    float
        Root mean square slope of the ground without craters. The contrast of a crater is its slope,
        or 0 if younger craters cover it.
    """
    ground_slope = _slope(relief)
    half = np.ceil(craters["diameter"] * (_REACH / 2)).astype(int) + 1
    classes = np.unique(np.ceil(np.log2(half) * 2), return_inverse=True)[1] if len(half) else half
    shapes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [None] * len(craters)  # type: ignore[list-item]
    corners = np.rint(np.stack([craters["row"], craters["col"]], 1)).astype(int)
    for number in range(int(classes.max()) + 1 if len(half) else 0):
        members = np.flatnonzero(classes == number)
        reach = int(half[members].max())
        for part in np.array_split(members, max(1, len(members) * (2 * reach + 1) ** 2 // 60_000)):
            made, slopes = _shapes(craters[part], reach, scene, rng)
            craters["contrast"][part] = slopes
            for k, shape in zip(part, made, strict=True):
                shapes[k] = shape
    for (row, col), (shape, erase, blanket) in zip(corners.tolist(), shapes, strict=True):
        reach = shape.shape[0] // 2
        r0, r1 = max(0, row - reach), min(relief.shape[0], row + reach + 1)
        c0, c1 = max(0, col - reach), min(relief.shape[1], col + reach + 1)
        if r0 >= r1 or c0 >= c1:
            continue
        box = (slice(r0, r1), slice(c0, c1))
        cut = (slice(r0 - row + reach, r1 - row + reach), slice(c0 - col + reach, c1 - col + reach))
        ground = relief[box]
        inside = erase[cut]
        level = float((ground * inside).sum() / max(float(inside.sum()), 1e-3))
        relief[box] = ground + inside * (level - ground) + shape[cut]
        albedo[box] = albedo[box] * (1 - 0.7 * inside) + blanket[cut]
    craters["contrast"][_buried(craters)] = 0
    return ground_slope


def _slope(relief: np.ndarray) -> float:
    """Return the root mean square slope over 4 px of the ground, without craters."""
    down, right = relief[4:] - relief[:-4], relief[:, 4:] - relief[:, :-4]
    return max(float(np.sqrt((down**2).mean() + (right**2).mean())) / 4 / 2**0.5, 1e-4)


def _buried(craters: np.ndarray) -> np.ndarray:
    """Return which craters lie mostly inside a younger one that is not much smaller."""
    buried = np.zeros(len(craters), bool)
    large = np.flatnonzero(craters["diameter"] >= COUNTED)
    row, col, radius = (craters[name][large] for name in ("row", "col", "diameter"))
    radius = radius / 2
    distance = np.hypot(row[:, None] - row, col[:, None] - col)
    covers = (distance < 0.7 * radius) & (radius > 0.75 * radius[:, None])
    buried[large] = np.triu(covers, 1).any(1)  # later rows are younger
    return buried


def _shapes(
    craters: np.ndarray, reach: int, scene: SimpleNamespace, rng: np.random.Generator
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Return height, share of the old ground that is erased, and albedo of each crater.

    Also return their slopes: height of the rim above the floor over a third of the diameter.
    """
    n = len(craters)
    column = (n, 1, 1)

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, column).astype(np.float32)

    diameter = craters["diameter"].astype(np.float32).reshape(column)
    fresh = craters["freshness"].astype(np.float32).reshape(column)
    offset = np.arange(-reach, reach + 1, dtype=np.float32)
    dr = offset[:, None] - (craters["row"] - np.rint(craters["row"])).astype(np.float32).reshape(
        column
    )
    dc = offset[None, :] - (craters["col"] - np.rint(craters["col"])).astype(np.float32).reshape(
        column
    )
    distance = np.sqrt(dr**2 + dc**2) + np.float32(1e-3)
    cosine, sine = dc / distance, dr / distance
    double, double_sine = 2 * cosine**2 - 1, 2 * sine * cosine
    triple = cosine * (4 * cosine**2 - 3)
    turns = uniform(0, _TAU), uniform(0, _TAU)
    oval = (0.015 + 0.05 * (1 - fresh)) * uniform(0, 1.5)
    uneven = 1 + oval * (np.cos(turns[0]) * double + np.sin(turns[0]) * double_sine)
    uneven += uniform(-0.03, 0.03) * triple
    radius = distance * (2 / diameter) * uneven

    complex_ = diameter > scene.transition
    ratio = np.where(
        complex_, scene.depth * (scene.transition / diameter) ** np.float32(0.5), scene.depth
    )
    depth = diameter * ratio * (0.06 + 0.94 * fresh**1.3) * uniform(0.8, 1.2)
    rim = scene.rim * depth * (0.4 + 0.6 * fresh)
    filled = rng.random(column) < scene.fill
    floor = uniform(0, 0.25) + np.where(filled | complex_, uniform(0.1, 0.55), 0)
    floor = np.minimum(floor + 0.3 * (1 - fresh) * uniform(0, 1), 0.8)
    bowl = np.clip((radius - floor) / (1 - floor), 0, 1)
    wall = bowl ** (uniform(1.3, 2.4))
    soft = np.maximum(0.03 + 0.16 * (1 - fresh) ** 1.5, 0.6 / diameter)
    inside = 1 / (1 + np.exp(np.clip((radius - 1) / soft, -30, 30)))
    apron = rim * np.maximum(radius, 1) ** -uniform(2.5, 5)
    height = inside * ((depth + rim) * (wall - 1) + rim) + (1 - inside) * apron
    peak = (rng.random(column) < np.where(complex_, 0.6, 0.03)) & (diameter > 12)
    height += peak * (depth * uniform(0.2, 0.6)) * np.exp(-((radius / uniform(0.1, 0.22)) ** 2))
    if complex_.any():
        steps = complex_ & (rng.random(column) < 0.6)
        height += steps * 0.05 * depth * np.sin(radius * uniform(16, 30)) * inside * bowl
    if rng.random() < 0.15:  # dunes on the floor
        phase = (np.cos(turns[1]) * dr + np.sin(turns[1]) * dc) * (_TAU / uniform(3, 7))
        height += (uniform(0, 1) < 0.3) * 0.25 * np.sin(phase) * np.clip(0.75 - radius, 0, 1)
    breach = uniform(0, 1) > 0.45 + 0.6 * fresh
    along = np.clip(np.cos(turns[1]) * cosine + np.sin(turns[1]) * sine, 0, 1) ** 2
    height *= 1 - breach * uniform(0.3, 0.9) * along
    edge = np.clip((_REACH - radius) * 2.5, 0, 1)
    height *= edge
    albedo = _blankets(radius, cosine, sine, inside, fresh, scene, rng) * edge
    erase = inside * (0.15 + 0.8 * fresh * uniform(0.4, 1)) + 0.5 * fresh * (1 - inside) * np.clip(
        1.6 - radius, 0, 0.6
    )
    slopes = ((depth + rim) / diameter).reshape(-1) * 3
    return list(zip(height, erase, albedo, strict=True)), slopes


def _blankets(
    radius: np.ndarray,
    cosine: np.ndarray,
    sine: np.ndarray,
    inside: np.ndarray,
    fresh: np.ndarray,
    scene: SimpleNamespace,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the albedo of floors, ejecta blankets and rays."""
    column = fresh.shape
    floor_tint = rng.normal(0, 0.4, column).astype(np.float32)
    albedo: np.ndarray = inside * floor_tint
    if scene.ejecta:
        tint = (scene.ejecta * rng.normal(0.3, 1, column)).astype(np.float32)
        albedo = albedo + tint * fresh * np.exp(-((radius - 1.2) ** 2) / 0.15)
    if scene.rings:
        ringed = rng.random(column) < scene.rings
        tint = rng.normal(0.8, 1, column) * ringed
        width = rng.uniform(0.06, 0.16, column)
        albedo = albedo + tint * np.exp(-(((radius - 0.97) / width) ** 2))
    if scene.rays:
        rayed = rng.random(column) < scene.rays
        if rayed.any():
            angle = np.arctan2(sine, cosine)
            lobes = np.cos(rng.integers(5, 10, column) * angle + rng.uniform(0, _TAU, column))
            albedo = albedo + rayed * 2 * fresh * np.clip(lobes, 0, 1) * np.exp(
                -((radius / 1.5) ** 2)
            )
    return albedo.astype(np.float32)
