"""Predict whole sets of patches: from files to a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files
from craters.data import PatchSet, PixelRecord, make_patch_set, read_patches
from craters.errors import DataError
from craters.models.classifier import Classifier

_ARRAYS = (".npy", ".npz")
_PIECE = 16_384  # patches per piece; bounds memory


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of a model for a set of patches.

    Parameters
    ----------
    ids : ndarray of str, shape (N,)
    probability : ndarray, shape (N,), float32
        Probability of class 1.
    labels : ndarray, shape (N,), int32
    sets : tuple of str, or None
        Conformal prediction set of each patch at risk 0.1; None if the model has no conformal
        calibration.
    class_names : tuple of str
    decision_threshold : float
    """

    ids: np.ndarray
    probability: np.ndarray
    labels: np.ndarray
    sets: tuple[str, ...] | None
    class_names: tuple[str, ...]
    decision_threshold: float

    @property
    def columns(self) -> dict[str, list[str] | list[float] | list[int]]:
        """The columns of the table, as plain Python values."""
        columns: dict[str, list[str] | list[float] | list[int]] = {
            "id": self.ids.tolist(),
            "probability": [float(f"{value:.9g}") for value in self.probability],
            "label": self.labels.tolist(),
        }
        return columns if self.sets is None else columns | {"set": list(self.sets)}

    def to_csv(self) -> str:
        """Return the table as CSV with a header."""
        return "".join(self.csv_parts())

    def csv_parts(self) -> Iterator[str]:
        """Yield the table as CSV with a header, a block of rows at a time."""
        yield files.to_csv([self._part(slice(0)).columns])
        for start in range(0, len(self.ids), _PIECE):
            columns: dict[str, Sequence[Any]] = {**self._part(slice(start, start + _PIECE)).columns}
            columns["probability"] = [f"{value:.9g}" for value in columns["probability"]]
            yield files.to_csv(zip(*columns.values(), strict=True))

    def _part(self, rows: slice) -> Predictions:
        return dataclasses.replace(
            self,
            ids=self.ids[rows],
            probability=self.probability[rows],
            labels=self.labels[rows],
            sets=None if self.sets is None else self.sets[rows],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all content as plain values, for JSON."""
        columns = self.columns
        rows = zip(*columns.values(), strict=True)
        return {
            "class_names": self.class_names,
            "decision_threshold": self.decision_threshold,
            "predictions": [dict(zip(columns, row, strict=True)) for row in rows],
        }

    def summary(self) -> str:
        """Return one line with the number of patches of class 1."""
        return (
            f"{int(self.labels.sum())} of {len(self.labels)} patches called "
            f"{self.class_names[1]!r} (decision threshold {self.decision_threshold:g})."
        )


def predict_table(classifier: Classifier, patches: PatchSet) -> Predictions:
    """Predict a set of patches.

    Raises
    ------
    DataError, ModelError
        As `Classifier.predict_proba`.
    """
    description = classifier.description
    images = patches.images
    probability = np.empty(len(images), np.float32)
    for start in range(0, len(images), _PIECE):
        probability[start : start + _PIECE] = classifier.predict_proba(
            images[start : start + _PIECE]
        )
        files.release_pages(images)
    sets = None
    if description.conformal is not None:
        codes = classifier.prediction_sets(probability)
        sets = tuple(classifier.set_names[code] for code in codes)
    return Predictions(
        ids=patches.ids,
        probability=probability,
        labels=classifier.decide(probability),
        sets=sets,
        class_names=description.class_names,
        decision_threshold=description.decision_threshold,
    )


def read_inputs(paths: list[Path], side: int, trained: PixelRecord | None = None) -> PatchSet:
    """Read the patches to predict: one array, or image files of one patch each.

    Parameters
    ----------
    paths : list of Path
        One .npy or .npz file, as for `read_patches`; or image files that Pillow can open.
    side : int
        Height and width in pixels that the model requires.
    trained : PixelRecord, optional
        Of the model's training patches, as in its description; see `make_patch_set`.

    Returns
    -------
    PatchSet
        Unlabeled. Ids are FILE:ROW of an array, and the paths of images.

    Raises
    ------
    DataError
        If a file cannot be read or has another size.
    """
    if any(path.suffix in _ARRAYS for path in paths):
        if len(paths) > 1:
            raise DataError(
                f"found {len(paths)} files, one of them an array; expected one array, or images",
                "Predict each array on its own.",
            )
        patches = read_patches(paths[0], trained=trained)
    else:
        patches = _read_pictures(paths, side, trained)
    if patches.side != side:
        raise DataError(
            f"{patches.source}: found patches of {patches.side} x {patches.side} pixels, expected "
            f"{side} x {side}",
            "The model was trained on patches of this size; crop or resample them.",
        )
    return patches


def _read_pictures(paths: list[Path], side: int, trained: PixelRecord | None) -> PatchSet:
    pictures, colored = [], 0
    for path in paths:
        picture, is_gray = _read_picture(path, side)
        colored += not is_gray
        pictures.append(picture)
        if picture.dtype != pictures[0].dtype:
            raise DataError(
                f"{path}: pixels are {picture.dtype}, expected {pictures[0].dtype} as in "
                f"{paths[0]}",
                "Predict files of one type at a time: their range is determined together.",
            )
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} images"
    patches = make_patch_set(np.stack(pictures), names=(name, "", ""), trained=trained)
    notes = (f"{colored} of {len(paths)} images were in color, turned to gray",) if colored else ()
    ids = np.array([str(path) for path in paths])
    return dataclasses.replace(patches, ids=ids, notes=patches.notes + notes)


def _read_picture(path: Path, side: int) -> tuple[np.ndarray, bool]:
    """Read one image as grayscale; also return whether it was grayscale."""
    from PIL import Image

    if not path.is_file():
        raise DataError(f"{path}: no such file, expected an array or an image")
    try:
        with Image.open(path) as image:
            if image.size != (side, side) or getattr(image, "n_frames", 1) != 1:
                width, height = image.size
                raise DataError(
                    f"{path}: found {width} x {height} pixels, expected one image of "
                    f"{side} x {side}",
                    "The model was trained on patches of this size; crop or resample it.",
                )
            is_gray = image.mode in ("L", "1", "F") or image.mode.startswith("I")
            keep = is_gray and image.mode != "1"
            return np.asarray(image if keep else image.convert("L")), is_gray
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
