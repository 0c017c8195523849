"""Scikit-learn estimator for the package's networks."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from craters._version import __version__
from craters.core import StrPath, check_device, torch_threads, usable_threads
from craters.data import (
    CLASS_NAMES,
    ROUNDING,
    UNLABELED,
    PatchSet,
    PixelRecord,
    as_squares,
    explain_shape,
    make_patch_set,
    meaning_of,
    to_8bit,
)
from craters.errors import ConfigError, DataError
from craters.evaluation import decide
from craters.models import (
    ModelDescription,
    Network,
    network_to_onnx,
    network_weights,
    over_images,
    write_model,
)
from craters.pipeline.stages import kept_network, resolve_settings
from craters.settings import JobSettings
from craters.training import load_start, predict_logits, sigmoid


class PatchError(DataError, ValueError):
    """Invalid array; also a ValueError, as scikit-learn expects."""


class CraterClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify patches with the final network of `craters run`, as a scikit-learn estimator.

    It learns from the labeled rows and, depending on the method, from those with label -1, as in
    scikit-learn's `SelfTrainingClassifier`. Probabilities are not calibrated, since no patches are
    held out for it; if calibration matters, wrap the estimator in a `CalibratedClassifierCV`.

    Parameters
    ----------
    network, start, members, symmetry, epochs, initial_epochs, final_epochs, initial_lr, \
    final_lr, batch_size, pseudo_threshold, validation_share, device
        As the [settings](settings.md) of `craters run`. `validation_share` of the labeled rows is
        held out only to select the epoch of the original network.
    method : str
        As `craters run --method`. "auto" is "supervised" without unlabeled rows and for the
        original network; else it compares semi-supervised methods as in a run, which takes many
        times longer. "supervised" ignores unlabeled rows.
    decision_threshold : float
        Minimum probability to predict the second class.
    random_state : int, RandomState or None
        An integer makes results reproducible, equal to those of `craters run --seed`.
    n_jobs : int or None
        Threads; None and -1 use all processors available to the process.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        The sorted labels; the second one corresponds to "with crater".
    network_ : Network
        The trained torch network, in evaluation mode.
    side_ : int
        Height and width of a patch in pixels.
    n_features_in_ : int
        Length of the second axis of X.
    n_labeled_, n_unlabeled_ : int
        Number of rows with and without a label in `fit`.

    See Also
    --------
    craters.run_job : The whole job, with validation, calibration and a report.
    craters.Classifier : Prediction without torch, from a model folder.

    Examples
    --------
    >>> from craters import CraterClassifier, make_patches
    >>> patches = make_patches(40, crater_share=0.5, seed=1, size=28)
    >>> y = patches.labels.copy()
    >>> y[30:] = -1
    >>> model = CraterClassifier(network="original", initial_epochs=2, random_state=0)
    >>> model.fit(patches.images, y, groups=patches.groups).predict_proba(patches.images).shape
    (40, 2)
    >>> model.classes_.tolist(), model.n_unlabeled_
    ([0, 1], 10)
    """

    def __init__(
        self,
        network: Literal["compact", "dense", "original"] = "compact",
        *,
        method: str = "auto",
        start: Literal["pretrained", "random"] = "pretrained",
        members: int = 1,
        symmetry: str = "auto",
        decision_threshold: float = 0.5,
        epochs: int = 0,
        initial_epochs: int = 75,
        final_epochs: int = 50,
        initial_lr: float = 0.0003,
        final_lr: float = 0.0004,
        batch_size: int = 32,
        pseudo_threshold: float = 0.25,
        validation_share: float = 0.2,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.network = network
        self.method = method
        self.start = start
        self.members = members
        self.symmetry = symmetry
        self.decision_threshold = decision_threshold
        self.epochs = epochs
        self.initial_epochs = initial_epochs
        self.final_epochs = final_epochs
        self.initial_lr = initial_lr
        self.final_lr = final_lr
        self.batch_size = batch_size
        self.pseudo_threshold = pseudo_threshold
        self.validation_share = validation_share
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None
    ) -> CraterClassifier:
        """Train on the labeled rows and, depending on the method, on the unlabeled ones.

        Parameters
        ----------
        X : ndarray, shape (N, S, S), (N, S, S, 1) or (N, S * S)
            Gray patches, as `make_patch_set` takes them; at least 14 pixels (original), 16
            (compact), or 40 in multiples of 4 (dense).
        y : ndarray, shape (N,)
            Two labels, numbers or texts; -1 marks an unlabeled row.
        groups : ndarray, shape (N,), optional
            The source image of each row, kept together in splits.

        Returns
        -------
        CraterClassifier
            Itself.

        Raises
        ------
        DataError
            If the arrays are invalid; it is also a ValueError.
        ConfigError
            If a setting is invalid.
        """
        _refuse_columns(y)
        X, y = validate_data(self, X, y, dtype=None, allow_nd=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        known = _labeled(y)
        self.classes_ = _two_classes(y[known], has_unlabeled=not known.all())
        pixels = self._pixels(X, is_first=True)
        labels = np.searchsorted(self.classes_, y[known])
        patches = _patch_set(pixels, groups)
        labeled = dataclasses.replace(
            patches.take(np.flatnonzero(known)), labels=labels.astype(np.int8)
        )
        self.side_ = patches.side
        self._training_pixels = self._stored.measured(labeled.images)
        self.n_labeled_, self.n_unlabeled_ = int(known.sum()), int((~known).sum())
        pool = patches.take(np.flatnonzero(~known))
        settings = resolve_settings(self._settings(), labeled)
        check_device(settings.device)
        self._started = settings.start == "pretrained"
        self._threads = usable_threads(settings.threads)
        with _value_errors():
            self.network_: Network = kept_network(labeled, pool, settings)
        return self

    def _settings(self) -> JobSettings:
        if str(self.network) == "circles":  # not of the type, but a name elsewhere
            raise ConfigError(
                "the network 'circles' makes a detector for images, not a classifier",
                "Train it by craters run --network circles.",
            )
        names = {field.name for field in dataclasses.fields(JobSettings)}
        values: dict[str, Any] = {
            name: value for name, value in self.get_params().items() if name in names
        }
        has_choice = self.n_unlabeled_ > 0 and self.network != "original"
        if self.method == "auto" and not has_choice:
            values["method"] = "supervised"
        seed = self.random_state
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(2**31)
        return JobSettings(
            **values,
            threshold_final=self.decision_threshold,
            seed=int(seed),
            threads=0 if self.n_jobs in (None, -1) else int(self.n_jobs),
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Compute the logits of the second class.

        Parameters
        ----------
        X : ndarray
            As for `fit`, of the same size and range.

        Returns
        -------
        ndarray, shape (N,), float32
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=None, allow_nd=True, reset=False)
        pixels = self._pixels(X)
        if pixels.shape[1] != self.side_:
            raise PatchError(
                f"X: found patches of {pixels.shape[1]} x {pixels.shape[1]} pixels, expected "
                f"{self.side_} x {self.side_} as in fit"
            )
        with torch_threads(self._threads):
            return predict_logits(self.network_, pixels)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Predict the probability of both classes, in the order of `classes_`.

        Parameters
        ----------
        X : ndarray
            As for `fit`, of the same size and range.

        Returns
        -------
        ndarray, shape (N, 2), float64
            Rows sum to 1.
        """
        second = sigmoid(self.decision_function(X)).astype(np.float64)
        return np.stack([1 - second, second], axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict labels: the second class if its probability reaches `decision_threshold`.

        Parameters
        ----------
        X : ndarray
            As for `fit`, of the same size and range.

        Returns
        -------
        ndarray, shape (N,)
            Elements of `classes_`.
        """
        called = decide(self.predict_proba(X)[:, 1], self.decision_threshold)
        return self.classes_[called]

    def score(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        """Return the accuracy on the labeled rows; rows with label -1 are ignored.

        Parameters
        ----------
        X : ndarray
            As for `fit`.
        y : ndarray, shape (N,)
        sample_weight : ndarray, shape (N,), optional

        Returns
        -------
        float
        """
        y = column_or_1d(y)
        known = _labeled(y)
        if not known.any():
            raise PatchError("y: found no labeled row, expected some to score by")
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(super().score(np.asarray(X)[known], y[known], weight))

    def save_model(self, folder: StrPath, *, resolution: float | None = None) -> Path:
        """Write a model folder for `craters predict` and `craters scan`.

        Parameters
        ----------
        folder : path-like
            Must not exist.
        resolution : float, optional
            Resolution of the patches in metres per pixel.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        DataError
            If the first class, not the second one, means "with crater".
        """
        check_is_fitted(self)
        if isinstance(self.classes_[0], str) and meaning_of(self.classes_[0]) == 1:
            raise PatchError(
                f"classes are {self.classes_.tolist()} in sorted order, but the second class of a "
                "model folder means 'with crater'",
                f"Fit with numbers: (y == {str(self.classes_[0])!r}).astype('int8').",
            )
        network = over_images(self.network_)
        names = tuple(str(name) for name in self.classes_)
        description = ModelDescription(
            network=network.name,
            network_settings={"members": self.members, **self.network_.settings},
            side=self.side_,
            stride=network.stride,
            resolution=resolution,
            class_names=CLASS_NAMES if names == ("0", "1") else names,
            decision_threshold=float(self.decision_threshold),
            versions={"craters": __version__},
            symmetry=network.symmetry,
            pixels=self._training_pixels,
            start=load_start().record if self._started else None,
        )
        return write_model(
            folder,
            onnx=network_to_onnx(network, self.side_),
            weights=network_weights(self.network_),
            description=description,
        )

    def _pixels(self, X: np.ndarray, *, is_first: bool = False) -> np.ndarray:
        """Convert X to 8-bit patches (N, S, S), by the pixel range recognised in `fit`."""
        with _value_errors():
            squares = as_squares(X, "X")
            kind = squares.dtype.kind
            if is_first:
                self._full_scale: dict[str, float] = {}
            if squares.dtype == np.uint8 or kind not in self._full_scale:
                pixels, _, record = to_8bit(squares, "X")
                if is_first:
                    self._stored = record or PixelRecord()
                if is_first and squares.dtype != np.uint8:
                    self._full_scale[kind] = _full_scale(squares)
                return pixels
        scale = self._full_scale[kind]
        low, high = float(squares.min()), float(squares.max())
        beyond = high > scale * (1 + ROUNDING)
        if low < 0 or beyond or (_full_scale(squares) == 1 < scale and (squares % 1).any()):
            raise PatchError(
                f"X: pixels range from {low:g} to {high:g}, expected 0..{scale:g} as in fit"
            )
        return np.rint(squares.astype(np.float64) * (255 / scale)).astype(np.uint8)


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise PatchError(error.message, error.hint) from error


def _full_scale(squares: np.ndarray) -> float:
    """Return the largest possible pixel value of an array, by its type and range."""
    high = squares.max()
    if squares.dtype.kind == "f":
        return 1.0 if high <= 1 + ROUNDING else 255.0
    return 255.0 if high <= 255 else 65535.0


def _labeled(y: np.ndarray) -> np.ndarray:
    """Return which rows have a label; string labels always count."""
    return y != UNLABELED if y.dtype.kind in "biuf" else np.ones(len(y), bool)


def _refuse_columns(y: Any) -> None:
    """Raise an error if y has several columns, such as one-hot labels; others are checked later."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 2:
        raise PatchError(
            f"y: found labels of shape {labels.shape}, expected (N,)", explain_shape(labels, "y")
        )


def _two_classes(labels: np.ndarray, *, has_unlabeled: bool) -> np.ndarray:
    classes = np.unique(labels)
    if "-1" in classes.astype(str) and classes.dtype.kind not in "biuf":
        raise PatchError(
            "y: found '-1' as text, expected a class or the number -1, which marks unlabeled rows",
            "Give numbers: y.astype(int), where all labels are numbers.",
        )
    if len(classes) > 2:
        raise PatchError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(labels)}",
            f"y: found the labels {reprlib.repr(classes.tolist())}, expected two and -1.",
        )
    if len(classes) < 2:
        raise PatchError(
            f"y: found {len(classes)} class among {len(labels)} labeled rows, expected two classes",
            "-1 marks unlabeled rows. If it means 'without crater', give "
            f"(y == {classes.tolist()[0]!r}).astype('int8')."
            if has_unlabeled and len(classes)
            else "A classifier cannot be trained on one class.",
        )
    return classes


def _patch_set(pixels: np.ndarray, groups: np.ndarray | None) -> PatchSet:
    with _value_errors():
        return make_patch_set(
            pixels,
            groups=None if groups is None else np.asarray(groups),
            names=("X", "y", "groups"),
        )
