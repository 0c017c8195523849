"""Light and sensor: shade a relief, blur it, add noise, add missing data."""

from __future__ import annotations

import math

import numpy as np

from craters.synthetic.terrain import SceneParameters


def expose(
    relief: np.ndarray, albedo: np.ndarray, params: SceneParameters, rng: np.random.Generator
) -> np.ndarray:
    """Render the relief: illumination, point spread function and sensor noise."""
    down, right = np.gradient(relief)
    slope = math.cos(params.azimuth) * right + math.sin(params.azimuth) * down
    light = math.sin(params.elevation) + math.cos(params.elevation) * slope
    shade = np.maximum(light / np.sqrt(1 + right**2 + down**2), 0) / math.sin(params.elevation)
    signal = 132 + params.contrast * (shade - 1) + albedo
    for _ in range(2):  # transposed twice: blurs along rows and columns
        for _ in range(2):
            wide = np.pad(signal, ((1, 1), (0, 0)), mode="edge")
            signal = (1 - 2 * params.blur) * signal + params.blur * (wide[:-2] + wide[2:])
        signal = signal.T
    signal += params.noise * rng.standard_normal(signal.shape, dtype=np.float32)
    signal += 0.3 * params.noise * rng.standard_normal((1, signal.shape[1]), dtype=np.float32)
    image: np.ndarray = np.clip(np.rint(signal), 1, 255).astype(np.uint8)
    return image


def cut_wedge(image: np.ndarray, rng: np.random.Generator, depth: float | None = None) -> None:
    """Set a wedge at one of the four edges to 0 (missing data), in place.

    Parameters
    ----------
    image : ndarray, shape (H, W), uint8
    rng : numpy Generator
    depth : float, optional
        Greatest depth as a share of the image. [drawn: 0.05 to 0.2]
    """
    side = np.rot90(image, int(rng.integers(4)))  # a view
    deepest = (rng.uniform(0.05, 0.2) if depth is None else depth) * side.shape[1]
    length = rng.uniform(0.4, 1.5) * side.shape[0]
    edge = deepest * (1 - np.arange(side.shape[0]) / length)
    side[np.arange(side.shape[1])[None, :] < edge[:, None]] = 0
