"""Draw cross-validation folds of the labeled set that share no place and no copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from craters.data import PatchSet, splits
from craters.errors import DataError

FOLDS = 3  # more would cost more training than they gain in precision
LEAST_OF_CLASS = 2  # labels of each class that every fold's training set needs


@dataclasses.dataclass(frozen=True)
class Fold:
    """Rows of one fold.

    Parameters
    ----------
    train, held_out : ndarray of int
        Rows of the labeled set; no place and no patch is in both.
    pool : ndarray of int
        Rows of the unlabeled set, without copies of held-out patches and, if source images are
        known, without held-out places.
    """

    train: np.ndarray
    held_out: np.ndarray
    pool: np.ndarray


@dataclasses.dataclass(frozen=True)
class Folds:
    """All folds, and what each keeps together.

    Parameters
    ----------
    folds : list of Fold
    unit : {"region", "group", "patch"}
    n_unplaced : int
        Rows of the unlabeled set that may be of held-out places, because their region (unit
        "region") or source image (unit "group") is not known. They stay in each fold's pool.
    """

    folds: list[Fold]
    unit: splits.HeldOut
    n_unplaced: int = 0

    @property
    def rule(self) -> str:
        """How the folds were drawn, and which unlabeled patches may be of held-out places."""
        drawn = splits.fold_rule(self.unit, len(self.folds))
        if not self.n_unplaced:
            return drawn
        word = "region" if self.unit == "region" else "source image"
        return (
            f"{drawn}; the {word} of {self.n_unplaced} unlabeled patches is not known, so that "
            f"some may be of held-out {word}s"
        )


def draw_folds(labeled: PatchSet, pool: PatchSet, seed: int) -> Folds:
    """Split the labeled set into three folds, so that each label is held out once.

    Whole regions are held out if groups are named REGION_i_j and there are enough of them, else
    whole groups, else patches with their copies: the first of these that leaves both classes in
    every training set.

    Parameters
    ----------
    labeled, pool : PatchSet
    seed : int

    Raises
    ------
    DataError
        If there are too few labels of a class for any of these.
    """
    number = FOLDS
    for units, unit in _units(labeled):
        if (parts := _split(units, labeled.labels, number, seed)) is not None:
            by_region = unit == "region"
            folds = [
                Fold(
                    train=train,
                    held_out=held_out,
                    pool=pool_apart(pool, labeled.take(held_out), by_region=by_region),
                )
                for train, held_out in parts
            ]
            return Folds(folds=folds, unit=unit, n_unplaced=_count_unplaced(pool, unit))
    counts = np.bincount(labeled.labels, minlength=2)
    raise DataError(
        f"{labeled.source}: found {counts[0]} labels without and {counts[1]} with crater, "
        f"expected enough of both for {number} folds",
        "Label more patches of the rarer class. Without labels, `craters predict PATCHES` uses the "
        "pretrained model.",
    )


def pool_apart(pool: PatchSet, held_out: PatchSet, *, by_region: bool = False) -> np.ndarray:
    """Return the rows of a pool that share no copy and no place with held-out patches.

    Parameters
    ----------
    pool, held_out : PatchSet
        Places are compared if both have groups.
    by_region : bool
        Whether a place is a whole region. A group that is not named REGION_i_j is a place by
        itself.

    Returns
    -------
    ndarray of int
        Sorted.
    """
    keep = ~np.isin(splits.content_ids(pool.images), splits.content_ids(held_out.images))
    if pool.groups is not None and held_out.groups is not None:
        ours, theirs = pool.groups, held_out.groups
        if by_region:
            ours, theirs = _regions_or_names(ours), _regions_or_names(theirs)
        keep &= ~np.isin(ours, theirs)
    return np.flatnonzero(keep)


def _regions_or_names(groups: np.ndarray) -> np.ndarray:
    """Return the region of each group, or its name if it names no region."""
    return np.array([splits.region_of(str(group)) or str(group) for group in groups], str)


def _count_unplaced(pool: PatchSet, unit: splits.HeldOut) -> int:
    """Count the unlabeled patches whose place cannot be compared with held-out ones."""
    if unit == "patch":
        return 0
    if pool.groups is None:
        return len(pool)
    if unit == "group":
        return 0
    return sum(splits.region_of(str(group)) is None for group in pool.groups)


def _units(labeled: PatchSet) -> Iterator[tuple[np.ndarray, splits.HeldOut]]:
    """Yield the possible units to hold out, the strictest first."""
    if labeled.groups is not None:
        try:
            regions = splits.regions_of(labeled.groups)
        except DataError:
            pass  # groups have other names
        else:
            yield splits.bind_copies(dataclasses.replace(labeled, groups=regions)), "region"
        yield splits.bind_copies(labeled), "group"
    yield splits.bind_copies(dataclasses.replace(labeled, groups=None)), "patch"


def _split(
    units: np.ndarray, labels: np.ndarray, number: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Split units into stratified folds; None if a training set would lack a class."""
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(units)) < 2 * number or np.bincount(labels, minlength=2).min() < number:
        return None
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    parts = [
        (np.sort(train), np.sort(test)) for train, test in splitter.split(units, labels, units)
    ]
    for train, held_out in parts:
        if np.bincount(labels[train], minlength=2).min() < LEAST_OF_CLASS or len(held_out) == 0:
            return None
    return parts
