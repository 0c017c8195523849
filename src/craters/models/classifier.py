"""Write, read and evaluate model folders: trained networks with metadata. Needs no torch.

model.onnx           graph of the network, used for predictions
model.safetensors    its weights, to continue training in torch; absent if the graph holds them
model.json           input, meaning of the output, provenance
MODEL_CARD.md        the same as text
SHA256SUMS           checksums of the other files, as read by `sha256sum --check`

A folder is written atomically, and refused if any of its files was changed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from craters.core import StrPath, files
from craters.data import PatchSet, PixelRecord, as_squares, normalize, read_patches, to_8bit
from craters.errors import ConfigError, DataError, ModelError
from craters.evaluation import ConformalScores, decide, prediction_sets, sigmoid
from craters.models.card import facts, measured_facts, model_card
from craters.models.description import DAMAGED, ModelDescription, size_hint
from craters.models.folder import (
    CARD,
    DESCRIPTION,
    GRAPH,
    WEIGHTS,
    description_text,
    find_model,
    parse_weights,
    read_parts,
    write_parts,
)
from craters.models.light import Lights, estimate_lights, predict_in_frame, stated_light
from craters.models.onnx import graph_errors, open_graph

__all__ = [
    "Classifier",
    "ModelDescription",
    "load_model",
    "read_description",
    "read_graph",
    "read_weights",
    "write_model",
]

INPUT, OUTPUT, LIGHT = "images", "logits", "light"  # names in the graph

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
    def load(cls, model: StrPath, *, threads: int = 0) -> Classifier:
        """Load a model folder after verifying its checksums.

        Parameters
        ----------
        model : path-like
            A model folder, a run folder that holds one as `model`, or `pretrained`: the model
            that ships with craters.
        threads : int
            0: all CPUs available to the process.

        Raises
        ------
        ConfigError
            If `pretrained` is also the name of something in the working folder.
        ModelError
            If a file is missing, unexpected, a link, changed or invalid; the message names it.
        """
        folder = find_model(model)
        parts, sha256 = read_parts(folder)
        description = _read_description(parts, folder)
        parse_weights(parts, folder)
        source = str(folder / GRAPH)
        return cls(description, parts[GRAPH], threads=threads, source=source, sha256=sha256)

    def _check_input_and_output(self) -> None:
        """Compare names, types and shapes of the graph's input and outputs with the description."""
        side = None if self.description.sides else self.description.side
        stride = self.description.stride
        shape: list[int | None] = [None] * 3
        inputs: dict[str, list[int | None]] = {INPUT: shape if stride else [None, side, side]}
        outputs: dict[str, list[int | None]] = {OUTPUT: shape if stride else [None]}
        if self.description.light is not None:
            outputs[LIGHT] = [None, 2]
        try:
            arrays = [
                [(array.name, array.type, array.shape) for array in ends]
                for ends in (self._session.get_inputs(), self._session.get_outputs())
            ]
        except ValueError as error:  # names that are not UTF-8
            raise ModelError(f"{self._source}: cannot be read ({error})", DAMAGED) from error
        for shapes, ends in zip((inputs, outputs), arrays, strict=True):
            names = [array[0] for array in ends]
            if names != list(shapes):
                expected = " and ".join(map(repr, shapes))
                raise ModelError(f"{self._source}: holds {names}, expected {expected} alone")
            for name, kind, lengths in ends:
                free = [length if isinstance(length, int) else None for length in lengths]
                if kind != "tensor(float)" or free != shapes[name]:
                    raise ModelError(
                        f"{self._source}: {name} is {kind} of shape {free}, expected "
                        f"tensor(float) of shape {shapes[name]}",
                        "Graph and model.json are not of one model.",
                    )

    def logits(
        self, images: np.ndarray, *, azimuth: float | np.ndarray | None = None
    ) -> np.ndarray:
        """Compute the logits of patches, in batches.

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8
            May be memory-mapped; one batch at a time is in memory.
        azimuth : float or ndarray, shape (N,), optional
            Of the light in each patch, NaN where unknown, for a model that turns patches to the
            light it expects: see `find_light`. None: estimated from these patches.

        Returns
        -------
        ndarray, shape (N,), float32
            Logits of class 1, "with crater".

        Raises
        ------
        ConfigError
            If an azimuth is given for a model that does not turn patches.
        DataError
            If the patches are not 8-bit or have another size.
        ModelError
            If the graph fails or returns values that are not finite.
        """
        self._check_patches(images)
        frame = self.description.light
        if frame is None:
            if azimuth is not None:
                self._refuse_azimuth()
            return self._run_batches(images)[0]
        if azimuth is None:
            azimuth = self.find_light(images).azimuth
        azimuths = np.broadcast_to(np.asarray(azimuth, np.float64), len(images))
        return predict_in_frame(self._run_batches, images, azimuths, frame, _BATCH)

    def find_light(
        self,
        images: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        sun_azimuth: float | None = None,
    ) -> Lights:
        """Find the direction of light of patches, for a model that turns patches to it.

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8
        groups : ndarray of str, shape (N,), optional
            Patches of one group, such as a source image, share their light. None: all do.
        sun_azimuth : float, optional
            States it: degrees clockwise from image up (map north), where the light comes from.
            None: estimated from the patches, without labels.

        Returns
        -------
        Lights

        Raises
        ------
        ConfigError
            If the azimuth is not within 0 to 360, or the model does not turn patches.
        DataError, ModelError
            As `logits`.
        """
        frame = self.description.light
        if frame is None:
            self._refuse_azimuth()
        if sun_azimuth is not None:
            return stated_light(sun_azimuth, len(images))
        self._check_patches(images)
        temperature = self.description.temperature
        return estimate_lights(
            self._run_batches, images, groups, frame, temperature=temperature, batch=_BATCH
        )

    def _refuse_azimuth(self) -> NoReturn:
        raise ConfigError(
            f"{self._source}: the model takes patches as they are, so the direction of their light "
            "cannot be set",
            "It must be that of its training patches; the pretrained model takes any direction.",
        )

    def _check_patches(self, images: np.ndarray) -> None:
        """Refuse arrays that are no square patches of a size that the model takes."""
        least, largest = self.description.side_range
        if images.ndim == 3 and least <= images.shape[1] == images.shape[2] <= largest:
            return
        expected = f"(N, {least}, {least})"
        if least < largest:
            expected = f"(N, S, S) with S from {least} to {largest}"
        raise DataError(
            f"patches have shape {images.shape}, expected {expected}",
            size_hint((least, largest)),
        )

    def _run_batches(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the graph on patches, in batches; return logits (N,) and light (N, 2 or 0)."""
        logits = np.empty(len(images), np.float32)
        light = np.empty((len(images), 0 if self.description.light is None else 2), np.float32)
        for start in range(0, len(images), _BATCH):
            batch = np.ascontiguousarray(images[start : start + _BATCH])
            count = len(batch)
            if count == 1:  # a single patch takes another code path and differs by 1e-8
                batch = np.repeat(batch, 2, axis=0)
            shape = (len(batch), 1, 1) if self.description.stride else (len(batch),)
            outputs = self._run(batch, shape)
            logits[start : start + count] = outputs[0].reshape(-1)[:count]
            if len(outputs) > 1:
                light[start : start + count] = outputs[1][:count]
        return logits, light

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
        return self._run(np.ascontiguousarray(images), (len(images), rows, columns))[0]

    def _run(self, images: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Run the graph; return its outputs after checking them: logits of `shape`, and light."""
        scaled = normalize(images)
        try:
            outputs: list[np.ndarray] = self._session.run(None, {INPUT: scaled})
        except graph_errors() as error:
            raise ModelError(f"{self._source}: the graph failed ({error})") from error
        for output, expected in zip(outputs, (shape, (*shape, 2)), strict=False):
            if output.shape != expected or not np.isfinite(output).all():
                raise ModelError(
                    f"{self._source}: gave an array of shape {output.shape}, expected finite "
                    f"numbers of shape {expected}"
                )
        return outputs

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits to calibrated probabilities of class 1, float32."""
        scaled = np.asarray(logits, np.float64) / self.description.temperature
        return sigmoid(scaled).astype(np.float32)

    def predict_proba(
        self, images: StrPath | np.ndarray | PatchSet, *, sun_azimuth: float | None = None
    ) -> np.ndarray:
        """Predict the probability of class 1, "with crater".

        Parameters
        ----------
        images : path-like, ndarray or PatchSet
            The path of an array, an array in any layout and range that `make_patch_set` takes, or
            the result of `read_patches`. A model that turns patches to the light it expects
            estimates their light once, from all of them or for each group of a PatchSet.
        sun_azimuth : float, optional
            States the light instead; see `find_light`.

        Returns
        -------
        ndarray, shape (N,), float32
        """
        pixels = _pixels(images, self.description.pixels)
        azimuth: float | np.ndarray | None = sun_azimuth
        if self.description.light is not None:
            groups = images.groups if isinstance(images, PatchSet) else None
            azimuth = self.find_light(pixels, groups=groups, sun_azimuth=sun_azimuth).azimuth
        return self.probability(self.logits(pixels, azimuth=azimuth))

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Return class 1 where the probability reaches the decision threshold, else 0; int32."""
        return decide(probability, self.description.decision_threshold)

    def predict(
        self, images: StrPath | np.ndarray | PatchSet, *, sun_azimuth: float | None = None
    ) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        images, sun_azimuth
            As for `predict_proba`.

        Returns
        -------
        ndarray, shape (N,), int32
            1 with crater, 0 without crater.
        """
        return self.decide(self.predict_proba(images, sun_azimuth=sun_azimuth))

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
        rows = facts(self.description) + measured_facts(self.description)
        return "\n".join(f"{name + ':':20}{text}" for name, text in rows)


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


def load_model(model: StrPath, *, threads: int = 0) -> Classifier:
    """Load a model of patches, after verifying its checksums.

    Parameters
    ----------
    model : path-like
        A model folder, a run folder, or `pretrained`: the model that ships with craters.
    threads : int
        0: all CPUs available to the process.

    Returns
    -------
    Classifier
        Its `predict_proba` and `predict` take arrays.

    Raises
    ------
    ConfigError, ModelError
        As `Classifier.load`.

    Examples
    --------
    >>> load_model("pretrained").description.class_names
    ('without crater', 'with crater')
    """
    return Classifier.load(model, threads=threads)


def read_weights(model: StrPath) -> dict[str, np.ndarray]:
    """Read the weights of a model folder, by their names in torch, after checking the folder.

    Parameters
    ----------
    model : path-like
        As for `Classifier.load`. Without model.safetensors, its graph holds the weights.

    Raises
    ------
    ModelError
        If the folder is invalid.
    """
    folder = find_model(model)
    return parse_weights(read_parts(folder)[0], folder)


def read_description(model: StrPath) -> ModelDescription:
    """Read the description of a model folder, after checking it; see `read_weights`."""
    folder = find_model(model)
    return _read_description(read_parts(folder)[0], folder)


def read_graph(model: StrPath) -> bytes:
    """Read the ONNX file of a model folder, after checking it; see `read_weights`."""
    return read_parts(find_model(model))[0][GRAPH]


def _read_description(parts: dict[str, bytes], folder: Path) -> ModelDescription:
    text = description_text(parts, folder)
    return ModelDescription.from_json(text, str(folder / DESCRIPTION))


def write_model(
    folder: StrPath,
    *,
    onnx: bytes,
    weights: dict[str, np.ndarray] | None,
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
    weights : dict of ndarray, or None
        Result of `network_weights`. None: the graph was exported for a range of sides, and holds
        them.
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

    if not force:
        files.refuse_existing(folder)
    parts = {GRAPH: onnx}
    if weights is not None:
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        parts[WEIGHTS] = save(arrays)
    parts[DESCRIPTION] = description.to_json().encode()
    parts[CARD] = model_card(description, license_id).encode()
    write_parts(folder, parts, lambda partial: Classifier.load(partial, threads=1))
    return folder
