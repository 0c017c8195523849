"""Fixed folds, as a benchmark brings them: train on all but one, measure that one, mind copies.

The protocol, for each region (a file) and each seed:

1. For every fold, `members` networks are trained on all labels of the other folds by the default
   recipe of the network. Whatever is chosen (the flips that keep the light, the epoch of
   `original`) is chosen on those other folds; the labels of the held-out fold never reach the
   training.
2. The members' mean logit on the held-out fold becomes a probability. Official score of a fold: F1
   of the class "with crater" at 0.5 on all its patches. Score without copies: the same on those
   patches that have no copy among the training patches. A copy is equal byte for byte, or its
   pixels correlate by more than 0.95 once the mean of each patch is taken off.
3. The score of a region is the mean of its folds. Its standard error over folds is somewhat too
   small, since any two folds share most of their training patches.

Folds of this form came with the Mars images of HRSC orbit h0905, "Nanedi": candidates of Urbach
and Stepinski (2009, doi 10.1016/j.pss.2009.03.009), labeled for Bandeira et al. (2010), used by
Cohen et al. (2016, arXiv 1601.00978).
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from craters.core import Send
from craters.data import COPY_CORRELATION, UNLABELED, patches, splits
from craters.errors import DataError
from craters.training import predict_logits, train_network

_KEYS = ("X", "y", "fold")
_BLOCK = 1024  # patches compared with as many others at a time: bounds the memory


@dataclasses.dataclass(frozen=True)
class FoldSet:
    """Labeled patches of one region, dealt into folds by those who published them.

    Parameters
    ----------
    name : str
        Of the region: the stem of its file.
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
        """The folds' numbers, ascending."""
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
        """The patches that the score without copies leaves out."""
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
        One clear line: file and array, what was found, what was expected.
    """
    pixels, labels, folds = _read_arrays(path)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: X is {pixels.dtype}, expected uint8", "Save the pixels as numbers 0..255."
        )
    images = patches.as_squares(pixels, f"{path}: X")
    try:
        checked = patches.check_labels(labels, len(images), f"{path}: y")
    except DataError as error:  # its hints are about other files
        raise DataError(error.message, "Give every patch its label.") from error
    found = FoldSet(path.stem, images, checked, _check_folds(path, folds, len(images)))
    for number in found.numbers:
        craters, n = int(checked[found.folds == number].sum()), int((found.folds == number).sum())
        if craters in (0, n):  # so every fold's complement holds both classes, too
            raise DataError(
                f"{path}: fold {number} has {craters} craters among {n} patches, "
                "expected both classes in every fold"
            )
    return found


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
        found: np.ndarray | bytes = archive[key]
    except ValueError as error:
        if "bject arrays" in str(error):
            raise DataError(
                f"{path}: {key} holds Python objects, expected numbers; objects are never unpickled"
            ) from error
        raise DataError(f"{path}: {key} is truncated or damaged ({error})") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: {key} is no NumPy array")
    return found


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
        Constant patches correlate with nothing: they are copies only of equal ones.
    folds : ndarray of int, shape (N,)

    Returns
    -------
    Copies

    Examples
    --------
    >>> patch = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> found = find_copies(np.stack([patch, patch, patch + 9, patch.T]), np.array([1, 2, 1, 2]))
    >>> found.exact.tolist(), found.near.tolist()
    ([True, True, False, False], [False, False, True, False])
    """
    _, content = np.unique(splits.content_ids(images), return_inverse=True)
    _, number = np.unique(folds, return_inverse=True)
    seen = np.zeros((content.max() + 1, number.max() + 1), bool)
    seen[content, number] = True
    exact = seen.sum(axis=1)[content] > 1
    near = np.zeros(len(images), bool)
    for rows in _blocks(len(images)):
        ours = _standardize(images[rows])
        for others in _blocks(len(images)):
            alike = ours @ _standardize(images[others]).T > COPY_CORRELATION
            alike &= folds[rows, None] != folds[None, others]
            near[rows] |= alike.any(axis=1)
    return Copies(exact, near & ~exact)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _standardize(images: np.ndarray) -> np.ndarray:
    """Take each patch's mean off and scale it to length 1; constant patches become 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    length[(images == images[:, :1, :1]).all(axis=(1, 2))] = np.inf
    return flat / length


def train_cell(
    *,
    send: Send,  # noqa: ARG001
    images: np.ndarray,
    labels: np.ndarray,
    network: str,
    seed: int,
) -> np.ndarray:
    """Train one network without one fold and predict that fold; a `parallel.Task` calls it.

    Parameters
    ----------
    send : callable
        Unused: a training is told of when it is done.
    images : ndarray, shape (N, S, S), uint8
        The whole region.
    labels : ndarray, shape (N,), int8
        0 or 1; -1 in the held-out fold, whose labels stay with the caller.
    network : {"compact", "original"}
    seed : int

    Returns
    -------
    ndarray, shape (n,), float32
        Logits of the n held-out patches, in their order.
    """
    held_out = labels == UNLABELED
    trained = train_network(images[~held_out], labels[~held_out], network, seed)
    return predict_logits(trained, images[held_out])


def hold_out(data: FoldSet, fold: int) -> np.ndarray:
    """Return the labels with -1 throughout one fold: what a training may know.

    Examples
    --------
    >>> images, folds = np.zeros((4, 8, 8), np.uint8), np.array([1, 2, 1, 2])
    >>> hold_out(FoldSet("west", images, np.array([0, 1, 1, 0], np.int8), folds), 2).tolist()
    [0, -1, 1, -1]
    """
    return np.where(data.folds == fold, UNLABELED, data.labels).astype(np.int8)
