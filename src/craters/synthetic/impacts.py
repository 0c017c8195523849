"""Craters of a planet: their sizes, ages and clusters, and their shapes in relief and albedo.

The shapes of many craters are computed at once; the craters are then added one by one, the oldest
first, because each erases what lies under it.

The proportions follow fresh lunar craters (Pike 1977, in Impact and Explosion Cratering, 489-509):
depth 0.20 D and rim height 0.036 D where simple, and shallower where complex. The apron of ejecta
thins with the distance as a power of about -3 (McGetchin, Settle and Head 1973, Earth Planet. Sci.
Lett. 20, 226-236). Erosion fills the floor, lowers the rim and widens the edge.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.synthetic.craters import touches
from craters.synthetic.look import PRESETS, Factors

IMPACT_DTYPE = np.dtype(
    [(name, "f8") for name in ("row", "col", "diameter", "freshness", "contrast")]
)

COUNTED = 10.0  # px: `Look.density` counts craters from here

_REACH = 2.2  # radii that the shape of a crater covers
_BATCH = 60_000  # pixels of the shapes that are computed at once
_TAU = 2 * math.pi

_Shape = tuple[np.ndarray, np.ndarray, np.ndarray]  # height, share that is erased, albedo


def draw_impacts(
    shape: tuple[int, int], size: int, scene: Factors, rng: np.random.Generator
) -> np.ndarray:
    """Draw the craters of a scene: a power law of sizes, at random places, and secondaries.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the scene, in pixels.
    size : int
        Side of its patches, in pixels.
    scene : Factors
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (K,), `IMPACT_DTYPE`
        Craters that touch the scene, the oldest first; their centres may lie outside it.
    """
    height, width = shape
    largest = max(1.5 * COUNTED, scene.largest * size)
    ends = scene.smallest**-scene.slope, largest**-scene.slope
    share = (COUNTED**-scene.slope - ends[1]) / (ends[0] - ends[1])
    margin = largest / 2
    area = (height + 2 * margin) / (5 * size) * ((width + 2 * margin) / (5 * size))
    mean = scene.density * area
    # Saturated ground: the smallest craters would only cover each other.
    number = rng.poisson(min(mean / share, 600 * height * width / 256**2 + mean))
    diameter = rng.uniform(ends[1], ends[0], number) ** (-1 / scene.slope)
    row = rng.uniform(-margin, height + margin, number)
    col = rng.uniform(-margin, width + margin, number)
    if scene.clusters:
        extra = _draw_secondaries(shape, scene.clusters, rng)
        row, col, diameter = (
            np.concatenate(pair) for pair in zip((row, col, diameter), extra, strict=True)
        )
    craters = np.zeros(len(row), IMPACT_DTYPE)
    craters["row"], craters["col"], craters["diameter"] = row, col, diameter
    mean_fresh = min(max(scene.freshness, 0.05), 0.95)
    craters["freshness"] = rng.beta(2.2 * mean_fresh, 2.2 * (1 - mean_fresh), len(row))
    craters = craters[touches(craters, 0, 0, height, width)]
    age = craters["freshness"] + rng.normal(0, 0.15, len(craters))
    ordered: np.ndarray = craters[np.argsort(age, kind="stable")]
    return ordered


def _draw_secondaries(
    shape: tuple[int, int], number: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw clusters and chains of small craters of similar size: rows, columns, diameters."""
    height, width = shape
    parts = [(np.zeros(0),) * 3]
    for _ in range(rng.poisson(number * (height * width) / 256**2)):
        n, typical = int(rng.integers(4, 16)), rng.uniform(3, 14)
        turn, length, breadth = rng.uniform(0, math.pi), rng.uniform(1, 5), rng.uniform(0.2, 2)
        along, across = rng.normal(0, length * typical, n), rng.normal(0, breadth * typical, n)
        row = rng.uniform(0, height) + math.sin(turn) * along + math.cos(turn) * across
        col = rng.uniform(0, width) + math.cos(turn) * along - math.sin(turn) * across
        parts.append((row, col, typical * np.exp(rng.normal(0, 0.25, n))))
    row, col, diameter = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, col, diameter


