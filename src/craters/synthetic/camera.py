"""Light and sensor of a planet: shade a relief, cast shadows, blur, add noise, stretch to 8 bit."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import numpy as np
from PIL import Image

_SHADOW_STEPS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)  # px along the light
_MOST_GAIN = 3.0  # of the stretch, over that of a relief of ordinary slopes


def take_image(
    relief: np.ndarray, albedo: np.ndarray, scene: SimpleNamespace, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """Render a relief as an 8-bit image; 0 is missing data.

    Parameters
    ----------
    relief, albedo : ndarray, shape (H, W), float32
        Heights in pixels; brightness of the surface, about standard normal.
    scene : SimpleNamespace
        As `Look.draw` returns.
    rng : numpy Generator

    Returns
    -------
    image : ndarray, shape (H, W), uint8
        1..255, and 0 where data is missing.
    slopes : tuple of float
        Slopes that change the brightness as much as the noise and the albedo do.
    """
    signal, per_slope = _shade(relief, scene)
    shading = max(float(signal.std()), 0.02)
    tint = scene.albedo * min(shading, 0.12)
    signal = signal + tint * albedo
    signal = _blur(signal, scene.blur)
    signal -= signal.mean()
    gain = scene.spread / max(float(signal.std()), 0.025)
    noise = scene.noise * scene.spread
    signal *= gain
    if scene.gamma != 1:
        signal = 255 * np.clip((signal + scene.mean) / 255, 0, 1) ** scene.gamma
        signal += scene.mean - signal.mean()
    else:
        signal += scene.mean
    signal += noise * rng.standard_normal(signal.shape, dtype=np.float32)
    if scene.stripes:
        stripes = scene.stripes * rng.standard_normal((1, signal.shape[1]), dtype=np.float32)
        signal += stripes if rng.random() < 0.5 else stripes.T[: signal.shape[0]]
    if scene.seams:
        _add_seam(signal, scene.seams, rng)
    if scene.levels:
        step = 255 / scene.levels
        signal = np.rint(signal / step) * step
    image: np.ndarray = np.clip(np.rint(signal), 1, 255).astype(np.uint8)
    if scene.jpeg:
        image = np.maximum(_compress(image, 100 - round(scene.jpeg)), 1)
    if scene.missing:
        _cut_wedge(image, scene.missing, rng)
    return image, (noise / gain / per_slope, tint / per_slope)


def _shade(relief: np.ndarray, scene: SimpleNamespace) -> tuple[np.ndarray, float]:
    """Return the brightness of the surface, about 1 where it is level, and its change by slope."""
    azimuth, incidence = math.radians(scene.azimuth), math.radians(scene.incidence)
    to_light = -math.cos(azimuth), math.sin(azimuth)  # rows down, columns right
    down, right = np.gradient(relief)
    slope = -(to_light[0] * down + to_light[1] * right)  # rises away from the light: lit
    lit = math.cos(incidence) + math.sin(incidence) * slope
    lit = np.maximum(lit / np.sqrt(1 + right**2 + down**2), 0) / math.cos(incidence)
    thermal = scene.thermal
    signal = lit
    if thermal < 1:
        seeliger = 2 * lit / (lit + 1)
        reflected = scene.lambert * lit + (1 - scene.lambert) * seeliger
        shadow = _cast_shadows(relief, to_light, 1 / math.tan(incidence))
        signal = (1 - thermal) * reflected * (1 - 0.95 * shadow)
        if thermal:
            signal = signal + thermal * (1 + math.cos(incidence) * (lit - 1) * 1.6)
    else:
        signal = 1 + math.cos(incidence) * (lit - 1) * 1.6
    reflected_slope = math.tan(incidence) * (1 + scene.lambert) / 2
    per_slope = (1 - thermal) * reflected_slope + thermal * 1.6 * math.sin(incidence)
    result: np.ndarray = signal.astype(np.float32)
    return result, per_slope


def _cast_shadows(relief: np.ndarray, to_light: tuple[float, float], rise: float) -> np.ndarray:
    """Return 1 where ground towards the light stands above the ray to it, and 0 in light."""
    shadow = np.zeros(relief.shape, np.float32)
    reach = float(relief.max() - relief.min()) / rise
    height, width = relief.shape
    for step in _SHADOW_STEPS:
        if step > reach + 1:
            break
        dr, dc = round(step * to_light[0]), round(step * to_light[1])
        here = (slice(max(0, -dr), height - max(0, dr)), slice(max(0, -dc), width - max(0, dc)))
        there = (slice(max(0, dr), height - max(0, -dr)), slice(max(0, dc), width - max(0, -dc)))
        above = relief[there] - relief[here] - np.float32(rise * math.hypot(dr, dc))
        np.maximum(shadow[here], np.clip(above * 4, 0, 1), out=shadow[here])
    return shadow


def _blur(signal: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian point spread function, along rows and columns."""
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for _ in range(2):  # transposed twice
        wide = np.pad(signal, ((reach, reach), (0, 0)), mode="edge")
        height = signal.shape[0]
        signal = kernel[reach] * signal
        for k in range(reach):
            signal += kernel[k] * (
                wide[k : k + height] + wide[2 * reach - k : 2 * reach - k + height]
            )
        signal = signal.T
    return signal


def _add_seam(signal: np.ndarray, step: float, rng: np.random.Generator) -> None:
    """Make one side of a straight line brighter or darker, with another contrast."""
    turn, side = rng.uniform(0, 2 * math.pi), signal.shape[0]
    rows = np.arange(side, dtype=np.float32)[:, None] - side * rng.uniform(0.2, 0.8)
    cols = np.arange(signal.shape[1], dtype=np.float32)[None, :] - side * rng.uniform(0.2, 0.8)
    beyond = math.cos(turn) * rows + math.sin(turn) * cols > 0
    mean = float(signal.mean())
    other = (signal - mean) * rng.uniform(0.6, 1.4) + mean + step
    np.copyto(signal, other, where=beyond)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress as JPEG, whose blocks of 8 x 8 pixels show at low quality."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def _cut_wedge(image: np.ndarray, depth: float, rng: np.random.Generator) -> None:
    """Set a wedge at one of the four edges to 0 (missing data), in place."""
    side = np.rot90(image, int(rng.integers(4)))  # a view
    length = rng.uniform(0.4, 1.5) * side.shape[0]
    edge = depth * side.shape[1] * (1 - np.arange(side.shape[0]) / length)
    side[np.arange(side.shape[1])[None, :] < edge[:, None]] = 0
