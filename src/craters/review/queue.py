"""Choose which patch to label next: the query strategy of the review (active learning).

Of ten patches, one is from the random part (see `labels.merge`), seven are uncertain and unlike
each other, and two have a given label that the model contradicts. If no patches of one kind are
left, the others replace it.

Uncertain: of the patches without an answer, the share whose logit is nearest to the decision
threshold; of these, the one farthest, in the network's features, from all patches answered or
chosen before (greedy k-center: Gonzalez 1985, doi 10.1016/0304-3975(85)90224-5; Sener and Savarese
2018, arXiv 1708.00489). Without a model, the farthest patch ("diverse").

Suspected: the probability of the class that is not the given label exceeds 0.5 and the mean
probability of that class among the patches labeled so (confident learning: Northcutt et al. 2021,
doi 10.1613/jair.1.12125).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator

import numpy as np

from craters.data import UNLABELED
from craters.labels import Tally
from craters.review.features import PatchPredictions
from craters.review.source import Source, random_rows

RANDOM, UNCERTAIN, DIVERSE, SUSPECTED = "random", "uncertain", "diverse", "suspected"
MIX = (
    UNCERTAIN, UNCERTAIN, SUSPECTED, UNCERTAIN, UNCERTAIN, RANDOM, UNCERTAIN, SUSPECTED,
    UNCERTAIN, UNCERTAIN,
)  # fmt: skip
MIX_WHYS = frozenset(MIX) | {DIVERSE}
MIX_WORDS = (
    "Of ten patches, seven are uncertain and unlike each other, two have a label that the model "
    "contradicts, one is from the random part."
)

_BATCH = 30  # patches chosen at once
_POOL = (60, 0.1, 2000)  # uncertain patches to choose from: at least, share, at most
_CENTERS = 1000  # answered patches that new ones should be unlike
_LEASE = 120.0  # seconds for which a patch shown to one reviewer is kept from others


@dataclasses.dataclass(frozen=True)
class Query:
    """A patch to label, and the reason for choosing it."""

    row: int
    why: str


def k_center(features: np.ndarray, centers: np.ndarray, count: int) -> np.ndarray:
    """Choose rows one by one, each the farthest from the centers and from rows already chosen.

    Parameters
    ----------
    features : ndarray, shape (N, K)
    centers : ndarray, shape (M, K)
        Without centers, the first row is chosen first.
    count : int

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> k_center(line, np.empty((0, 1)), 3).tolist()
    [0, 3, 1]
    """
    wide = np.asarray(features, np.float64)
    squares = (wide**2).sum(axis=1)
    nearest = np.full(len(wide), np.inf)
    if len(centers):
        others = np.asarray(centers, np.float64)
        apart = squares[:, None] - 2 * wide @ others.T + (others**2).sum(axis=1)
        nearest = np.maximum(apart.min(axis=1), 0)
    chosen: list[int] = []
    for _ in range(min(count, len(wide))):
        row = int(nearest.argmax())
        chosen.append(row)
        apart = squares - 2 * wide @ wide[row] + squares[row]
        nearest = np.minimum(nearest, np.maximum(apart, 0))
        nearest[row] = -1
    return np.array(chosen, np.intp)


def uncertainty(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Return the distance between the logits and the threshold's logit; 0 is the most uncertain."""
    edge = 1e-7
    p = np.clip(np.asarray(probability, np.float64), edge, 1 - edge)
    t = min(max(threshold, edge), 1 - edge)
    return np.abs(np.log(p / (1 - p)) - np.log(t / (1 - t)))


