"""Seeded splits: stratified, and grouped by source image or region if known."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Literal

import numpy as np

from craters.data.patches import PatchSet
from craters.errors import DataError

HeldOut = Literal["region", "group", "patch"]  # unit that a fold holds out completely

_HELD_OUT_WORDS: dict[HeldOut, str] = {
    "region": "whole regions",
    "group": "whole source images",
    "patch": "single patches",
}


def fold_rule(unit: HeldOut, number: int) -> str:
    """Return how folds were drawn, as recorded in run folders.

    Examples
    --------
    >>> fold_rule("group", 3)
    '3 folds of whole source images, each held out once'
    """
    return f"{number} folds of {_HELD_OUT_WORDS[unit]}, each held out once"


def fold_unit(rule: str) -> HeldOut | None:
    """Parse a rule that `fold_rule` returned; None for any other text.

    Examples
    --------
    >>> fold_unit("3 folds of whole source images, each held out once")
    'group'
    >>> fold_unit("3 folds of whole regions, each held out once; more about the pool")
    'region'
    """
    drawn, _, _ = rule.partition("; ")
    number, _, _ = drawn.partition(" ")
    if not number.isdecimal():
        return None
    return next((unit for unit in _HELD_OUT_WORDS if drawn == fold_rule(unit, int(number))), None)


@dataclasses.dataclass(frozen=True)
class Split:
    """Training and validation rows; disjoint.

    Parameters
    ----------
    train, validation : ndarray of int, shape (n,)
        Sorted row numbers.
    rule : str
        How the split was drawn, for the report.
    """

    train: np.ndarray
    validation: np.ndarray
    rule: str


def content_ids(images: np.ndarray) -> np.ndarray:
    """Hash each patch's pixels; equal ids mean equal patches.

    Parameters
    ----------
    images : ndarray, shape (N, H, W), uint8

    Returns
    -------
    ndarray of bytes, shape (N,)

    Examples
    --------
    >>> ids = content_ids(np.zeros((2, 8, 8), np.uint8))
    >>> bool(ids[0] == ids[1])
    True
    """
    digests = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]
    return np.array(digests, dtype="S32")


def repeats_between(sets: dict[str, PatchSet]) -> list[tuple[str, str, int]]:
    """Count the patches that occur in more than one set, or twice in one set, byte for byte.

    Parameters
    ----------
    sets : dict of PatchSet
        The sets by name.

    Returns
    -------
    list of (name, name, count)
        Pairs with at least one repeat; for a set with itself, second and later copies count.
    """
    ids = {name: content_ids(patches.images) for name, patches in sets.items()}
    repeats = []
    names = list(ids)
    for position, first in enumerate(names):
        within = len(ids[first]) - len(np.unique(ids[first]))
        if within:
            repeats.append((first, first, within))
        for second in names[position + 1 :]:
            between = int(np.isin(ids[second], ids[first]).sum())
            if between:
                repeats.append((first, second, between))
    return repeats


def bind_copies(patches: PatchSet) -> np.ndarray:
    """Assign a common number to rows that share a group or have equal pixels.

    A copy of a training patch in the validation set is a leak, whatever file it came from.
    Constant patches (no data) are not bound: they would connect unrelated places.

    Returns
    -------
    ndarray of int, shape (N,)
        0, 1, ... in the order of first appearance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(patches)
    rows = np.arange(count)
    _, copies = np.unique(content_ids(patches.images), return_inverse=True)
    flat = patches.images.reshape(count, -1)
    constant = (flat == flat[:, :1]).all(axis=1)
    nodes = np.where(constant, rows, count + copies)
    edges = [(rows, nodes)]
    if patches.groups is not None:
        _, groups = np.unique(patches.groups, return_inverse=True)
        edges.append((rows, 2 * count + groups))
    start = np.concatenate([edge[0] for edge in edges])
    end = np.concatenate([edge[1] for edge in edges])
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(3 * count, 3 * count))
    _, component = connected_components(graph, directed=False)
    return number_by_appearance(component[:count])[0]


def number_by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign 0, 1, ... to the distinct values, in order of their first appearance.

    Returns
    -------
    numbers : ndarray of int, shape (N,)
    first : ndarray of int, shape (C,)
        Index of the first appearance of each distinct value.

    Examples
    --------
    >>> numbers, first = number_by_appearance(np.array(["b", "a", "b"]))
    >>> numbers.tolist(), first.tolist()
    ([0, 1, 0], [0, 1])
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    numbers = np.empty(len(first), int)
    numbers[order] = np.arange(len(first))
    return numbers[inverse], first[order]


