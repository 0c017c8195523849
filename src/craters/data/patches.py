"""Read and validate arrays of patches and labels; convert pixels to 8 bits.

A patch is a small square image (48 x 48 pixels by default; "chip" elsewhere). Label 1 means
"with crater", 0 "without crater", and -1 "unlabeled".
"""

from __future__ import annotations

import dataclasses
import math
import tokenize
import zipfile
from pathlib import Path

import numpy as np

from craters.core import files
from craters.data.pixels import PixelRecord, to_8bit
from craters.errors import DataError

CLASS_NAMES = ("without crater", "with crater")
UNLABELED = -1

_ROWS = 4096  # patches checked together: bounds memory on mapped files
_MIN_SIDE = 8
_UNREADABLE = (  # raised by NumPy for invalid, deeply nested or truncated headers
    ValueError, OverflowError, EOFError, OSError, KeyError, SyntaxError, tokenize.TokenError,
    RecursionError, MemoryError, zipfile.BadZipFile,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PatchSet:
    """Patches with their labels, ids and groups.

    Parameters
    ----------
    images : ndarray, shape (N, H, W), uint8
        Pixels 0..255; may be memory-mapped.
    labels : ndarray, shape (N,), int8
        1 with crater, 0 without crater, -1 unlabeled.
    ids : ndarray of str, shape (N,)
        Name of each patch, unique in the set.
    groups : ndarray of str, shape (N,), or None
        Source image of each patch, if known.
    source : str
        Origin of the patches, for messages.
    notes : tuple of str
        Conversions and findings on reading.
    pixels : PixelRecord or None
        How the pixels were stored, and the range that they were read as; None for no pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    source: str = "array"
    notes: tuple[str, ...] = ()
    pixels: PixelRecord | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        """Height and width of a patch, in pixels."""
        return int(self.images.shape[1])

    @property
    def pixel_range(self) -> str:
        """Range that the pixels were read as, such as 0..255; empty for no pixels."""
        return "" if self.pixels is None else self.pixels.range_name

    def take(self, index: np.ndarray) -> PatchSet:
        """Return the rows `index` as a new set."""
        groups = None if self.groups is None else self.groups[index]
        return dataclasses.replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            ids=self.ids[index],
            groups=groups,
        )


def normalize(images: np.ndarray) -> np.ndarray:
    """Scale 8-bit pixels to 0..1, the input range of every network.

    Parameters
    ----------
    images : ndarray, uint8
        Pixels 0..255.

    Returns
    -------
    ndarray, float32
        The same shape, divided by 255.

    Examples
    --------
    >>> normalize(np.array([0, 51, 255], np.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if images.dtype != np.uint8:
        raise DataError(
            f"pixels are {images.dtype}, expected uint8", "Read them by `read_patches`."
        )
    return np.divide(images, np.float32(255), dtype=np.float32)


def make_patch_set(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    names: tuple[str, str, str] = ("images", "labels", "groups"),
    least: int = 1,
    trained: PixelRecord | None = None,
) -> PatchSet:
    """Validate arrays and make a `PatchSet` from them.

    Parameters
    ----------
    images : ndarray
        (N, S*S), (N, S, S), (N, S, S, 1) or (N, 1, S, S); integers in 0..255 or 0..65535, or
        floats in 0..1 or 0..255. The brightest pixel decides: integers up to 255 are 0..255 and
        from 16384 on 0..65535; floats up to 1 are 0..1 and above 2 are 0..255. Values between
        are ambiguous and refused.
    labels : ndarray, shape (N,) or (N, 1), optional
        0 or 1 as integers, booleans or floats. If omitted, the set is unlabeled.
    groups : ndarray, shape (N,), optional
        The source image of each row.
    names : tuple of str
        Names of the three arrays in messages, e.g. their files; the first one's stem begins ids.
    least : int
        Smallest number of patches; 0 accepts an empty array.
    trained : PixelRecord, optional
        Of the patches that a model was trained on: its range is preferred, see `to_8bit`, and
        `notes` state how the pixels clearly differ from those patches.

    Raises
    ------
    DataError
        If an array cannot be used; the message states what was found and expected.

    Examples
    --------
    >>> patches = make_patch_set(np.arange(2 * 2304).reshape(2, 2304) % 256, np.array([0, 1]))
    >>> patches.images.shape, patches.images.dtype, patches.labels.tolist()
    ((2, 48, 48), dtype('uint8'), [0, 1])
    """
    pixels, notes, record = to_8bit(as_squares(images, names[0], least), names[0], trained)
    notes += _look_for_constant(pixels, names[0])
    notes += _unlike_training(pixels, names[0], trained)
    count, stem = len(pixels), Path(names[0]).stem
    if labels is None:
        label_column = np.full(count, UNLABELED, np.int8)
    else:
        label_column = check_labels(labels, count, names[1])
    return PatchSet(
        images=pixels,
        labels=label_column,
        ids=np.array([f"{stem}:{row}" for row in range(count)], str),
        groups=None if groups is None else check_groups(groups, count, names[2]),
        source=names[0],
        notes=tuple(notes),
        pixels=record,
    )


def read_array(path: Path) -> np.ndarray:
    """Open an array from .npy (memory-mapped) or .npz (its only array); never unpickle.

    Raises
    ------
    DataError
        If the file is missing, truncated, of another format, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, expected an array (.npy or .npz)",
            f"Put {path.name} there, or name another folder.",
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty, expected an array", "Save it again.")
    try:
        if path.suffix == ".npz":
            return _only_array(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _only_array(path: Path) -> np.ndarray:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        names = archive.files
        if len(names) != 1:
            listed = ", ".join(names) or "none"
            raise DataError(
                f"{path}: found {len(names)} arrays ({listed}), expected one",
                "Save the array alone, as .npy or in a .npz of its own.",
            )
        return archive[names[0]]


def _unreadable(path: Path, error: Exception) -> DataError:
    with path.open("rb") as stream:
        start = stream.read(6)
    if start != b"\x93NUMPY" and start[:2] != b"PK":
        return DataError(
            f"{path}: is not a NumPy file, expected .npy or .npz", "Write it by numpy.save."
        )
    if "objects" in str(error) or "Object arrays" in str(error):
        return DataError(
            f"{path}: holds Python objects, expected numbers; objects are never unpickled",
            "Save it again with a numeric dtype, e.g. array.astype('uint8').",
        )
    return DataError(f"{path}: is truncated or damaged ({error})", "Copy or save the file again.")


def as_squares(images: np.ndarray, source: str, least: int = 1) -> np.ndarray:
    """Return a view of images in any accepted layout as (N, S, S); require at least `least`."""
    shape = images.shape
    squares: np.ndarray | None = None
    if images.ndim == 2:
        side = math.isqrt(shape[1])
        if side * side == shape[1]:
            squares = images.reshape(shape[0], side, side)
    elif images.ndim == 3:
        squares = images
    elif images.ndim == 4 and shape[3] == 1:
        squares = images[..., 0]
    elif images.ndim == 4 and shape[1] == 1:
        squares = images[:, 0]
    if squares is None or squares.shape[1] != squares.shape[2]:
        raise DataError(
            f"{source}: found shape {shape}, expected (N, 2304), (N, 48, 48), (N, 48, 48, 1) or "
            "(N, 1, 48, 48), or another square size",
            "Store one grayscale patch per row.",
        )
    if len(squares) < least:
        raise DataError(
            f"{source}: found {len(squares)} patches, expected at least {least}",
            "Is it the right file?",
        )
    if squares.shape[1] < _MIN_SIDE:
        raise DataError(
            f"{source}: found patches of {squares.shape[1]} x {squares.shape[1]} pixels, "
            f"expected at least {_MIN_SIDE} x {_MIN_SIDE}",
            "Store one grayscale patch per row.",
        )
    return squares


def _look_for_constant(images: np.ndarray, source: str) -> list[str]:
    """Raise if all images are constant; return a note if some are."""
    constant = 0
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS]
        constant += int((part == part[:, :1, :1]).all(axis=(1, 2)).sum())
        files.release_pages(images)
    if constant == len(images) > 0:
        raise DataError(
            f"{source}: all {constant} images are constant, expected pictures",
            "Check the scaling with which they were saved.",
        )
    if constant:
        return [f"{source}: {constant} of {len(images)} images are constant"]
    return []


def _unlike_training(images: np.ndarray, source: str, trained: PixelRecord | None) -> list[str]:
    """Return a note for each clear difference from the patches that a model was trained on."""
    if trained is None or not len(images):
        return []
    return [f"{source} {text}" for text in trained.differences_of(images)]


def check_labels(labels: np.ndarray, count: int, source: str) -> np.ndarray:
    """Return labels as (N,) int8 of 0 and 1; raise DataError if they are invalid."""
    shape = labels.shape
    column = labels[:, 0] if labels.ndim == 2 and shape[1] == 1 else labels
    if column.ndim != 1:
        raise DataError(
            f"{source}: labels have shape {shape}, expected (N,) or (N, 1)",
            "Write one label per row.",
        )
    if len(column) != count:
        raise DataError(
            f"{source}: found {len(column)} labels for {count} images, expected as many",
            "Are both files from the same set?",
        )
    if column.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: labels are {column.dtype}, expected numbers 0 (without crater) and "
            "1 (with crater)",
            "Write 0 and 1.",
        )
    values = np.unique(column)
    if not np.isin(values, (0, 1)).all():
        listed = ", ".join(f"{value:g}" for value in values[:6].astype(float))
        raise DataError(
            f"{source}: found labels {listed}{', ...' if len(values) > 6 else ''}, "
            "expected 0 (without crater) and 1 (with crater)",
            "Move unlabeled patches to Xtrain1_extra.npy.",
        )
    return column.astype(np.int8)


def check_groups(groups: np.ndarray, count: int, source: str) -> np.ndarray:
    """Return group ids as (N,) str; raise DataError if they are invalid."""
    column = groups[:, 0] if groups.ndim == 2 and groups.shape[1] == 1 else groups
    if column.shape == (count,) and column.dtype.kind == "f":
        holds_nan = bool(np.isnan(column).any())
        raise DataError(
            f"{source}: groups are {column.dtype}{' and hold NaN' if holds_nan else ''}, expected "
            "whole numbers or names",
            "Give rows without a source image a group of their own, and write integers or names."
            if holds_nan
            else "Write integers or names, e.g. groups.astype('int64').",
        )
    if column.ndim != 1 or len(column) != count or column.dtype.kind not in "USiu":
        raise DataError(
            f"{source}: groups are {groups.dtype} of shape {groups.shape}, expected one name or "
            f"number for each of {count} images",
            "Write the source image of each row, or remove the groups file.",
        )
    if column.dtype.kind == "S":
        return np.char.decode(column, "utf-8")
    return column.astype(str)


def read_patches(
    images: Path,
    labels: Path | None = None,
    groups: Path | None = None,
    *,
    least: int = 1,
    trained: PixelRecord | None = None,
) -> PatchSet:
    """Read a set of patches from its files.

    Parameters
    ----------
    images : Path
        .npy (memory-mapped) or .npz; see `make_patch_set` for layouts and ranges.
    labels, groups : Path, optional
        Labels (0 or 1) and source images, one per row. The groups file may be absent.
    least : int
        Smallest number of patches; 0 accepts an empty array.
    trained : PixelRecord, optional
        Of the patches that a model was trained on; see `make_patch_set`.

    Raises
    ------
    DataError
        One line: file, what was found, what was expected, what to do.
    """
    return make_patch_set(
        read_array(images),
        None if labels is None else read_array(labels),
        read_array(groups) if groups is not None and groups.is_file() else None,
        names=(str(images), str(labels), str(groups)),
        least=least,
        trained=trained,
    )


def check_two_classes(patches: PatchSet, least: int) -> None:
    """Raise DataError if a labeled set lacks patches of either class.

    Parameters
    ----------
    patches : PatchSet
        The labeled set.
    least : int
        Smallest number of patches of each class.
    """
    counts = [int((patches.labels == label).sum()) for label in (0, 1)]
    described = f"{counts[0]} without crater (0) and {counts[1]} with crater (1)"
    if min(counts) == 0:
        raise DataError(
            f"{patches.source}: found {described}, expected both classes",
            "A classifier cannot be trained on one class.",
        )
    if min(counts) < least:
        raise DataError(
            f"{patches.source}: found {described}, expected at least {least} of each to split",
            "Label more patches of the rarer class.",
        )


def class_counts(labels: np.ndarray) -> dict[str, float | int]:
    """Count the classes of an array of labels.

    Returns
    -------
    dict
        `n`, `without_crater`, `with_crater`, `unlabeled`, and `crater_share` among the labeled
        (0 if none is labeled).

    Examples
    --------
    >>> class_counts(np.array([0, 1, 1, 1]))["crater_share"]
    0.75
    """
    craters, without = int((labels == 1).sum()), int((labels == 0).sum())
    labeled = craters + without
    return {
        "n": len(labels),
        "without_crater": without,
        "with_crater": craters,
        "unlabeled": len(labels) - labeled,
        "crater_share": craters / labeled if labeled else 0.0,
    }
