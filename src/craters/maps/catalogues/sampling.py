"""Choose the patch windows of `craters patches` at random, with labels from a catalogue.

With crater (1): the centre of a catalogued crater of the diameter range is at most `jitter` pixels
from the window's centre, and at least half of the crater's disc is inside the window.
Without crater (0): the window touches the disc of no catalogued crater of any diameter.
Windows that meet neither rule get no label. Unlabeled windows are drawn from everywhere in the
training images, so that their share of craters is that of the images: regardless of craters and of
labeled windows, and as many from each unit as its size requires.

Windows lie inside their image (and cell), and contain at most a given share of pixels without data.
Labeled windows overlap each other little, and so do unlabeled ones. The draws depend on the seed,
the settings and the image's name, not on the other images; the number of unlabeled windows of an
image depends on its share of the area.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from craters.core import Steps
from craters.maps.catalogues import window_rules
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.sampling_units import SamplingUnit
from craters.maps.catalogues.window_rules import Chart, Craters
from craters.maps.geo import Reader, bounded_gdal
from craters.settings import SamplingRequest

LABELED, UNLABELED, TEST = "Xtrain1", "Xtrain1_extra", "Xtest1"

_INSIDE = 0.5  # least share of a crater's disc inside a window of label 1
_MAX_OVERLAP = 0.2  # share of a window's area
_TRIES = 8  # windows tried per crater
_BATCH = 256  # windows drawn and checked together
_DRAWS = 40  # windows drawn per window wanted

# Costs, from which the time left is estimated: milliseconds of one processor in 2026.
READ_COST = 0.8  # of a window
_CRATER_COST = 1.2  # of a crater, whose windows are tried
_TOUCH_COST = 0.012  # of a crater, whose distance to a batch of windows is measured
_USUAL_DRAWS = 10  # windows drawn per window wanted, before it is known


@dataclasses.dataclass(frozen=True)
class PatchWindow:
    """The window of one sampled patch.

    Parameters
    ----------
    top, left : int
        Upper-left pixel in the image.
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


class SamplingSteps:
    """The steps of sampling, whose cost is counted, and known once some units are sampled.

    Parameters
    ----------
    steps : Steps
    """

    def __init__(self, steps: Steps) -> None:
        self._steps, self._step, self._count = steps, "", 0
        self._finished, self._cost = 0, 0.0

    def begin(self, step: str, units: int) -> None:
        """Begin a step that samples some units one after the other."""
        self._step, self._count, self._finished, self._cost = step, units, 0, 0.0

    def expect(self, step: str, cost: float) -> None:
        """Correct the work of a later step."""
        self._steps.expect(step, cost)

    def count(self, cost: float, share: float) -> None:
        """Receive the cost of some work, and the share of its unit that is finished with it."""
        self._cost += cost
        done = self._finished + share
        if done:
            self._steps.expect(self._step, self._cost * self._count / done)
            self._steps.advance(self._step, done / self._count)

    def end_unit(self) -> None:
        """Receive that a unit is finished."""
        self.count(0.0, 1.0)
        self._finished += 1


def plan_patches(
    request: SamplingRequest,
    units: Sequence[SamplingUnit],
    catalogue: Catalogue | None,
    steps: Steps | None = None,
) -> SamplingPlan:
    """Choose all windows; from the images, only the no-data masks are used.

    Parameters
    ----------
    request : SamplingRequest
    units : sequence of SamplingUnit
    catalogue : Catalogue or None
    steps : Steps, optional
        With those of `usual_costs`; are advanced.

    Returns
    -------
    dict of str to list of (SamplingUnit, PatchWindow)
        Windows of the arrays `LABELED`, `UNLABELED` and `TEST`, in row order.
    """
    chosen: dict[str, list[PatchWindow]] = {unit.name: [] for unit in units}
    counter = SamplingSteps(steps or Steps(None, usual_costs(request, units, catalogue)))
    if catalogue is not None:
        for is_test in (False, True):
            subset = [unit for unit in units if unit.is_test == is_test]
            names = {unit.chart.image.name for unit in units}
            _plan_labeled(request, subset, catalogue, names, chosen, counter)
    training = [unit for unit in units if not unit.is_test]
    wanted = _share_out(request.unlabeled, [_positions(unit, request.side) for unit in training])
    labeled = sum(map(len, chosen.values()))
    counter.expect("read", READ_COST * (labeled + request.unlabeled))
    counter.begin("unlabeled", len(training))
    for (unit, sampler), count in zip(_samplers(request, training, counter), wanted, strict=True):
        unlabeled: list[PatchWindow] = []  # may overlap the labeled windows
        sampler.add_random(unlabeled, count, -1, None)
        chosen[unit.name] += unlabeled
        counter.end_unit()
    plan: SamplingPlan = {LABELED: [], UNLABELED: [], TEST: []}
    for unit in units:
        for window in sorted(chosen[unit.name], key=lambda window: (window.top, window.left)):
            name = UNLABELED if window.label < 0 else TEST if unit.is_test else LABELED
            plan[name].append((unit, window))
    return plan