def validation_split(patches: PatchSet, share: float, seed: int) -> Split:
    """Draw a stratified validation set that shares no group and no copy with training.

    Parameters
    ----------
    patches : PatchSet
        Human-labeled patches. Groups, if known, are not split.
    share : float
        Share of the rows for validation, above 0 to 0.5; rounded to 1 / k.
    seed : int
        Equal seeds give equal splits.

    Raises
    ------
    DataError
        If there are too few groups, or a class is missing on one side.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = round(1 / share)
    units = bind_copies(patches)
    n_units = len(np.unique(units))
    word = "groups" if patches.groups is not None else "different patches"
    if n_units < folds:
        raise DataError(
            f"{patches.source}: found {n_units} {word}, expected at least {folds} to keep one in "
            f"{folds} for validation",
            "Add source images, or omit the groups file.",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    candidates = list(splitter.split(units, patches.labels, units))
    train, validation = min(candidates, key=lambda pair: _imbalance(patches.labels, pair[1], folds))
    for rows, side in ((train, "training"), (validation, "validation")):
        if len(np.unique(patches.labels[rows])) < 2:
            raise DataError(
                f"{patches.source}: one class is missing in the {side} part of the split",
                "Label more patches of the rarer class, from more source images.",
            )
    n_groups = 0 if patches.groups is None else len(np.unique(patches.groups[validation]))
    place = f", {n_groups} whole groups" if n_groups else "; source images unknown: optimistic"
    rule = f"stratified, one in {folds}, seed {seed}{place}; equal patches kept on one side"
    return Split(np.sort(train), np.sort(validation), rule)


def _imbalance(labels: np.ndarray, rows: np.ndarray, folds: int) -> float:
    """Return the deviation of a fold from the expected size and class share."""
    size = abs(len(rows) * folds / len(labels) - 1)
    return size + abs(float(labels[rows].mean()) - float(labels.mean()))


def row_split(labels: np.ndarray, share: float, seed: int) -> Split:
    """Draw a stratified validation set row by row; ignore groups, copies and label origin.

    The original script does so, with pseudo-labels included; its scores are optimistic.

    Parameters
    ----------
    labels : ndarray, shape (N,)
    share : float
        Share of the rows for validation.
    seed : int
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    train, validation = train_test_split(rows, test_size=share, stratify=labels, random_state=seed)
    rule = f"stratified by row, share {share:g}, seed {seed}; groups and label origin ignored"
    return Split(np.sort(train), np.sort(validation), rule)


def regions_of(groups: np.ndarray) -> np.ndarray:
    """Return the region of each group: the name before the two numbers of REGION_i_j.

    Parameters
    ----------
    groups : ndarray of str, shape (N,)

    Raises
    ------
    DataError
        If a group has another form.

    Examples
    --------
    >>> regions_of(np.array(["elysium_20_33", "terra_nova_1_2"])).tolist()
    ['elysium', 'terra_nova']
    """
    regions = [region_of(str(group)) for group in groups]
    if None in regions:
        wrong = str(groups[regions.index(None)])
        raise DataError(
            f"group {wrong!r} names no region, expected REGION_i_j", "Split by group instead."
        )
    return np.array(regions)


def region_of(group: str) -> str | None:
    """Return the region of one group; None if it is not named REGION_i_j.

    Examples
    --------
    >>> region_of("terra_nova_1_2"), region_of("scene 7")
    ('terra_nova', None)
    """
    match = re.fullmatch(r"(.+)_\d+_\d+", group)
    return None if match is None else match[1]


def whole_folds(units: np.ndarray, folds: int = 5) -> list[Split]:
    """Divide regions or groups into folds of nearly equal size, each held out once.

    Units are assigned by decreasing size, each to the smallest fold so far, without randomness.

    Parameters
    ----------
    units : ndarray, shape (N,)
        Region or group of each row.
    folds : int
        At least 2.

    Returns
    -------
    list of Split
        `validation` is the held-out fold.

    Raises
    ------
    DataError
        If there are fewer units than folds.
    """
    names, counts = np.unique(units, return_counts=True)
    if len(names) < folds:
        raise DataError(f"found {len(names)} regions or groups, expected at least {folds}")
    members: list[list[str]] = [[] for _ in range(folds)]
    sizes = np.zeros(folds, int)
    for place in np.lexsort((names, -counts)):
        smallest = int(np.argmin(sizes))
        members[smallest].append(names[place])
        sizes[smallest] += counts[place]
    held_out = [np.isin(units, names_of_fold) for names_of_fold in members]
    return [
        Split(
            np.flatnonzero(~inside),
            np.flatnonzero(inside),
            f"fold {number + 1} of {folds}, held out whole: {', '.join(map(str, names_of_fold))}",
        )
        for number, (inside, names_of_fold) in enumerate(zip(held_out, members, strict=True))
    ]
