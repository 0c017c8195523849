"""Draw the folds and labels of a comparison, and train and measure its cells.

A cell is one method, network, start, label budget, seed and fold. Whole regions (else source
images, else patches) of the labeled set are split into folds, and each fold is held out once. From
the other folds a budget of labels is drawn; a contender uses no other labels to fit, stop, select
or calibrate. The draw depends only on seed, fold and budget, so all contenders share it, and
smaller budgets are subsets of larger ones. Unlabeled patches of held-out places are left out of the
pool. The score of a seed is the mean over the folds of macro F1 at threshold 0.5; differences are
paired by seed. The test set of `craters run` is not read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from craters.compare.report import MEASURES, Outcome
from craters.core import Send, torch_threads
from craters.data import UNLABELED, PatchSet, find_array, patches, splits
from craters.errors import ConfigError, DataError, DeadNetworkError
from craters.evaluation import Scored, measure
from craters.models import Network
from craters.settings import (
    LEAST_OF_CLASS,
    Cell,
    CompareConfig,
    HoldOut,
    JobSettings,
    Pool,
)
from craters.training import predict_logits, sigmoid

STEMS = ("Xtrain1", "Ytrain1", "groups_train", "Xtrain1_extra", "groups_extra")
_HELD_OUT_WORDS = {"region": "whole regions", "group": "whole groups", "random": "single patches"}


@dataclasses.dataclass(frozen=True)
class CompareData:
    """The labeled set, to be split into folds, and the unlabeled patches."""

    labeled: PatchSet
    extra: PatchSet


def read_compare_data(folder: Path) -> CompareData:
    """Read the labeled and unlabeled arrays; the test set is not read.

    Raises
    ------
    DataError
        If a file is missing or invalid.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected one with Xtrain1.npy, Ytrain1.npy and "
            "Xtrain1_extra.npy"
        )
    images, labels, groups, extra_images, extra_groups = (
        find_array(folder, stem) for stem in STEMS
    )
    labeled = patches.read_patches(images, labels, groups)
    if extra_images.is_file():
        extra = patches.read_patches(extra_images, None, extra_groups, least=0)
    else:
        extra = dataclasses.replace(labeled.take(np.arange(0)), groups=None, notes=())
    if extra.side != labeled.side:
        raise DataError(
            f"{extra.source}: found patches of {extra.side} x {extra.side} pixels, expected "
            f"{labeled.side} x {labeled.side} as in {labeled.source}",
            "Use patches of one size.",
        )
    return CompareData(labeled, extra)


@dataclasses.dataclass(frozen=True)
class Fold:
    """Held-out, training and unlabeled rows of one fold.

    Parameters
    ----------
    train, test : ndarray of int
        Rows of the labeled set; no place and no patch is in both.
    extra : ndarray of int
        Rows of the unlabeled set that share no place and no copy with the held-out patches.
    rule : str
        Description of what is held out.
    copies : int
        Training and unlabeled patches dropped because the held-out fold has a copy.
    """

    train: np.ndarray
    test: np.ndarray
    extra: np.ndarray
    rule: str
    copies: int


@dataclasses.dataclass(frozen=True)
class Folds:
    """All folds, and notes about them."""

    held_out: str
    folds: list[Fold]
    notes: list[str]


def draw_folds(data: CompareData, hold_out: HoldOut, folds: int) -> Folds:
    """Split the labeled set into folds, each held out once.

    Parameters
    ----------
    data : CompareData
    hold_out : {"auto", "region", "group", "random"}
    folds : int

    Raises
    ------
    DataError
        If there are too few places or patches, or groups are unknown or not named as required.
    """
    patches.check_two_classes(data.labeled, folds)
    kind = _choose_kind(data, hold_out)
    held_out = _random_folds(data.labeled, folds)
    places: np.ndarray | None = None
    if kind != "random":
        held_out = splits.whole_folds(_places(data.labeled, kind), folds)
        places = None if data.extra.groups is None else _places(data.extra, kind)
    ids = splits.content_ids(data.labeled.images), splits.content_ids(data.extra.images)
    drawn = [_fold(data, split, kind, places, ids) for split in held_out]
    notes = [f"Held out: {_HELD_OUT_WORDS[kind]} of the labeled set, {folds} folds."]
    if kind == "random":
        notes[0] += (
            " Patches of one image are in training and held-out folds: scores are optimistic."
        )
    elif places is None:
        notes.append(
            "Source images of unlabeled patches are unknown (no groups_extra): some may be from "
            "held-out places."
        )
    if copies := sum(fold.copies for fold in drawn):
        notes.append(f"{copies} patches with an exact copy in the held-out fold were left out.")
    return Folds(kind, drawn, notes)