def usual_costs(
    request: SamplingRequest, units: Sequence[SamplingUnit], catalogue: Catalogue | None
) -> dict[str, float]:
    """Return the costs of the steps of sampling, as they may be before they begin."""
    costs = {"unlabeled": READ_COST * request.unlabeled, "read": READ_COST * request.unlabeled}
    if catalogue is None:
        return costs
    low, high = crater_range(request, units[0].chart)
    fitting = int(((catalogue.diameters >= low) & (catalogue.diameters <= high)).sum())
    for is_test in (False, True):
        craters = fitting * sum(unit.is_test == is_test for unit in units) / len(units)
        costs |= {
            f"with crater, {is_test}": _CRATER_COST * craters,
            f"without crater, {is_test}": 3 * READ_COST * craters,
        }
        costs["read"] += 2 * READ_COST * craters
    return costs


def _plan_labeled(
    request: SamplingRequest,
    units: Sequence[SamplingUnit],
    catalogue: Catalogue,
    names: set[str],
    chosen: dict[str, list[PatchWindow]],
    counter: SamplingSteps,
) -> None:
    """Choose windows with crater in every unit, then windows without to reach the wanted share."""
    craters: dict[str, Craters] = {}
    is_test = any(unit.is_test for unit in units)
    counter.begin(f"with crater, {is_test}", len(units))
    for unit, sampler in _samplers(request, units, counter):
        image = unit.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, unit.chart, names)}
        sampler.add_craters(chosen[unit.name], craters[image])
        counter.end_unit()
    n_craters = sum(len(chosen[unit.name]) for unit in units)
    wanted = round(n_craters * (1 - request.crater_share) / request.crater_share)
    spare = -(-3 * wanted // max(len(units), 1)) + 1  # units differ in free area
    without_crater: list[list[PatchWindow]] = []
    known = max((len(each.rows) for each in craters.values()), default=0)
    each = READ_COST + _USUAL_DRAWS * _TOUCH_COST * known / _BATCH
    step = f"without crater, {is_test}"
    counter.expect(step, each * spare * len(units) if wanted else 0.0)
    counter.begin(step, len(units))
    for unit, sampler in _samplers(request, units, counter):
        image = unit.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, unit.chart, names)}
        before = len(chosen[unit.name])
        windows = list(chosen[unit.name])
        sampler.add_random(windows, spare if wanted else 0, 0, craters[image])
        without_crater.append(windows[before:])
        counter.end_unit()
    # One window of each unit in turn.
    turns = itertools.chain.from_iterable(itertools.zip_longest(*without_crater))
    taken = 0
    for unit, window in zip(itertools.cycle(units), turns, strict=False):
        if window is not None and taken < wanted:
            chosen[unit.name].append(window)
            taken += 1


def _samplers(
    request: SamplingRequest, units: Sequence[SamplingUnit], counter: SamplingSteps
) -> Iterator[tuple[SamplingUnit, Sampler]]:
    """Yield a sampler for each unit; open the images one after the other."""
    with bounded_gdal():
        for image, group in itertools.groupby(units, key=lambda unit: unit.chart.image):
            with contextlib.closing(Reader(image)) as reader:
                for unit in group:
                    yield unit, Sampler(request, unit, reader, counter)


