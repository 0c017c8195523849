"""Looks: what scenes of a procedural planet look like, as named distributions of every factor.

A `Look` is drawn once for each scene. Lengths are in pixels, heights in pixels, angles in degrees,
brightness in units of the stretched image (0..255) where nothing else is stated.
"""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np

from craters.errors import ConfigError

GENERATOR_VERSION = 1  # raised with every change of the images that a look and a seed give


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform distribution from `low` to `high`."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low + (self.high - self.low) * rng.random()


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Distribution whose logarithm is uniform, from `low` to `high`, both above 0."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low * math.exp(math.log(self.high / self.low) * rng.random())


@dataclasses.dataclass(frozen=True)
class Sometimes:
    """The value 0, or with probability `chance` one drawn from `values`."""

    chance: float
    values: Uniform | LogUniform

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        there, value = rng.random() < self.chance, self.values.draw(rng)
        return value if there else 0.0


Distribution = Uniform | LogUniform | Sometimes


@dataclasses.dataclass(frozen=True)
class Look:
    """Distributions of all factors of a scene; "per area" is for each 256 x 256 pixels.

    Light
    -----
    azimuth : degrees clockwise from image up, where the light comes from
    incidence : degrees between the light and the vertical
    thermal : share of thermal contrast, which has no cast shadows; the rest is reflected light
    lambert : share of Lambert's law in reflected light; the rest follows Lommel and Seeliger

    Craters
    -------
    density : craters of at least 10 px on 5 x 5 patches
    slope : exponent of the cumulative size distribution
    smallest, largest : range of diameters; `largest` is relative to the side of a patch
    freshness : mean freshness, 0 (erased) to 1 (new); craters scatter around it
    transition : diameter above which craters are complex (flat floor, peak, terraces)
    depth : depth over diameter of a new simple crater
    rim : height of the rim over the depth
    fill : share of craters with a flat, filled floor
    clusters : clusters and chains of secondary craters per area
    ejecta : strength of ramparts and of bright or dark blankets
    rays : share of new craters with rays
    rings : share of craters whose rim is brighter or darker all around

    Terrain
    -------
    roughness : root mean square slope of the small-scale relief
    power : exponent of the amplitude spectrum of the relief
    stretch : length over width of the texture
    mesas : height of plateaus and mesas
    hills, pits, domes, boulders : number per area; pits have no rims and are no craters
    ridges, fractures : number per area; fractures are parallel graben
    channels : number of sinuous channels and rilles per area
    dunes : root mean square slope of dunes
    layers : height of the steps of layered ground
    albedo : standard deviation of the surface's own brightness over that of shading

    Sensor
    ------
    blur : standard deviation of the point spread function
    noise : standard deviation of the noise over that of the image
    stripes : standard deviation of the offsets of rows or columns
    jpeg : 100 minus the quality of lossy compression; 0: none
    mean, spread : mean and standard deviation of the stretched image
    gamma : exponent of the brightness
    levels : number of grey levels; 0: all 256
    seams : step in brightness along the seam of two images
    missing : depth of a wedge of missing data, over the side of the scene
    """

    azimuth: Distribution = Uniform(0, 360)
    incidence: Distribution = Uniform(20, 85)
    thermal: Distribution = Sometimes(0.5, Uniform(0.5, 1))
    lambert: Distribution = Uniform(0, 1)

    density: Distribution = LogUniform(1.5, 60)
    slope: Distribution = Uniform(0.8, 3)
    smallest: Distribution = Uniform(2, 5)
    largest: Distribution = LogUniform(0.6, 3)
    freshness: Distribution = Uniform(0.2, 0.85)
    transition: Distribution = LogUniform(20, 2000)
    depth: Distribution = Uniform(0.12, 0.24)
    rim: Distribution = Uniform(0.08, 0.3)
    fill: Distribution = Uniform(0, 0.7)
    clusters: Distribution = Sometimes(0.25, LogUniform(0.5, 3))
    ejecta: Distribution = Sometimes(0.5, Uniform(0.1, 1))
    rays: Distribution = Sometimes(0.25, Uniform(0.05, 0.4))
    rings: Distribution = Sometimes(0.4, Uniform(0.1, 0.7))

    roughness: Distribution = LogUniform(0.01, 0.3)
    power: Distribution = Uniform(1.2, 2.7)
    stretch: Distribution = LogUniform(1, 5)
    mesas: Distribution = Sometimes(0.5, LogUniform(0.2, 4))
    hills: Distribution = Sometimes(0.7, LogUniform(0.5, 40))
    pits: Distribution = Sometimes(0.4, LogUniform(0.5, 6))
    domes: Distribution = Sometimes(0.25, LogUniform(0.5, 4))
    boulders: Distribution = Sometimes(0.15, LogUniform(5, 120))
    ridges: Distribution = Sometimes(0.7, LogUniform(0.5, 6))
    fractures: Distribution = Sometimes(0.2, LogUniform(1, 8))
    channels: Distribution = Sometimes(0.3, LogUniform(0.4, 3))
    dunes: Distribution = Sometimes(0.2, LogUniform(0.03, 0.25))
    layers: Distribution = Sometimes(0.15, LogUniform(0.3, 2))
    albedo: Distribution = LogUniform(0.1, 1)

    blur: Distribution = Uniform(0.25, 1.3)
    noise: Distribution = LogUniform(0.02, 0.7)
    stripes: Distribution = Sometimes(0.4, LogUniform(0.3, 4))
    jpeg: Distribution = Sometimes(0.35, Uniform(10, 75))
    mean: Distribution = Uniform(65, 175)
    spread: Distribution = LogUniform(10, 90)
    gamma: Distribution = Uniform(0.7, 1.4)
    levels: Distribution = Sometimes(0.15, LogUniform(12, 120))
    seams: Distribution = Sometimes(0.1, Uniform(5, 40))
    missing: Distribution = Sometimes(0.06, Uniform(0.05, 0.3))

    def draw(self, rng: np.random.Generator) -> SimpleNamespace:
        """Draw the factors of one scene, with the names of the fields."""
        return SimpleNamespace(
            **{
                field.name: getattr(self, field.name).draw(rng)
                for field in dataclasses.fields(self)
            }
        )


