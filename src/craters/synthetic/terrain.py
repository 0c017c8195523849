"""Terrain of a synthetic scene: relief, albedo, and landforms easily mistaken for craters.

Heights are in pixels, brightness in grey levels. The light comes from the left.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class SceneParameters:
    """Parameters of one scene, drawn around the means of its region."""

    roughness: float  # root mean square slope of the small-scale relief
    power: float  # exponent of the amplitude spectrum
    stretch: float  # anisotropy: length over width of the terrain's texture
    grain: float  # direction of the texture, radians
    mesas: float  # height of the plateaus, px
    knobs: float  # hills per 256 x 256 px
    lines: float  # ridges, scarps and graben per 256 x 256 px
    contrast: float  # grey levels for a unit of shading
    albedo: float  # standard deviation of the surface's own brightness, grey levels
    noise: float  # standard deviation of the sensor noise, grey levels
    blur: float  # weight of the neighbours in the point spread function
    azimuth: float  # of the light, radians from the left
    elevation: float  # of the sun, radians


def draw_parameters(region: np.random.Generator, scene: np.random.Generator) -> SceneParameters:
    """Draw the parameters of a scene."""

    def scatter(middle: float, wide: float, narrow: float) -> float:
        spread = wide * region.standard_normal() + narrow * scene.standard_normal()
        return float(middle * math.exp(spread))

    return SceneParameters(
        roughness=scatter(0.065, 0.5, 0.6),
        power=float(np.clip(scatter(2.1, 0.06, 0.1), 1.6, 2.7)),
        stretch=1 + scatter(0.8, 0.4, 0.8),
        grain=float(region.normal(1.2, 0.7) + scene.normal(0, 0.5)),
        mesas=scatter(0.6, 0.7, 0.9),
        knobs=scatter(2.5, 0.5, 1.0),
        lines=scatter(1.5, 0.4, 0.7),
        contrast=scatter(155.0, 0.15, 0.3),
        albedo=scatter(5.0, 0.4, 0.5),
        noise=scatter(2.2, 0.3, 0.5),
        blur=float(scene.uniform(0.08, 0.18)),
        azimuth=float(scene.normal(0.1, 0.2)),
        elevation=float(scene.uniform(0.45, 0.75)),
    )


def make_terrain(
    shape: tuple[int, int], params: SceneParameters, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make the relief (px) and the albedo (grey levels), without craters or other landforms."""
    broad = _fractal(shape, rng, power=3.0, largest=120)
    grain = {"power": params.power, "stretch": params.stretch, "grain": params.grain}
    small = _fractal(shape, rng, largest=100, **grain)
    small *= params.roughness / float(np.diff(small, axis=1).std())
    plateau = np.tanh(1.5 * broad + rng.normal(0, 0.7))
    relief = small * (0.75 + 0.55 * plateau) + params.mesas * np.tanh(3 * plateau)
    albedo = _fractal(shape, rng, power=1.8, largest=80)
    return relief, params.albedo * (albedo + 1.2 * np.tanh(6 * (albedo - 1)))


def _fractal(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    power: float,
    largest: float,
    stretch: float = 1.0,
    grain: float = 0.0,
) -> np.ndarray:
    """Make a random field of mean 0 and standard deviation 1 with a power-law spectrum, by FFT."""
    texture = {"power": power, "largest": largest, "stretch": stretch, "grain": grain}
    weight = spectrum(shape, np.dtype(np.float64), **texture)
    noise = rng.standard_normal((2, *weight.shape), dtype=np.float32)
    field = np.fft.irfft2(weight * (noise[0] + 1j * noise[1]), s=shape)
    scaled: np.ndarray = (field - field.mean()) / field.std()
    return scaled.astype(np.float32)


def spectrum(
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    power: float,
    largest: float,
    stretch: float = 1.0,
    grain: float = 0.0,
) -> np.ndarray:
    """Return the amplitudes of a power-law spectrum, for an inverse real FFT of `shape`.

    Planetary relief has such spectra (Turcotte 1987, J. Geophys. Res. 92, E597).

    Parameters
    ----------
    shape : tuple of int
        Height and width of the field, in pixels.
    dtype : dtype
    power : float
        Amplitude is proportional to frequency ** -power.
    largest : float
        Wavelength (px) above which the amplitude no longer grows.
    stretch, grain : float
        Length over width of the texture, and its direction in radians.

    Returns
    -------
    ndarray of `dtype`, shape (height, width // 2 + 1)
    """
    fr = np.fft.fftfreq(shape[0]).astype(dtype)[:, None]
    fc = np.fft.rfftfreq(shape[1]).astype(dtype)[None, :]
    across = math.cos(grain) * fr + math.sin(grain) * fc
    along = stretch * (math.cos(grain) * fc - math.sin(grain) * fr)
    weight: np.ndarray = (across**2 + along**2 + largest**-2) ** (-power / 2)
    return weight


