"""Choose the patch windows of `craters patches`, from a crater catalogue and a seed.

With crater (1): the centre of a catalogued crater of the diameter range is at most `jitter` pixels
from the window's centre, and at least half of the crater's disc is inside the window.
Without crater (0): the window touches the disc of no catalogued crater of any diameter.
Windows that meet neither rule get no label. Unlabeled windows are drawn regardless of craters.

Windows lie inside their image (and cell), overlap little, and contain at most a given share of
pixels without data. The draws depend on the seed, the settings and the image's name, not on the
other images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from craters.maps.catalogues import window_rules
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.sampling_units import SamplingUnit
from craters.maps.catalogues.window_rules import Chart, Craters
from craters.maps.geo import raster
from craters.settings import CutRequest

LABELED, UNLABELED, TEST = "Xtrain1", "Xtrain1_extra", "Xtest1"

_INSIDE = 0.5  # of a crater's disc
_MAX_OVERLAP = 0.2  # of a window's area
_TRIES = 8  # windows tried per crater
_BATCH = 256  # windows drawn and checked together
_EFFORT = 40  # windows tried per window wanted


@dataclasses.dataclass(frozen=True)
class PatchWindow:
    """The window of one sampled patch.

    Parameters
    ----------
    top, left : int
    label : int
        1, 0 or -1.
    crater : int
        Row of the catalogue of the crater that gave label 1, or -1.
    nodata_share : float
        Share of pixels without data.
    """

    top: int
    left: int
    label: int
    crater: int = -1
    nodata_share: float = 0.0


SamplingPlan = dict[str, list[tuple[SamplingUnit, PatchWindow]]]


def plan_patches(
    request: CutRequest, units: Sequence[SamplingUnit], catalogue: Catalogue | None
) -> SamplingPlan:
    """Choose all windows; from the images, only the no-data masks are used.

    Returns
    -------
    dict of str to list of (SamplingUnit, PatchWindow)
        Windows of the arrays `LABELED`, `UNLABELED` and `TEST`, in row order.
    """
    chosen: dict[str, list[PatchWindow]] = {unit.name: [] for unit in units}
    if catalogue is not None:
        for is_test in (False, True):
            side_of = [unit for unit in units if unit.is_test == is_test]
            _plan_labeled(request, side_of, catalogue, {p.chart.image.name for p in units}, chosen)
    training = [unit for unit in units if not unit.is_test]
    wanted = _share_out(request.unlabeled, len(training))
    for (unit, sampler), count in zip(_samplers(request, training), wanted, strict=True):
        sampler.add_random(chosen[unit.name], count, -1, None)
    plan: SamplingPlan = {LABELED: [], UNLABELED: [], TEST: []}
    for unit in units:
        for window in sorted(chosen[unit.name], key=lambda one: (one.top, one.left)):
            name = UNLABELED if window.label < 0 else TEST if unit.is_test else LABELED
            plan[name].append((unit, window))
    return plan


def _plan_labeled(
    request: CutRequest,
    units: Sequence[SamplingUnit],
    catalogue: Catalogue,
    names: set[str],
    chosen: dict[str, list[PatchWindow]],
) -> None:
    """Choose windows with crater in every unit, then windows without to reach the wanted share."""
    craters: dict[str, Craters] = {}
    for unit, sampler in _samplers(request, units):
        image = unit.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, unit.chart, names)}
        sampler.add_craters(chosen[unit.name], craters[image])
    n_craters = sum(len(chosen[unit.name]) for unit in units)
    wanted = round(n_craters * (1 - request.crater_share) / request.crater_share)
    spare = -(-3 * wanted // max(len(units), 1)) + 1  # units differ in free area
    found: list[list[PatchWindow]] = []
    for unit, sampler in _samplers(request, units):
        image = unit.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, unit.chart, names)}
        before = len(chosen[unit.name])
        windows = list(chosen[unit.name])
        sampler.add_random(windows, spare if wanted else 0, 0, craters[image])
        found.append(windows[before:])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*found))
    places = itertools.cycle(units)
    taken = 0
    for unit, window in zip(places, turns, strict=False):
        if window is not None and taken < wanted:
            chosen[unit.name].append(window)
            taken += 1


def _samplers(
    request: CutRequest, units: Sequence[SamplingUnit]
) -> Iterator[tuple[SamplingUnit, Sampler]]:
    """Yield a sampler for each unit; open the images one after the other."""
    with raster.bounded_gdal():
        for image, group in itertools.groupby(units, key=lambda unit: unit.chart.image):
            reader = raster.Reader(image)
            try:
                for unit in group:
                    yield unit, Sampler(request, unit, reader)
            finally:
                reader.close()


class _Taken:
    """Chosen windows in a grid of cells of the window size, for fast overlap checks."""

    def __init__(self, side: int, windows: Sequence[PatchWindow]) -> None:
        self.side = side
        self.squares: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for window in windows:
            self.add(window.top, window.left)

    def add(self, top: int, left: int) -> None:
        """Add a window."""
        self.squares.setdefault((top // self.side, left // self.side), []).append((top, left))

    def has_room(self, top: int, left: int) -> bool:
        """Return whether a window overlaps every chosen window by at most `_MAX_OVERLAP`."""
        side, steps = self.side, (-1, 0, 1)
        for down, right in itertools.product(steps, steps):
            for other in self.squares.get((top // side + down, left // side + right), ()):
                shared = max(side - abs(top - other[0]), 0) * max(side - abs(left - other[1]), 0)
                if shared > _MAX_OVERLAP * side**2:
                    return False
        return True


class Sampler:
    """Chooses the windows of one sampling unit.

    Parameters
    ----------
    request : CutRequest
    unit : SamplingUnit
    reader : Reader
        Reader of its image.
    """

    def __init__(self, request: CutRequest, unit: SamplingUnit, reader: raster.Reader) -> None:
        self.request, self.unit, self.reader = request, unit, reader
        self.side = request.side
        self.room = (unit.height - self.side + 1, unit.width - self.side + 1)

    def add_craters(self, windows: list[PatchWindow], craters: Craters) -> None:
        """Append a window for each crater of the diameter range that fits, in random order."""
        unit, side = self.unit, self.side
        low, high = crater_range(self.request, unit.chart)
        rows, cols = craters.rows - unit.top, craters.cols - unit.left
        fits = (craters.diameters >= low) & (craters.diameters <= high)
        fits &= (rows >= -side) & (rows <= unit.height + side)  # NaN does not
        fits &= (cols >= -side) & (cols <= unit.width + side)
        random = self._generator("craters")
        jitter = side / 4 if self.request.jitter is None else self.request.jitter
        taken = _Taken(side, windows)
        for place in random.permutation(np.flatnonzero(fits)).tolist():
            tops = self._draw_offsets(random, craters.rows[place], jitter, unit.top, self.room[0])
            lefts = self._draw_offsets(random, craters.cols[place], jitter, unit.left, self.room[1])
            keep = (tops >= 0) & (lefts >= 0)
            tops, lefts = tops[keep], lefts[keep]
            disc = window_rules.disc_pixels(
                unit.chart, craters.places[place], float(craters.diameters[place])
            )
            shown = window_rules.share_inside(disc, tops, lefts, side) >= _INSIDE
            found = tops[shown], lefts[shown]
            entry = int(craters.entries[place])
            self._take(windows, taken, *found, len(windows) + 1, label=1, crater=entry)

    def _draw_offsets(
        self, random: np.random.Generator, middle: float, jitter: float, start: int, room: int
    ) -> np.ndarray:
        """Draw offsets along one axis; -1 where the window would reach beyond the unit."""
        low, high = window_rules.allowed_range(middle, self.side, jitter)
        low, high = max(low, start), min(high, start + room - 1)
        if low > high:
            return np.full(_TRIES, -1)
        return random.integers(low, high + 1, _TRIES)

    def add_random(
        self, windows: list[PatchWindow], wanted: int, label: int, craters: Craters | None
    ) -> None:
        """Append random windows; if craters are given, only windows that touch none of them."""
        if min(self.room) < 1 or wanted < 1:
            return
        random, full = self._generator(f"label {label}"), len(windows) + wanted
        taken = _Taken(self.side, windows)
        for _ in range(-(-_EFFORT * wanted // _BATCH)):
            tops = self.unit.top + random.integers(0, self.room[0], _BATCH)
            lefts = self.unit.left + random.integers(0, self.room[1], _BATCH)
            if craters is not None:
                free = ~window_rules.touches(self.unit.chart, craters, tops, lefts, self.side)
                tops, lefts = tops[free], lefts[free]
            self._take(windows, taken, tops, lefts, full, label=label)
            if len(windows) == full:
                return

    def _take(
        self,
        windows: list[PatchWindow],
        taken: _Taken,
        tops: np.ndarray,
        lefts: np.ndarray,
        full: int,
        *,
        label: int,
        crater: int = -1,
    ) -> None:
        """Append windows with little overlap and few no-data pixels, until there are `full`."""
        side = self.side
        for top, left in zip(tops.tolist(), lefts.tolist(), strict=True):
            if len(windows) >= full:
                return
            if not taken.has_room(top, left):
                continue
            nodata_share = float(self.reader.read(top, left, side, side)[1].mean())
            if nodata_share <= self.request.max_gap:
                windows.append(
                    PatchWindow(
                        top=top, left=left, label=label, crater=crater, nodata_share=nodata_share
                    )
                )
                taken.add(top, left)

    def _generator(self, purpose: str) -> np.random.Generator:
        """Make the random generator of one purpose in one unit, independent of other units."""
        digest = hashlib.blake2b(f"{self.unit.name}\n{purpose}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        return np.random.default_rng(np.random.SeedSequence([self.request.seed, key]))


def crater_range(request: CutRequest, chart: Chart) -> tuple[float, float]:
    """Return the smallest and largest diameter that gives label 1, in metres or pixels."""
    scale = 1000.0 if chart.image.planet.is_known else 1.0
    if request.diameters is not None:
        return request.diameters[0] * scale, request.diameters[1] * scale
    pixel = chart.image.resolution or 1.0
    return 10 * pixel, request.side * pixel


def _share_out(total: int, count: int) -> list[int]:
    """Split a number into nearly equal shares.

    Examples
    --------
    >>> _share_out(7, 3)
    [3, 2, 2]
    """
    if not count:
        return []
    return [total // count + (place < total % count) for place in range(count)]