def doubted(given: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return rows whose given label the probabilities contradict, the strongest first."""
    known = (given != UNLABELED) & np.isfinite(probability)
    classes = [known & (given == label) for label in (0, 1)]
    if not all(rows.any() for rows in classes):
        return np.empty(0, np.intp)
    by_class = np.stack([1 - probability, probability], axis=1)
    limits = [by_class[rows, label].mean() for label, rows in enumerate(classes)]
    other = 1 - np.maximum(given, 0)
    every = np.arange(len(given))
    against = by_class[every, other]
    suspected = known & (against >= np.array(limits)[other]) & (against > 0.5)
    rows = np.flatnonzero(suspected)
    return rows[np.argsort(-against[rows], kind="stable")]


class QueryStrategy:
    """Choose patches for reviewers. Not thread-safe: the caller holds the lock.

    Parameters
    ----------
    source : Source
    seed : int
        Seed of the label store.
    clock : callable
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.clock = source, clock
        self.predictions: PatchPredictions | None = None
        self.random_rows = random_rows(source, seed)
        self.is_random = np.zeros(len(source), bool)
        self.is_random[self.random_rows] = True
        self.suspected_rows = np.empty(0, np.intp)
        self._chosen: list[int] = []
        self._answered: dict[int, None] = {}  # rows with an answer of anyone, in order
        self._seen = 0
        self._starts: dict[tuple[str, str], int] = {}
        self._leases: dict[int, tuple[str, float]] = {}

    def update(self, predictions: PatchPredictions, audit: np.ndarray | None = None) -> None:
        """Use new predictions; find suspected labels by `audit` (out of fold) if given."""
        self.predictions, self._chosen = predictions, []
        self._starts.clear()
        probability = predictions.probability if audit is None else audit
        self.suspected_rows = doubted(self.source.given, probability)

    def upcoming(
        self, reviewer: str, tally: Tally, count: int, skip: Collection[int] = ()
    ) -> list[Query]:
        """Choose the next patches for a reviewer, in the order to show them."""
        self._catch_up(tally)
        place = sum(tally.answer_counts[reviewer, why] for why in MIX_WHYS)
        taken, queries = set(skip), []
        for step in range(count):
            query = self._next_query(MIX[(place + step) % len(MIX)], reviewer, tally, taken)
            if query is None:
                break
            taken.add(query.row)
            queries.append(query)
            self._leases[query.row] = (reviewer, self.clock() + _LEASE)
        return queries

    def _next_query(self, why: str, reviewer: str, tally: Tally, taken: set[int]) -> Query | None:
        order = [why, *(kind for kind in (UNCERTAIN, RANDOM, SUSPECTED) if kind != why)]
        for kind in order:
            for row in self._candidates(kind, reviewer, tally):
                if row in taken or self._is_reserved(row, reviewer, kind):
                    continue
                if tally.answer_of(self.source.id_of(row), reviewer) is None:
                    return Query(row, self._reason(kind))
        return None

    def _reason(self, kind: str) -> str:
        has_model = self.predictions is not None and bool(self.predictions.sha256)
        return DIVERSE if kind == UNCERTAIN and not has_model else kind

    def _is_reserved(self, row: int, reviewer: str, kind: str) -> bool:
        if kind == RANDOM:  # every reviewer answers these, to measure agreement
            return False
        holder, until = self._leases.get(row, ("", 0.0))
        return holder not in ("", reviewer) and until > self.clock()

    def _catch_up(self, tally: Tally) -> None:
        """Update the answered rows from the entries since the last call."""
        for number in range(self._seen + 1, tally.last + 1):
            entry = tally.entries.get(number)
            row = None if entry is None else self.source.row_of(entry.patch)
            if entry is None or row is None:
                continue
            if tally.votes(entry.patch):
                self._answered[row] = None
            else:
                self._answered.pop(row, None)
            if entry.undoes is not None:
                self._starts.clear()
        self._seen = tally.last

    def _candidates(self, kind: str, reviewer: str, tally: Tally) -> Iterator[int]:
        if kind == UNCERTAIN:
            yield from self._uncertain()
            return
        rows = self.random_rows if kind == RANDOM else self.suspected_rows
        start = self._starts.get((reviewer, kind), 0)
        while start < len(rows):  # those in front stay answered until something is undone
            if tally.answer_of(self.source.id_of(int(rows[start])), reviewer) is None:
                break
            start += 1
        self._starts[reviewer, kind] = start
        yield from (int(row) for row in rows[start:])

    def _uncertain(self) -> Iterator[int]:
        left = [row for row in self._chosen if row not in self._answered]
        yield from left
        fresh = self._choose(left)
        self._chosen = [*left, *fresh]
        yield from fresh

    def _choose(self, left: list[int]) -> list[int]:
        """Choose a batch of uncertain patches that are unlike each other and the answered ones."""
        if self.predictions is None:
            return []
        is_free = (self.source.given == UNLABELED) & ~self.is_random
        known = np.array([*self._answered, *left], np.intp)
        is_free[known] = False
        rows = np.flatnonzero(is_free)
        if not len(rows):
            return []
        least, share, most = _POOL
        size = int(min(len(rows), most, max(least, share * len(rows))))
        if self.predictions.sha256:
            far = uncertainty(self.predictions.probability[rows], self.predictions.threshold)
            near = np.argpartition(far, size - 1)[:size]
            rows = rows[near[np.argsort(far[near], kind="stable")]]
        else:
            rows = np.random.default_rng(len(known)).permutation(rows)[:size]
        features = self.predictions.features
        picked = k_center(features[rows], features[known[-_CENTERS:]], _BATCH)
        return [int(row) for row in rows[picked]]
