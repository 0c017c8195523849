"""A stream of labeled patches from procedural planets: any length, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from craters.synthetic.camera import take_image
from craters.synthetic.impacts import draw_impacts, lay_impacts
from craters.synthetic.landforms import make_ground
from craters.synthetic.look import Look, look_of

SCENE_SIDE = 3.6  # sides of a patch
_STREAM = 7  # key of the stream's random numbers
_DISC = 12  # points across a disc


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """When a patch counts as "with crater" or "without".

    Parameters
    ----------
    least : float
        Least diameter of a counted crater, in pixels.
    share : float
        Least share of a counted crater's disc that lies inside a patch with crater.
    clear : float
        No crater of at least this diameter (pixels) touches a patch without crater.
    visible : float
        Least contrast of a counted crater (slope of its walls over that of the ground and the
        noise).
    faint : float
        Craters of less contrast may touch a patch without crater.
    """

    least: float = 9.0
    share: float = 0.5
    clear: float = 8.0
    visible: float = 1.0
    faint: float = 0.3


@dataclasses.dataclass(frozen=True)
class PlanetScene:
    """One image with its truth.

    Parameters
    ----------
    image : ndarray, shape (S, S), uint8
        1..255; 0 is missing data.
    craters : ndarray, shape (K,), `IMPACT_DTYPE`
    azimuth, incidence : float
        Direction of the light in degrees clockwise from image up, and from the vertical.
    """

    image: np.ndarray
    craters: np.ndarray
    azimuth: float
    incidence: float


@dataclasses.dataclass(frozen=True)
class LabeledPatches:
    """Patches of synthetic scenes with their truth.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,), int8
    azimuth : ndarray, shape (N,), float32
        Direction of the light, degrees clockwise from image up.
    crater : ndarray, shape (N, 3), float32
        Row, column (pixels from the middle of the patch) and diameter (pixels) of the largest
        counted crater; NaN without one.
    """

    images: np.ndarray
    labels: np.ndarray
    azimuth: np.ndarray
    crater: np.ndarray


def make_planet(side: int, size: int, look: Look | str, key: tuple[int, ...]) -> PlanetScene:
    """Make one scene; equal arguments give equal scenes."""
    rng = np.random.default_rng(np.random.SeedSequence(key[0], spawn_key=(_STREAM, *key[1:])))
    scene = look_of(look).draw(rng)
    relief, albedo = make_ground(side, scene, rng)
    craters = draw_impacts(side, size, scene, rng)
    ground_slope = lay_impacts(relief, albedo, craters, scene, rng)
    image, (noise_slope, albedo_slope) = take_image(relief, albedo, scene, rng)
    noise = noise_slope * 4 / np.maximum(craters["diameter"], 4)
    craters["contrast"] /= np.sqrt(ground_slope**2 + noise**2 + (0.5 * albedo_slope) ** 2)
    return PlanetScene(image, craters, scene.azimuth, scene.incidence)


def sample_scene(
    seed: int, index: int, size: int, look: Look | str, rule: LabelRule, wanted: tuple[int, int]
) -> LabeledPatches:
    """Sample up to `wanted` patches without and with crater from scene `index`."""
    side = 4 * round(SCENE_SIDE * size / 4)
    scene = make_planet(side, size, look, (seed, size, index))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM + 1, size, index)))
    taken = _choose(scene, size, rule, wanted, rng)
    images = np.empty((len(taken), size, size), np.uint8)
    crater = np.full((len(taken), 3), np.nan, np.float32)
    for number, (_, row, col, largest) in enumerate(taken):
        images[number] = scene.image[row : row + size, col : col + size]
        if largest is not None:
            middle = row + (size - 1) / 2, col + (size - 1) / 2
            crater[number] = (
                largest["row"] - middle[0], largest["col"] - middle[1], largest["diameter"],
            )  # fmt: skip
    return LabeledPatches(
        images=images,
        labels=np.array([label for label, *_ in taken], np.int8),
        azimuth=np.full(len(taken), scene.azimuth, np.float32),
        crater=crater,
    )


def _choose(
    scene: PlanetScene,
    size: int,
    rule: LabelRule,
    wanted: tuple[int, int],
    rng: np.random.Generator,
) -> list[tuple[int, int, int, np.void | None]]:
    """Choose patches with little overlap: label, row, column, largest counted crater."""
    craters = scene.craters
    room = scene.image.shape[0] - size + 1
    taken: list[tuple[int, int, int, np.void | None]] = []
    counted = craters[
        (craters["diameter"] >= rule.least)
        & (craters["diameter"] <= 1.2 * size)
        & (craters["contrast"] >= rule.visible)
    ]
    if wanted[1] and len(counted):
        targets = counted[rng.permutation(len(counted))[: 4 * wanted[1]]]
        offsets = size * rng.normal(0.5, 0.2, (len(targets), 4, 2))
        centres = np.stack([targets["row"], targets["col"]], 1)[:, None]
        corners = np.rint(centres - offsets).astype(int)
        inside = _share_inside(scene.image, targets, corners, size)
        inside[~((corners >= 0) & (corners < room)).all(2)] = 0
        for k, target in enumerate(targets):
            good = np.flatnonzero(inside[k] >= rule.share)
            for corner in corners[k, good[:1]].tolist():
                _take(taken, (1, *corner, target), size, wanted[1])
    if wanted[0]:
        corners = rng.integers(0, room, (24 * wanted[0], 2))
        blocking = craters[
            (craters["diameter"] >= rule.clear) & (craters["contrast"] >= rule.faint)
        ]
        free = _free(blocking, corners, size)
        limit = len(taken) + wanted[0]
        for row, col in corners[free].tolist():
            if (scene.image[row : row + size, col : col + size] > 0).mean() > 0.7:
                _take(taken, (0, row, col, None), size, limit)
                if len(taken) >= limit:
                    break
    return taken


def _take(
    taken: list[tuple[int, int, int, np.void | None]],
    patch: tuple[int, int, int, np.void | None],
    size: int,
    limit: int,
) -> None:
    """Append a patch that overlaps the others by at most a quarter, until `limit`."""
    _, row, col, _ = patch
    overlaps = (max(size - abs(row - r), 0) * max(size - abs(col - c), 0) for _, r, c, _ in taken)
    if len(taken) < limit and all(overlap <= size**2 / 4 for overlap in overlaps):
        taken.append(patch)


def _share_inside(
    image: np.ndarray, craters: np.ndarray, corners: np.ndarray, size: int
) -> np.ndarray:
    """Return the shares of each crater's disc that its windows (K, W, 2) show, (K, W)."""
    grid = (np.arange(_DISC) + 0.5) * 2 / _DISC - 1
    disc = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    disc = disc[(disc**2).sum(1) <= 1]
    radius = craters["diameter"][:, None, None] / 2
    points = np.stack([craters["row"], craters["col"]], 1)[:, None] + radius * disc
    nearest = np.clip(np.rint(points), 0, image.shape[0] - 1).astype(int)
    shows = image[nearest[..., 0], nearest[..., 1]] > 0
    offset = points[:, None] - corners[:, :, None]
    inside = ((offset >= -0.5) & (offset < size - 0.5)).all(3) & shows[:, None]
    shares: np.ndarray = inside.mean(2)
    return shares


