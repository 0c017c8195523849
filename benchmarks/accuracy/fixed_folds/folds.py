"""Cross-validation over published folds: train on all but one, evaluate on that one, find copies.

The protocol, for each region (a file) and each seed:

1. For every fold, `members` networks are trained on all labels of the other folds with the default
   recipe of the network. All choices (the flips that preserve the illumination direction, the epoch
   of `original`) are made on those other folds; the labels of the held-out fold never reach the
   training.
2. The members' mean logit on the held-out fold becomes a probability. Official score of a fold: F1
   of the class "with crater" at threshold 0.5 on all its patches. Score without copies: the same on
   the patches that have no copy among the training patches. A copy is equal byte for byte, or the
   Pearson correlation of its pixels is above 0.95.
3. The score of a region is the mean of its folds. Its standard error over folds is somewhat too
   small, because any two folds share most of their training patches.

Folds of this form came with the Mars images of HRSC orbit h0905, "Nanedi": candidates of Urbach
and Stepinski (2009, doi 10.1016/j.pss.2009.03.009), labeled for Bandeira et al. (2010), used by
Cohen et al. (2016, arXiv 1601.00978).
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from craters.core import Send
from craters.data import UNLABELED, check_labels, make_patch_set, patches, search_copies
from craters.errors import DataError
from craters.pipeline import kept_network
from craters.settings import JobSettings
from craters.training import predict_logits, train_network

_KEYS = ("X", "y", "fold")


@dataclasses.dataclass(frozen=True)
class FoldSet:
    """Labeled patches of one region, in the folds in which they were published.

    Parameters
    ----------
    name : str
        Name of the region: the stem of its file.
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,), int8
        1 with crater, 0 without.
    folds : ndarray of int, shape (N,)
        Number of the fold that each patch belongs to.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the folds, ascending."""
        return [int(number) for number in np.unique(self.folds)]


@dataclasses.dataclass(frozen=True)
class Copies:
    """Patches that have a copy in another fold; no patch is in both arrays.

    Parameters
    ----------
    exact : ndarray of bool, shape (N,)
        Equal byte for byte to a patch of another fold.
    near : ndarray of bool, shape (N,)
        Correlated by more than 0.95 with a patch of another fold, and not `exact`.
    """

    exact: np.ndarray
    near: np.ndarray

    @property
    def either(self) -> np.ndarray:
        """The patches left out of the score without copies."""
        return self.exact | self.near


def read_fold_set(path: Path) -> FoldSet:
    """Read and check one region.

    Parameters
    ----------
    path : Path
        .npz without pickles: X (N, S, S) or (N, S*S), uint8; y (N,), 0 or 1; fold (N,), whole
        numbers. There are two folds or more, each with patches of both classes.

    Raises
    ------
    DataError
        One line: file and array, what was found, what was expected.
    """
    pixels, labels, folds = _read_arrays(path)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: X is {pixels.dtype}, expected uint8", "Save the pixels as numbers 0..255."
        )
    images = patches.as_squares(pixels, f"{path}: X")
    try:
        checked = check_labels(labels, len(images), f"{path}: y")
    except DataError as error:  # its hints are about other files
        raise DataError(error.message, "Give every patch its label.") from error
    data = FoldSet(
        name=path.stem,
        images=images,
        labels=checked,
        folds=_check_folds(path, folds, len(images)),
    )
    for number in data.numbers:
        labels_of_fold = checked[data.folds == number]
        craters, n = int(labels_of_fold.sum()), len(labels_of_fold)
        if craters in (0, n):  # so every fold's complement holds both classes, too
            raise DataError(
                f"{path}: fold {number} has {craters} craters among {n} patches, "
                "expected both classes in every fold"
            )
    return data


def _read_arrays(path: Path) -> tuple[np.ndarray, ...]:
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected .npz with {_listed(_KEYS)}")
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream):
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                missing = [key for key in _KEYS if key not in archive.files]
                if missing:
                    raise DataError(
                        f"{path}: holds {_listed(archive.files)}, expected {_listed(_KEYS)}; "
                        f"{missing[0]} is missing"
                    )
                return tuple(_read_array(path, archive, key) for key in _KEYS)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}: is no .npz file or is damaged ({error})",
            f"Save {_listed(_KEYS)} together by numpy.savez.",
        ) from error


def _read_array(path: Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        array: np.ndarray | bytes = archive[key]
    except ValueError as error:
        if "bject arrays" in str(error):
            raise DataError(
                f"{path}: {key} holds Python objects, expected numbers; objects are never unpickled"
            ) from error
        raise DataError(f"{path}: {key} is truncated or damaged ({error})") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: {key} is no NumPy array")
    return array


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _check_folds(path: Path, folds: np.ndarray, count: int) -> np.ndarray:
    if folds.dtype.kind not in "iu" or folds.shape != (count,):
        raise DataError(
            f"{path}: fold is {folds.dtype} of shape {folds.shape}, expected one whole number for "
            f"each of {count} patches"
        )
    if len(np.unique(folds)) < 2:
        raise DataError(f"{path}: fold names one fold, expected two or more")
    return folds.astype(np.int64)


def find_copies(images: np.ndarray, folds: np.ndarray) -> Copies:
    """Find the patches that have a copy in another fold.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
        A constant patch is a copy only of equal ones.
    folds : ndarray of int, shape (N,)

    Returns
    -------
    Copies

    Examples
    --------
    >>> patch = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> copies = find_copies(np.stack([patch, patch, patch + 9, patch.T]), np.array([1, 2, 1, 2]))
    >>> copies.exact.tolist(), copies.near.tolist()
    ([True, True, False, False], [False, False, True, False])
    """
    search = search_copies(images, shift=0)
    exact, near = np.zeros((2, len(images)), bool)
    for number in np.unique(folds):
        is_held_out = folds == number
        exact[is_held_out], near[is_held_out] = search.among(
            np.flatnonzero(is_held_out), np.flatnonzero(~is_held_out)
        )
    return Copies(exact=exact, near=near)


def train_cell(
    *,
    send: Send,  # noqa: ARG001
    images: np.ndarray,
    labels: np.ndarray,
    network: str,
    seed: int,
) -> np.ndarray:
    """Train one network without one fold and predict that fold; called by a `Task`.

    Parameters
    ----------
    send : callable
        Unused: a training sends no messages.
    images : ndarray, shape (N, S, S), uint8
        The whole region.
    labels : ndarray, shape (N,), int8
        0 or 1; -1 in the held-out fold, whose labels are not passed on.
    network : {"compact", "original", "pretrained"}
        The last: `compact` as `craters run` trains it from the pretrained model.
    seed : int

    Returns
    -------
    ndarray, shape (n,), float32
        Logits of the n held-out patches, in their order.
    """
    held_out = labels == UNLABELED
    if network == "pretrained":
        labeled = make_patch_set(images[~held_out], labels[~held_out])
        settings = JobSettings(method="supervised", seed=seed, threads=1)
        trained = kept_network(labeled, labeled.take(np.arange(0)), settings)
    else:
        trained = train_network(images[~held_out], labels[~held_out], network, seed)
    return predict_logits(trained, images[held_out])


def hold_out(data: FoldSet, fold: int) -> np.ndarray:
    """Replace the labels of one fold by -1, for the training that holds it out.

    Examples
    --------
    >>> images, folds = np.zeros((4, 8, 8), np.uint8), np.array([1, 2, 1, 2])
    >>> hold_out(FoldSet("west", images, np.array([0, 1, 1, 0], np.int8), folds), 2).tolist()
    [0, -1, 1, -1]
    """
    return np.where(data.folds == fold, UNLABELED, data.labels).astype(np.int8)
