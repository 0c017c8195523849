"""Evaluate the entries of a label store: current answers, consensus, agreement.

Consensus: each reviewer's last answer about a patch that was not undone is one vote. "unsure" is
no vote. The majority of votes decides between crater and not; a tie is disputed and has no label.
Where everyone is unsure, the patch is unsure and has no label. A minimum number of votes can be
required.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import numpy as np

from craters.evaluation import bootstrap, percentile_limits, table_counts
from craters.labels.store import CRATER, NOT, UNSURE, Entry

DISPUTED = "disputed"
RULE = (
    "one vote a reviewer (the last answer that was not undone), 'unsure' is no vote, the majority "
    "of votes decides, a tie is disputed and gives no label"
)


class EntrySource(Protocol):
    """What a tally reads: a label store, or its answers about circles."""

    def entries(self, after: int = 0) -> Sequence[Entry]:
        """Return all entries with a number above `after`, in order."""
        ...


class Tally:
    """Current answers by patch and reviewer, updated entry by entry."""

    def __init__(self) -> None:
        self.last = 0
        self.entries: dict[int, Entry] = {}
        self.answer_counts: Counter[tuple[str, str]] = Counter()  # answers by reviewer and reason
        self.standing: Counter[str] = Counter()  # patches with a current answer, by reviewer
        self._standing: dict[str, dict[str, list[Entry]]] = {}

    @classmethod
    def of(cls, store: EntrySource) -> Self:
        """Build a tally from all entries of a store."""
        tally = cls()
        tally.catch_up(store)
        return tally

    def catch_up(self, store: EntrySource) -> int:
        """Read the entries stored since the last call, by any process; return their number."""
        return self.take(store.entries(self.last))

    def take(self, entries: Iterable[Entry]) -> int:
        """Add entries, in order; return their number."""
        count = 0
        for entry in entries:
            self.last, count = entry.entry, count + 1
            self.entries[entry.entry] = entry
            stack = self._standing.setdefault(entry.patch, {}).setdefault(entry.reviewer, [])
            had = bool(stack)
            if entry.undoes is None:
                self.answer_counts[entry.reviewer, entry.why] += 1
                stack.append(entry)
            else:
                stack[:] = [earlier for earlier in stack if earlier.entry != entry.undoes]
            self.standing[entry.reviewer] += bool(stack) - had
        return count

    def votes(self, patch: str) -> dict[str, Entry]:
        """Return the current answer of each reviewer about a patch."""
        stacks = self._standing.get(patch, {})
        return {reviewer: stack[-1] for reviewer, stack in stacks.items() if stack}

    def answer_of(self, patch: str, reviewer: str) -> Entry | None:
        """Return the current answer of one reviewer, or None."""
        stack = self._standing.get(patch, {}).get(reviewer)
        return stack[-1] if stack else None

    def answered(self) -> list[str]:
        """Return the patches with a current answer, in the order of first answers."""
        return [patch for patch in self._standing if self.votes(patch)]

    def consensus(self, patch: str, *, least: int = 1) -> str | None:
        """Return crater, not, unsure or disputed; None where there are too few answers."""
        return consensus([vote.answer for vote in self.votes(patch).values()], least=least)

    def consensus_labels(self, *, least: int = 1) -> dict[str, int]:
        """Return the label, 1 or 0, of each patch with a consensus."""
        labels = {}
        for patch in self.answered():
            word = self.consensus(patch, least=least)
            if word in (CRATER, NOT):
                labels[patch] = int(word == CRATER)
        return labels

    def disputed(self) -> list[str]:
        """Return patches with both answers, crater and not."""
        return [
            patch
            for patch in self.answered()
            if {CRATER, NOT} <= {vote.answer for vote in self.votes(patch).values()}
        ]

    def reviewers(self) -> list[str]:
        """Return the names of all reviewers, sorted."""
        return sorted({entry.reviewer for entry in self.entries.values()})


def consensus(answers: Iterable[str], *, least: int = 1) -> str | None:
    """Apply the consensus rule of this module to the answers about one patch.

    Examples
    --------
    >>> consensus(["crater", "crater", "not"]), consensus(["crater", "not"])
    ('crater', 'disputed')
    >>> consensus(["unsure"]), consensus(["crater", "unsure"]), consensus([])
    ('unsure', 'crater', None)
    >>> consensus(["crater"], least=2) is None
    True
    """
    counts = Counter(answers)
    votes = counts[CRATER] + counts[NOT]
    if votes == 0:
        return UNSURE if counts[UNSURE] else None
    if votes < least:
        return None
    if counts[CRATER] == counts[NOT]:
        return DISPUTED
    return CRATER if counts[CRATER] > counts[NOT] else NOT


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of two reviewers on the patches that both labeled crater or not.

    Parameters
    ----------
    first, second : str
    n : int
    agreement : float
        Share of equal answers; NaN without common patches.
    kappa : float
        Cohen's kappa; NaN where chance agreement is 1.
    interval : tuple of float
        95 %, percentile bootstrap over patches.
    table : list of list of int
        Rows the first reviewer's not and crater, columns the second's.
    unsure : int
        Excluded patches, of which at least one reviewer was unsure.
    """

    first: str
    second: str
    n: int
    agreement: float
    kappa: float
    interval: tuple[float, float]
    table: list[list[int]]
    unsure: int


def cohen_kappa(table: np.ndarray) -> np.ndarray:
    """Compute Cohen's kappa of tables (..., 2, 2); NaN where chance agreement is 1.

    References
    ----------
    Cohen 1960, doi 10.1177/001316446002000104.

    Examples
    --------
    >>> round(float(cohen_kappa(np.array([[20, 5], [10, 15]]))), 3)
    0.4
    """
    counts = np.asarray(table, float)
    total = counts.sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (counts[..., 0, 0] + counts[..., 1, 1]) / total
        rows, columns = counts.sum(-1), counts.sum(-2)
        chance = (rows * columns).sum(-1) / total**2
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def agreements(tally: Tally, *, draws: int = 1000) -> list[Agreement]:
    """Compute the agreement of each pair of reviewers."""
    names = tally.reviewers()
    pairs: dict[tuple[str, str], list[list[int]]] = {}
    unsure: Counter[tuple[str, str]] = Counter()
    for patch in tally.answered():
        votes = tally.votes(patch)
        for pair in itertools.combinations(sorted(votes), 2):
            pair_answers = [votes[name].answer for name in pair]
            if UNSURE in pair_answers:
                unsure[pair] += 1
                continue
            table = pairs.setdefault(pair, [[0, 0], [0, 0]])
            table[pair_answers[0] == CRATER][pair_answers[1] == CRATER] += 1
    return [
        _agreement(pair, pairs.get(pair, [[0, 0], [0, 0]]), unsure[pair], draws)
        for pair in itertools.combinations(names, 2)
    ]


def _agreement(pair: tuple[str, str], table: list[list[int]], unsure: int, draws: int) -> Agreement:
    counts = np.array(table)
    n = int(counts.sum())
    interval = (float("nan"), float("nan"))
    if n:
        values = cohen_kappa(bootstrap(table_counts(counts), np.asarray, draws=draws))
        values = values[np.isfinite(values)]
        if len(values):
            interval = percentile_limits(values)
    same = float((counts[0, 0] + counts[1, 1]) / n) if n else float("nan")
    return Agreement(
        first=pair[0],
        second=pair[1],
        n=n,
        agreement=same,
        kappa=float(cohen_kappa(counts)),
        interval=interval,
        table=table,
        unsure=unsure,
    )
