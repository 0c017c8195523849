"""Predict whole sets of patches: from files to a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import NullProgress, Progress, Steps, StrPath, files
from craters.data import PatchSet, Picture, PixelRecord, make_patch_set, read_patches
from craters.errors import DataError
from craters.models.classifier import Classifier
from craters.models.description import (
    ModelDescription,
    measured_sets,
    sides_text,
    size_hint,
)
from craters.models.folder import PRETRAINED
from craters.models.light import Lights, views_of_light
from craters.models.pictures import (
    ARRAY_SUFFIXES,
    commonest_side,
    find_pictures,
    read_picture,
)

_PIECE = 16_384  # rows of a table per piece; bounds memory
_PREDICTED = 2_048  # patches between two reports of progress
_PROBES = 48  # patches to find out whether a model answers the same for all
_SAME = 1e-3  # logits in a smaller range are the same
_SATURATED = 15  # logits that are all above, or all below its negative: the same probability


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
    light : Lights or None
        Direction of light to which a model turned the patches; None if it takes them as they are.
    """

    ids: np.ndarray
    probability: np.ndarray
    labels: np.ndarray
    sets: tuple[str, ...] | None
    class_names: tuple[str, ...]
    decision_threshold: float
    light: Lights | None = None

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
        light = {} if self.light is None else {"light": self.light.to_dict()}
        return {
            "class_names": self.class_names,
            "decision_threshold": self.decision_threshold,
            **light,
            "predictions": [dict(zip(columns, row, strict=True)) for row in rows],
        }

    def summary(self) -> str:
        """Return one line with the number of patches of class 1."""
        return (
            f"{int(self.labels.sum())} of {len(self.labels)} patches called "
            f"{self.class_names[1]!r} (decision threshold {self.decision_threshold:g})."
        )


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Patches to predict.

    Parameters
    ----------
    patches : PatchSet
        Unlabeled.
    skipped : tuple of str
        For each image that cannot be used: its path, and the reason.
    """

    patches: PatchSet
    skipped: tuple[str, ...] = ()


def predict_table(
    classifier: Classifier,
    patches: PatchSet,
    *,
    sun_azimuth: float | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Predict a set of patches.

    Parameters
    ----------
    classifier : Classifier
    patches : PatchSet
    sun_azimuth : float, optional
        States the direction of light, which is estimated otherwise, once for all patches or for
        each of their groups: see `Classifier.find_light`.
    progress : Progress, optional
        Receives the finished share of the work.

    Raises
    ------
    ConfigError, DataError, ModelError
        As `Classifier.find_light` and `Classifier.logits`.
    """
    description = classifier.description
    images = patches.images
    light, seen = None, 0
    if description.light is not None and sun_azimuth is None:
        seen = views_of_light(patches.groups, len(images))
    steps = Steps(progress, {"light": seen, "patches": len(images)})
    if description.light is not None or sun_azimuth is not None:
        light = classifier.find_light(images, groups=patches.groups, sun_azimuth=sun_azimuth)
    steps.finish("light")
    probability = np.empty(len(images), np.float32)
    for start in range(0, len(images), _PREDICTED):
        rows = slice(start, start + _PREDICTED)
        azimuth = None if light is None else light.azimuth[rows]
        probability[rows] = classifier.probability(classifier.logits(images[rows], azimuth=azimuth))
        files.release_pages(images)
        steps.advance("patches", min(start + _PREDICTED, len(images)) / len(images))
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
        light=light,
    )


