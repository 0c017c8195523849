"""Terrain of a planet: relief and albedo, and landforms easily mistaken for craters.

Heights are in pixels. The sizes of landforms are absolute (px), so that patches of every side show
them at many scales.
"""

from __future__ import annotations

import math

import numpy as np

from craters.synthetic.look import Factors
from craters.synthetic.terrain import Line, add_line, box_around, spectrum

_TAU = 2 * math.pi


def make_ground(
    shape: tuple[int, int], scene: Factors, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make relief (px) and albedo (mean 0, standard deviation 1) without craters.

    Parameters
    ----------
    shape : tuple of int
        Height and width, in pixels.
    scene : Factors
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    relief, albedo : ndarray, shape (H, W), float32
    """
    grain = rng.uniform(0, math.pi)
    broad, patches = _fractals(shape, rng, power=2.9, largest=rng.uniform(40, 200))
    small, tint = _fractals(
        shape, rng, power=scene.power, largest=100, stretch=scene.stretch, grain=grain
    )
    small *= scene.roughness / max(float(np.diff(small, axis=1).std()), 1e-6)
    plateau = np.tanh(1.5 * broad + np.float32(rng.normal(0, 0.7)))
    relief = small * (0.75 + 0.55 * plateau)
    if scene.mesas:
        relief += scene.mesas * np.tanh(rng.uniform(1, 6) * plateau)
    else:
        relief += rng.uniform(0, 1.5) * broad
    if scene.layers:
        relief += _steps(relief + 2 * broad, scene.layers)
    albedo = tint + rng.uniform(0, 1.2) * np.tanh(rng.uniform(1, 6) * (patches - 1))
    if scene.dunes:
        _add_dunes(relief, albedo, scene.dunes, broad, rng)
    _add_landforms(relief, scene, rng)
    return relief, albedo


def _fractals(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    power: float,
    largest: float,
    stretch: float = 1.0,
    grain: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Make two random fields of mean 0 and standard deviation 1 with power-law spectra."""
    texture = {"power": power, "largest": largest, "stretch": stretch, "grain": grain}
    weight = spectrum(shape, np.dtype(np.float32), **texture)
    noise = rng.standard_normal((2, *weight.shape, 2), dtype=np.float32)
    fields = np.fft.irfft2(weight * noise.view(np.complex64)[..., 0], s=shape)
    fields -= fields.mean((1, 2), keepdims=True)
    fields /= fields.std((1, 2), keepdims=True)
    return fields[0].astype(np.float32), fields[1].astype(np.float32)


def _axes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers, shape (H, 1), and column numbers, shape (1, W), float32."""
    rows, cols = (np.arange(size, dtype=np.float32) for size in shape)
    return rows[:, None], cols[None, :]


def _steps(height: np.ndarray, step: float) -> np.ndarray:
    """Return what turns a slope into a staircase of steps of `step` px."""
    layers: np.ndarray = -(0.9 * step / _TAU) * np.sin(height * (_TAU / step))
    return layers


def _add_dunes(
    relief: np.ndarray, albedo: np.ndarray, slope: float, warp: np.ndarray, rng: np.random.Generator
) -> None:
    """Add a field of dunes: waves whose crests wander, steeper on one side.

    The field `warp` (standard normal) bends the crests and limits the field. `slope` is about that
    of the flanks.
    """
    turn, length, skew = rng.uniform(0, _TAU), rng.uniform(4, 16), rng.uniform(0, 0.4)
    rows, cols = _axes(relief.shape)
    phase = (math.cos(turn) * rows + math.sin(turn) * cols) * (_TAU / length)
    phase = phase + rng.uniform(0.5, 2.5) * warp
    wave = np.sin(phase + skew * np.sin(phase))
    cover = 1 / (1 + np.exp(-6 * (warp - rng.uniform(-1.5, 0.5))))
    relief += slope * length / _TAU * 1.4 * cover * wave
    albedo -= rng.uniform(-0.5, 1) * cover


def _add_landforms(relief: np.ndarray, scene: Factors, rng: np.random.Generator) -> None:
    """Add the landforms of a scene to its relief; their numbers follow Poisson distributions."""
    area = relief.size / 256**2
    for number, add in (
        (scene.hills, _add_hill),
        (scene.pits, _add_pit),
        (scene.domes, _add_dome),
        (scene.ridges, _add_ridge),
        (scene.channels, _add_channel),
    ):
        for _ in range(rng.poisson(number * area) if number else 0):
            add(relief, rng)
    if scene.fractures:
        _add_fractures(relief, rng.poisson(scene.fractures * area), rng)
    if scene.boulders:
        _add_boulders(relief, rng.poisson(scene.boulders * area), rng)


def _place(
    relief: np.ndarray, reach: float, rng: np.random.Generator
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Draw a point of the relief; return the box within `reach` of it, as `box_around` does."""
    row, col = rng.uniform(0, relief.shape[0]), rng.uniform(0, relief.shape[1])
    return box_around(relief.shape, row, col, reach)


def _ellipse(
    dr: np.ndarray, dc: np.ndarray, size: float, stretch: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the distance from the centre, 1 on the outline of an ellipse with three lobes.

    `size` is the geometric mean of its half axes in pixels, `stretch` their ratio.
    """
    turn, wave, lobe = rng.uniform(0, math.pi), rng.uniform(0, _TAU), rng.uniform(0, 0.25)
    along = (math.cos(turn) * dc + math.sin(turn) * dr) / stretch**0.5
    across = (math.cos(turn) * dr - math.sin(turn) * dc) * stretch**0.5
    squared = along**2 + across**2
    three = along * (along**2 - 3 * across**2) * math.cos(wave)
    three = three + across * (3 * along**2 - across**2) * math.sin(wave)  # r**3 cos(3 angle)
    distance: np.ndarray = (
        np.sqrt(squared) / size * (1 - lobe * three / np.maximum(squared, 1e-3) ** 1.5)
    )
    return distance


def _add_hill(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add a knob or a mesa: round to elongated, pointed to flat-topped."""
    size = min(40.0, 2.5 * float(rng.random()) ** (-1 / 1.6))
    steep, stretch = rng.uniform(0, 1), rng.uniform(1, 2.4)
    box, dr, dc = _place(relief, 2 * size, rng)
    radius = _ellipse(dr, dc, size, stretch, rng)
    power = rng.uniform(2, 7)
    relief[box] += size * (0.05 + 0.4 * steep) * np.exp(-((1.5 * radius) ** power))


def _add_pit(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add a hollow that is no crater: elongated, lobed or a chain, without a rim."""
    size = min(24.0, 2.5 * float(rng.random()) ** (-1 / 2))
    stretch, deep = rng.uniform(1.8, 4), rng.uniform(0.05, 0.3)
    box, dr, dc = _place(relief, 2.5 * size, rng)
    radius = _ellipse(dr, dc, size, stretch, rng)
    relief[box] -= deep * size * np.exp(-((1.3 * radius) ** rng.uniform(2, 5)))


def _add_dome(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add a wide, low dome."""
    size = rng.uniform(8, 45)
    box, dr, dc = _place(relief, 1.6 * size, rng)
    radius = _ellipse(dr, dc, size, rng.uniform(1, 1.6), rng)
    relief[box] += size * rng.uniform(0.03, 0.16) * np.exp(-((1.3 * radius) ** rng.uniform(2, 4)))


def _add_ridge(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add one ridge, scarp or graben with a wavy course."""
    half = rng.uniform(15, 110)
    turn, wave, pace = rng.uniform((0, 0, 0.02), (math.pi, _TAU, 0.12))
    width, height, kind, bend = rng.uniform((1.2, 0.3, 0, 0), (6, 2.0, 3, 12))
    row, col = rng.uniform(0, relief.shape[0]), rng.uniform(0, relief.shape[1])
    line = Line(
        row=row, col=col, half=half, turn=turn, wave=wave, pace=pace, bend=bend,
        width=width, height=height, kind=kind,
    )  # fmt: skip
    add_line(relief, line)


def _add_channel(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add a sinuous channel or rille across the scene."""
    turn, offset = rng.uniform(0, math.pi), rng.uniform(-0.5, 0.5) * relief.shape[0]
    width, deep = rng.uniform(1.5, 8), rng.uniform(0.1, 0.5)
    rows, cols = _axes(relief.shape)
    rows, cols = rows - relief.shape[0] / 2, cols - relief.shape[1] / 2
    along = math.cos(turn) * cols + math.sin(turn) * rows
    across = math.cos(turn) * rows - math.sin(turn) * cols + offset
    for bend, pace in ((rng.uniform(4, 25), 0.05), (rng.uniform(1, 6), 0.21)):
        across = across + bend * np.sin(pace * along * rng.uniform(0.6, 1.6) + rng.uniform(0, _TAU))
    across = np.abs(across) / width
    relief -= deep * width * np.exp(-(across ** rng.uniform(2, 5)))
    relief += rng.uniform(0, 0.2) * deep * width * np.exp(-((across - 1.6) ** 2) * 3)  # levees


def _add_fractures(relief: np.ndarray, number: int, rng: np.random.Generator) -> None:
    """Add nearly parallel fractures across the scene."""
    turn = rng.uniform(0, math.pi)
    rows, cols = _axes(relief.shape)
    for _ in range(number):
        angle = turn + rng.normal(0, 0.12)
        across = math.cos(angle) * rows - math.sin(angle) * cols
        across -= rng.uniform(across.min(), across.max())
        across += rng.uniform(0, 2) * np.sin(0.06 * (math.cos(angle) * cols) + rng.uniform(0, 6))
        width = rng.uniform(0.8, 3)
        relief -= width * rng.uniform(0.1, 0.6) / (1 + (across / width) ** 4)


def _add_boulders(relief: np.ndarray, number: int, rng: np.random.Generator) -> None:
    """Add boulders: steep, round bumps with a power law of sizes, 1 to 5 px."""
    sizes = np.minimum(rng.random(number) ** (-1 / 2.5), 5)
    for size in sizes.tolist():
        box, dr, dc = _place(relief, 2 * size + 1, rng)
        relief[box] += 0.7 * size * np.exp(-((dr**2 + dc**2) / size**2))
