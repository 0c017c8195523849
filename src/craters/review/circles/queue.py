"""Choose the next circle to review: the query strategy of circles, on plain arrays.

Of ten queries, five are uncertain detections, four are likely misses, and one is a random field.
Where one kind is used up, the others replace it.

Uncertain: the detections whose logit is nearest to the decision threshold. Likely misses: the
candidates that are nearest to it from below. Of the nearest ones, the first is asked that is of the
part of an image and of the size with the fewest answers, since near circles of one size teach much
the same.

Random fields are rectangles of the images, in a random order that does not depend on any model. In
each, all craters are corrected, also those that no detector found.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from craters.review.queue import uncertainty

UNCERTAIN, MISSED, RANDOM = "uncertain", "missed", "random"
MIX = (
    UNCERTAIN, MISSED, UNCERTAIN, MISSED, UNCERTAIN, RANDOM, MISSED, UNCERTAIN, MISSED, UNCERTAIN,
)  # fmt: skip
MIX_WORDS = (
    "Of ten, five are detections near the decision threshold, four are candidates just below it, "
    "and one is a field of the random part."
)

_POOL = (60, 0.1, 2000)  # nearest circles to choose from: at least, share, at most
_PART = 512  # px: side of the part of an image whose answers are counted


@dataclasses.dataclass(frozen=True, eq=False)
class CircleCandidates:
    """Circles that a detector found, sure or not.

    Parameters
    ----------
    image : ndarray of int, shape (N,)
        Number of the image.
    x, y, diameter : ndarray of float, shape (N,)
        In pixels.
    probability : ndarray of float, shape (N,)
    threshold : float
        Least probability of a detection.
    """

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    diameter: np.ndarray
    probability: np.ndarray
    threshold: float

    def __len__(self) -> int:
        return len(self.x)

    @functools.cached_property
    def is_detection(self) -> np.ndarray:
        """Which circles are detections."""
        return np.asarray(self.probability >= self.threshold)

    @functools.cached_property
    def distance(self) -> np.ndarray:
        """Distance of each logit from that of the threshold."""
        return uncertainty(self.probability, self.threshold)

    @functools.cached_property
    def stratum(self) -> np.ndarray:
        """Number of the part of an image and range of diameters of each circle."""
        columns = [self.image, self.x // _PART, self.y // _PART, np.floor(np.log2(self.diameter))]
        _, stratum = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
        return stratum.reshape(-1)


@dataclasses.dataclass(frozen=True)
class CircleQuery:
    """A circle or a field to review; `row` is the row of a candidate or number of a field."""

    row: int
    why: str


def upcoming(
    candidates: CircleCandidates,
    is_answered: np.ndarray,
    fields: Sequence[int],
    *,
    place: int,
    count: int,
    is_open: np.ndarray | None = None,
) -> list[CircleQuery]:
    """Choose the next queries, in the order to show them.

    Parameters
    ----------
    candidates : CircleCandidates
    is_answered : ndarray of bool, shape (N,)
        Which circles have an answer of anyone.
    fields : sequence of int
        Numbers of the random fields that are not complete, in their order.
    place : int
        Number of queries answered before: the position in the mix.
    count : int
    is_open : ndarray of bool, shape (N,), optional
        Which circles may be asked; by default all without an answer. Those in a random field may
        not, because they are corrected there.

    Returns
    -------
    list of CircleQuery
        Fewer than `count` if no more are left.

    Examples
    --------
    >>> p = np.array([0.9, 0.6, 0.45, 0.1])
    >>> where = np.array([10.0, 40.0, 70.0, 100.0])
    >>> circles = CircleCandidates(np.zeros(4, int), where, where, np.full(4, 12.0), p, 0.5)
    >>> none = np.zeros(4, bool)
    >>> [(each.row, each.why) for each in upcoming(circles, none, [7], place=0, count=4)]
    [(1, 'uncertain'), (2, 'missed'), (0, 'uncertain'), (3, 'missed')]
    """
    open_now = ~is_answered if is_open is None else is_open & ~is_answered
    counts = np.bincount(
        candidates.stratum[is_answered], minlength=int(candidates.stratum.max(initial=-1)) + 1
    )
    sides = {UNCERTAIN: candidates.is_detection, MISSED: ~candidates.is_detection}
    pools = {kind: _nearest(candidates, open_now & side) for kind, side in sides.items()}
    left = {RANDOM: list(fields)} | {kind: pool.tolist() for kind, pool in pools.items()}
    queries: list[CircleQuery] = []
    for step in range(count):
        wanted = MIX[(place + step) % len(MIX)]
        order = [wanted, *(kind for kind in (UNCERTAIN, MISSED, RANDOM) if kind != wanted)]
        kind = next((kind for kind in order if left[kind]), None)
        if kind is None:
            break
        at = 0 if kind == RANDOM else int(np.argmin(counts[candidates.stratum[left[kind]]]))
        row = left[kind].pop(at)
        if kind != RANDOM:
            counts[candidates.stratum[row]] += 1
        queries.append(CircleQuery(row, kind))
    return queries


def _nearest(candidates: CircleCandidates, may_be: np.ndarray) -> np.ndarray:
    """Return the rows nearest to the threshold, the nearest first."""
    rows = np.flatnonzero(may_be)
    least, share, most = _POOL
    size = int(min(len(rows), most, max(least, share * len(rows))))
    if not size:
        return rows
    far = candidates.distance[rows]
    near = np.argpartition(far, size - 1)[:size]
    return np.asarray(rows[near[np.lexsort((rows[near], far[near]))]])
