"""Cut the windows of a grid from whole images, and label them by the craters that are listed.

Label 1: at least half of the disc of a listed crater of the diameter range lies inside the window.
Label 0: no listed crater touches the window, those somewhat below the range included.
Other windows are left out, and so are windows with no-data regions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from craters.maps.catalogues import read_catalogue, window_rules
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.window_rules import Chart, Craters
from craters.maps.geo import EIGHT_BIT, Reader, ReadOptions, bounded_gdal, describe_image

_INSIDE = 0.5  # least share of a crater's disc inside a window of label 1


@dataclasses.dataclass(frozen=True)
class WindowRule:
    """How windows are cut and labeled.

    Parameters
    ----------
    side, stride : int
        Of the windows and of their grid, in pixels.
    least, most : float
        Diameters of craters that give label 1, in pixels.
    touching : float
        Least diameter of craters that a window of label 0 must not touch, in pixels.
    """

    side: int
    stride: int
    least: float = 0.0
    most: float = math.inf
    touching: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The labeled windows of some images.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S)
    labels : ndarray of int, shape (N,)
    sources : ndarray of str, shape (N,)
        Name of the image.
    tops, lefts : ndarray of int, shape (N,)
        Upper-left pixel in the image.
    """

    images: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray


def cut_windows(
    pairs: Sequence[tuple[Path, Path]], rule: WindowRule, *, in_pixels: bool
) -> Windows:
    """Cut and label the windows of images, each with its own list of craters or a shared one.

    Parameters
    ----------
    pairs : sequence of (Path, Path)
        Image, and its craters: a CSV table, or boxes as Pascal VOC XML.
    rule : WindowRule
    in_pixels : bool
        Whether positions are in pixels of the image, which has no coordinates then.
    """
    parts = [_cut_image(each, rule) for each in read_images(pairs, in_pixels=in_pixels)]
    fields = [field.name for field in dataclasses.fields(Windows)]
    return Windows(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@dataclasses.dataclass(frozen=True, eq=False)
class ImageWithCraters:
    """One image: 8-bit pixels and no-data mask, both (H, W), and the craters listed in it."""

    chart: Chart
    craters: Craters
    pixels: np.ndarray
    nodata: np.ndarray

    @property
    def diameters(self) -> np.ndarray:
        """Diameters in pixels, shape (K,)."""
        is_known = self.chart.image.planet.is_known
        return self.craters.diameters / ((self.chart.image.resolution or 1.0) if is_known else 1.0)


def read_images(
    pairs: Sequence[tuple[Path, Path]], *, in_pixels: bool
) -> Iterator[ImageWithCraters]:
    """Read images with their craters; see `cut_windows`."""
    lists: dict[Path, Catalogue] = {}
    names = {image.stem for image, _ in pairs}
    with bounded_gdal():
        for image, table in pairs:
            if table not in lists:
                lists[table] = (
                    read_boxes(table) if table.suffix == ".xml" else read_catalogue(table)
                )
            options = ReadOptions(no_crs=in_pixels)
            chart = Chart(describe_image(image, image.stem, options, reference=EIGHT_BIT))
            own = {image.stem} if in_pixels else names
            craters = window_rules.craters_of(lists[table], chart, own)
            with contextlib.closing(Reader(chart.image)) as reader:
                pixels, nodata = reader.read(0, 0, chart.image.height, chart.image.width)
            yield ImageWithCraters(chart, craters, pixels, nodata)


def read_boxes(path: Path) -> Catalogue:
    """Read the boxes of a Pascal VOC file as circles; the diameter is the mean side of the box."""
    corners = np.array(
        [
            [float(box.findtext(name, "nan")) for name in ("xmin", "ymin", "xmax", "ymax")]
            for box in ET.parse(path).getroot().iter("bndbox")
        ]
    ).reshape(-1, 4)
    return Catalogue(
        places=(corners[:, :2] + corners[:, 2:]) / 2,
        diameters=(corners[:, 2:] - corners[:, :2]).mean(axis=1),
        sources=None,
        in_pixels=True,
        name=str(path),
    )


def _cut_image(one: ImageWithCraters, rule: WindowRule) -> Windows:
    """Cut the windows of one image that have a label and no no-data region."""
    image, side, pixels, nodata = one.chart.image, rule.side, one.pixels, one.nodata
    grid = (np.arange(0, size - side + 1, rule.stride) for size in (image.height, image.width))
    tops, lefts = (axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))
    labels = label_windows(one.chart, one.craters, tops, lefts, rule)
    whole = ~np.lib.stride_tricks.sliding_window_view(nodata, (side, side))[tops, lefts].any((1, 2))
    keep = (labels >= 0) & whole
    tops, lefts = tops[keep], lefts[keep]
    return Windows(
        images=np.lib.stride_tricks.sliding_window_view(pixels, (side, side))[tops, lefts],
        labels=labels[keep],
        sources=np.full(int(keep.sum()), image.name),
        tops=tops,
        lefts=lefts,
    )


def label_windows(
    chart: Chart, craters: Craters, tops: np.ndarray, lefts: np.ndarray, rule: WindowRule
) -> np.ndarray:
    """Label windows by the craters of their image.

    Returns
    -------
    ndarray of int, shape (W,)
        1, 0, or -1 for a window that is left out.
    """
    pixel = (chart.image.resolution or 1.0) if chart.image.planet.is_known else 1.0
    sizes = craters.diameters / pixel
    listed = sizes >= rule.touching
    seen = Craters(**{
        field.name: getattr(craters, field.name)[listed] for field in dataclasses.fields(Craters)
    })  # fmt: skip
    touched = window_rules.touches(chart, seen, tops, lefts, rule.side)
    labels = np.where(touched, -1, 0)
    for row in np.flatnonzero((sizes >= rule.least) & (sizes <= rule.most)).tolist():
        # At least half of a disc is inside only if its centre is.
        down, right = craters.rows[row] + 0.5 - tops, craters.cols[row] + 0.5 - lefts
        inside = (down >= 0) & (down <= rule.side) & (right >= 0) & (right <= rule.side)
        near = np.flatnonzero(inside)
        diameter = float(craters.diameters[row])
        disc = window_rules.disc_pixels(chart, craters.places[row], diameter)
        share = window_rules.share_inside(disc, tops[near], lefts[near], rule.side)
        labels[near[share >= _INSIDE]] = 1
    return labels
