"""Read and validate the arrays of a data folder."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from craters.core import StrPath
from craters.data import patches
from craters.data.patches import PatchSet
from craters.data.pixels import PixelRecord
from craters.errors import DataError

# The files of each set: images, labels, groups, ids.
STEMS = {
    "labeled": ("Xtrain1", "Ytrain1", "groups_train", "ids_train"),
    "extra": ("Xtrain1_extra", "", "groups_extra", "ids_extra"),
    "test": ("Xtest1", "Ytest1", "groups_test", "ids_test"),
}
# Files beside arrays that may record how their pixels were scaled, under the key `RECORD`.
_RECORD_FILES = ("summary.json", "labels.json")  # of `craters patches`, `craters labels merge`
RECORD = "pixels"


@dataclasses.dataclass(frozen=True)
class JobData:
    """The data of a training job.

    Parameters
    ----------
    train, pool, test : PatchSet
        `test.labels` are -1 if the test labels are unknown.
    scaled : PixelRecord or None
        How the pixels were scaled before the arrays were written, if that is recorded.
    diameters : (float, float) or None
        Smallest and largest diameter, in pixels, of the craters that labels are about, if that is
        recorded.
    """

    train: PatchSet
    pool: PatchSet
    test: PatchSet
    scaled: PixelRecord | None = None
    diameters: tuple[float, float] | None = None

    @property
    def pixels(self) -> PixelRecord:
        """How pixels were scaled, without statistics."""
        stored = [patches.pixels for patches in self.sets.values() if patches.pixels]
        return self.scaled or (stored[0] if stored else PixelRecord())

    @property
    def training_pixels(self) -> PixelRecord:
        """How pixels were scaled, with the statistics of the labeled patches."""
        return self.pixels.measured(self.train.images)

    @property
    def sets(self) -> dict[str, PatchSet]:
        """The sets, by their names in tables."""
        return {"labeled": self.train, "extra": self.pool, "test": self.test}

    @property
    def mixed_ranges(self) -> str:
        """A message if the arrays have different pixel ranges, else empty."""
        known = {
            name: patch_set.pixel_range
            for name, patch_set in self.sets.items()
            if patch_set.pixel_range
        }
        if len(set(known.values())) < 2:
            return ""
        listed = ", ".join(f"{name} as {value}" for name, value in known.items())
        return f"the arrays were read as of different pixel ranges: {listed}"


def find_array(folder: StrPath, stem: str) -> Path:
    """Return the path of array `stem`: .npy, or .npz if only that exists."""
    folder = Path(folder)
    packed = folder / f"{stem}.npz"
    plain = folder / f"{stem}.npy"
    return packed if packed.is_file() and not plain.is_file() else plain


def input_files(folder: StrPath) -> list[Path]:
    """Return the existing input files of a job in `folder`."""
    folder = Path(folder)
    stems = [stem for stems in STEMS.values() for stem in stems if stem]
    return [path for stem in stems if (path := find_array(folder, stem)).is_file()]


def lacks_labels(folder: StrPath) -> bool:
    """Return whether a data folder holds patches and no labels to train on.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    bool
        False for a folder without patches, too.

    Raises
    ------
    DataError
        If labels may have been meant: there are Xtrain1 or other files that belong to labels, or
        arrays and tables of labels whose names are not those that are read.
    """
    folder = Path(folder)
    if find_array(folder, "Ytrain1").is_file():
        return False
    patches_of = {stems[0]: find_array(folder, stems[0]).is_file() for stems in STEMS.values()}
    if not any(patches_of.values()):
        return False
    if patches_of["Xtrain1"]:
        raise DataError(
            f"{folder / 'Ytrain1.npy'}: no such file, expected the labels of Xtrain1",
            "Put them there; if there are no labels, give --no-labels.",
        )
    needed = {"groups_train": "Xtrain1", "groups_extra": "Xtrain1_extra", "Ytest1": "Xtest1"}
    alone = [stem for stem, images in needed.items()
             if find_array(folder, stem).is_file() and not patches_of[images]]  # fmt: skip
    doubtful = [*alone, *filter(_may_hold_labels, sorted(path.name for path in folder.iterdir()))]
    if doubtful:
        raise DataError(
            f"{folder}: found {', '.join(doubtful[:3])}, but no Xtrain1 with its labels Ytrain1",
            "Name the arrays so; if there are no labels, give --no-labels.",
        )
    return True


def _may_hold_labels(name: str) -> bool:
    """Return whether a file of another name than those read may be labels or their patches."""
    stems = [stem for stems in STEMS.values() for stem in stems if stem]
    if name in {f"{stem}{suffix}" for stem in stems for suffix in (".npy", ".npz")}:
        return False
    plain = name.casefold().replace("_", "")
    return plain.endswith((".npy", ".npz")) or "label" in plain or plain[1:].startswith("train")


def read_unlabeled_data(folder: StrPath) -> JobData:
    """Read and validate the patches of a data folder that has no labels to train on.

    Parameters
    ----------
    folder : path-like
        With one or more of Xtrain1, Xtrain1_extra and Xtest1. The groups of each, and Ytest1, are
        optional.

    Returns
    -------
    JobData
        Without labeled patches; the pool holds those of Xtrain1 and Xtrain1_extra.

    Raises
    ------
    DataError
        If there are labels to train on, no patches, or an invalid file.
    """
    folder = Path(folder)
    labels = find_array(folder, "Ytrain1")
    if labels.is_file():
        raise DataError(
            f"{labels}: holds labels, expected none with --no-labels",
            "Leave --no-labels out to train on them; `craters evaluate pretrained --set train` "
            "measures the pretrained model on them.",
        )
    present = {name: find_array(folder, stems[0]).is_file() for name, stems in STEMS.items()}
    if not any(present.values()):
        listed = ", ".join(stems[0] for stems in STEMS.values())
        raise DataError(
            f"{folder}: found no patches, expected at least one of the arrays {listed} "
            "(.npy or .npz)",
            "Is it the right folder?",
        )
    sets = {name: read_set(folder, name, labeled=False) for name in STEMS if present[name]}
    check_equal_sides(*sets.values())
    empty = _empty(next(iter(sets.values())))
    pools = [sets[name] for name in ("labeled", "extra") if present[name]]
    pool = _join(*pools) if len(pools) == 2 else next(iter(pools), empty)
    return JobData(train=empty, pool=pool, test=sets.get("test", empty))


def _empty(patch_set: PatchSet) -> PatchSet:
    """Return a set without patches, of the same size."""
    return dataclasses.replace(
        patch_set.take(np.arange(0)), groups=None, source="none", notes=(), pixels=None
    )


def _join(first: PatchSet, second: PatchSet) -> PatchSet:
    """Join two sets; one without groups counts as one group where the other has some."""
    names = ("images", "labels", "ids")
    arrays = [[getattr(patch_set, name) for patch_set in (first, second)] for name in names]
    groups = None
    if first.groups is not None or second.groups is not None:
        groups = np.concatenate([
            np.full(len(one), one.source) if one.groups is None else one.groups
            for one in (first, second)
        ])  # fmt: skip
    notes = first.notes + second.notes
    if first.pixel_range != second.pixel_range:
        notes += (
            f"{first.source} was read as {first.pixel_range}, {second.source} as "
            f"{second.pixel_range}",
        )
    images, labels, ids = map(np.concatenate, arrays)
    return dataclasses.replace(
        first, images=images, labels=labels, ids=ids, groups=groups, notes=notes
    )


def read_set(folder: StrPath, name: str, *, labeled: bool = True) -> PatchSet:
    """Read and validate one set of a data folder.

    Parameters
    ----------
    folder : path-like
    name : {"labeled", "extra", "test"}
        The set. Only "labeled" needs labels; only "extra" may be empty, as it is when a reviewer
        has labeled every patch.
    labeled : bool
        Whether "labeled" has labels.

    Raises
    ------
    DataError
        If a file is missing or invalid.
    """
    folder = Path(folder)
    images, labels, groups, ids = STEMS[name]
    truth = find_array(folder, labels) if labels else None
    if truth is not None and not truth.is_file() and (name == "test" or not labeled):
        truth = None
    least = 0 if name == "extra" else 1
    patch_set = patches.read_patches(
        find_array(folder, images), truth, find_array(folder, groups), least=least
    )
    names = find_array(folder, ids)
    if not names.is_file():
        return patch_set
    return dataclasses.replace(
        patch_set, ids=_check_ids(patches.read_array(names), patch_set, names)
    )


def _check_ids(ids: np.ndarray, patch_set: PatchSet, path: Path) -> np.ndarray:
    """Return the ids of patches as an array of str; raise DataError if they are invalid."""
    if ids.dtype.kind != "U" or ids.shape != (len(patch_set),):
        raise DataError(
            f"{path}: ids are {ids.dtype} of shape {ids.shape}, expected one text for each of "
            f"{len(patch_set)} patches",
            "Remove the file, or write the name of each row.",
        )
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{path}: ids are not unique", "Remove the file, or name each row.")
    return np.asarray(ids)


def check_equal_sides(labeled: PatchSet, *others: PatchSet) -> None:
    """Raise DataError if a set has patches of another size than the labeled set."""
    for other in others:
        if other.side != labeled.side:
            raise DataError(
                f"{other.source}: found patches of {other.side} x {other.side} pixels, expected "
                f"{labeled.side} x {labeled.side} as in {labeled.source}",
                "Cut all patches to one size.",
            )


def read_job_data(folder: StrPath, *, is_partial: bool = False) -> JobData:
    """Read and validate all arrays of a job.

    Parameters
    ----------
    folder : path-like
        With Xtrain1, Ytrain1, Xtrain1_extra (may be empty) and Xtest1. Ytest1 (the labels of the
        test set), and the groups and ids of each set are optional.
    is_partial : bool
        Whether Xtrain1_extra and Xtest1 are optional, too, as they are for `craters run`; the
        original script needs both.

    Raises
    ------
    DataError
        One line: file, what was found, what was expected, what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected a data set: arrays (Xtrain1.npy, Ytrain1.npy), "
            "class folders, a table or an archive"
        )
    train = read_set(folder, "labeled")
    pool, test = (
        _empty(train)
        if is_partial and not find_array(folder, STEMS[name][0]).is_file()
        else read_set(folder, name)
        for name in ("extra", "test")
    )
    check_equal_sides(train, pool, test)
    is_8bit = train.pixels is not None and train.pixels.dtype == "uint8"
    scaled = _read_record(folder) if is_8bit else None
    return JobData(
        train=train, pool=pool, test=test, scaled=scaled, diameters=_read_diameters(folder)
    )


def _read_diameters(folder: Path) -> tuple[float, float] | None:
    """Read which craters labels are about, as `craters patches` records it; None if unknown."""
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        (low, high), unit = content["rule"]["diameters"], content["rule"]["unit"]
        pixels = 1000 / content["resolution"] if unit == "km" else {"px": 1.0}[unit]
        return low * pixels, math.inf if high is None else high * pixels
    except (OSError, ValueError, KeyError, TypeError):  # none, or a file of another program
        return None


def _read_record(folder: Path) -> PixelRecord | None:
    """Read how the pixels of 8-bit arrays were scaled, from a file beside them; None if unknown."""
    for path in (folder / name for name in _RECORD_FILES):
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except ValueError:  # a file of another program
            continue
        record = content.get(RECORD) if isinstance(content, dict) else None
        if isinstance(record, dict) and "dtype" in record:
            return PixelRecord.from_dict(record, str(path))
    return None
