"""Light and sensor of a planet: shade a relief, cast shadows, blur, stretch to 8 bit, add noise."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from craters.synthetic.light import cut_wedge
from craters.synthetic.look import Factors

_SHADOW_STEPS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)  # px along the light
_SHADE_LEFT = 0.05  # brightness in a cast shadow, from the sky and the ground around
_THERMAL_GAIN = 1.6  # contrast of temperatures over that of the heating
_LEAST_SHADING = 0.02  # standard deviations of the brightness of ground that is almost level,
_LEAST_SIGNAL = 0.025  # below which contrast is not stretched further
_MOST_TINT = 0.12  # standard deviation of the albedo where shading is strong


def take_image(
    relief: np.ndarray, albedo: np.ndarray, scene: Factors, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """Render a relief as an 8-bit image; 0 is missing data.

    Parameters
    ----------
    relief, albedo : ndarray, shape (H, W), float32
        Heights in pixels; brightness of the ground, about standard normal.
    scene : Factors
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
    tint = scene.albedo * min(max(float(signal.std()), _LEAST_SHADING), _MOST_TINT)
    signal = _blur(signal + tint * albedo, scene.blur)
    signal -= signal.mean()
    gain = scene.spread / max(float(signal.std()), _LEAST_SIGNAL)
    noise = scene.noise * scene.spread
    signal *= gain
    if scene.gamma != 1:
        signal = 255 * np.clip((signal + scene.mean) / 255, 0, 1) ** scene.gamma
        signal += scene.mean - signal.mean()
    else:
        signal += scene.mean
    signal += noise * rng.standard_normal(signal.shape, dtype=np.float32)
    image = _digitize(signal, scene, rng)
    return image, (noise / gain / per_slope, tint / per_slope)


def _digitize(signal: np.ndarray, scene: Factors, rng: np.random.Generator) -> np.ndarray:
    """Add stripes and a seam to a signal in grey levels, and make it an 8-bit image."""
    height, width = signal.shape
    if scene.stripes:
        stripes = scene.stripes * rng.standard_normal((1, max(height, width)), dtype=np.float32)
        signal += stripes[:, :width] if rng.random() < 0.5 else stripes.T[:height]
    if scene.seams:
        _add_seam(signal, scene.seams, rng)
    if scene.levels:
        step = 255 / scene.levels
        signal = np.rint(signal / step) * step
    image: np.ndarray = np.clip(np.rint(signal), 1, 255).astype(np.uint8)
    if scene.jpeg:
        image = np.maximum(_compress(image, 100 - round(scene.jpeg)), 1)
    if scene.missing:
        cut_wedge(image, rng, scene.missing)
    return image


def _shade(relief: np.ndarray, scene: Factors) -> tuple[np.ndarray, float]:
    """Return the brightness of the ground, about 1 where it is level, and its change by slope.

    Reflected light mixes the laws of Lambert and of Lommel and Seeliger; the latter is seen at an
    emission angle equal to the incidence on level ground, 2 l / (l + 1) with Lambert's l. Ground in
    a passing shadow cools slowly: thermal contrast has attached shadows only.
    """
    azimuth, incidence = math.radians(scene.azimuth), math.radians(scene.incidence)
    to_light = -math.cos(azimuth), math.sin(azimuth)  # rows down, columns right
    down, right = np.gradient(relief)
    slope = -(to_light[0] * down + to_light[1] * right)  # rises away from the light: lit
    lit = math.cos(incidence) + math.sin(incidence) * slope
    lit = np.maximum(lit / np.sqrt(1 + right**2 + down**2), 0) / math.cos(incidence)
    thermal, lambert = scene.thermal, scene.lambert
    signal: np.ndarray = np.zeros_like(lit)
    if thermal < 1:
        reflected = lambert * lit + (1 - lambert) * (2 * lit / (lit + 1))
        shadow = _cast_shadows(relief, to_light, 1 / math.tan(incidence))
        signal = (1 - thermal) * reflected * (1 - (1 - _SHADE_LEFT) * shadow)
    if thermal:
        signal = signal + thermal * (1 + math.cos(incidence) * (lit - 1) * _THERMAL_GAIN)
    reflected_slope = math.tan(incidence) * (1 + lambert) / 2
    per_slope = (1 - thermal) * reflected_slope + thermal * _THERMAL_GAIN * math.sin(incidence)
    return signal.astype(np.float32), per_slope


def _cast_shadows(relief: np.ndarray, to_light: tuple[float, float], rise: float) -> np.ndarray:
    """Return 1 where ground towards the light stands above the ray to it, and 0 in light.

    `rise` is the height of the ray over its horizontal distance. The ray is compared with the
    ground at a few distances, to which the lengths of shadows are rounded down; a shadow begins
    over 1/4 px of height.
    """
    shadow = np.zeros(relief.shape, np.float32)
    reach = float(relief.max() - relief.min()) / rise
    height, width = relief.shape
    for step in _SHADOW_STEPS:
        if step > reach + 1:
            break
        dr, dc = round(step * to_light[0]), round(step * to_light[1])
        if abs(dr) >= height or abs(dc) >= width:
            break
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
    (height, width), turn = signal.shape, rng.uniform(0, 2 * math.pi)
    rows = np.arange(height, dtype=np.float32)[:, None] - height * rng.uniform(0.2, 0.8)
    cols = np.arange(width, dtype=np.float32)[None, :] - width * rng.uniform(0.2, 0.8)
    beyond = math.cos(turn) * rows + math.sin(turn) * cols > 0
    mean = float(signal.mean())
    other = (signal - mean) * rng.uniform(0.6, 1.4) + mean + step
    np.copyto(signal, other, where=beyond)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress as JPEG, whose blocks of 8 x 8 pixels show at low quality."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
