"""Scenes of procedural planets: terrain, craters, light and sensor, with known truth.

Without a look, the planet is a Mars whose light comes from the left, as in THEMIS daytime infrared:
a crater is dark on its left inner wall and bright on its right one; a hill is the reverse. Pixel
value 0 always means missing data. Every random number comes from a seed sequence keyed by seed,
purpose and scene.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.errors import ConfigError
from craters.synthetic.camera import take_image
from craters.synthetic.craters import draw_craters, paint_crater
from craters.synthetic.impacts import IMPACT_DTYPE, add_impacts, draw_impacts
from craters.synthetic.landforms import make_ground
from craters.synthetic.light import cut_wedge, expose
from craters.synthetic.look import Look, look_of
from craters.synthetic.terrain import draw_parameters, make_terrain, paint_lookalikes

STREAMS = ("scene", "labeled", "unlabeled", "test")

_REGIONS = (
    *("avernus", "boreosyrtis", "casius", "deucalion", "edomia", "ferrara"),
    *("gehonia", "halcyonis", "iapygia", "libyana", "melasia", "noachida"),
)

_TEST_REGIONS = ("ophirea", "pandora", "thymiamata", "zephyria")


_PATCH_SIDE = 48  # px: sizes of craters of a look are relative to it
_LOOK_KEY = 9  # of the random numbers of scenes with a look


@dataclasses.dataclass(frozen=True)
class Scene:
    """One image, the craters in it, and the light on it.

    Parameters
    ----------
    image : ndarray, shape (H, W), uint8
        Pixels 1..255; 0 is missing data.
    craters : ndarray, shape (K,), `CRATER_DTYPE` or, with a look, `IMPACT_DTYPE`
        Truth: centre `row` and `col` and rim `diameter` in pixels (the centre of the first pixel
        is 0, 0), `freshness` from 0 (almost gone) to 1 (new). Includes pits below
        `MIN_DIAMETER` and craters that extend into the image from outside. With a look also
        `contrast`: the slope of the walls over that of the ground and the noise, 0 where a younger
        crater covers the crater.
    name : str
        The group, REGION_i_j.
    azimuth, incidence : float
        Direction that the light comes from, in degrees clockwise from image up and from the
        vertical.

    Examples
    --------
    >>> scene = make_scene(64, 96, seed=1)
    >>> scene.image.shape, scene.name, round(scene.azimuth)
    ((64, 96), 'avernus_0_0', 283)
    """

    image: np.ndarray
    craters: np.ndarray
    name: str
    azimuth: float
    incidence: float


def make_scene(
    height: int = 416,
    width: int = 416,
    *,
    seed: int = 0,
    index: int = 0,
    stream: str = "scene",
    density: float | None = None,
    missing: float | None = None,
    craters: np.ndarray | None = None,
    look: Look | str | None = None,
) -> Scene:
    """Make one image of a procedural planet.

    Parameters
    ----------
    height, width : int
        Size in pixels, at least 16.
    seed, index : int
        Scene `index` of the planet `seed`; it does not depend on how many scenes are made.
    stream : str
        One of `STREAMS`; streams share no scene, and "test" has its own regions.
    density : float, optional
        Craters of at least `MIN_DIAMETER` for each 256 x 256 pixels, before scatter. [1; part of
        the look, if there is one]
    missing : float, optional
        Probability, 0..1, that a wedge of missing data is cut from an edge. [0.1; part of the look,
        if there is one]
    craters : ndarray, shape (K,), `CRATER_DTYPE`, optional
        Craters to use instead of random ones.
    look : Look or str, optional
        A look, or the name of one of `PRESETS`. [a Mars in thermal infrared, lit from the left]

    Returns
    -------
    Scene
        The image, height x width pixels, with its truth.

    Raises
    ------
    ConfigError
        If a size, number or name is outside its limits.

    Examples
    --------
    >>> scene = make_scene(48, 64, seed=3, index=7)
    >>> bool((scene.image == make_scene(48, 64, seed=3, index=7).image).all())
    True
    >>> make_scene(48, 64, look="moon").craters.dtype.names
    ('row', 'col', 'diameter', 'freshness', 'contrast')
    """
    if min(height, width) < 16:
        raise ConfigError(f"height, width = {height}, {width}: at least 16 px are needed")
    numbers = {"seed": seed, "index": index, "density": density or 0, "missing": missing or 0}
    if min(numbers.values()) < 0:
        raise ConfigError(
            f"{', '.join(numbers)} = {', '.join(map(str, numbers.values()))}: use 0 or more"
        )
    number = stream_number(stream)
    if look is None:
        return _make_mars(
            (height, width),
            (seed, number, index),
            density=1.0 if density is None else density,
            missing=0.1 if missing is None else missing,
            craters=craters,
        )
    if density is not None or missing is not None:
        raise ConfigError(
            "density, missing: both are part of a look",
            hint='Use dataclasses.replace(PRESETS["mixed"], density=Uniform(5, 5)), for example.',
        )
    key = seed, number, index
    return make_look_scene((height, width), _PATCH_SIDE, look_of(look), key, craters)


def _make_mars(
    shape: tuple[int, int],
    key: tuple[int, int, int],
    *,
    density: float,
    missing: float,
    craters: np.ndarray | None,
) -> Scene:
    """Make a scene without a look; the key is seed, number of the stream and index."""
    seed, number, index = key
    rng = generator(seed, 0, number, index)
    name, region = _name_scene(number, index)
    params = draw_parameters(generator(seed, 1, region), rng)
    relief, albedo = make_terrain(shape, params, rng)
    paint_lookalikes(relief, params, rng)
    if craters is None:
        craters = draw_craters(*shape, density, rng)
    for crater in craters[np.argsort(craters["freshness"], kind="stable")]:  # oldest first
        paint_crater(relief, albedo, crater, rng)
    image = expose(relief, albedo, params, rng)
    if rng.random() < missing:
        cut_wedge(image, rng)
    return Scene(
        image=image,
        craters=craters,
        name=name,
        azimuth=(270 + math.degrees(params.azimuth)) % 360,
        incidence=90 - math.degrees(params.elevation),
    )


def make_look_scene(
    shape: tuple[int, int],
    size: int,
    look: Look,
    key: tuple[int, int, int],
    craters: np.ndarray | None = None,
) -> Scene:
    """Make a scene with a look for patches of `size` pixels; the key is as for `_make_mars`."""
    seed, number, index = key
    name, _ = _name_scene(number, index)
    rng = generator(seed, _LOOK_KEY, number, size, index)
    return make_planet(shape, size, look, rng, craters=craters, name=name)


def make_planet(
    shape: tuple[int, int],
    size: int,
    look: Look,
    rng: np.random.Generator,
    *,
    craters: np.ndarray | None = None,
    name: str = "",
) -> Scene:
    """Make a scene with a look, for patches of `size` pixels.

    Parameters
    ----------
    shape : tuple of int
        Height and width, in pixels.
    size : int
        Side of the patches, in pixels: the look's largest crater and density are relative to it.
    look : Look
    rng : numpy Generator
    craters : ndarray, shape (K,), `CRATER_DTYPE`, optional
        Craters to use instead of random ones.
    name : str
    """
    scene = look.draw(rng)
    relief, albedo = make_ground(shape, scene, rng)
    craters = draw_impacts(shape, size, scene, rng) if craters is None else _as_impacts(craters)
    ground_slope = add_impacts(relief, albedo, craters, scene, rng)
    image, (noise_slope, albedo_slope) = take_image(relief, albedo, scene, rng)
    noise = noise_slope * 4 / np.maximum(craters["diameter"], 4)  # averaged over the crater
    craters["contrast"] /= np.sqrt(ground_slope**2 + noise**2 + (0.5 * albedo_slope) ** 2)
    return Scene(
        image=image,
        craters=craters,
        name=name,
        azimuth=scene.azimuth % 360,
        incidence=scene.incidence,
    )


def _as_impacts(craters: np.ndarray) -> np.ndarray:
    """Copy craters, the oldest first, with a place for their contrast."""
    impacts = np.zeros(len(craters), IMPACT_DTYPE)
    for name in ("row", "col", "diameter", "freshness"):
        impacts[name] = craters[name]
    ordered: np.ndarray = impacts[np.argsort(impacts["freshness"], kind="stable")]
    return ordered


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