PRESETS: dict[str, Look] = {
    "mixed": Look(),
    "mars-thermal": Look(
        azimuth=Uniform(250, 290),
        incidence=Uniform(45, 70),
        thermal=Uniform(0.8, 1),
        stripes=Sometimes(0.7, LogUniform(0.3, 3)),
        jpeg=Sometimes(0, Uniform(10, 75)),
    ),
    "mars-visible": Look(
        incidence=Uniform(40, 78),
        thermal=Sometimes(0, Uniform(0.5, 1)),
        dunes=Sometimes(0.35, LogUniform(0.03, 0.25)),
    ),
    "moon": Look(
        incidence=Uniform(30, 85),
        thermal=Sometimes(0, Uniform(0.5, 1)),
        lambert=Uniform(0, 0.5),
        density=LogUniform(5, 90),
        freshness=Uniform(0.15, 0.6),
        dunes=Sometimes(0, Uniform(0.1, 0.2)),
        layers=Sometimes(0, Uniform(0.3, 2)),
        channels=Sometimes(0.1, LogUniform(0.4, 2)),
        mesas=Sometimes(0.2, LogUniform(0.2, 1)),
        boulders=Sometimes(0.3, LogUniform(5, 120)),
        rays=Sometimes(0.4, Uniform(0.05, 0.4)),
    ),
}


def look_of(look: Look | str) -> Look:
    """Return a look by its name; a look is returned as it is."""
    if isinstance(look, Look):
        return look
    if look not in PRESETS:
        raise ConfigError(f"look = {look!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[look]