def add_impacts(
    relief: np.ndarray,
    albedo: np.ndarray,
    craters: np.ndarray,
    scene: Factors,
    rng: np.random.Generator,
) -> float:
    """Add craters to relief and albedo, in place and in the given order; set their contrast.

    Parameters
    ----------
    relief, albedo : ndarray, shape (H, W), float32
        Heights in pixels; brightness of the ground, about standard normal.
    craters : ndarray, shape (K,), `IMPACT_DTYPE`
        Their `contrast` becomes the mean slope of their walls, or 0 if a younger crater covers
        them.
    scene : Factors
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    float
        Root mean square slope of the ground without craters, over 4 px.
    """
    ground_slope = _rms_slope(relief)
    shapes = _make_shapes(craters, scene, rng)
    corners = np.rint(np.stack([craters["row"], craters["col"]], 1)).astype(int)
    for (row, col), (shape, erase, blanket) in zip(corners.tolist(), shapes, strict=True):
        reach = shape.shape[0] // 2
        r0, r1 = max(0, row - reach), min(relief.shape[0], row + reach + 1)
        c0, c1 = max(0, col - reach), min(relief.shape[1], col + reach + 1)
        if r0 >= r1 or c0 >= c1:
            continue
        box = (slice(r0, r1), slice(c0, c1))
        cut = (slice(r0 - row + reach, r1 - row + reach), slice(c0 - col + reach, c1 - col + reach))
        ground, tint, inside = relief[box], albedo[box], erase[cut]  # views
        level = float((ground * inside).sum() / max(float(inside.sum()), 1e-3))
        change = level - ground
        change *= inside
        ground += change
        ground += shape[cut]
        tint *= 1 - 0.7 * inside
        tint += blanket[cut]
    craters["contrast"][_are_buried(craters)] = 0
    return ground_slope


def make_relief(
    offset: tuple[float, float], diameter: float, freshness: float, rng: np.random.Generator
) -> np.ndarray:
    """Make one crater on level ground, of a form drawn as in scenes of the look `mixed`.

    Parameters
    ----------
    offset : tuple of float
        Of the centre from the middle pixel: down and right, px.
    diameter : float
        In pixels.
    freshness : float
        0 (almost gone) to 1 (new).
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (2 n + 1, 2 n + 1), float32
        Heights in pixels; 0 along the edges.

    Examples
    --------
    >>> make_relief((0, 0), 10, 1.0, np.random.default_rng(0)).shape
    (31, 31)
    """
    half = math.ceil(diameter * (_REACH / 2)) + 4
    relief = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    crater = np.zeros(1, IMPACT_DTYPE)
    crater["row"], crater["col"] = half + offset[0], half + offset[1]
    crater["diameter"], crater["freshness"] = diameter, freshness
    add_impacts(relief, np.zeros_like(relief), crater, PRESETS["mixed"].draw(rng), rng)
    return relief


def _rms_slope(relief: np.ndarray) -> float:
    """Return the root mean square slope of a relief over 4 px."""
    down, right = relief[4:] - relief[:-4], relief[:, 4:] - relief[:, :-4]
    return max(float(np.sqrt((down**2).mean() + (right**2).mean())) / 4 / 2**0.5, 1e-4)


def _are_buried(craters: np.ndarray) -> np.ndarray:
    """Return which craters lie mostly inside a younger one that is not much smaller."""
    buried = np.zeros(len(craters), bool)
    large = np.flatnonzero(craters["diameter"] >= COUNTED)
    row, col, radius = (craters[name][large] for name in ("row", "col", "diameter"))
    radius = radius / 2
    distance = np.hypot(row[:, None] - row, col[:, None] - col)
    covers = (distance < 0.7 * radius) & (radius > 0.75 * radius[:, None])
    buried[large] = np.triu(covers, 1).any(1)  # later rows are younger
    return buried


