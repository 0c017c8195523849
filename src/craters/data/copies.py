"""Find all equal and nearly equal patches, with few pairwise comparisons.

Comparing 100,000 patches pixel by pixel takes 5 * 10^9 pairs of 2304 pixels. Instead, each patch is
standardized (mean 0, norm 1) and split into the low frequencies of its discrete cosine transform
(Ahmed et al. 1974, doi 10.1109/T-C.1974.223784) and the rest. The correlation of two patches is the
scalar product of their low frequencies plus that of their rests, and the latter is at most the
product of the norms of the rests (Cauchy-Schwarz). So a few dozen numbers for each patch give an
upper bound of every correlation, as one matrix product; only pairs whose bound exceeds the
threshold are compared in full.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from craters.core import NullProgress, Progress
from craters.data import splits
from craters.settings import MOST_SHIFT

COPY_CORRELATION = 0.95
MOST_PARTNERS = 64  # listed near copies of one patch at one shift

_SIZES = (4, 6, 8, 12, 16, 24)  # cosine coefficients along a side
_ROWS, _COLUMNS = 256, 4096  # block of the comparison that fits the processor's cache
_SLACK = 1e-4  # tolerance for rounding in the bound
_SAMPLE = 1024  # patches from which the number of coefficients is chosen
_PAIRS = 1024  # pairs compared in full at a time
_EMBEDDED = 1024  # patches transformed at a time
_SEARCHED = 1 << 16  # patches whose coefficients are in memory at a time, if some are judged
_SECONDS_PER_COEFFICIENT, _SECONDS_PER_ENTRY, _SECONDS_PER_PIXEL = 2.5e-11, 2e-9, 6e-9


@dataclasses.dataclass(frozen=True)
class CopySearch:
    """The copies among a set of patches.

    Parameters
    ----------
    content : ndarray of int, shape (N,)
        Patches with equal pixels have equal numbers: 0, 1, ... in the order of appearance.
    rows : ndarray of int, shape (C,)
        The first patch of each content.
    pairs : ndarray of int, shape (P, 2)
        Contents that are near copies, the smaller number first; sorted.
    correlation : ndarray of float32, shape (P,)
        Correlation of their pixels, above 0.95, at the shift where it is highest.
    shift : ndarray of int8, shape (P, 2)
        Rows (down) and columns (right) by which the second has to be shifted to match the first.
    crowded : ndarray of bool, shape (C,)
        Contents with more near copies than are listed.
    """

    content: np.ndarray
    rows: np.ndarray
    pairs: np.ndarray
    correlation: np.ndarray
    shift: np.ndarray
    crowded: np.ndarray

    @functools.cached_property
    def families(self) -> np.ndarray:
        """Number the connected groups of copies; return the number of each patch."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self.rows)
        ones = np.ones(len(self.pairs), np.int8)
        graph = coo_array((ones, (self.pairs[:, 0], self.pairs[:, 1])), shape=(count, count))
        return connected_components(graph, directed=False)[1][self.content]

    def among(self, judged: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find which patches have a copy among others.

        Parameters
        ----------
        judged, seen : ndarray of int
            Rows of the patches to test, and of those to compare with; a patch in both is not a
            copy of itself.

        Returns
        -------
        equal, near : ndarray of bool, shape (len(judged),)
            A patch with an equal copy does not count as one with a near copy.

        Examples
        --------
        >>> patch = np.random.default_rng(0).integers(0, 200, (12, 12)).astype(np.uint8)
        >>> search = search_copies(np.stack([patch, patch, patch + 9, patch.T]))
        >>> equal, near = search.among(np.array([0, 2, 3]), np.array([1, 3]))
        >>> equal.tolist(), near.tolist()
        ([True, False, False], [False, True, False])
        """
        count = np.bincount(self.content[seen], minlength=len(self.rows))
        has_near = np.zeros(len(self.rows), bool)
        for first, second in (self.pairs.T, self.pairs.T[::-1]):
            np.logical_or.at(has_near, first, count[second] > 0)
        content = self.content[judged]
        equal = count[content] > np.isin(judged, seen)
        return equal, has_near[content] & ~equal

    @property
    def is_repeated(self) -> np.ndarray:
        """Return whether each patch has an exact copy."""
        return np.bincount(self.content)[self.content] > 1

    @property
    def is_near(self) -> np.ndarray:
        """Return whether each patch has a near copy with other pixels."""
        has_near = np.zeros(len(self.rows), bool)
        has_near[self.pairs.ravel()] = True
        return has_near[self.content]


def search_copies(
    images: np.ndarray,
    *,
    shift: int = 1,
    threads: int = 1,
    judged: np.ndarray | None = None,
    progress: Progress | None = None,
) -> CopySearch:
    """Find all equal patches, and all pairs that correlate by more than 0.95.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
        A constant patch is a copy only of equal ones.
    shift : int
        Also find pairs that correlate, where they overlap, after a shift of up to this many rows
        and columns; 0 to 4. The time grows with 2 * shift * (shift + 1).
    threads : int
        Does not affect results.
    judged : ndarray of int, optional
        Rows of the patches whose near copies are wanted: those of others with each other are not
        searched, so that the time grows with N and not with its square, and memory beyond the
        patches does not grow with N.
    progress : Progress, optional
        Receives the number of patches that have been compared with all, at each shift.

    Returns
    -------
    CopySearch
        If a patch has more than `MOST_PARTNERS` near copies at one shift, only that many are
        listed, the closest of those found first, and it is not compared at further shifts.

    Examples
    --------
    >>> patch = np.random.default_rng(0).integers(0, 200, (12, 12)).astype(np.uint8)
    >>> moved = np.roll(patch, 1, axis=1)
    >>> search = search_copies(np.stack([patch, patch, patch + 9, moved, patch.T]))
    >>> search.content.tolist(), search.pairs.tolist(), search.shift.tolist()
    ([0, 0, 1, 2, 3], [[0, 1], [0, 2], [1, 2]], [[0, 0], [0, -1], [0, -1]])
    """
    content, rows = splits.number_by_appearance(splits.content_ids(images))
    distinct = images if len(rows) == len(images) else images[rows]
    results, crowded = [], np.zeros(len(rows), bool)
    size = _choose_size(distinct)
    shifts = list(_shifts(shift) if judged is None else _all_shifts(shift))
    wanted = np.arange(len(rows)) if judged is None else np.unique(content[judged])
    report = _Reporter(progress or NullProgress(), len(wanted), len(shifts) * len(rows))
    for down, right in shifts:
        first, second = _overlap(distinct, down, right), _overlap(distinct, -down, -right)
        if judged is None:
            left = np.flatnonzero(~crowded)
            if len(left) < len(distinct):
                first, second = first[left], second[left]
            found = _search_bands(first, second, size, threads, report)
        else:
            left = np.arange(len(distinct))
            few = wanted[~crowded[wanted]]
            found = _search_rows(first, second, few, size, threads, report)
        for pairs, full in found:
            crowded[left[full]] = True
            pairs[:, :2] = left[pairs[:, :2].astype(int)]
            results.append((pairs, np.broadcast_to((down, right), (len(pairs), 2))))
        report.end_shift(len(wanted) * len(rows))
    return _gather(results, content, rows, crowded)


class _Reporter:
    """Reports the share of the comparisons that are made; patches may be left out at later shifts.

    Parameters
    ----------
    progress : Progress
    count : int
        Patches to compare with others.
    each : int
        Comparisons of each, at all shifts.
    """

    def __init__(self, progress: Progress, count: int, each: int) -> None:
        self._progress, self._count, self._each = progress, count, each
        self._before = self._done = 0
        self.compared(0)

    def compared(self, pairs: int) -> None:
        """Receive the number of pairs that a band has compared."""
        self._done += pairs
        share = self._done / max(self._count * self._each, 1)
        self._progress.work(int(share * self._count), self._count, "patches compared", share)

    def end_shift(self, pairs: int) -> None:
        """Receive the number of pairs of a shift that is finished, with those left out."""
        self._before += pairs
        self.compared(self._before - self._done)


def _all_shifts(most: int) -> Iterator[tuple[int, int]]:
    """Yield each shift and its reverse."""
    for down, right in _shifts(most):
        yield down, right
        if down or right:
            yield -down, -right


def _shifts(most: int) -> Iterator[tuple[int, int]]:
    """Yield each shift, but not its reverse, which is the same comparison of swapped patches."""
    for down in range(most + 1):
        for right in range(-most if down else 0, most + 1):
            yield down, right


def _overlap(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the part of each patch that overlaps with a patch shifted down and right."""
    height, width = images.shape[1:]
    return images[
        :,
        max(0, down) : height + min(0, down),
        max(0, right) : width + min(0, right),
    ]


_Pairs = np.ndarray  # (n, 3): first, second, correlation


def _search_bands(
    first: np.ndarray,
    second: np.ndarray,
    size: int,
    threads: int,
    report: _Reporter,
    own: np.ndarray | None = None,
) -> Iterator[tuple[_Pairs, np.ndarray]]:
    """Yield the pairs of each band of rows, and the rows with more pairs than are listed.

    `own` is the place of each row of `first` in `second`, by default the same.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    ours, theirs = _embed(first, size), _embed(second, size)
    places = np.arange(len(first)) if own is None else own

    def band(start: int) -> tuple[_Pairs, np.ndarray]:
        rows = slice(start, start + _ROWS)
        pairs, full = _search_band(first[rows], second, ours[rows], theirs, places[rows])
        pairs[:, 0] += start
        return pairs, full + start

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        starts = range(0, len(first), _ROWS)
        for start, found in zip(starts, pool.map(band, starts), strict=True):
            report.compared(len(first[start : start + _ROWS]) * len(second))
            yield found


def _search_rows(
    first: np.ndarray,
    second: np.ndarray,
    rows: np.ndarray,
    size: int,
    threads: int,
    report: _Reporter,
) -> Iterator[tuple[_Pairs, np.ndarray]]:
    """Yield the pairs of some rows of `first`, comparing them with a part of `second` at a time."""
    judged, found = first[rows], [np.zeros((0, 3))]
    is_full = np.zeros(len(rows), bool)
    for begin in range(0, len(second), _SEARCHED):
        part = second[begin : begin + _SEARCHED]
        for pairs, full in _search_bands(judged, part, size, threads, report, own=rows - begin):
            pairs[:, 1] += begin
            found.append(pairs)
            is_full[full] = True
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs[:, 1], -pairs[:, 2], pairs[:, 0]))]
    is_listed = _ranks(pairs[:, 0]) < MOST_PARTNERS
    is_full[pairs[~is_listed, 0].astype(int)] = True
    pairs = pairs[is_listed]
    pairs[:, 0] = rows[pairs[:, 0].astype(int)]
    yield pairs, rows[is_full]


def _search_band(
    first: np.ndarray, second: np.ndarray, ours: np.ndarray, theirs: np.ndarray, own: np.ndarray
) -> tuple[_Pairs, np.ndarray]:
    """Compare a band of patches with all patches; rows do not affect each other."""
    partners, kept = np.zeros(len(ours), int), []
    for begin in range(0, len(theirs), _COLUMNS):
        bound = ours @ theirs[begin : begin + _COLUMNS].T
        flat = np.flatnonzero(bound > COPY_CORRELATION - _SLACK)
        row, column = np.divmod(flat, bound.shape[1])
        is_other = own[row] != column + begin
        row, column = row[is_other], column[is_other]
        while len(row):
            is_due = (partners[row] <= MOST_PARTNERS) & (_ranks(row) < 2 * MOST_PARTNERS)
            value = correlate(first, second, row[is_due], column[is_due] + begin)
            good = value > COPY_CORRELATION
            pair = (row[is_due][good], column[is_due][good] + begin, value[good])
            kept.append(np.stack(pair, axis=1).astype(np.float64))
            partners += np.bincount(row[is_due][good], minlength=len(ours))
            is_left = ~is_due & (partners[row] <= MOST_PARTNERS)
            row, column = row[is_left], column[is_left]
    pairs = np.concatenate(kept) if kept else np.zeros((0, 3))
    pairs = pairs[np.lexsort((pairs[:, 1], -pairs[:, 2], pairs[:, 0]))]
    return pairs[_ranks(pairs[:, 0]) < MOST_PARTNERS], np.flatnonzero(partners > MOST_PARTNERS)


def _ranks(sorted_values: np.ndarray) -> np.ndarray:
    """Count, for each entry of a sorted array, the equal ones before it."""
    place = np.arange(len(sorted_values))
    is_new = np.diff(sorted_values, prepend=-1) != 0
    return place - np.maximum.accumulate(np.where(is_new, place, 0))


def correlate(
    first: np.ndarray, second: np.ndarray, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Correlate the pixels of pairs of patches; 0 where one is constant.

    Parameters
    ----------
    first, second : ndarray, shape (N, H, W), uint8
    rows, others : ndarray of int, shape (P,)
        Rows of `first` and of `second`.

    Returns
    -------
    ndarray of float32, shape (P,)
    """
    correlation = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        ours, theirs = _standardize(first[rows[part]]), _standardize(second[others[part]])
        correlation[part] = np.einsum("ij,ij->i", ours, theirs)
    return correlation


def _standardize(images: np.ndarray) -> np.ndarray:
    """Subtract each patch's mean and scale it to unit norm; constant patches become 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    is_constant = (flat == flat[:, :1]).all(axis=1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    length[is_constant] = np.inf
    return flat / length


def _embed(images: np.ndarray, size: int) -> np.ndarray:
    """Return the `size` x `size` lowest cosine coefficients of each patch.

    The first one, which is 0 without the mean, is replaced by the norm of the rest.
    """
    height, width = images.shape[1:]
    rows, columns = _waves(height, size), _waves(width, size)
    embedded = np.empty((len(images), size * size), np.float32)
    for start in range(0, len(images), _EMBEDDED):
        part = images[start : start + _EMBEDDED]
        flat = _standardize(part).reshape(part.shape)
        waves = np.matmul(np.matmul(rows, flat), columns.T).reshape(len(part), -1)
        waves[:, 0] = 0
        rest = 1 - np.einsum("ij,ij->i", waves, waves)
        waves[:, 0] = np.where(flat.any(axis=(1, 2)), np.sqrt(np.maximum(rest, 0)), 0)
        embedded[start : start + _EMBEDDED] = waves
    return embedded


def _waves(length: int, size: int) -> np.ndarray:
    """Return the first `size` rows of the orthonormal discrete cosine transform."""
    place = (np.arange(length) + 0.5) / length
    waves = np.sqrt(2 / length) * np.cos(np.pi * np.arange(size)[:, None] * place)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


def _choose_size(images: np.ndarray) -> int:
    """Choose the number of coefficients with the least expected time.

    Few coefficients are compared quickly but exclude few pairs. Smooth patches need few, noisy
    ones many.
    """
    sample = images[np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int))]
    pixels = sample[0].size
    costs = {}
    for size in _SIZES:
        if size <= sample.shape[1] - MOST_SHIFT:
            waves = _embed(sample, size)
            passing = (waves @ waves.T > COPY_CORRELATION - _SLACK).mean() - 1 / len(sample)
            costs[size] = size**2 * _SECONDS_PER_COEFFICIENT + max(float(passing), 0.0) * (
                _SECONDS_PER_ENTRY + pixels * _SECONDS_PER_PIXEL
            )
    return min(costs, key=lambda size: costs[size])


def _gather(
    results: list[tuple[_Pairs, np.ndarray]],
    content: np.ndarray,
    rows: np.ndarray,
    crowded: np.ndarray,
) -> CopySearch:
    """List each pair once, at the shift of highest correlation (the smallest of equal ones)."""
    pairs = np.concatenate([part for part, _ in results])
    shift = np.concatenate([shifts for _, shifts in results]).astype(np.int8)
    ends, value = pairs[:, :2].astype(np.int64), pairs[:, 2].astype(np.float32)
    is_swapped = ends[:, 0] > ends[:, 1]
    ends[is_swapped] = ends[is_swapped, ::-1]
    shift[is_swapped] *= -1
    size = np.abs(shift).sum(axis=1)
    order = np.lexsort((shift[:, 1], shift[:, 0], size, -value, ends[:, 1], ends[:, 0]))
    ends, value, shift = ends[order], value[order], shift[order]
    is_first = np.ones(len(ends), bool)
    is_first[1:] = (np.diff(ends, axis=0) != 0).any(axis=1)
    return CopySearch(
        content=content,
        rows=rows,
        pairs=ends[is_first],
        correlation=value[is_first],
        shift=shift[is_first],
        crowded=crowded,
    )
