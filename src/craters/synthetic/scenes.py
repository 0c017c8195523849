"""Synthetic Mars scenes: terrain, craters, light and sensor, with known craters.

The light comes from the left, as in THEMIS daytime infrared: a crater is dark on its left inner
wall and bright on its right one; a hill is the reverse. Pixel value 0 always means missing data.
Every random number comes from a seed sequence keyed by seed, stream and scene.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import ConfigError
from craters.synthetic.craters import draw_craters, paint_crater
from craters.synthetic.light import cut_wedge, expose
from craters.synthetic.terrain import draw_parameters, make_terrain, paint_lookalikes

STREAMS = ("scene", "labeled", "unlabeled", "test")

_REGIONS = (
    *("avernus", "boreosyrtis", "casius", "deucalion", "edomia", "ferrara"),
    *("gehonia", "halcyonis", "iapygia", "libyana", "melasia", "noachida"),
)

_TEST_REGIONS = ("ophirea", "pandora", "thymiamata", "zephyria")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One image and the craters in it.

    Parameters
    ----------
    image : ndarray, shape (H, W), uint8
        Pixels 1..255; 0 is missing data.
    craters : ndarray, shape (K,), `CRATER_DTYPE`
        Truth: centre `row` and `col` and rim `diameter` in pixels (the centre of the first pixel
        is 0, 0), `freshness` from 0 (almost gone) to 1 (new). Includes pits below
        `MIN_DIAMETER` and craters that extend into the image from outside.
    name : str
        The group, REGION_i_j.

    Examples
    --------
    >>> scene = make_scene(64, 96, seed=1)
    >>> scene.image.shape, scene.name
    ((64, 96), 'avernus_0_0')
    """

    image: np.ndarray
    craters: np.ndarray
    name: str


def make_scene(
    height: int = 416,
    width: int = 416,
    *,
    seed: int = 0,
    index: int = 0,
    stream: str = "scene",
    density: float = 1.0,
    missing: float = 0.1,
    craters: np.ndarray | None = None,
) -> Scene:
    """Make one image of the procedural Mars.

    Parameters
    ----------
    height, width : int
        Size in pixels, at least 16.
    seed, index : int
        Scene `index` of the planet `seed`; it does not depend on how many scenes are made.
    stream : str
        One of `STREAMS`; streams share no scene, and "test" has its own regions.
    density : float
        Craters of at least `MIN_DIAMETER` for each 256 x 256 pixels, before scatter.
    missing : float
        Probability, 0..1, that a wedge of missing data is cut from an edge.
    craters : ndarray, shape (K,), `CRATER_DTYPE`, or None
        Craters to use instead of random ones.

    Returns
    -------
    Scene
        The image, height x width pixels, with its craters.

    Examples
    --------
    >>> scene = make_scene(48, 64, seed=3, index=7)
    >>> bool((scene.image == make_scene(48, 64, seed=3, index=7).image).all())
    True
    """
    if min(height, width) < 16:
        raise ConfigError(f"height, width = {height}, {width}: at least 16 px are needed")
    if min(seed, index, density) < 0:
        raise ConfigError(f"seed, index, density = {seed}, {index}, {density}: use 0 or more")
    number = stream_number(stream)
    rng = generator(seed, 0, number, index)
    name, region = _name_scene(number, index)
    params = draw_parameters(generator(seed, 1, region), rng)
    relief, albedo = make_terrain((height, width), params, rng)
    paint_lookalikes(relief, params, rng)
    if craters is None:
        craters = draw_craters(height, width, density, rng)
    for crater in craters[np.argsort(craters["freshness"], kind="stable")]:  # oldest first
        paint_crater(relief, albedo, crater, rng)
    image = expose(relief, albedo, params, rng)
    if rng.random() < missing:
        cut_wedge(image, rng)
    return Scene(image=image, craters=craters, name=name)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the random generator for one purpose; equal keys give equal numbers."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def stream_number(stream: str) -> int:
    """Return the number of a stream, the key of its random numbers."""
    if stream not in STREAMS:
        raise ConfigError(f"stream = {stream!r}: use one of {', '.join(STREAMS)}")
    return STREAMS.index(stream)


def _name_scene(number: int, index: int) -> tuple[str, int]:
    """Return the name of scene `index` of a stream, and the number of its region."""
    test = STREAMS[number] == "test"
    regions = _TEST_REGIONS if test else _REGIONS
    turn, place = divmod(index, len(regions))
    i, j = divmod(turn, 40)
    name = f"{regions[place]}_{i * len(STREAMS) + number}_{j}"
    return name, place + len(_REGIONS) * test