def box_around(
    shape: tuple[int, ...], row: float, col: float, reach: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the box within `reach` of a point, and the offsets (px) of its pixels from it."""
    first = max(0, math.ceil(row - reach)), max(0, math.ceil(col - reach))
    last = min(shape[0], int(row + reach) + 1), min(shape[1], int(col + reach) + 1)
    dr = np.arange(first[0], max(last[0], first[0]), dtype=np.float32)[:, None] - row
    dc = np.arange(first[1], max(last[1], first[1]), dtype=np.float32)[None, :] - col
    return (slice(first[0], last[0]), slice(first[1], last[1])), dr, dc


def paint_lookalikes(relief: np.ndarray, params: SceneParameters, rng: np.random.Generator) -> None:
    """Add landforms easily mistaken for craters: hills and hollows, ridges, scarps and graben."""
    area = relief.size / 256**2
    for _ in range(rng.poisson(params.knobs * area)):
        paint_knob(relief, rng)
    for _ in range(rng.poisson(params.lines * area)):
        _paint_line(relief, rng)


def paint_knob(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add an irregular hill, or with probability 1/4 an elongated hollow."""
    row, col = rng.uniform(0, relief.shape[0]), rng.uniform(0, relief.shape[1])
    size = min(40.0, 4 * float(rng.random()) ** (-1 / 1.6))
    turn, steep, wave = rng.uniform(0, (math.pi, 1, 2 * math.pi))
    hollow = rng.random() < 0.25
    stretch = rng.uniform(2.2, 4.0) if hollow else rng.uniform(1.0, 2.2)
    box, dr, dc = box_around(relief.shape, row, col, 2 * size)
    along = (math.cos(turn) * dc + math.sin(turn) * dr) / stretch**0.5
    across = (math.cos(turn) * dr - math.sin(turn) * dc) * stretch**0.5
    angle = np.arctan2(across, along)
    radius = np.hypot(along, across) / (size * (1 + 0.2 * np.cos(3 * angle + wave)))
    height = size * (-0.08 - 0.1 * steep if hollow else 0.06 + 0.4 * steep)
    relief[box] += height * np.exp(-((1.6 * radius) ** (2 + 2 * steep)))


class Line(NamedTuple):
    """One ridge (`kind` below 1), scarp (below 2) or graben, with a wavy course.

    `row` and `col` of its middle, `half` its length, `width`, `height` and the amplitude `bend` of
    its waves are in pixels; direction `turn` and phase `wave` in radians, `pace` in radians per
    pixel.
    """

    row: float
    col: float
    half: float
    turn: float
    wave: float
    pace: float
    bend: float
    width: float
    height: float
    kind: float


def _paint_line(relief: np.ndarray, rng: np.random.Generator) -> None:
    """Add one ridge, scarp or graben with a wavy course."""
    row, col = rng.uniform(0, relief.shape[0]), rng.uniform(0, relief.shape[1])
    half = rng.uniform(20, 110)
    turn, wave, pace = rng.uniform((0, 0, 0.02), (math.pi, 2 * math.pi, 0.1))
    width, height, kind = rng.uniform((1.5, 0.3, 0), (5, 1.5, 3))
    line = Line(
        row=row, col=col, half=half, turn=turn, wave=wave, pace=pace, bend=6.0,
        width=width, height=height, kind=kind,
    )  # fmt: skip
    add_line(relief, line)


def add_line(relief: np.ndarray, line: Line) -> None:
    """Add a ridge, scarp or graben to a relief, in place; it fades out towards its ends."""
    box, dr, dc = box_around(relief.shape, line.row, line.col, line.half)
    along = math.cos(line.turn) * dc + math.sin(line.turn) * dr
    across = math.cos(line.turn) * dr - math.sin(line.turn) * dc
    across = (across + line.bend * np.sin(line.pace * along + line.wave)) / line.width
    fade = np.clip(2 - 2 * np.hypot(dr, dc) / line.half, 0, 1)
    if line.kind < 1:
        profile = np.exp(-(across**2))  # ridge
    elif line.kind < 2:
        profile = np.tanh(across) * np.exp(-((across / 6) ** 2))  # scarp
    else:
        profile = -1 / (1 + across**4)  # graben
    relief[box] += line.height * fade * profile