def _choose_kind(data: CompareData, hold_out: HoldOut) -> str:
    groups = data.labeled.groups
    if hold_out in ("region", "group") and groups is None:
        raise DataError(
            f"{data.labeled.source}: source images of patches are unknown, expected "
            f"groups_train.npy to hold out by {hold_out}",
            "Write that file, or use --hold-out random.",
        )
    if hold_out != "auto":
        return hold_out
    if groups is None:
        return "random"
    with contextlib.suppress(DataError):
        for known in (data.labeled, data.extra):
            if known.groups is not None:
                splits.regions_of(known.groups)
        return "region"
    return "group"


def _places(patch_set: PatchSet, kind: str) -> np.ndarray:
    groups = np.asarray(patch_set.groups)
    return splits.regions_of(groups) if kind == "region" else groups


def _random_folds(labeled: PatchSet, folds: int) -> list[splits.Split]:
    """Split patches stratified by class, with equal ones in one fold; the same for all seeds."""
    from sklearn.model_selection import StratifiedGroupKFold

    units = splits.bind_copies(dataclasses.replace(labeled, groups=None))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return [
        splits.Split(train, test, f"fold {number} of {folds}, stratified by class")
        for number, (train, test) in enumerate(splitter.split(units, labeled.labels, units), 1)
    ]


def _fold(
    data: CompareData,
    split: splits.Split,
    kind: str,
    places: np.ndarray | None,
    ids: tuple[np.ndarray, np.ndarray],
) -> Fold:
    """Remove held-out places and copies of held-out patches from the training data."""
    test = split.validation
    extra = np.arange(len(data.extra))
    if places is not None:
        extra = extra[~np.isin(places, _places(data.labeled.take(test), kind))]
    labeled_ids, extra_ids = ids
    is_copy = np.isin(labeled_ids[split.train], labeled_ids[test])
    is_extra_copy = np.isin(extra_ids[extra], labeled_ids[test])
    copies = int(is_copy.sum() + is_extra_copy.sum())
    return Fold(
        train=split.train[~is_copy],
        test=test,
        extra=extra[~is_extra_copy],
        rule=split.rule,
        copies=copies,
    )


def check_budgets(config: CompareConfig, folds: Sequence[Fold]) -> None:
    """Check that the training set of each fold is large enough for the budgets.

    Raises
    ------
    ConfigError
    """
    most = min(len(fold.train) for fold in folds)
    for budget in config.budgets:
        if budget != "all" and budget > most:
            raise ConfigError(
                f"--budgets: found {budget}, expected at most {most}, the size of the smallest "
                "training part",
                "Give a smaller budget, or all.",
            )


