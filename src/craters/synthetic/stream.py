"""Streams of labeled patches and of scenes of procedural planets: any length, bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from craters.errors import ConfigError
from craters.synthetic.look import Look, look_of
from craters.synthetic.sampling import LabelRule, choose_patches
from craters.synthetic.scenes import Scene, generator, make_planet

SCENE_SIDE = 3.6  # sides of a patch
USUAL_SIZE = 48  # px: side of a patch, to which looks relate the sizes of craters

_SCENE_KEY, _PATCH_KEY, _WHOLE_KEY = 7, 8, 10  # of the random numbers of the streams


@dataclasses.dataclass(frozen=True)
class LabeledPatches:
    """Patches of synthetic scenes with their truth.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
        Pixels 1..255; 0 is missing data.
    labels : ndarray, shape (N,), int8
        1 with crater, 0 without crater.
    azimuth : ndarray, shape (N,), float32
        Direction that the light comes from, degrees clockwise from image up.
    crater : ndarray, shape (N, 3), float32
        Row, column (pixels from the middle of the patch) and diameter (pixels) of the counted
        crater that a patch was chosen for; NaN without one.
    """

    images: np.ndarray
    labels: np.ndarray
    azimuth: np.ndarray
    crater: np.ndarray


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

    Memory is bounded by the range: make long streams range by range, in any order and in any
    number of processes.

    Parameters
    ----------
    scenes : range
        Numbers of the scenes, from 0; each gives the same patches in every range.
    seed : int
        The stream.
    size : int
        Side of a patch, 16 to 128 pixels.
    look : Look or str
        A look, or the name of one of `PRESETS`.
    rule : LabelRule, optional
        [the default rule]
    per_scene : int
        Most patches from a scene; sparse or crowded scenes give fewer.
    share : float
        Most patches with crater, as a share of `per_scene`, 0..1.

    Returns
    -------
    LabeledPatches

    Raises
    ------
    ConfigError
        If a number or name is outside its limits.

    Examples
    --------
    >>> patches = sample_scenes(range(3), seed=1)
    >>> bool((patches.images[-1] == sample_scenes(range(2, 3), seed=1).images[-1]).all())
    True
    """
    if min(seed, per_scene, *scenes[:1], *scenes[-1:]) < 0:
        raise ConfigError(f"scenes, seed, per_scene = {scenes}, {seed}, {per_scene}: use 0 or more")
    if not (16 <= size <= 128 and 0 <= share <= 1):
        raise ConfigError(f"size, share = {size}, {share}: use 16 to 128 px, 0 to 1")
    rule, look = rule or LabelRule(), look_of(look)
    with_crater = round(per_scene * share)
    wanted = per_scene - with_crater, with_crater
    parts = [_sample_scene((seed, size, index), look, rule, wanted) for index in scenes]
    return join([_sample_no_scene(size), *parts])


def make_scenes(
    scenes: range, *, seed: int, side: int, look: Look | str = "mixed"
) -> Iterator[Scene]:
    """Make scenes of the stream `seed`, one after the other.

    Parameters
    ----------
    scenes : range
        Numbers of the scenes, from 0; each gives the same scene in every range.
    seed : int
    side : int
        Height and width of a scene, in pixels, at least 16.
    look : Look or str
        A look, or the name of one of `PRESETS`.

    Raises
    ------
    ConfigError
        If a number or name is outside its limits.
    """
    if min(seed, *scenes[:1], *scenes[-1:]) < 0 or side < 16:
        raise ConfigError(f"scenes, seed, side = {scenes}, {seed}, {side}: use 0, 0, 16 or more")
    look = look_of(look)
    for index in scenes:
        random = generator(seed, _WHOLE_KEY, side, index)
        yield make_planet((side, side), USUAL_SIZE, look, random)


def _sample_scene(
    key: tuple[int, int, int], look: Look, rule: LabelRule, wanted: tuple[int, int]
) -> LabeledPatches:
    """Sample a scene, by its seed, side of a patch and number."""
    seed, size, index = key
    side = 4 * round(SCENE_SIDE * size / 4)
    scene = make_planet((side, side), size, look, generator(seed, _SCENE_KEY, size, index))
    chosen = choose_patches(scene, size, rule, wanted, generator(seed, _PATCH_KEY, size, index))
    images = np.empty((len(chosen), size, size), np.uint8)
    crater = np.full((len(chosen), 3), np.nan, np.float32)
    for number, each in enumerate(chosen):
        images[number] = scene.image[each.row : each.row + size, each.col : each.col + size]
        if each.crater is not None:
            middle = each.row + (size - 1) / 2, each.col + (size - 1) / 2
            crater[number] = (
                each.crater["row"] - middle[0],
                each.crater["col"] - middle[1],
                each.crater["diameter"],
            )
    return LabeledPatches(
        images=images,
        labels=np.array([each.label for each in chosen], np.int8),
        azimuth=np.full(len(chosen), scene.azimuth, np.float32),
        crater=crater,
    )


def _sample_no_scene(size: int) -> LabeledPatches:
    return LabeledPatches(
        images=np.empty((0, size, size), np.uint8),
        labels=np.empty(0, np.int8),
        azimuth=np.empty(0, np.float32),
        crater=np.empty((0, 3), np.float32),
    )


def join(parts: Sequence[LabeledPatches]) -> LabeledPatches:
    """Concatenate the patches of several calls, at least one."""
    names = [field.name for field in dataclasses.fields(LabeledPatches)]
    return LabeledPatches(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )
