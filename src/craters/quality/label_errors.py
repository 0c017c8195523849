"""Find probable label errors by confident learning on out-of-fold probabilities.

Confident learning (Northcutt, Jiang and Chuang 2021, doi 10.1613/jair.1.12125): the threshold of a
class is the mean probability of that class among the patches with that label. A label is suspected
if its patch reaches the threshold of the other class and is more probable there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from craters.core import NullProgress, Progress, Send, Task, files, plan_workers, run_tasks
from craters.data import PatchSet, patches, splits
from craters.errors import DataError
from craters.training import derive_seed, predict_logits, sigmoid, train_network

NETWORK = "compact"


@dataclasses.dataclass(frozen=True)
class LabelAudit:
    """Result of confident learning: label confidence and suspected errors.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Out-of-fold probability of "with crater".
    confidence : ndarray, shape (N,)
        Probability of the given label, 0..1: self-confidence. With two classes the normalised
        margin is twice it less 1, so both give the same order.
    order : ndarray of int, shape (N,)
        Rows by increasing confidence.
    suspected : ndarray of bool, shape (N,)
        Off the diagonal of the confident joint.
    thresholds : tuple of float
        Thresholds of the classes 0 and 1.
    joint : list of list of int
        Confident joint: rows are given labels, columns suggested ones.
    estimate : float
        Estimated number of wrong labels, with the joint's rows scaled to the given labels.
    """

    probability: np.ndarray
    confidence: np.ndarray
    order: np.ndarray
    suspected: np.ndarray
    thresholds: tuple[float, float]
    joint: list[list[int]]
    estimate: float


def confident_learning(labels: np.ndarray, probability: np.ndarray) -> LabelAudit:
    """Rank labels by confidence and flag suspected errors.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1; both present.
    probability : ndarray, shape (N,)
        Out-of-fold probability of "with crater".

    References
    ----------
    Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
    JAIR 70, 2021, doi 10.1613/jair.1.12125.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> audit = confident_learning(labels, np.array([0.1, 0.2, 0.9, 0.8, 0.9, 0.6]))
    >>> audit.order[0], audit.suspected.tolist(), audit.joint
    (np.int64(2), [False, False, True, False, False, False], [[2, 1], [0, 2]])
    """
    by_class = np.stack([1 - probability, probability], axis=1)
    thresholds = np.array([by_class[labels == label, label].mean() for label in (0, 1)])
    passed = np.where(by_class >= thresholds, by_class, -1.0)
    suggested = passed.argmax(axis=1)
    is_counted = passed.max(axis=1) >= 0
    joint = np.zeros((2, 2), int)
    np.add.at(joint, (labels[is_counted], suggested[is_counted]), 1)
    given = np.array([(labels == label).sum() for label in (0, 1)])
    scaled = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1) * given[:, None]
    confidence = by_class[np.arange(len(labels)), labels]
    return LabelAudit(
        probability=probability,
        confidence=confidence,
        order=np.argsort(confidence, kind="stable"),
        suspected=is_counted & (suggested != labels),
        thresholds=(float(thresholds[0]), float(thresholds[1])),
        joint=joint.tolist(),
        estimate=float(scaled[0, 1] + scaled[1, 0]),
    )


@dataclasses.dataclass(frozen=True)
class LabelFold:
    """One training: its round, and its training and held-out rows."""

    round: int
    number: int
    train: np.ndarray
    held_out: np.ndarray
    seed: int

    @property
    def key(self) -> str:
        """Name of the training and of its file."""
        return f"round{self.round}-fold{self.number}"


def draw_folds(
    labeled: PatchSet, families: np.ndarray, *, folds: int, rounds: int, seed: int
) -> list[LabelFold]:
    """Draw folds that hold out every patch once in each round, by source image if known.

    Source images, not whole regions, are held out: the network must not have seen the patch's
    label, but may have seen terrain of its region. Copies of a held-out patch are left out of the
    training set, since a wrong label is often copied with its patch.

    Parameters
    ----------
    labeled : PatchSet
    families : ndarray of int, shape (N,)
        Patches that are copies of each other, exact or near, have equal numbers.
    folds, rounds, seed : int

    Raises
    ------
    DataError
        If there are too few patches or groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    patches.check_two_classes(labeled, folds)
    units = splits.bind_copies(labeled)
    if (count := len(np.unique(units))) < folds:
        word = "different patches" if labeled.groups is None else "source images"
        raise DataError(
            f"{labeled.source}: found {count} {word}, expected at least {folds} to hold out",
            "Use fewer --folds, or --repeats 0 to skip the label audit.",
        )
    drawn = []
    for number in range(rounds):
        splitter = StratifiedGroupKFold(
            folds, shuffle=True, random_state=derive_seed(seed, number) % 2**32
        )
        pairs = splitter.split(units, labeled.labels, units)
        for position, (train, held_out) in enumerate(pairs, 1):
            kept = train[~np.isin(families[train], families[held_out])]
            if len(np.unique(labeled.labels[kept])) < 2:
                raise DataError(
                    f"{labeled.source}: one class is missing in the training part of fold "
                    f"{position}",
                    "Label more patches of the rarer class, or use more --folds.",
                )
            drawn.append(
                LabelFold(
                    round=number,
                    number=position,
                    train=kept,
                    held_out=held_out,
                    seed=derive_seed(seed, number, position),
                )
            )
    return drawn


