"""Read and validate the arrays of a data folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from craters.data import patches
from craters.data.patches import PatchSet
from craters.errors import DataError


@dataclasses.dataclass(frozen=True)
class JobData:
    """The data of a training job; `test.labels` are -1 if the test labels are unknown."""

    train: PatchSet
    pool: PatchSet
    test: PatchSet

    @property
    def sets(self) -> dict[str, PatchSet]:
        """The sets, by their names in tables."""
        return {"labeled": self.train, "extra": self.pool, "test": self.test}

    @property
    def mixed_ranges(self) -> str:
        """A message if the arrays have different pixel ranges, else empty."""
        known = {name: one.pixel_range for name, one in self.sets.items() if one.pixel_range}
        if len(set(known.values())) < 2:
            return ""
        listed = ", ".join(f"{name} as {value}" for name, value in known.items())
        return f"the arrays were read as of different pixel ranges: {listed}"


def find_array(folder: Path, stem: str) -> Path:
    """Return the path of array `stem`: .npy, or .npz if only that exists."""
    packed = folder / f"{stem}.npz"
    plain = folder / f"{stem}.npy"
    return packed if packed.is_file() and not plain.is_file() else plain


def input_files(folder: Path) -> list[Path]:
    """Return the existing input files of a job in `folder`."""
    stems = ["Xtrain1", "Ytrain1", "groups_train", "Xtrain1_extra", "groups_extra"]
    stems += ["Xtest1", "Ytest1", "groups_test"]
    return [path for stem in stems if (path := find_array(folder, stem)).is_file()]


def read_job_data(folder: Path) -> JobData:
    """Read and validate every array of a job.

    Parameters
    ----------
    folder : Path
        With Xtrain1, Ytrain1, Xtrain1_extra (may be empty) and Xtest1; groups_train, groups_extra,
        groups_test and Ytest1 (the labels of the test set) are optional.

    Raises
    ------
    DataError
        One line: file, what was found, what was expected, what to do.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected one with Xtrain1.npy, Ytrain1.npy, "
            "Xtrain1_extra.npy and Xtest1.npy"
        )

    def at(stem: str) -> Path:
        return find_array(folder, stem)

    train = patches.read_patches(at("Xtrain1"), at("Ytrain1"), at("groups_train"))
    # Empty once a reviewer has labeled every patch.
    pool = patches.read_patches(at("Xtrain1_extra"), None, at("groups_extra"), least=0)
    truth = at("Ytest1") if at("Ytest1").is_file() else None
    test = patches.read_patches(at("Xtest1"), truth, at("groups_test"))
    for other in (pool, test):
        if other.side != train.side:
            raise DataError(
                f"{other.source}: found patches of {other.side} x {other.side} pixels, expected "
                f"{train.side} x {train.side} as in {train.source}",
                "Cut all patches to one size.",
            )
    return JobData(train, pool, test)
