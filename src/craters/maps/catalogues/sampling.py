"""`craters patches`: where to cut training patches out of images, by a catalogue and a seed.

With crater (1): a catalogued crater of the size range has its centre within the jitter of the
window's centre, and at least half of its disc is inside the window.
Without (0): no catalogued crater's disc touches the window, whatever its size.
Windows that are neither are left out of the labels; the unlabeled ones may be anything.

Windows lie wholly in their image (and cell), share little of their area with each other, and hold
gaps up to a limit. Draws depend on the seed, the settings and the image's name, not on its
neighbours in the list.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from craters.maps.catalogues import window_rules
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.sampling_units import Part
from craters.maps.catalogues.window_rules import Chart, Craters
from craters.maps.geo import raster
from craters.settings import CutRequest

LABELED, UNLABELED, TEST = "Xtrain1", "Xtrain1_extra", "Xtest1"

_INSIDE = 0.5  # of a crater's disc
_MAX_OVERLAP = 0.2  # of a window's area
_TRIES = 8  # windows tried for a crater
_BATCH = 256  # windows drawn and looked at together
_EFFORT = 40  # windows tried for each that is wanted


@dataclasses.dataclass(frozen=True)
class Cut:
    """A window to cut.

    Parameters
    ----------
    top, left : int
    label : int
        1, 0 or -1.
    crater : int
        Row of the catalogue that made it "with crater", or -1.
    gap : float
        Missing share.
    """

    top: int
    left: int
    label: int
    crater: int = -1
    gap: float = 0.0


Plan = dict[str, list[tuple[Part, Cut]]]


def plan_cuts(request: CutRequest, parts: Sequence[Part], catalogue: Catalogue | None) -> Plan:
    """Choose all windows; nothing but gaps is read from the images.

    Returns
    -------
    dict of str to list of (Part, Cut)
        By array: `LABELED`, `UNLABELED`, `TEST`; each in the order of its rows.
    """
    chosen: dict[str, list[Cut]] = {part.name: [] for part in parts}
    if catalogue is not None:
        for is_test in (False, True):
            side_of = [part for part in parts if part.is_test == is_test]
            _plan_labeled(request, side_of, catalogue, {p.chart.image.name for p in parts}, chosen)
    training = [part for part in parts if not part.is_test]
    wanted = _share_out(request.unlabeled, len(training))
    for (part, sampler), count in zip(_samplers(request, training), wanted, strict=True):
        sampler.add_random(chosen[part.name], count, -1, None)
    plan: Plan = {LABELED: [], UNLABELED: [], TEST: []}
    for part in parts:
        for cut in sorted(chosen[part.name], key=lambda one: (one.top, one.left)):
            name = UNLABELED if cut.label < 0 else TEST if part.is_test else LABELED
            plan[name].append((part, cut))
    return plan


def _plan_labeled(
    request: CutRequest,
    parts: Sequence[Part],
    catalogue: Catalogue,
    names: set[str],
    chosen: dict[str, list[Cut]],
) -> None:
    """Choose windows with crater in every part, then as many without as the share asks for."""
    craters: dict[str, Craters] = {}
    for part, sampler in _samplers(request, parts):
        image = part.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, part.chart, names)}
        sampler.add_craters(chosen[part.name], craters[image])
    n_craters = sum(len(chosen[part.name]) for part in parts)
    wanted = round(n_craters * (1 - request.crater_share) / request.crater_share)
    spare = -(-3 * wanted // max(len(parts), 1)) + 1  # parts differ in how much room they have
    found: list[list[Cut]] = []
    for part, sampler in _samplers(request, parts):
        image = part.chart.image.name
        if image not in craters:
            craters = {image: window_rules.craters_of(catalogue, part.chart, names)}
        before = len(chosen[part.name])
        cuts = list(chosen[part.name])
        sampler.add_random(cuts, spare if wanted else 0, 0, craters[image])
        found.append(cuts[before:])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*found))
    places = itertools.cycle(parts)
    taken = 0
    for part, cut in zip(places, turns, strict=False):
        if cut is not None and taken < wanted:
            chosen[part.name].append(cut)
            taken += 1


def _samplers(request: CutRequest, parts: Sequence[Part]) -> Iterator[tuple[Part, Sampler]]:
    """Open images one after the other."""
    with raster.bounded_gdal():
        for image, group in itertools.groupby(parts, key=lambda part: part.chart.image):
            reader = raster.Reader(image)
            try:
                for part in group:
                    yield part, Sampler(request, part, reader)
            finally:
                reader.close()


class _Taken:
    """Windows that are chosen, by squares of their size: only neighbours need be looked at."""

    def __init__(self, side: int, cuts: Sequence[Cut]) -> None:
        self.side = side
        self.squares: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for one in cuts:
            self.add(one.top, one.left)

    def add(self, top: int, left: int) -> None:
        """Remember a window."""
        self.squares.setdefault((top // self.side, left // self.side), []).append((top, left))

    def leaves(self, top: int, left: int) -> bool:
        """Tell whether a window shares little with every one that is chosen."""
        side, steps = self.side, (-1, 0, 1)
        for down, right in itertools.product(steps, steps):
            for other in self.squares.get((top // side + down, left // side + right), ()):
                shared = max(side - abs(top - other[0]), 0) * max(side - abs(left - other[1]), 0)
                if shared > _MAX_OVERLAP * side**2:
                    return False
        return True


class Sampler:
    """Chooses windows of one part.

    Parameters
    ----------
    request : CutRequest
    part : Part
    reader : Reader
        Of its image.
    """

    def __init__(self, request: CutRequest, part: Part, reader: raster.Reader) -> None:
        self.request, self.part, self.reader = request, part, reader
        self.side = request.side
        self.room = (part.height - self.side + 1, part.width - self.side + 1)

    def add_craters(self, cuts: list[Cut], craters: Craters) -> None:
        """Append a window for each crater of the size range that fits, in random order."""
        part, side = self.part, self.side
        low, high = crater_range(self.request, part.chart)
        rows, cols = craters.rows - part.top, craters.cols - part.left
        fits = (craters.diameters >= low) & (craters.diameters <= high)
        fits &= (rows >= -side) & (rows <= part.height + side)  # NaN does not
        fits &= (cols >= -side) & (cols <= part.width + side)
        random = self._generator("craters")
        jitter = side / 4 if self.request.jitter is None else self.request.jitter
        taken = _Taken(side, cuts)
        for place in random.permutation(np.flatnonzero(fits)).tolist():
            tops = self._draw_offsets(random, craters.rows[place], jitter, part.top, self.room[0])
            lefts = self._draw_offsets(random, craters.cols[place], jitter, part.left, self.room[1])
            keep = (tops >= 0) & (lefts >= 0)
            tops, lefts = tops[keep], lefts[keep]
            disc = window_rules.disc_pixels(
                part.chart, craters.places[place], float(craters.diameters[place])
            )
            shown = window_rules.share_inside(disc, tops, lefts, side) >= _INSIDE
            found = tops[shown], lefts[shown]
            entry = int(craters.entries[place])
            self._take(cuts, taken, *found, len(cuts) + 1, label=1, crater=entry)

    def _draw_offsets(
        self, random: np.random.Generator, middle: float, jitter: float, start: int, room: int
    ) -> np.ndarray:
        """Draw offsets along one axis; -1 where a window would leave the part."""
        low, high = window_rules.allowed_range(middle, self.side, jitter)
        low, high = max(low, start), min(high, start + room - 1)
        if low > high:
            return np.full(_TRIES, -1)
        return random.integers(low, high + 1, _TRIES)

    def add_random(self, cuts: list[Cut], wanted: int, label: int, craters: Craters | None) -> None:
        """Append windows from anywhere; where craters are given, such that touch none of them."""
        if min(self.room) < 1 or wanted < 1:
            return
        random, full = self._generator(f"label {label}"), len(cuts) + wanted
        taken = _Taken(self.side, cuts)
        for _ in range(-(-_EFFORT * wanted // _BATCH)):
            tops = self.part.top + random.integers(0, self.room[0], _BATCH)
            lefts = self.part.left + random.integers(0, self.room[1], _BATCH)
            if craters is not None:
                free = ~window_rules.touches(self.part.chart, craters, tops, lefts, self.side)
                tops, lefts = tops[free], lefts[free]
            self._take(cuts, taken, tops, lefts, full, label=label)
            if len(cuts) == full:
                return

    def _take(
        self,
        cuts: list[Cut],
        taken: _Taken,
        tops: np.ndarray,
        lefts: np.ndarray,
        full: int,
        *,
        label: int,
        crater: int = -1,
    ) -> None:
        """Append windows that share little with those before and hold few gaps, until `full`."""
        side = self.side
        for top, left in zip(tops.tolist(), lefts.tolist(), strict=True):
            if len(cuts) >= full:
                return
            if not taken.leaves(top, left):
                continue
            gap = float(self.reader.read(top, left, side, side)[1].mean())
            if gap <= self.request.max_gap:
                cuts.append(Cut(top=top, left=left, label=label, crater=crater, gap=gap))
                taken.add(top, left)

    def _generator(self, purpose: str) -> np.random.Generator:
        """Make the generator of one purpose in one part, whatever other parts there are."""
        digest = hashlib.blake2b(f"{self.part.name}\n{purpose}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        return np.random.default_rng(np.random.SeedSequence([self.request.seed, key]))


def crater_range(request: CutRequest, chart: Chart) -> tuple[float, float]:
    """Return smallest and largest diameter that makes a patch "with crater", metres or pixels."""
    scale = 1000.0 if chart.image.planet.is_known else 1.0
    if request.diameters is not None:
        return request.diameters[0] * scale, request.diameters[1] * scale
    pixel = chart.image.resolution or 1.0
    return 10 * pixel, request.side * pixel


def _share_out(total: int, count: int) -> list[int]:
    """Deal a number into nearly equal shares.

    Examples
    --------
    >>> _share_out(7, 3)
    [3, 2, 2]
    """
    if not count:
        return []
    return [total // count + (place < total % count) for place in range(count)]
