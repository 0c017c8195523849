"""Write, read and evaluate model folders: trained networks with metadata. Needs no torch.

model.onnx           graph of the network, used for predictions
model.safetensors    its weights, to continue training in torch
model.json           input, meaning of the output, provenance
MODEL_CARD.md        the same as text
SHA256SUMS           checksums of the other files, as read by `sha256sum --check`

A folder is written atomically, and refused if any of its files was changed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from craters.core import StrPath
from craters.data import PatchSet, PixelRecord, as_squares, normalize, read_patches, to_8bit
from craters.errors import DataError, ExistsError, ModelError
from craters.evaluation import ConformalScores, decide, prediction_sets, sigmoid
from craters.models.description import DAMAGED, ModelDescription, facts, model_card
from craters.models.folder import (
    CARD,
    DESCRIPTION,
    GRAPH,
    WEIGHTS,
    find_model,
    read_parts,
    write_parts,
)
from craters.models.onnx_graph import graph_errors, open_graph

__all__ = [
    "Classifier",
    "ModelDescription",
    "read_description",
    "read_graph",
    "read_weights",
    "write_model",
]

INPUT, OUTPUT, LIGHT = "images", "logits", "light"  # names in the graph
WEIGHTS_PREFIX = "network."  # of the names of weights, in a graph that holds each once

_BATCH = 32  # patches; larger batches are not faster and take more memory


class Classifier:
    """Predict patches with the network of a model folder; `Classifier.load` reads a folder.

    Parameters
    ----------
    description : ModelDescription
    graph : bytes
        Content of the ONNX file.
    threads : int
        0: all CPUs available to the process.
    source : str
        Name of the graph in messages.
    sha256 : str
        Identifies the model folder.

    Raises
    ------
    ModelError
        If the graph cannot be read, or contradicts the description.
    """

    def __init__(
        self,
        description: ModelDescription,
        graph: bytes,
        *,
        threads: int = 0,
        source: str = GRAPH,
        sha256: str = "",
    ) -> None:
        self.description = description
        self.sha256 = sha256
        self._source = source
        self._session = open_graph(graph, threads=threads, source=source)
        self._check_input_and_output()

    @classmethod
    def load(cls, folder: StrPath, *, threads: int = 0) -> Classifier:
        """Load a model folder after verifying its checksums.

        Parameters
        ----------
        folder : path-like
            A model folder, or a run folder that holds one as `model`.
        threads : int
            0: all CPUs available to the process.

        Raises
        ------
        ModelError
            If a file is missing, unexpected, a link, changed or invalid; the message names it.
        """
        folder = find_model(folder)
        parts, sha256 = read_parts(folder)
        description = _read_description(parts, folder)
        _parse_weights(parts[WEIGHTS], folder / WEIGHTS)
        source = str(folder / GRAPH)
        return cls(description, parts[GRAPH], threads=threads, source=source, sha256=sha256)

    def _check_input_and_output(self) -> None:
        """Compare names, types and shapes of the graph's input and output with the description."""
        side, stride = self.description.side, self.description.stride
        size = [None, None] if stride else [side] * 2
        shapes = ((INPUT, [None, *size]), (OUTPUT, [None] * 3 if stride else [None]))
        try:
            arrays = [
                [(array.name, array.type, array.shape) for array in ends]
                for ends in (self._session.get_inputs(), self._session.get_outputs())
            ]
        except ValueError as error:  # names that are not UTF-8
            raise ModelError(f"{self._source}: cannot be read ({error})", DAMAGED) from error
        for (name, shape), ends in zip(shapes, arrays, strict=True):
            names = [array[0] for array in ends]
            if names != [name]:
                raise ModelError(f"{self._source}: holds {names}, expected {name!r} alone")
            kind, lengths = ends[0][1:]
            free = [length if isinstance(length, int) else None for length in lengths]
            if kind != "tensor(float)" or free != shape:
                raise ModelError(
                    f"{self._source}: {name} is {kind} of shape {free}, expected "
                    f"tensor(float) of shape {shape}",
                    "Graph and model.json are not of one model.",
                )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits of patches, in batches.

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8
            May be memory-mapped; one batch at a time is in memory.

        Returns
        -------
        ndarray, shape (N,), float32
            Logits of class 1, "with crater".

        Raises
        ------
        DataError
            If the patches are not 8-bit or have another size.
        ModelError
            If the graph fails or returns values that are not finite.
        """
        side = self.description.side
        if images.ndim != 3 or images.shape[1:] != (side, side):
            raise DataError(
                f"patches have shape {images.shape}, expected (N, {side}, {side})",
                "The model was trained on patches of this size; crop or resample them.",
            )
        logits = np.empty(len(images), np.float32)
        for start in range(0, len(images), _BATCH):
            batch = np.ascontiguousarray(images[start : start + _BATCH])
            count = len(batch)
            if count == 1:  # a single patch takes another code path and differs by 1e-8
                batch = np.repeat(batch, 2, axis=0)
            shape = (len(batch), 1, 1) if self.description.stride else (len(batch),)
            logits[start : start + count] = self._run(batch, shape).reshape(-1)[:count]
        return logits

    def logit_maps(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits of all windows of larger images at once, with a dense-exact network.

        Parameters
        ----------
        images : ndarray, shape (N, H, W), uint8

        Returns
        -------
        ndarray, shape (N, (H - side) // stride + 1, (W - side) // stride + 1), float32
            Logits of the windows whose first pixel is at multiples of `stride`.

        Raises
        ------
        ModelError
            If the network is not dense-exact.
        DataError
            If the images are not 8-bit, or are smaller than a window.
        """
        side, stride = self.description.side, self.description.stride
        if stride is None:
            raise ModelError(f"{self._source}: {self.description.network} takes patches only")
        if images.ndim != 3 or min(images.shape[1:]) < side:
            raise DataError(f"images have shape {images.shape}, expected (N, H, W) from {side} up")
        rows, columns = ((size - side) // stride + 1 for size in images.shape[1:])
        return self._run(np.ascontiguousarray(images), (len(images), rows, columns))

    def _run(self, images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        scaled = normalize(images)
        try:
            logits: np.ndarray = self._session.run([OUTPUT], {INPUT: scaled})[0]
        except graph_errors() as error:
            raise ModelError(f"{self._source}: the graph failed ({error})") from error
        if logits.shape != shape or not np.isfinite(logits).all():
            raise ModelError(
                f"{self._source}: gave an array of shape {logits.shape}, expected finite numbers "
                f"of shape {shape}"
            )
        return logits

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits to calibrated probabilities of class 1, float32."""
        scaled = np.asarray(logits, np.float64) / self.description.temperature
        return sigmoid(scaled).astype(np.float32)

    def predict_proba(self, images: StrPath | np.ndarray | PatchSet) -> np.ndarray:
        """Predict the probability of class 1, "with crater".

        Parameters
        ----------
        images : path-like, ndarray or PatchSet
            The path of an array, an array in any layout and range that `make_patch_set` takes, or
            the result of `read_patches`.

        Returns
        -------
        ndarray, shape (N,), float32
        """
        return self.probability(self.logits(_pixels(images, self.description.pixels)))

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Return class 1 where the probability reaches the decision threshold, else 0; int32."""
        return decide(probability, self.description.decision_threshold)

    def predict(self, images: StrPath | np.ndarray | PatchSet) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        images : path-like, ndarray or PatchSet
            As for `predict_proba`.

        Returns
        -------
        ndarray, shape (N,), int32
            1 with crater, 0 without crater.
        """
        return self.decide(self.predict_proba(images))

    @property
    def set_names(self) -> tuple[str, ...]:
        """Meanings of the codes of `prediction_sets`; "none": unlike either class."""
        return ("none", *self.description.class_names, "unsure")

    def prediction_sets(self, probability: np.ndarray, risk: float = 0.1) -> np.ndarray:
        """Return the prediction set of each patch, as `conformal.prediction_sets`.

        Parameters
        ----------
        probability : ndarray, shape (N,)
            Probability of class 1.
        risk : float
            Largest expected share of each class whose sets lack that class, for patches from the
            distribution of the calibration patches; above 0 and below 1.

        Returns
        -------
        ndarray, shape (N,), int8
            Index in `set_names`: 1 if the set contains class 0, plus 2 if it contains class 1.

        Raises
        ------
        ModelError
            If the model was not calibrated.
        """
        if self.description.conformal is None:
            raise ModelError(f"{self._source}: the model was not calibrated for prediction sets")
        calibrated = self.description.conformal
        scores = (tuple(calibrated[name]) for name in self.description.class_names)
        return prediction_sets(probability, ConformalScores(*scores), risk)

    def describe(self) -> str:
        """Return a description of the model as lines of text."""
        return "\n".join(f"{name + ':':20}{text}" for name, text in facts(self.description))


def _pixels(images: StrPath | np.ndarray | PatchSet, trained: PixelRecord | None) -> np.ndarray:
    """Return 8-bit patches (N, side, side); such an array is returned as it is."""
    if isinstance(images, PatchSet):
        return images.images
    if isinstance(images, str | os.PathLike):
        return read_patches(images, trained=trained).images
    array = np.asanyarray(images)
    if array.dtype == np.uint8 and array.ndim == 3:
        return array
    return to_8bit(as_squares(array, "images"), "images", trained)[0]


def read_weights(folder: StrPath) -> dict[str, np.ndarray]:
    """Read the weights of a model folder, by their names in torch, after checking the folder.

    Raises
    ------
    ModelError
        If the folder is invalid.
    """
    folder = find_model(folder)
    return _parse_weights(read_parts(folder)[0][WEIGHTS], folder / WEIGHTS)


def read_description(folder: StrPath) -> ModelDescription:
    """Read the description of a model folder, after checking it; see `read_weights`."""
    folder = find_model(folder)
    return _read_description(read_parts(folder)[0], folder)


def read_graph(folder: StrPath) -> bytes:
    """Read the ONNX file of a model folder, after checking it; see `read_weights`."""
    return read_parts(find_model(folder))[0][GRAPH]


def _parse_weights(content: bytes, path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is no valid safetensors file ({error})", DAMAGED) from error


def _read_description(parts: dict[str, bytes], folder: Path) -> ModelDescription:
    try:
        text = parts[DESCRIPTION].decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{folder / DESCRIPTION}: is no UTF-8 text", DAMAGED) from error
    return ModelDescription.from_json(text, str(folder / DESCRIPTION))


def write_model(
    folder: StrPath,
    *,
    onnx: bytes,
    weights: dict[str, np.ndarray],
    description: ModelDescription,
    license_id: str = "unknown",
    force: bool = False,
) -> Path:
    """Write a model folder atomically; it is test-loaded before it is renamed.

    Parameters
    ----------
    folder : path-like
        Must not exist, unless `force`.
    onnx : bytes
        Result of `network_to_onnx`.
    weights : dict of ndarray
        Result of `network_weights`.
    description : ModelDescription
    license_id : str
        License of the model: its identifier at Hugging Face.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); never delete it.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ExistsError
        If the folder exists.
    ModelError
        If the model cannot be loaded from the folder.
    """
    folder = Path(folder)
    from safetensors.numpy import save

    if folder.exists() and not force:
        raise ExistsError(f"{folder}: exists already", "Name a new folder.")
    parts = {
        GRAPH: onnx,
        WEIGHTS: save({name: np.ascontiguousarray(array) for name, array in weights.items()}),
        DESCRIPTION: description.to_json().encode(),
        CARD: model_card(description, license_id).encode(),
    }
    write_parts(folder, parts, lambda partial: Classifier.load(partial, threads=1))
    return folder