def predict(
    images: StrPath | Sequence[StrPath] | np.ndarray | PatchSet,
    model: StrPath | Classifier = PRETRAINED,
    *,
    sun_azimuth: float | None = None,
) -> Predictions:
    """Predict whether patches show a crater.

    Parameters
    ----------
    images : ndarray, PatchSet, path-like or sequence of path-like
        An array (N, S, S) or (N, S, S, 1), in any range that `make_patch_set` takes; the path of
        such an array; or image files of one patch each, and folders of them.
    model : path-like or Classifier
        A model folder, a run folder, `pretrained`, or the result of `load_model`.
    sun_azimuth : float, optional
        For `pretrained`: degrees clockwise from image up where the light comes from. [estimated]

    Returns
    -------
    Predictions
        `ids`, `probability` and `labels` as arrays; `columns` makes a data frame:
        `pandas.DataFrame(predictions.columns)`.

    Raises
    ------
    ConfigError, DataError, ModelError
        If the model or the patches cannot be used, or one of the images; the message names it.

    Examples
    --------
    >>> from craters import make_patches
    >>> patches = make_patches(4, crater_share=0.5, seed=1)
    >>> predictions = predict(patches.images)
    >>> predictions.probability.shape, list(predictions.columns)
    ((4,), ['id', 'probability', 'label'])
    """
    classifier = model if isinstance(model, Classifier) else Classifier.load(model)
    description = classifier.description
    if isinstance(images, PatchSet):
        patches = images
    elif isinstance(images, np.ndarray):
        patches = make_patch_set(images, trained=description.pixels)
    else:
        inputs = read_inputs(images, description.side_range, description.pixels)
        if inputs.skipped:
            raise DataError(
                f"{len(inputs.skipped)} of the images cannot be used; the first: "
                f"{inputs.skipped[0]}",
                "Leave them out; craters predict skips them.",
            )
        patches = inputs.patches
    return predict_table(classifier, patches, sun_azimuth=sun_azimuth)


def doubts(description: ModelDescription, images: np.ndarray) -> list[str]:
    """Describe how patches differ from those that a model was trained on; see `LookRange`.

    Parameters
    ----------
    description : ModelDescription
    images : ndarray, shape (N, S, S), uint8

    Returns
    -------
    list of str
        One text for each clear difference; empty also where nothing of its patches is known.
    """
    if description.looks is not None:
        relative = bool(description.network_settings.get("patch_contrast"))
        return description.looks.differences_of(images, relative=relative)
    return description.pixels.differences_of(images) if description.pixels else []


def constant_output(classifier: Classifier) -> str | None:
    """Return a warning if a model gives very different patches the same probability, else None.

    Parameters
    ----------
    classifier : Classifier
    """
    logits = classifier.logits(_probes(classifier.description.side))
    low, high = classifier.probability(np.array([logits.min(), logits.max()]))
    is_saturated = logits.min() > _SATURATED or logits.max() < -_SATURATED
    if np.ptp(logits) >= _SAME and not is_saturated:
        return None
    return (
        f"the model answers the same for everything: {_PROBES} test patches, with and without a "
        f"crater, have probabilities from {low:.6f} to {high:.6f}. Its training failed, or its "
        "input has another scale"
    )


def _probes(side: int) -> np.ndarray:
    """Draw patches (N, side, side): bowls of any place, size, light and contrast, on any ground."""
    random = np.random.default_rng(0)
    down, right = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    patches = np.empty((_PROBES, side, side), np.uint8)
    for number in range(_PROBES):
        row, col, azimuth = random.uniform((-0.5, -0.5, 0), (0.5, 0.5, 2 * np.pi))
        toward = np.cos(azimuth) * (down - row) + np.sin(azimuth) * (right - col)
        radius = random.uniform(0.2, 0.9)
        inside = np.hypot(down - row, right - col) < radius
        bowl = inside * toward / radius * random.uniform(0, 100) * (number % 2)
        ground = random.uniform(40, 215) + random.uniform(-40, 40) * toward
        noise = random.normal(0, random.uniform(0, 25), (side, side))
        patches[number] = np.clip(ground + bowl + noise, 0, 255).round()
    return patches


