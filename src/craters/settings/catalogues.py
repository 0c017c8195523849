"""Settings for matching with a crater catalogue and for sampling patches."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, group, setting
from craters.settings.scan import ReadOptions

_COLUMNS = "Unusual names in the catalogue: lon=LON_E,lat=LAT_N,diameter_km=D."
_BODY = "mars, moon, ...: if no file gives it."


def parse_diameters(text: str) -> tuple[float, float]:
    """Parse two diameters.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_diameters("1.5,4.5")
    (1.5, 4.5)
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--diameters is {text!r}, expected two numbers, e.g. 1.5,4.5") from None
    return low, high


@dataclasses.dataclass(frozen=True)
class MatchRequest:
    """Settings of `craters match`: `detections`, `catalogue`, `out`; others by keyword.

    Texts are as typed. The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    detections: Path = setting(
        help="Folder of a scan, its detections.gpkg, or a CSV table.", is_argument=True
    )
    catalogue: Path = setting(help="CSV of craters: lon, lat, diameter_km.")
    out: Path = setting(help="Folder to make; must not exist.")
    _: dataclasses.KW_ONLY
    diameters: str = setting(
        "",
        help="Range that counts, km: 1.5,4.5.",
        meaning="Range of diameters that counts, in km (pixels where the catalogue is in pixels): "
        "1.5,4.5. Either end may be left away.",
        unset="up to a window",
    )
    false_per_image: float = setting(
        0.5, help="State recall at so many false detections an image.", least=0
    )
    border: str = setting(
        "", help="Ignore craters so near an edge: 24px, 2.4km.", unset="half a window"
    )
    window: str = setting(
        "",
        help="Size of a window: 4800m, 48px.",
        unset="from the scan",
        options=("--window", "--window-m"),
    )
    footprint: str = setting(
        "",
        help="What was scanned: polygons, image, folder; none.",
        meaning="Where the scanned images are: a vector file, an image or a folder; none where "
        "every crater of the catalogue was in sight.",
        unset="from the scan",
    )
    bins: str = setting(
        "", help="Edges of diameter bins, km: 1.5,2,3,4.5.", unset="steps of root 2"
    )
    columns: str = setting("", help=_COLUMNS)
    detection_columns: str = setting("", help="Unusual names in the detections: probability=score.")
    body: str = setting("", help=_BODY)
    seed: int = setting(0, help="Of the bootstrap over images.", least=0)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)


@dataclasses.dataclass(frozen=True)
class SamplingRequest:
    """Settings of `craters patches`: `images`, `out`; others by keyword.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    images: tuple[Path, ...] = setting(help="Images, or folders of images.", is_argument=True)
    out: Path = setting(help="Folder to make; must not exist.")
    _: dataclasses.KW_ONLY
    catalogue: Path | None = setting(
        None,
        help="CSV of craters: lon, lat, diameter_km.",
        unset="none: unlabeled patches only",
    )
    side: int = setting(48, help="Pixels a side of a patch.", unit="pixels", least=8, most=1024)
    diameters: tuple[float, float] | None = setting(
        None,
        help="Craters of label 1, km: 1.5,4.5.",
        meaning="Smallest and largest crater that makes a patch 'with crater', in km (pixels where "
        "images have no coordinates).",
        unset="10 pixels to a window",
        read=parse_diameters,
    )
    jitter: float | None = setting(
        None,
        help="Pixels of a crater from the patch's centre.",
        meaning="Greatest distance of a crater from the patch's centre along rows and columns; up "
        "to half a patch.",
        unset="a quarter of a patch",
        unit="pixels",
        least=0,
    )
    crater_share: float = setting(
        0.5,
        help="Share of label 1; 0.5: balanced.",
        meaning="Wanted share of craters in the labels.",
        above=0,
        most=1,
    )
    unlabeled: int = setting(1000, help="Unlabeled patches, in all.", least=0)
    test_share: float = setting(
        0.2,
        help="Share of images held out as test set.",
        meaning="Share of the images (of the cells, where there is one image) held out for the "
        "test set.",
        least=0,
        below=1,
    )
    test_images: str = setting(
        "", help="Hold out these instead: names or patterns, tharsis_*,elysium_*."
    )
    cells: int = setting(
        0,
        help="Divide images into cells of this side, one group each; 0: none.",
        meaning="Side of the cells that images are divided into, one group each; 0: none. At least "
        "two windows.",
        unit="pixels",
        least=0,
    )
    max_gap: float = setting(
        0.0, help="Largest share of no-data pixels in a patch.", least=0, most=1
    )
    read: ReadOptions = group(
        ReadOptions,
        without=("gap",),
        scale={"unset": "measured"},
        resolution={
            "help": "Metres a pixel to resample to.",
            "meaning": "",
            "unset": "as they are",
        },
        band={"help": "Band to sample from; 0: the only one."},
        crs={"help": "System of the images: IAU_2015:49910."},
        body={"help": _BODY},
        no_crs={"help": "Images have no place; catalogue: x_px, y_px."},
    )
    columns: str = setting("", help=_COLUMNS)
    seed: int = setting(0, help="Equal seeds give equal bytes.", least=0)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if 0 < self.cells < 2 * self.side:
            raise ConfigError(f"--cells is {self.cells}, expected 0, or two windows")
        if self.jitter is not None and self.jitter > self.side / 2:
            raise ConfigError(f"--jitter is {self.jitter}, expected 0 to half a window")
        low, high = self.diameters or (0.0, math.inf)
        if not 0 <= low < high:
            raise ConfigError(f"--diameters {low:g},{high:g}: the first must be the smaller")
