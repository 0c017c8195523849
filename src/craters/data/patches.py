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
from typing import Any

import numpy as np

from craters.core import StrPath, files
from craters.data.labels import check_groups, check_labels
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
    notes += _look_for_flaws(pixels, names[0])
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


def read_array(path: StrPath) -> np.ndarray:
    """Open an array from .npy (memory-mapped) or .npz (its only array); never unpickle.

    Raises
    ------
    DataError
        If the file is missing, truncated, of another format, or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, expected an array (.npy or .npz)",
            f"Put {path.name} there, or name another folder.",
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty, expected an array", "Save it again.")
    try:
        if path.suffix.lower() == ".npz":
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


def read_npz(path: StrPath) -> dict[str, np.ndarray]:
    """Read all arrays of an archive (.npz) by name; never unpickle.

    Raises
    ------
    DataError
        If the file is truncated, of another format, or holds Python objects.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*_UNREADABLE, AttributeError) as error:  # AttributeError: one array, not an archive
        raise _unreadable(path, error) from error


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
            "Save images as numbers, X.astype('uint8'), and labels as 0 and 1, such as "
            "(Y == 'crater').astype('int8').",
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


def _look_for_flaws(images: np.ndarray, source: str) -> list[str]:
    """Raise if no image is a picture; return a note if some are not.

    Not a picture is an image that is constant, or that holds only 0 and 1, as a mask does.
    """
    constant, binary = 0, 0
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS]
        is_constant = (part == part[:, :1, :1]).all(axis=(1, 2))
        constant += int(is_constant.sum())
        binary += int((~is_constant & (part.max(axis=(1, 2)) <= 1)).sum())
        files.release_pages(images)
    if binary and constant + binary == len(images):
        raise DataError(
            f"{source}: pixels are only 0 and 1, expected shades of gray, 0..255",
            "Are these masks, or images 0..1 that lost their fractions on conversion to integers?",
        )
    if constant == len(images) > 0:
        raise DataError(
            f"{source}: all {constant} images are constant, expected pictures",
            "Check the scaling with which they were saved.",
        )
    counts = {"are constant": constant, "hold only 0 and 1": binary}
    return [
        f"{source}: {count} of {len(images)} images {what}"
        for what, count in counts.items()
        if count
    ]


def _unlike_training(images: np.ndarray, source: str, trained: PixelRecord | None) -> list[str]:
    """Return a note for each clear difference from the patches that a model was trained on."""
    if trained is None or not len(images):
        return []
    return [f"{source} {text}" for text in trained.differences_of(images)]


def read_patches(
    images: StrPath,
    labels: StrPath | None = None,
    groups: StrPath | None = None,
    *,
    least: int = 1,
    trained: PixelRecord | None = None,
) -> PatchSet:
    """Read a set of patches from its files.

    Parameters
    ----------
    images : path-like
        .npy (memory-mapped) or .npz; see `make_patch_set` for layouts and ranges.
    labels, groups : path-like, optional
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
    images = Path(images)
    labels = None if labels is None else Path(labels)
    groups = None if groups is None else Path(groups)
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


def class_counts(labels: np.ndarray) -> dict[str, Any]:
    """Count the classes of an array of labels.

    Returns
    -------
    dict
        `n`, `without_crater`, `with_crater`, `unlabeled`, and `crater_share` among the labeled
        (None if none is labeled).

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
        "crater_share": craters / labeled if labeled else None,
    }