def measured_quality(description: ModelDescription, side: int) -> str:
    """Return the quality of a model on real patches like these, in words.

    Parameters
    ----------
    description : ModelDescription
        Of a model that ships with craters; its metrics name the sets that it was measured on.
    side : int
        Of the patches to predict, in pixels. Sets of patches of two thirds to one and a half times
        this side are like them; without such a set, all are named.
    """
    sets = measured_sets(description)
    like = {
        name: figures
        for name, figures in sets.items()
        if 2 / 3 <= figures.get("side", side) / side <= 3 / 2
    }
    texts = [
        f"{figures['macro_f1']:.2f} on {name}"
        for name, figures in (like or sets).items()
        if "macro_f1" in figures
    ]
    return f"macro F1 {', '.join(texts)}" if texts else "not measured"


def read_inputs(
    paths: StrPath | Sequence[StrPath],
    sides: int | tuple[int, int],
    trained: PixelRecord | None = None,
    progress: Progress | None = None,
) -> Inputs:
    """Read the patches to predict: one array, or image files of one patch each.

    Parameters
    ----------
    paths : sequence of path-like
        One .npy or .npz file, as for `read_patches`; or image files that Pillow can open, and
        folders of them.
    sides : int or (int, int)
        Height and width in pixels that the model requires, or the least and largest that it
        takes; then images must have the size of most of them.
    trained : PixelRecord, optional
        Of the model's training patches, as in its description; see `make_patch_set`.
    progress : Progress, optional
        Receives the number of images that are read.

    Returns
    -------
    Inputs
        Unlabeled patches, and the images that cannot be used. Ids are FILE:ROW of an array, the
        paths of images, and paths within the folder if one folder is given.

    Raises
    ------
    DataError
        If a file is missing, the array cannot be read or has another size, or no image can be used.
    """
    inputs = files.path_list(paths)
    least, largest = (sides, sides) if isinstance(sides, int) else sides
    if any(path.suffix.lower() in ARRAY_SUFFIXES for path in inputs):
        if len(inputs) > 1:
            raise DataError(
                f"found {len(inputs)} files, one of them an array; expected one array, or images",
                "Predict each array on its own.",
            )
        patches = read_patches(inputs[0], trained=trained)
        if not least <= patches.side <= largest:
            raise DataError(
                f"{patches.source}: found patches of {patches.side} x {patches.side} pixels, "
                f"expected {sides_text((least, largest))}",
                size_hint((least, largest)),
            )
        return Inputs(patches=patches)
    return _read_pictures(
        find_pictures(inputs), (least, largest), trained, progress or NullProgress()
    )


def _read_pictures(
    named: Sequence[tuple[Path, str]],
    sides: tuple[int, int],
    trained: PixelRecord | None,
    progress: Progress,
) -> Inputs:
    """Read all pictures that can be used; describe the others."""
    if sides[0] < sides[1]:
        sides = commonest_side([path for path, _ in named], sides)
    pictures: list[Picture] = []
    ids, skipped = [], []
    for number, (path, name) in enumerate(named):
        progress.work(number, len(named), "images")
        try:
            picture = read_picture(path, sides)
        except DataError as error:
            if len(named) == 1:
                raise
            skipped.append(error.message)
            continue
        pictures.append(picture)
        ids.append(name)
        if picture.pixels.dtype != pictures[0].pixels.dtype:
            raise DataError(
                f"{path}: pixels are {picture.pixels.dtype}, expected {pictures[0].pixels.dtype} "
                f"as in {ids[0]}",
                "Predict files of one type at a time: their range is determined together.",
            )
    if not pictures:
        raise DataError(
            f"none of the {len(named)} images can be used; the first: {skipped[0]}",
            f"The model takes images of {sides_text(sides)} pixels.",
        )
    source = ids[0] if len(ids) == 1 else f"{len(ids)} images"
    stacked = np.stack([picture.pixels for picture in pictures])
    patches = make_patch_set(stacked, names=(source, "", ""), trained=trained)
    colored = sum(picture.is_color for picture in pictures)
    notes = (f"{colored} of {len(ids)} images were in color, turned to gray",) if colored else ()
    patches = dataclasses.replace(patches, ids=np.array(ids), notes=patches.notes + notes)
    return Inputs(patches=patches, skipped=tuple(skipped))
