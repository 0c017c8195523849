"""What to cut patches from: images, cells of them, and those that are held out as a test set."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Sequence

import numpy as np

from craters.core import NullProgress, Progress
from craters.errors import ConfigError, DataError
from craters.maps.catalogues.window_rules import Chart
from craters.maps.geo import find_images, raster
from craters.settings import CutRequest

_SAME = 1.03  # resolutions that differ by less are one


@dataclasses.dataclass(frozen=True)
class Part:
    """An image, or a cell of one: windows never reach beyond it, and it is a group."""

    name: str
    chart: Chart
    top: int
    left: int
    height: int
    width: int
    is_test: bool = False


def make_parts(request: CutRequest, progress: Progress | None = None) -> list[Part]:
    """Look at the images, deal them into cells where asked, and hold out the test ones.

    Raises
    ------
    ConfigError, DataError, GeoError
        When images cannot be used together, or cannot be held out as asked.
    """
    progress = progress or NullProgress()
    charts = []
    for path, name in find_images(list(request.images)):
        charts.append(Chart(raster.describe_image(path, name, request.read)))
    _check_alike(charts)
    parts = [part for chart in charts for part in _deal(chart, request.cells)]
    small = [part.name for part in parts if min(part.height, part.width) < request.side]
    if len(small) == len(parts):
        raise DataError(f"{small[0]}: is smaller than a window of {request.side} pixels")
    for name in small:
        progress.say(f"{name}: smaller than a window, left out")
    parts = [part for part in parts if part.name not in set(small)]
    held_out = _hold_out(request, parts)
    return [dataclasses.replace(part, is_test=part.name in held_out) for part in parts]


def _check_alike(charts: Sequence[Chart]) -> None:
    """Refuse images of different resolutions, bodies or kinds, which one network cannot serve."""
    first = charts[0].image
    for chart in charts[1:]:
        image = chart.image
        if image.planet.is_known != first.planet.is_known or image.planet.body != first.planet.body:
            raise DataError(
                f"{image.name}: is of {image.planet.body}, {first.name} of {first.planet.body}",
                "Cut them into folders of their own.",
            )
        sizes = sorted((image.resolution or 1.0, first.resolution or 1.0))
        if sizes[1] > _SAME * sizes[0]:
            raise ConfigError(
                f"{image.name} has {image.resolution:.6g} m a pixel, {first.name} "
                f"{first.resolution:.6g}",
                f"Resample all to one by --resolution {sizes[1]:.6g}.",
            )


def _deal(chart: Chart, side: int) -> list[Part]:
    image = chart.image
    if not side:
        return [
            Part(
                name=image.name, chart=chart, top=0, left=0, height=image.height, width=image.width
            )
        ]
    starts = itertools.product(range(0, image.height, side), range(0, image.width, side))
    return [
        Part(
            name=f"{image.name}_{top // side}_{left // side}",
            chart=chart,
            top=top,
            left=left,
            height=min(side, image.height - top),
            width=min(side, image.width - left),
        )
        for top, left in starts
    ]


def _hold_out(request: CutRequest, parts: Sequence[Part]) -> set[str]:
    """Name the parts of the test set: by pattern, or a share drawn by the seed."""
    if request.catalogue is None:
        return set()
    if request.test_images:
        patterns = [pattern.strip() for pattern in request.test_images.split(",")]
        return _match_patterns(patterns, parts)
    if not request.test_share:
        return set()
    images = sorted({part.chart.image.name for part in parts})
    units = images if len(images) > 1 else sorted(part.name for part in parts)
    if len(units) < 2:
        raise ConfigError(
            "one image cannot be divided into training and test",
            "Deal it into cells by --cells 500, or cut no test set: --test-share 0.",
        )
    random = np.random.default_rng(np.random.SeedSequence([request.seed, 1]))
    count = min(max(1, round(request.test_share * len(units))), len(units) - 1)
    drawn = {units[place] for place in random.permutation(len(units))[:count]}
    return {part.name for part in parts if {part.name, part.chart.image.name} & drawn}


def _match_patterns(patterns: Sequence[str], parts: Sequence[Part]) -> set[str]:
    held_out: set[str] = set()
    for pattern in patterns:
        hits = {
            part.name
            for part in parts
            if fnmatch.fnmatchcase(part.name, pattern)
            or fnmatch.fnmatchcase(part.chart.image.name, pattern)
        }
        if not hits:
            raise ConfigError(
                f"--test-images {pattern!r} fits no image", f"There are {parts[0].name}, ..."
            )
        held_out |= hits
    if len(held_out) == len(parts):
        raise ConfigError("--test-images holds out every image", "Leave some for training.")
    return held_out