class _OverlapIndex:
    """Index of the chosen windows in cells of the window size, for fast overlap checks."""

    def __init__(self, side: int, windows: Sequence[PatchWindow]) -> None:
        self.side = side
        self._cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for window in windows:
            self.add(window.top, window.left)

    def add(self, top: int, left: int) -> None:
        """Add a window."""
        self._cells.setdefault((top // self.side, left // self.side), []).append((top, left))

    def has_room(self, top: int, left: int) -> bool:
        """Return whether a window overlaps every chosen window by at most `_MAX_OVERLAP`."""
        side, steps = self.side, (-1, 0, 1)
        for down, right in itertools.product(steps, steps):
            for other in self._cells.get((top // side + down, left // side + right), ()):
                shared = max(side - abs(top - other[0]), 0) * max(side - abs(left - other[1]), 0)
                if shared > _MAX_OVERLAP * side**2:
                    return False
        return True


class Sampler:
    """Chooses the windows of one sampling unit.

    Parameters
    ----------
    request : SamplingRequest
    unit : SamplingUnit
    reader : Reader
        Reader of its image.
    counter : SamplingSteps
        Counts the work.
    """

    def __init__(
        self, request: SamplingRequest, unit: SamplingUnit, reader: Reader, counter: SamplingSteps
    ) -> None:
        self.request, self.unit, self.reader, self.counter = request, unit, reader, counter
        self.side = request.side
        self.room = (unit.height - self.side + 1, unit.width - self.side + 1)

    def add_craters(self, windows: list[PatchWindow], craters: Craters) -> None:
        """Append a window for each crater of the diameter range that fits, in random order."""
        unit, side = self.unit, self.side
        low, high = crater_range(self.request, unit.chart)
        rows, cols = craters.rows - unit.top, craters.cols - unit.left
        fits = craters.counted & (craters.diameters >= low) & (craters.diameters <= high)
        fits &= (rows >= -side) & (rows <= unit.height + side)  # false for NaN
        fits &= (cols >= -side) & (cols <= unit.width + side)
        random = self._generator("craters")
        jitter = side / 4 if self.request.jitter is None else self.request.jitter
        index = _OverlapIndex(side, windows)
        order = random.permutation(np.flatnonzero(fits)).tolist()
        for number, row in enumerate(order, 1):
            self.counter.count(_CRATER_COST, number / len(order))
            tops = self._draw_offsets(random, craters.rows[row], jitter, unit.top, self.room[0])
            lefts = self._draw_offsets(random, craters.cols[row], jitter, unit.left, self.room[1])
            keep = (tops >= 0) & (lefts >= 0)
            tops, lefts = tops[keep], lefts[keep]
            disc = window_rules.disc_pixels(
                unit.chart, craters.places[row], float(craters.diameters[row])
            )
            shown = window_rules.share_inside(disc, tops, lefts, side) >= _INSIDE
            self._accept(
                windows, index, tops[shown], lefts[shown], len(windows) + 1,
                label=1, crater=int(craters.entries[row]),
            )  # fmt: skip

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
        index = _OverlapIndex(self.side, windows)
        batches, before = -(-_DRAWS * wanted // _BATCH), len(windows)
        for number in range(1, batches + 1):
            tops = self.unit.top + random.integers(0, self.room[0], _BATCH)
            lefts = self.unit.left + random.integers(0, self.room[1], _BATCH)
            if craters is not None:
                free = ~window_rules.touches(self.unit.chart, craters, tops, lefts, self.side)
                tops, lefts = tops[free], lefts[free]
            begun = len(windows)
            self._accept(windows, index, tops, lefts, full, label=label)
            cost = READ_COST * (len(windows) - begun)
            cost += 0.0 if craters is None else _TOUCH_COST * len(craters.rows)
            self.counter.count(cost, max(number / batches, (len(windows) - before) / wanted))
            if len(windows) == full:
                return

    def _accept(
        self,
        windows: list[PatchWindow],
        index: _OverlapIndex,
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
            if not index.has_room(top, left):
                continue
            nodata_share = float(self.reader.read(top, left, side, side)[1].mean())
            if nodata_share <= self.request.max_gap:
                windows.append(
                    PatchWindow(
                        top=top, left=left, label=label, crater=crater, nodata_share=nodata_share
                    )
                )
                index.add(top, left)

    def _generator(self, purpose: str) -> np.random.Generator:
        """Make the random generator of one purpose in one unit, independent of other units."""
        digest = hashlib.blake2b(f"{self.unit.name}\n{purpose}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        return np.random.default_rng(np.random.SeedSequence([self.request.seed, key]))


def crater_range(request: SamplingRequest, chart: Chart) -> tuple[float, float]:
    """Return the smallest and largest diameter that gives label 1, in metres or pixels."""
    scale = 1000.0 if chart.image.planet.is_known else 1.0
    if request.diameters is not None:
        return request.diameters[0] * scale, request.diameters[1] * scale
    pixel = chart.image.resolution or 1.0
    return 10 * pixel, request.side * pixel


def _positions(unit: SamplingUnit, side: int) -> int:
    """Return the number of positions that a window can have in a unit."""
    return (unit.height - side + 1) * (unit.width - side + 1)


def _share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Split a number in proportion to weights, rounded so that the parts add up to it.

    Examples
    --------
    >>> _share_out(7, [1, 1, 1]), _share_out(7, [50, 10, 10])
    ([3, 2, 2], [5, 1, 1])
    """
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts
