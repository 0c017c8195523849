"""Batches of synthetic patches, turned so that the light comes from the left."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import transform
from craters.pretraining.rounds import Round
from craters.synthetic import LabeledPatches

FRAME = 270.0  # degrees clockwise from image up: the light comes from the left
WIDEST = 60.0  # degrees between the light and the frame, in patches turned into it
UNCERTAIN = 75.0, 135.0  # degrees from the frame: between them, a patch has no label

TURNS = ("identity", "rotate-90", "rotate-180", "rotate-270")  # counterclockwise


@dataclasses.dataclass(frozen=True)
class Batch:
    """Patches of one side with their targets.

    Parameters
    ----------
    images : ndarray, shape (B, S, S), uint8
    labels : ndarray, shape (B,), float32
    weights : ndarray, shape (B,), float32
        1, or 0 where the label is unknown.
    light : ndarray, shape (B, 2), float32
        Unit vectors to the light: rightwards and downwards.
    diameter : ndarray, shape (B,), float32
        Of the crater that a patch was chosen for, in pixels; NaN without one.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    light: np.ndarray
    diameter: np.ndarray


def draw_batch(
    patches: Round, size: int, random: np.random.Generator, *, free: float, in_frame: bool = True
) -> Batch:
    """Draw a batch of one side, with sides as frequent as their patches.

    Parameters
    ----------
    patches : dict of LabeledPatches
    size : int
        Patches of the batch.
    random : numpy Generator
    free : float
        Share of patches turned at random, 0..1.
    in_frame : bool
        Whether patches are turned into the frame of light; else they keep their light and label.
    """
    counts = np.array([len(part.labels) for part in patches.values()])
    part = list(patches.values())[random.choice(len(counts), p=counts / counts.sum())]
    rows = random.integers(0, len(part.labels), size)
    return turn(part, rows, random, free=free if in_frame else 1.0, in_frame=in_frame)


def turn(
    part: LabeledPatches,
    rows: np.ndarray,
    random: np.random.Generator,
    *,
    free: float,
    in_frame: bool = True,
) -> Batch:
    """Turn patches into the frame of light, and flip half of them up-down.

    A patch is turned by a multiple of 90 degrees, such that the light comes from within `WIDEST`
    degrees of the left; where two turns do, one is drawn. The share `free` is turned at random. Lit
    from the right, a crater looks like a hill and is labeled "without crater": then a network is
    surest where the turn is right.
    """
    azimuth = part.azimuth[rows]
    scatter = random.uniform(-1, 1, len(rows)) * (WIDEST - 45)
    turns = np.rint((azimuth - FRAME + scatter) / 90).astype(int) % 4
    at_random = random.random(len(rows)) < free
    turns[at_random] = random.integers(0, 4, int(at_random.sum()))
    flipped = random.random(len(rows)) < 0.5
    images = part.images[rows]
    for number, name in enumerate(TURNS[1:], 1):
        images[turns == number] = transform(images[turns == number], name)
    images[flipped] = transform(images[flipped], "up-down")
    azimuth = azimuth - 90 * turns
    azimuth = np.where(flipped, 180 - azimuth, azimuth)
    off = np.abs((azimuth - FRAME + 180) % 360 - 180)
    if not in_frame:
        off[:] = 0
    labels = np.where(off > UNCERTAIN[1], 0, part.labels[rows])
    angle = np.radians(azimuth)
    return Batch(
        images=images,
        labels=labels.astype(np.float32),
        weights=((off <= UNCERTAIN[0]) | (off > UNCERTAIN[1])).astype(np.float32),
        light=np.stack([np.sin(angle), -np.cos(angle)], axis=1).astype(np.float32),
        diameter=part.crater[rows, 2],
    )