def _make_shapes(craters: np.ndarray, scene: Factors, rng: np.random.Generator) -> list[_Shape]:
    """Make the shapes of all craters, those of similar size at once; set their contrast."""
    half = np.ceil(craters["diameter"] * (_REACH / 2)).astype(int) + 1
    classes = np.ceil(np.log2(half) * 2)
    shapes: dict[int, _Shape] = {}
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        reach = int(half[members].max())
        for part in np.array_split(members, max(1, len(members) * (2 * reach + 1) ** 2 // _BATCH)):
            made, slopes = _shapes(craters[part], reach, scene, rng)
            craters["contrast"][part] = slopes
            shapes.update(zip(part.tolist(), made, strict=True))
    return [shapes[k] for k in range(len(craters))]


def _shapes(
    craters: np.ndarray, reach: int, scene: Factors, rng: np.random.Generator
) -> tuple[list[_Shape], np.ndarray]:
    """Return the shapes of n craters on squares of 2 `reach` + 1 px, and their slopes.

    The slope is the height of the rim above the floor over a third of the diameter.
    """
    plan = _Plan.draw(craters, reach, rng)
    form = _Form.draw(plan, scene, rng)
    height = _make_bowls(plan, form, rng)
    _add_interiors(height, plan, form, rng)
    _breach(height, plan, rng)
    edge = np.clip((_REACH - plan.radius) * 2.5, 0, 1)
    height *= edge
    albedo = _make_blankets(plan, form.inside, scene, rng)
    albedo *= edge
    erase = form.inside * (0.15 + 0.8 * plan.fresh * plan.uniform(rng, 0.4, 1))
    erase += 0.5 * plan.fresh * form.outside * np.clip(1.6 - plan.radius, 0, 0.6)
    slopes = ((form.depth + form.rim) / plan.diameter).reshape(-1) * 3
    return list(zip(height, erase, albedo, strict=True)), slopes


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where the pixels around n craters lie; arrays of float32.

    Parameters
    ----------
    diameter, fresh : ndarray, shape (n, 1, 1)
    dr, dc : ndarray, shape (n, S, 1) and (n, 1, S)
        Offsets from the centre in pixels.
    cosine, sine : ndarray, shape (n, S, S)
        Of the direction from the centre.
    radius : ndarray, shape (n, S, S)
        Distance from the centre, 1 on the uneven rim.
    turn : ndarray, shape (n, 1, 1)
        A direction for what has one, in radians.
    """

    diameter: np.ndarray
    fresh: np.ndarray
    dr: np.ndarray
    dc: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    radius: np.ndarray
    turn: np.ndarray

    @classmethod
    def draw(cls, craters: np.ndarray, reach: int, rng: np.random.Generator) -> _Plan:
        """Draw how uneven each rim is: oval, and of three lobes."""
        column = (len(craters), 1, 1)
        diameter, fresh, row, col = (
            craters[name].reshape(column) for name in ("diameter", "freshness", "row", "col")
        )
        diameter, fresh = diameter.astype(np.float32), fresh.astype(np.float32)
        offset = np.arange(-reach, reach + 1, dtype=np.float32)
        dr = offset[:, None] - (row - np.rint(row)).astype(np.float32)
        dc = offset[None, :] - (col - np.rint(col)).astype(np.float32)
        distance = np.sqrt(dr**2 + dc**2) + np.float32(1e-3)
        cosine, sine = dc / distance, dr / distance
        axis, turn = _uniform(rng, 0, _TAU, column), _uniform(rng, 0, _TAU, column)
        oval = (0.015 + 0.05 * (1 - fresh)) * _uniform(rng, 0, 1.5, column)
        squared = cosine**2
        uneven = np.cos(axis) * (2 * squared - 1) + np.sin(axis) * (2 * sine * cosine)
        uneven = 1 + oval * uneven
        uneven += _uniform(rng, -0.03, 0.03, column) * (cosine * (4 * squared - 3))
        radius = distance * (2 / diameter) * uneven
        return cls(
            diameter=diameter, fresh=fresh, dr=dr, dc=dc, cosine=cosine, sine=sine, radius=radius,
            turn=turn,
        )  # fmt: skip

    def uniform(self, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
        """Draw a number for each crater, shape (n, 1, 1)."""
        return _uniform(rng, low, high, self.fresh.shape)


def _uniform(
    rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]
) -> np.ndarray:
    return rng.uniform(low, high, shape).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Form:
    """Sizes of n craters, shape (n, 1, 1), and where their insides are, shape (n, S, S).

    Parameters
    ----------
    is_complex : ndarray of bool
    depth, rim : ndarray
        Depth below the ground and height of the rim above it, in pixels.
    bowl : ndarray
        0 on the flat floor to 1 on the rim and outside.
    inside, outside : ndarray
        1 inside the rim and 0 outside, with a soft edge; the reverse.
    """

    is_complex: np.ndarray
    depth: np.ndarray
    rim: np.ndarray
    bowl: np.ndarray
    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def draw(cls, plan: _Plan, scene: Factors, rng: np.random.Generator) -> _Form:
        """Draw depths and floors; erosion makes craters shallow and their edges soft."""
        diameter, fresh, radius = plan.diameter, plan.fresh, plan.radius
        is_complex = diameter > scene.transition
        shallower = (scene.transition / diameter) ** np.float32(0.5)
        ratio = np.where(is_complex, scene.depth * shallower, scene.depth)
        depth = diameter * ratio * (0.06 + 0.94 * fresh**1.3) * plan.uniform(rng, 0.8, 1.2)
        rim = scene.rim * depth * (0.4 + 0.6 * fresh)
        is_filled = rng.random(fresh.shape) < scene.fill
        floor = plan.uniform(rng, 0, 0.25)
        floor = floor + np.where(is_filled | is_complex, plan.uniform(rng, 0.1, 0.55), 0)
        floor = np.minimum(floor + 0.3 * (1 - fresh) * plan.uniform(rng, 0, 1), 0.8)
        soft = np.maximum(0.03 + 0.16 * (1 - fresh) ** 1.5, 0.6 / diameter)
        inside = 1 / (1 + np.exp(np.clip((radius - 1) / soft, -30, 30)))
        return cls(
            is_complex=is_complex,
            depth=depth,
            rim=rim,
            bowl=np.clip((radius - floor) / (1 - floor), 0, 1),
            inside=inside,
            outside=1 - inside,
        )


def _make_bowls(plan: _Plan, form: _Form, rng: np.random.Generator) -> np.ndarray:
    """Return the heights of bowls with a rim and an apron of ejecta, in pixels."""
    # Powers are slow: where the base is 0 or 1, or the shape ends, they are not computed.
    wall, apron = form.bowl.copy(), np.ones_like(plan.radius)
    power = plan.uniform(rng, 1.3, 2.4)
    np.power(wall, power, out=wall, where=(wall > 0) & (wall < 1))
    power = -plan.uniform(rng, 2.5, 5)
    np.power(plan.radius, power, out=apron, where=(plan.radius > 1) & (plan.radius < _REACH))
    apron *= form.rim
    height: np.ndarray = form.inside * ((form.depth + form.rim) * (wall - 1) + form.rim)
    height += form.outside * apron
    return height


def _add_interiors(height: np.ndarray, plan: _Plan, form: _Form, rng: np.random.Generator) -> None:
    """Add central peaks, terraces and dunes to the craters that have them, in place."""
    column, radius = plan.fresh.shape, plan.radius
    has_peak = (rng.random(column) < np.where(form.is_complex, 0.6, 0.03)) & (plan.diameter > 12)
    top, width = form.depth * plan.uniform(rng, 0.2, 0.6), plan.uniform(rng, 0.1, 0.22)
    k = np.flatnonzero(has_peak)
    height[k] += top[k] * np.exp(-((radius[k] / width[k]) ** 2))
    if form.is_complex.any():
        k = np.flatnonzero(form.is_complex & (rng.random(column) < 0.6))
        steps = np.sin(radius[k] * plan.uniform(rng, 16, 30)[k])
        steps = np.float64(0.05) * form.depth[k] * steps
        height[k] += steps * form.inside[k] * form.bowl[k]
    if rng.random() < 0.15:
        pace = _TAU / plan.uniform(rng, 3, 7)
        k = np.flatnonzero(plan.uniform(rng, 0, 1) < 0.3)
        phase = np.cos(plan.turn[k]) * plan.dr[k] + np.sin(plan.turn[k]) * plan.dc[k]
        waves = np.float64(0.25) * np.sin(phase * pace[k])
        height[k] += waves * np.clip(0.75 - radius[k], 0, 1)


def _breach(height: np.ndarray, plan: _Plan, rng: np.random.Generator) -> None:
    """Flatten the rims of some worn craters on one side, in place."""
    k = np.flatnonzero(plan.uniform(rng, 0, 1) > 0.45 + 0.6 * plan.fresh)
    strength = plan.uniform(rng, 0.3, 0.9)[k]
    along = np.cos(plan.turn[k]) * plan.cosine[k] + np.sin(plan.turn[k]) * plan.sine[k]
    height[k] *= 1 - strength * np.clip(along, 0, 1) ** 2


def _make_blankets(
    plan: _Plan, inside: np.ndarray, scene: Factors, rng: np.random.Generator
) -> np.ndarray:
    """Return the albedo of floors, ejecta blankets, rims and rays, shape (n, S, S)."""
    column, fresh, radius = plan.fresh.shape, plan.fresh, plan.radius
    albedo: np.ndarray = inside * rng.normal(0, 0.4, column).astype(np.float32)
    if scene.ejecta:
        tint = (scene.ejecta * rng.normal(0.3, 1, column)).astype(np.float32)
        albedo += tint * fresh * np.exp(-((radius - 1.2) ** 2) / 0.15)
    albedo = albedo.astype(np.float64)
    if scene.rings:
        k = np.flatnonzero(rng.random(column) < scene.rings)
        tint, width = rng.normal(0.8, 1, column)[k], rng.uniform(0.06, 0.16, column)[k]
        albedo[k] += tint * np.exp(-(((radius[k] - 0.97) / width) ** 2))
    if scene.rays:
        k = np.flatnonzero(rng.random(column) < scene.rays)
        if len(k):
            number, turn = rng.integers(5, 10, column)[k], rng.uniform(0, _TAU, column)[k]
            rays = np.clip(np.cos(number * np.arctan2(plan.sine[k], plan.cosine[k]) + turn), 0, 1)
            albedo[k] += 2 * fresh[k] * rays * np.exp(-((radius[k] / 1.5) ** 2))
    return albedo.astype(np.float32)
