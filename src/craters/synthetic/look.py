"""Looks: what scenes of a procedural planet look like, as a distribution of every factor.

One value of each factor is drawn for each scene. Lengths and heights are in pixels, angles in
degrees, brightness in grey levels of the 8-bit image where nothing else is stated.
"""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np

from craters.errors import ConfigError

GENERATOR_VERSION = 1  # raised with every change of the images that a look and a seed give

Factors = SimpleNamespace  # one scene's value of each factor, named as the fields of `Look`


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform distribution from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low + (self.high - self.low) * rng.random()


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Distribution whose logarithm is uniform, from `low` to `high`, both above 0."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if self.low <= 0:
            raise ConfigError(f"low = {self.low}: a logarithm needs values above 0")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} (log)"

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low * math.exp(math.log(self.high / self.low) * rng.random())


@dataclasses.dataclass(frozen=True)
class Sometimes:
    """One of `values` with probability `chance`, else 0."""

    chance: float
    values: Uniform | LogUniform

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise ConfigError(f"chance = {self.chance}: use 0 to 1")

    def __str__(self) -> str:
        return f"{self.chance:.0%}: {self.values}" if self.chance else "0"

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value, 0 included."""
        low, high = self.values.limits
        return (min(low, 0.0), max(high, 0.0)) if self.chance else (0.0, 0.0)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        there, value = rng.random() < self.chance, self.values.draw(rng)
        return value if there else 0.0


Distribution = Uniform | LogUniform | Sometimes


def _check_range(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"low, high = {low}, {high}: use finite numbers, the lower one first")


# Least and greatest value that a factor may have; 0 and infinity for those that are not listed.
_POSSIBLE: dict[str, tuple[float, float]] = {
    "azimuth": (-360, 720),
    "incidence": (1, 89),
    **dict.fromkeys(("thermal", "lambert", "fill", "rays", "rings", "freshness"), (0, 1)),
    **dict.fromkeys(("slope", "smallest", "largest", "power", "stretch", "gamma"), (0.1, 100)),
    "transition": (1, math.inf),
    "blur": (0.1, 10),
    "jpeg": (0, 99),
    "mean": (0, 255),
    "seams": (-255, 255),
    "missing": (0, 1),
}


@dataclasses.dataclass(frozen=True)
class Look:
    """Distributions of all factors of a scene.

    The defaults are the preset `mixed`. "Per area" is for each 256 x 256 pixels.

    Light
    -----
    azimuth : direction that the light comes from, degrees clockwise from image up
    incidence : angle between the light and the vertical, degrees
    thermal : share of thermal contrast, which has no cast shadows; the rest is reflected light
    lambert : share of Lambert's law in reflected light; the rest follows Lommel and Seeliger

    Craters
    -------
    density : craters of at least 10 px on the area of 5 x 5 patches
    slope : exponent b of the size distribution N(> D) ~ D^-b
    smallest : least diameter, px
    largest : greatest diameter, sides of a patch
    freshness : mean freshness, 0 (erased) to 1 (new); craters scatter around it
    transition : diameter from which craters are complex (flat floor, peak, terraces), px
    depth : depth over diameter of a new simple crater
    rim : height of the rim over depth
    fill : share of craters with a flat, filled floor
    clusters : clusters and chains of secondary craters per area
    ejecta : albedo of ejecta blankets and ramparts, bright or dark
    rays : share of craters with bright rays
    rings : share of craters whose rim is brighter or darker all around

    Terrain
    -------
    roughness : root mean square slope of the small relief
    power : exponent of the amplitude spectrum of the small relief
    stretch : length over width of the texture
    mesas : height of plateaus and mesas, px
    hills : knobs and small mesas per area
    pits : hollows without rims, which are no craters, per area
    domes : wide, low domes per area
    boulders : boulders per area
    ridges : ridges, scarps and graben per area
    fractures : parallel fractures per area
    channels : sinuous channels and rilles per area
    dunes : slope of the flanks of dunes
    layers : height of the steps of layered ground, px
    albedo : standard deviation of the ground's own brightness over that of the shading

    Sensor
    ------
    blur : standard deviation of the point spread function, px
    noise : standard deviation of the noise over that of the image
    stripes : standard deviation of the offsets of rows or columns, grey levels
    jpeg : 100 minus the quality of JPEG compression; 0: none
    mean : mean of the image, grey levels
    spread : standard deviation of the image, grey levels
    gamma : exponent of the brightness
    levels : number of grey levels; 0: all
    seams : step in brightness along the seam of two images, grey levels
    missing : depth of a wedge of missing data, sides of the scene

    Raises
    ------
    ConfigError
        If a factor may take a value that makes no sense.

    Examples
    --------
    A moon with the light from the left, without noise:

    >>> look = dataclasses.replace(
    ...     PRESETS["moon"], azimuth=Uniform(270, 270), noise=Uniform(0, 0)
    ... )
    >>> look.draw(np.random.default_rng(0)).azimuth
    270.0
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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            low, high = getattr(self, field.name).limits
            least, most = _POSSIBLE.get(field.name, (0, math.inf))
            if low < least or high > most:
                raise ConfigError(
                    f"{field.name} = {low:g} to {high:g}: use values of {least:g} to {most:g}"
                )

    def draw(self, rng: np.random.Generator) -> Factors:
        """Draw one scene's value of each factor, in the order of the fields."""
        names = (field.name for field in dataclasses.fields(self))
        return Factors(**{name: getattr(self, name).draw(rng) for name in names})


_NEVER = Sometimes(0, Uniform(0, 0))

PRESETS: dict[str, Look] = {
    "mixed": Look(),
    "mars-thermal": Look(
        azimuth=Uniform(250, 290),
        incidence=Uniform(45, 70),
        thermal=Uniform(0.8, 1),
        stripes=Sometimes(0.7, LogUniform(0.3, 3)),
        jpeg=_NEVER,
    ),
    "mars-visible": Look(
        incidence=Uniform(40, 78),
        thermal=_NEVER,
        dunes=Sometimes(0.35, LogUniform(0.03, 0.25)),
    ),
    "moon": Look(
        incidence=Uniform(30, 85),
        thermal=_NEVER,
        lambert=Uniform(0, 0.5),
        density=LogUniform(5, 90),
        freshness=Uniform(0.15, 0.6),
        dunes=_NEVER,
        layers=_NEVER,
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