def _free(craters: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Return which windows are touched by no crater's disc."""
    down = craters["row"] - np.clip(
        craters["row"], corners[:, :1] - 0.5, corners[:, :1] + size - 0.5
    )
    right = craters["col"] - np.clip(
        craters["col"], corners[:, 1:] - 0.5, corners[:, 1:] + size - 0.5
    )
    free: np.ndarray = (np.hypot(down, right) > craters["diameter"] / 2).all(1)
    return free


def sample_scenes(
    scenes: range,
    *,
    seed: int,
    size: int = 48,
    look: Look | str = "mixed",
    rule: LabelRule | None = None,
    per_scene: int = 10,
    share: float = 0.5,
) -> LabeledPatches:
    """Sample the labeled patches of a range of scenes.

    Parameters
    ----------
    scenes : range
        Numbers of the scenes; each gives the same patches in every range.
    seed : int
    size : int
        Side of a patch, in pixels.
    look : Look or str
        A look or the name of one.
    rule : LabelRule, optional
    per_scene : int
        Most patches from a scene; sparse or crowded scenes give fewer.
    share : float
        Most patches with crater, as a share of `per_scene`.

    Returns
    -------
    LabeledPatches

    Examples
    --------
    >>> patches = sample_scenes(range(3), seed=1)
    >>> bool((patches.images[-1] == sample_scenes(range(2, 3), seed=1).images[-1]).all())
    True
    """
    rule = rule or LabelRule()
    with_crater = round(per_scene * share)
    wanted = per_scene - with_crater, with_crater
    return join([sample_scene(seed, index, size, look, rule, wanted) for index in scenes])


def join(parts: Sequence[LabeledPatches]) -> LabeledPatches:
    """Concatenate the patches of several calls."""
    fields = [field.name for field in dataclasses.fields(LabeledPatches)]
    return LabeledPatches(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in fields)
    )