def _train_and_predict(
    images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, seed: int
) -> np.ndarray:
    """Train a network and return its logits of the held-out images; tests replace it."""
    return predict_logits(train_network(images, labels, NETWORK, seed), held_out)


def train_fold(
    *, send: Send, images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, seed: int
) -> np.ndarray:
    """Train on some patches and return the logits of others; called by a `Task`."""
    del send  # progress is reported when a training is done
    return _train_and_predict(images, labels, held_out, seed).astype(np.float32)


def out_of_fold(
    labeled: PatchSet,
    folds: Sequence[LabelFold],
    *,
    threads: int = 1,
    cells: Path | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Predict every labeled patch out of fold, averaged over rounds.

    Parameters
    ----------
    labeled : PatchSet
    folds : sequence of LabelFold
        From `draw_folds`.
    threads : int
        Number of parallel trainings, each with one thread, so that it does not affect results.
    cells : Path, optional
        Folder of finished trainings, which are not repeated.
    progress : Progress, optional
        Receives the number of finished trainings.

    Returns
    -------
    ndarray of float64, shape (N,)
        Probability of "with crater", from the mean logit over the rounds.
    """
    progress = progress or NullProgress()
    images, labels = np.asarray(labeled.images), labeled.labels
    logits = np.zeros((1 + max(fold.round for fold in folds), len(labeled)))
    by_key, waiting = {fold.key: fold for fold in folds}, []
    for fold in folds:
        known = _read_cell(cells, fold)
        if known is None:
            waiting.append(fold)
        else:
            logits[fold.round, fold.held_out] = known
    workers, _ = plan_workers(len(waiting), threads)
    tasks = [
        Task(
            fold.key,
            train_fold,
            {
                "images": images[fold.train],
                "labels": labels[fold.train],
                "held_out": images[fold.held_out],
                "seed": fold.seed,
            },
        )
        for fold in waiting
    ]
    progress.work(0, len(tasks), "trainings")
    for done, (key, fold_logits) in enumerate(run_tasks(tasks, threads=workers), 1):
        fold = by_key[key]
        logits[fold.round, fold.held_out] = fold_logits
        if cells is not None:
            files.write_array(cells / f"{key}.npy", fold_logits)
        progress.work(done, len(tasks), "trainings")
    return sigmoid(logits.mean(axis=0)).astype(np.float64)


def _read_cell(cells: Path | None, fold: LabelFold) -> np.ndarray | None:
    path = None if cells is None else cells / f"{fold.key}.npy"
    if path is None or not path.is_file():
        return None
    logits = patches.read_array(path)
    if logits.shape != fold.held_out.shape or not np.isfinite(logits).all():
        raise DataError(
            f"{path}: found {logits.dtype} of shape {logits.shape}, expected "
            f"{len(fold.held_out)} finite logits",
            "Remove this file, and repeat its training by --resume.",
        )
    return np.asarray(logits)
