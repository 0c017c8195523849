"""Inputs and findings of an audit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np

from craters.data import UNLABELED, CopySearch, PatchSet, find_array, patches
from craters.errors import DataError
from craters.quality.label_errors import LabelAudit
from craters.quality.shift import Shift

# The files of each array: images, labels, groups.
STEMS = {
    "labeled": ("Xtrain1", "Ytrain1", "groups_train"),
    "extra": ("Xtrain1_extra", "", "groups_extra"),
    "test": ("Xtest1", "Ytest1", "groups_test"),
}


def read_arrays(folder: Path) -> dict[str, PatchSet]:
    """Read the arrays of a job; extra and test may be absent, and extra may be empty.

    Raises
    ------
    DataError
        If a file is missing or invalid.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected one with Xtrain1.npy and Ytrain1.npy")
    sets = {}
    for name, stems in STEMS.items():
        images, labels, groups = (find_array(folder, stem) for stem in stems)
        if name == "labeled" or images.is_file():
            has_labels = bool(stems[1]) and (name == "labeled" or labels.is_file())
            least = 0 if name == "extra" else 1  # all of them may have been labeled in a review
            array = patches.read_patches(
                images, labels if has_labels else None, groups, least=least
            )
            if len(array):
                sets[name] = array
    for other in sets.values():
        if other.side != sets["labeled"].side:
            raise DataError(
                f"{other.source}: found patches of {other.side} x {other.side} pixels, expected "
                f"{sets['labeled'].side} x {sets['labeled'].side} as in {sets['labeled'].source}",
                "Cut all patches to one size.",
            )
    return sets


@dataclasses.dataclass(frozen=True)
class Findings:
    """All findings of an audit; rows are numbered consecutively over all arrays.

    Parameters
    ----------
    folder : Path
        Folder of the arrays.
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
    sets: dict[str, PatchSet]
    flaws: np.ndarray
    copies: CopySearch
    labels: LabelAudit | None
    shifts: list[Shift]
    notes: list[str]

    @functools.cached_property
    def array(self) -> np.ndarray:
        """Index of each row's array."""
        return np.repeat(np.arange(len(self.sets)), [len(one) for one in self.sets.values()])

    @functools.cached_property
    def place(self) -> np.ndarray:
        """Index of each row within its array."""
        return np.concatenate([np.arange(len(one)) for one in self.sets.values()])

    @functools.cached_property
    def given(self) -> np.ndarray:
        """Label of each row, -1 if unknown."""
        return np.concatenate([one.labels for one in self.sets.values()])

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Id of each row: the stem of its file and its index."""
        return np.concatenate([one.ids for one in self.sets.values()])

    def image(self, row: int) -> np.ndarray:
        """Return the pixels of a row."""
        sets = list(self.sets.values())
        return np.asarray(sets[self.array[row]].images[self.place[row]])

    @functools.cached_property
    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Near copies of each content, both ways: those of c are at starts[c] to starts[c + 1]."""
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
            for one, other in (pair, pair[::-1]):
                if has[0][one] >= 0 and has[1][other] >= 0:
                    pairs.append((int(has[0][one]), int(has[1][other]), float(value)))
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
