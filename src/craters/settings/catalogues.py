"""Settings for matching with a crater catalogue and for sampling patches."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, group, setting
from craters.settings.scan import ReadOptions

COLUMNS = "Column names of the catalogue, if unusual: lon=LON_E,lat=LAT_N,diameter_km=D."
CATALOGUE = "Craters: CSV, boxes (VOC, YOLO, COCO, VIA), GIS layer, .scc or .diam."
CRATER_CLASS = {
    "help": "Class of the catalogue that means crater; several: old,new.",
    "meaning": "Class of the catalogue that means crater, or several, separated by commas. Without "
    "it, classes named crater or impact crater are.",
    "unset": "crater, impact crater",
}
_BODY = "Body (mars, moon, ...), if no file states it."


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

    Values are text as typed. The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    detections: Path = setting(
        help="Folder of a scan, its detections.gpkg, or a CSV table.", is_argument=True
    )
    catalogue: Path = setting(help=CATALOGUE)
    out: Path = setting(help="Folder to create; must not exist.")
    _: dataclasses.KW_ONLY
    diameters: str = setting(
        "",
        help="Diameters to match, km: 1.5,4.5.",
        meaning="Range of diameters to match, in km (pixels if the catalogue is in pixels): "
        "1.5,4.5. Either end may be omitted.",
        unset="up to a window; all, if detections have diameters",
    )
    distance: float | None = setting(
        None,
        help="Largest distance of a detection with a diameter, in crater diameters.",
        meaning="Largest distance of the centre of a detection from that of its crater, in "
        "diameters of the crater. Only for detections with diameters.",
        unset="0.5",
        above=0,
        most=2,
    )
    ratio: float | None = setting(
        None,
        help="Largest ratio of the diameters of a detection and its crater.",
        meaning="Largest ratio of the larger to the smaller diameter of a detection and its "
        "crater. Only for detections with diameters.",
        unset="2",
        least=1,
        most=10,
    )
    register: bool = setting(
        False,
        help="Take out the shift between catalogue and images, then match again.",
        meaning="Estimate the shift between the catalogue and each image, move the craters by it, "
        "and match again. Only for detections with diameters.",
    )
    false_per_area: float | None = setting(
        None,
        help="Report recall at this number of false detections per 1,000 km2.",
        meaning="Report recall at this number of false detections per 1,000 km2 (per megapixel if "
        "the catalogue is in pixels).",
        unset="1 per 1,000 km2, 10 per megapixel",
        least=0,
    )
    false_per_image: float | None = setting(
        None,
        help="Report recall at this number of false detections per image instead.",
        unset="per area",
        least=0,
    )
    border: str = setting(
        "",
        help="Ignore craters this close to an edge: 24px, 2.4km.",
        meaning="Ignore craters this close to an edge of their image, and detections with "
        "diameters that match nothing: 24px, 2.4km.",
        unset="half a window; 0, if detections have diameters",
    )
    window: str = setting(
        "",
        help="Size of a window: 4800m, 48px.",
        meaning="Size of a window: 4800m, 48px. Not for detections with diameters.",
        unset="from the scan",
    )
    footprint: str = setting(
        "",
        help="Scanned area: polygons, image or folder; none.",
        meaning="Area that was scanned: a vector file, an image or a folder of images; none: "
        "all craters of the catalogue are inside.",
        unset="from the scan",
    )
    bins: str = setting(
        "", help="Edges of diameter bins, km: 1.5,2,3,4.5.", unset="steps of root 2"
    )
    columns: str = setting("", help=COLUMNS)
    crater_class: str = setting("", **CRATER_CLASS)
    detection_columns: str = setting(
        "", help="Column names of the detections, if unusual: probability=score."
    )
    body: str = setting("", help=_BODY)
    seed: int = setting(0, help="Random seed of the bootstrap over images.", least=0)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if self.false_per_area is not None and self.false_per_image is not None:
            raise ConfigError("--false-per-area and --false-per-image: give one of them")


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
    out: Path = setting(help="Folder to create; must not exist.")
    _: dataclasses.KW_ONLY
    catalogue: Path | None = setting(
        None,
        help=CATALOGUE,
        unset="none: unlabeled patches only",
    )
    side: int = setting(48, help="Side of a patch in pixels.", unit="pixels", least=8, most=1024)
    diameters: tuple[float, float] | None = setting(
        None,
        help="Diameters of craters with label 1, km: 1.5,4.5.",
        meaning="Smallest and largest diameter of craters that make a patch 'with crater', in km "
        "(pixels if images have no coordinates).",
        unset="10 pixels to a window",
        read=parse_diameters,
    )
    jitter: float | None = setting(
        None,
        help="Greatest offset of a crater from the patch centre, pixels.",
        meaning="Greatest offset of a crater from the patch centre along rows and columns; up to "
        "half a patch.",
        unset="a quarter of a patch",
        unit="pixels",
        least=0,
    )
    crater_share: float = setting(
        0.5,
        help="Share of patches with label 1; 0.5: balanced.",
        meaning="Share of labeled patches 'with crater'.",
        above=0,
        most=1,
    )
    unlabeled: int = setting(1000, help="Number of unlabeled patches.", least=0)
    test_share: float = setting(
        0.2,
        help="Share of images held out as the test set.",
        meaning="Share of the images (of the cells, if there is a single image) held out as the "
        "test set.",
        least=0,
        below=1,
    )
    test_images: str = setting(
        "", help="Images to hold out instead: names or patterns, such as tharsis_*,elysium_*."
    )
    cells: int = setting(
        0,
        help="Side in pixels of cells that images are divided into, one group each; 0: none.",
        meaning="Side of the cells that images are divided into, one group each; 0: none. At "
        "least two patches.",
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
            "help": "Resolution to resample to, m/px.",
            "meaning": "",
            "unset": "as they are",
        },
        band={"help": "Band to sample from; 0: the only one, or colors as gray."},
        crs={"help": "Coordinate system of the images, such as IAU_2015:49910."},
        body={"help": _BODY},
        no_crs={"help": "Images have no coordinates; the catalogue has x_px, y_px."},
    )
    columns: str = setting("", help=COLUMNS)
    crater_class: str = setting("", **CRATER_CLASS)
    seed: int = setting(0, help="Random seed; equal seeds give identical files.", least=0)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if 0 < self.cells < 2 * self.side:
            raise ConfigError(f"--cells is {self.cells}, expected 0, or at least two patches")
        if self.jitter is not None and self.jitter > self.side / 2:
            raise ConfigError(f"--jitter is {self.jitter}, expected 0 to half a patch")
        low, high = self.diameters or (0.0, math.inf)
        if not 0 <= low < high:
            raise ConfigError(f"--diameters {low:g},{high:g}: expected the smaller one first")
