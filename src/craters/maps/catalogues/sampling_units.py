"""Divide images into sampling units (images or cells), and hold out some as a test set."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Sequence

import numpy as np

from craters.core import NullProgress, Progress
from craters.errors import ConfigError, DataError
from craters.maps.catalogues.window_rules import Chart
from craters.maps.geo import EIGHT_BIT, describe_image, find_images, skipped_files
from craters.settings import SamplingRequest

_SAME = 1.03  # resolutions within this ratio count as equal


@dataclasses.dataclass(frozen=True)
class SamplingUnit:
    """An image, or a cell of one: windows lie inside it, and its patches form one group."""

    name: str
    chart: Chart
    top: int
    left: int
    height: int
    width: int
    is_test: bool = False


def make_sampling_units(
    request: SamplingRequest, progress: Progress | None = None
) -> list[SamplingUnit]:
    """Open the images, divide them into cells if requested, and mark the test units.

    Raises
    ------
    ConfigError, DataError, GeoError
        If the images cannot be used together, or the test set cannot be held out.
    """
    progress = progress or NullProgress()
    charts = []
    for sentence in skipped_files(request.images):
        progress.warn(sentence)
    for path, name in find_images(list(request.images)):
        charts.append(Chart(describe_image(path, name, request.read, reference=EIGHT_BIT)))
    _check_alike(charts)
    units = [unit for chart in charts for unit in _divide(chart, request.cells)]
    small = [unit.name for unit in units if min(unit.height, unit.width) < request.side]
    if len(small) == len(units):
        raise DataError(f"{small[0]}: smaller than a window of {request.side} pixels")
    for name in small:
        progress.say(f"{name}: smaller than a window, skipped")
    units = [unit for unit in units if unit.name not in set(small)]
    held_out = _hold_out(request, units)
    return [dataclasses.replace(unit, is_test=unit.name in held_out) for unit in units]


def _check_alike(charts: Sequence[Chart]) -> None:
    """Raise an error if the images differ in body, resolution or kind."""
    first = charts[0].image
    for chart in charts[1:]:
        image = chart.image
        if not image.planet.shares_body(first.planet):
            raise DataError(
                f"{image.name}: shows {image.planet.body_label}, {first.name} shows "
                f"{first.planet.body_label}",
                "Sample them into separate folders.",
            )
        sizes = sorted((image.resolution or 1.0, first.resolution or 1.0))
        if sizes[1] > _SAME * sizes[0]:
            raise ConfigError(
                f"{image.name} has {image.resolution:.6g} m/px, {first.name} "
                f"{first.resolution:.6g}",
                f"Resample all to one by --resolution {sizes[1]:.6g}.",
            )


def _divide(chart: Chart, side: int) -> list[SamplingUnit]:
    image = chart.image
    if not side:
        return [
            SamplingUnit(
                name=image.name, chart=chart, top=0, left=0, height=image.height, width=image.width
            )
        ]
    starts = itertools.product(range(0, image.height, side), range(0, image.width, side))
    return [
        SamplingUnit(
            name=f"{image.name}_{top // side}_{left // side}",
            chart=chart,
            top=top,
            left=left,
            height=min(side, image.height - top),
            width=min(side, image.width - left),
        )
        for top, left in starts
    ]


def _hold_out(request: SamplingRequest, units: Sequence[SamplingUnit]) -> set[str]:
    """Return the names of the test units, chosen by pattern or drawn at random."""
    if request.catalogue is None:
        return set()
    if request.test_images:
        patterns = [pattern.strip() for pattern in request.test_images.split(",")]
        return _match_patterns(patterns, units)
    if not request.test_share:
        return set()
    images = sorted({unit.chart.image.name for unit in units})
    groups = images if len(images) > 1 else sorted(unit.name for unit in units)
    if len(groups) < 2:
        raise ConfigError(
            "one image cannot be divided into training and test",
            "Divide it into cells by --cells 500, or hold out no test set: --test-share 0.",
        )
    random = np.random.default_rng(np.random.SeedSequence([request.seed, 1]))
    count = min(max(1, round(request.test_share * len(groups))), len(groups) - 1)
    drawn = {groups[place] for place in random.permutation(len(groups))[:count]}
    return {unit.name for unit in units if {unit.name, unit.chart.image.name} & drawn}


def _match_patterns(patterns: Sequence[str], units: Sequence[SamplingUnit]) -> set[str]:
    held_out: set[str] = set()
    for pattern in patterns:
        hits = {
            unit.name
            for unit in units
            if fnmatch.fnmatchcase(unit.name, pattern)
            or fnmatch.fnmatchcase(unit.chart.image.name, pattern)
        }
        if not hits:
            raise ConfigError(
                f"--test-images {pattern!r} matches no image", f"There are {units[0].name}, ..."
            )
        held_out |= hits
    if len(held_out) == len(units):
        raise ConfigError("--test-images holds out every image", "Leave some for training.")
    return held_out
