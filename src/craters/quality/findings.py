"""Inputs and findings of an audit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np

from craters.data import UNLABELED, CopySearch, PatchSet, dataset, find_array
from craters.errors import DataError
from craters.quality.label_errors import LabelAudit
from craters.quality.shift import Shift


def read_arrays(folder: Path) -> dict[str, PatchSet]:
    """Read the arrays of a job; extra and test may be absent, and extra may be empty.

    Raises
    ------
    DataError
        If a file is missing or invalid.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected one with Xtrain1.npy and Ytrain1.npy")
    sets = {
        name: dataset.read_set(folder, name)
        for name, (images, *_) in dataset.STEMS.items()
        if name == "labeled" or find_array(folder, images).is_file()
    }
    sets = {name: patches for name, patches in sets.items() if len(patches)}
    dataset.check_equal_sides(*sets.values())
    return sets


@dataclasses.dataclass(frozen=True)
class Findings:
    """All findings of an audit; rows are numbered consecutively over all arrays.

    Parameters
    ----------
    folder : Path
        Folder of the arrays.
    source : Path
        The data set that they are of.
    sets : dict of PatchSet
        By name: labeled, extra, test.
    flaws : ndarray of str, shape (N,)
        See `flaws.find_flaws`.
    copies : CopySearch
    labels : LabelAudit or None
        Of the labeled set, whose rows come first; None if no network was trained.
    shifts : list of Shift
    notes : list of str
    """

    folder: Path
    source: Path
    sets: dict[str, PatchSet]
    flaws: np.ndarray
    copies: CopySearch
    labels: LabelAudit | None
    shifts: list[Shift]
    notes: list[str]

    @functools.cached_property
    def array(self) -> np.ndarray:
        """Index of each row's array."""
        return np.repeat(
            np.arange(len(self.sets)), [len(patches) for patches in self.sets.values()]
        )

    @functools.cached_property
    def place(self) -> np.ndarray:
        """Index of each row within its array."""
        return np.concatenate([np.arange(len(patches)) for patches in self.sets.values()])

    @functools.cached_property
    def given(self) -> np.ndarray:
        """Label of each row, -1 if unknown."""
        return np.concatenate([patches.labels for patches in self.sets.values()])

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Id of each row: the stem of its file and its index."""
        return np.concatenate([patches.ids for patches in self.sets.values()])

    def image(self, row: int) -> np.ndarray:
        """Return the pixels of a row."""
        sets = list(self.sets.values())
        return np.asarray(sets[self.array[row]].images[self.place[row]])

    @functools.cached_property
    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Near copies of all contents; those of content c are at starts[c] to starts[c + 1]."""
        both = np.concatenate([self.copies.pairs, self.copies.pairs[:, ::-1]])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        starts = np.searchsorted(both[:, 0], np.arange(len(self.copies.rows) + 1))
        return starts, both[:, 1]

    def copy_counts(self) -> list[tuple[str, str, int, int]]:
        """Count the patches of each array that have a copy in each array.

        Returns
        -------
        list of (name, name, equal, near)
            A patch with an equal copy is not counted as near. Pairs without copies are left out.
        """
        rows = {name: np.flatnonzero(self.array == number) for number, name in enumerate(self.sets)}
        counts = []
        for first, second in itertools.product(rows, repeat=2):
            equal, near = self.copies.among(rows[first], rows[second])
            if equal.any() or near.any():
                counts.append((first, second, int(equal.sum()), int(near.sum())))
        return counts

    @functools.cached_property
    def conflicts(self) -> list[tuple[int, int, float]]:
        """Copies with different labels: row without crater, row with crater, correlation.

        Equal patches come first, then near copies by decreasing correlation.
        """
        has = {label: self._first_labeled(label) for label in (0, 1)}
        inside = np.flatnonzero((has[0] >= 0) & (has[1] >= 0))
        pairs = [(int(has[0][c]), int(has[1][c]), 1.0) for c in inside]
        order = np.argsort(-self.copies.correlation, kind="stable")
        for pair, value in zip(
            self.copies.pairs[order], self.copies.correlation[order], strict=True
        ):
            for negative, positive in (pair, pair[::-1]):
                if has[0][negative] >= 0 and has[1][positive] >= 0:
                    pairs.append((int(has[0][negative]), int(has[1][positive]), float(value)))
        return pairs

    def _first_labeled(self, label: int) -> np.ndarray:
        """Return the first row of each content with a given label; -1 if there is none."""
        rows = np.flatnonzero(self.given == label)[::-1]
        first = np.full(len(self.copies.rows), UNLABELED, int)
        first[self.copies.content[rows]] = rows
        return first

    @functools.cached_property
    def in_conflict(self) -> np.ndarray:
        """Whether each row is labeled and has a copy with the other label."""
        contents = (
            self.copies.content[[row for pair in self.conflicts for row in pair[:2]]]
            if self.conflicts
            else np.zeros(0, int)
        )
        return np.isin(self.copies.content, contents) & (self.given != UNLABELED)
