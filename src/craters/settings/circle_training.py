"""Settings of `craters train`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from pathlib import Path

from craters.errors import ConfigError
from craters.settings.catalogues import CATALOGUE, COLUMNS, CRATER_CLASS
from craters.settings.declaration import check_settings, group, setting
from craters.settings.run import DEVICE
from craters.settings.scan import ReadOptions


def parse_complete(text: str) -> tuple[float, float | None]:
    """Parse a range of diameters, either end of which may be omitted; None: no end.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_complete("1,"), parse_complete("1,4.5"), parse_complete("2")
    ((1.0, None), (1.0, 4.5), (2.0, None))
    """
    low, _, high = text.partition(",")
    try:
        return float(low or 0), float(high) if high else None
    except ValueError:
        raise ConfigError(f"--diameters is {text!r}, expected 1, or 1,4.5 (LOW,HIGH)") from None


@dataclasses.dataclass(frozen=True)
class CircleTrainingConfig:
    """Settings of `craters train`: `images`; `catalogue` and `out`; others by keyword.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    images: tuple[Path, ...] = setting(
        help="Images (GeoTIFF, VRT, PNG, ISIS3, PDS4, ...), or folders.", is_argument=True
    )
    catalogue: Path = setting(
        help=CATALOGUE,
        meaning=f"{CATALOGUE} Rows with 0 in a column `counted` may be craters or not.",
    )
    out: Path = setting(help="Run folder to create; must not exist.")
    _: dataclasses.KW_ONLY
    # Text, not a path: `circles` and `./circles` differ.
    start: str = setting(
        "circles",
        help="Detector that training starts from: circles, a model folder or a run folder.",
    )
    diameters: tuple[float, float | None] | None = setting(
        None,
        help="Diameters in which the catalogue is complete, km: 1, or 1,4.5.",
        meaning="Range of diameters in which the catalogue is complete, in km (pixels if the "
        "catalogue is in pixels): 1,4.5. Either end may be omitted. Circles of other diameters "
        "teach nothing and are not judged; 0, says that it is complete.",
        unset="measured",
        read=parse_complete,
    )
    group_by: str | None = setting(
        None,
        help="Regular expression that finds the region in the name of an image.",
        meaning="Regular expression that finds the region in the name of an image; of several "
        "parts in parentheses the first counts. Regions are held out whole in the validation.",
        unset="the name before two numbers, REGION_i_j; else each image",
    )
    sun_azimuth: float | None = setting(
        None,
        help="Degrees clockwise from map north where the light comes from.",
        meaning="Direction that the light comes from in all images, clockwise from map north (the "
        "upper edge of an image without coordinates).",
        unset="estimated for each image",
        unit="degrees",
        least=0,
        most=360,
    )
    read: ReadOptions = group(
        ReadOptions,
        without=("no_crs",),  # follows from the catalogue
        resolution={
            "help": "Resolution to train at, m/px.",
            "meaning": "",
            "unset": "as they are",
        },
        band={"help": "Band to read; 0: the only one, or colors as gray."},
        crs={"help": "Coordinate system of the images, such as IAU_2015:49910."},
        body={"help": "Body of the images: mars, moon, mercury, ..."},
    )
    columns: str = setting("", help=COLUMNS)
    crater_class: str = setting("", **CRATER_CLASS)
    seed: int = setting(0, help="Random seed.", least=0)
    threads: int = setting(
        0,
        help="CPUs; 0: all usable.",
        meaning="CPUs for all processes together; 0: all that the process may use. Each training "
        "takes one, if there are no more CPUs than trainings.",
        least=0,
    )
    device: str = setting("cpu", **DEVICE)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        object.__setattr__(self, "start", os.fspath(self.start))
        low, high = self.diameters or (0.0, None)
        high = math.inf if high is None else high
        if not 0 <= low < high:
            raise ConfigError(f"--diameters {low:g},{high:g}: expected the smaller one first")
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ConfigError(
                f"--group-by is {self.group_by!r}, which is no regular expression ({error})"
            ) from error