def draw_labels(labels: np.ndarray, rows: np.ndarray, cell: Cell) -> np.ndarray:
    """Draw the labels of a cell, equal for all contenders and nested over budgets.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        Labels of the whole labeled set.
    rows : ndarray of int
        Rows to draw from.
    cell : Cell
        Its budget, seed and fold.

    Returns
    -------
    ndarray of int
        Sorted rows, stratified by class, at least two of each.

    Raises
    ------
    DataError
        If a class is too rare, or there are fewer rows than the budget.

    Examples
    --------
    >>> labels, cell = np.array([0, 1, 1, 1] * 10), Cell("supervised", "compact", 12, 0, 1)
    >>> drawn = draw_labels(labels, np.arange(40), cell)
    >>> len(drawn), int(labels[drawn].sum())
    (12, 9)
    """
    by_class = [rows[labels[rows] == label] for label in (0, 1)]
    least = min(map(len, by_class))
    if least < LEAST_OF_CLASS:
        raise DataError(
            f"fold {cell.fold}: its training part has {least} patches of the rarer class, "
            f"expected at least {LEAST_OF_CLASS}"
        )
    if cell.budget == "all":
        return np.sort(rows)
    budget = cell.budget
    if budget > len(rows):
        raise DataError(
            f"fold {cell.fold}: its training part has {len(rows)} labels, expected {budget}"
        )
    # From one budget to the next every bound grows by 0 or 1 in both classes: draws are nested.
    craters = int(budget * len(by_class[1]) / len(rows) + 0.5)
    craters = max(LEAST_OF_CLASS, budget - len(by_class[0]), craters)
    craters = min(budget - LEAST_OF_CLASS, len(by_class[1]), craters)
    drawn = []
    for label, count in ((0, budget - craters), (1, craters)):
        random = np.random.default_rng([cell.seed, cell.fold, label])
        drawn.append(random.permutation(by_class[label])[:count])
    return np.sort(np.concatenate(drawn))


def take_cell(data: CompareData, fold: Fold, cell: Cell, pool: Pool) -> tuple[PatchSet, PatchSet]:
    """Return the labeled and the unlabeled training patches of a cell."""
    drawn = draw_labels(data.labeled.labels, fold.train, cell)
    extra = data.extra.take(fold.extra)
    rest = data.labeled.take(np.setdiff1d(fold.train, drawn))
    rest = dataclasses.replace(rest, labels=np.full(len(rest), UNLABELED, np.int8))
    unlabeled = _join(extra, rest) if pool == "both" else extra if pool == "extra" else rest
    if len(unlabeled) == 0 and cell.method != "supervised":
        raise DataError(f"fold {cell.fold}: no unlabeled patch is left for {cell.method!r}")
    return data.labeled.take(drawn), unlabeled


def _join(first: PatchSet, second: PatchSet) -> PatchSet:
    groups = None
    if first.groups is not None and second.groups is not None:
        groups = np.concatenate([first.groups, second.groups])
    return PatchSet(
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, second.labels]),
        ids=np.concatenate([first.ids, second.ids]),
        groups=groups,
        source=f"{first.source} and {second.source}",
    )


def _train(labeled: PatchSet, pool: PatchSet, settings: JobSettings) -> Network:
    """Train the final network of `craters run`; tests replace it by a quicker trainer."""
    from craters.pipeline import kept_network

    return kept_network(labeled, pool, settings)


def fit_cell(
    *, send: Send, cell: Cell, data: CompareData, fold: Fold, config: CompareConfig
) -> Outcome:
    """Train one cell on one thread and measure it on its held-out fold.

    Returns
    -------
    Outcome
        Failed if the labels cannot be used or all networks died.
    """
    del send  # progress is reported when a cell is done
    started = time.monotonic()
    try:
        labeled, pool = take_cell(data, fold, cell, config.pool)
        settings = config.job_settings(cell.method, cell.network, cell.start, cell.seed)
        with torch_threads(1):  # so that the number of processes does not affect results
            network = _train(labeled, pool, settings)
            probability = sigmoid(predict_logits(network, data.labeled.images[fold.test]))
    except (DataError, DeadNetworkError) as error:
        return Outcome(cell=cell, figures={}, seconds=time.monotonic() - started, error=str(error))
    metrics = measure(
        Scored(
            labels=data.labeled.labels[fold.test],
            probability=probability,
            decision_threshold=settings.threshold_final,
        )
    )
    figures = {name: getattr(metrics, name) for name in ("n", "confusion_matrix", *MEASURES)}
    figures |= {"labels": len(labeled), "pool": len(pool)}
    return Outcome(cell, figures, time.monotonic() - started)
