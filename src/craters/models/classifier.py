"""A trained network as a folder, and predictions from it. Needs no torch.

model.onnx           the network as a graph: what predicts
model.safetensors    its weights, for going on in torch
model.json           what it takes, what its answers mean, where it comes from
MODEL_CARD.md        the same for people
SHA256SUMS           of the four others, as `sha256sum --check` reads it

A folder is written whole or not at all, and refused when anything in it is not as it was written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from craters.data import normalize
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

INPUT, OUTPUT = "images", "logits"  # of the graph

_BATCH = 32  # patches: more are not faster, and take more memory


class Classifier:
    """Predict patches by a model folder; read one by `Classifier.load`.

    Parameters
    ----------
    description : ModelDescription
    graph : bytes
        The ONNX file's content.
    threads : int
        0 stands for the processors that the process may use.
    source : str
        What messages call the graph.
    sha256 : str
        What identifies the folder that it was read from.

    Raises
    ------
    ModelError
        When the graph cannot be read, or is not what the description says.
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
        self._check_ends()

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0) -> Classifier:
        """Load a model folder after verifying its checksums.

        Parameters
        ----------
        folder : Path
            A model folder, or a run folder that holds one as `model`.
        threads : int
            0 stands for the processors that the process may use.

        Raises
        ------
        ModelError
            When a file is missing, foreign, a link, changed, or not what it should be; it is
            named.
        """
        folder = find_model(Path(folder))
        parts, sha256 = read_parts(folder)
        description = _read_description(parts, folder)
        _parse_weights(parts[WEIGHTS], folder / WEIGHTS)
        source = str(folder / GRAPH)
        return cls(description, parts[GRAPH], threads=threads, source=source, sha256=sha256)

    def _check_ends(self) -> None:
        """Compare what goes into the graph and comes out of it with the description."""
        wanted = self.description
        size = [None, None] if wanted.stride else [wanted.side] * 2
        shapes = ((INPUT, [None, *size]), (OUTPUT, [None] * 3 if wanted.stride else [None]))
        try:
            ends = [
                [(end.name, end.type, end.shape) for end in found]
                for found in (self._session.get_inputs(), self._session.get_outputs())
            ]
        except ValueError as error:  # names that are no text
            raise ModelError(f"{self._source}: cannot be read ({error})", DAMAGED) from error
        for (name, shape), found in zip(shapes, ends, strict=True):
            if [end[0] for end in found] != [name]:
                names = [end[0] for end in found]
                raise ModelError(f"{self._source}: holds {names}, expected {name!r} alone")
            free = [length if isinstance(length, int) else None for length in found[0][2]]
            if found[0][1] != "tensor(float)" or free != shape:
                raise ModelError(
                    f"{self._source}: {name} is {found[0][1]} of shape {free}, expected "
                    f"tensor(float) of shape {shape}",
                    "Graph and model.json are not of one model.",
                )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Predict patches, a batch at a time.

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8
            May be memory-mapped; one batch is in memory.

        Returns
        -------
        ndarray, shape (N,), float32
            Logits of class 1, "with crater".

        Raises
        ------
        DataError
            When the patches are not 8-bit or of another size.
        ModelError
            When the graph fails or gives no finite numbers.
        """
        side = self.description.side
        if images.ndim != 3 or images.shape[1:] != (side, side):
            raise DataError(
                f"patches have shape {images.shape}, expected (N, {side}, {side})",
                "The model was trained on patches of this size; cut or resample them.",
            )
        found = np.empty(len(images), np.float32)
        for start in range(0, len(images), _BATCH):
            batch = np.ascontiguousarray(images[start : start + _BATCH])
            count = len(batch)
            if count == 1:  # alone it goes another way through the processor, and differs by 1e-8
                batch = np.repeat(batch, 2, axis=0)
            shape = (len(batch), 1, 1) if self.description.stride else (len(batch),)
            found[start : start + count] = self._run(batch, shape).reshape(-1)[:count]
        return found

    def logit_maps(self, images: np.ndarray) -> np.ndarray:
        """Predict every window of larger images at once, where the network is dense-exact.

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
            When the network is not dense-exact.
        DataError
            When the images are not 8-bit or smaller than a window.
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
            found: np.ndarray = self._session.run([OUTPUT], {INPUT: scaled})[0]
        except graph_errors() as error:
            raise ModelError(f"{self._source}: the graph failed ({error})") from error
        if found.shape != shape or not np.isfinite(found).all():
            raise ModelError(
                f"{self._source}: gave an array of shape {found.shape}, expected finite numbers "
                f"of shape {shape}"
            )
        return found

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits to calibrated probabilities of class 1, float32."""
        scaled = np.asarray(logits, np.float64) / self.description.temperature
        return sigmoid(scaled).astype(np.float32)

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Predict the probability of class 1, "with crater".

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8

        Returns
        -------
        ndarray, shape (N,), float32
        """
        return self.probability(self.logits(images))

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Call patches class 1 where their probability reaches the decision threshold; int32."""
        return decide(probability, self.description.decision_threshold)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        images : ndarray, shape (N, side, side), uint8

        Returns
        -------
        ndarray, shape (N,), int32
            1 with crater, 0 without crater.
        """
        return self.decide(self.predict_proba(images))

    @property
    def set_names(self) -> tuple[str, ...]:
        """What the codes of `prediction_sets` mean; "none" is unlike either class."""
        return ("none", *self.description.class_names, "unsure")

    def prediction_sets(self, probability: np.ndarray, risk: float = 0.1) -> np.ndarray:
        """Return the prediction set of each patch, as `conformal.prediction_sets`.

        Parameters
        ----------
        probability : ndarray, shape (N,)
            Of class 1.
        risk : float
            Share of each class that may be missed, if patches are like those that calibrated the
            model; above 0 and below 1.

        Returns
        -------
        ndarray, shape (N,), int8
            Place in `set_names`: 1 for class 0, plus 2 for class 1.

        Raises
        ------
        ModelError
            When the model was not calibrated.
        """
        if self.description.conformal is None:
            raise ModelError(f"{self._source}: the model was not calibrated for prediction sets")
        calibrated = self.description.conformal
        scores = (tuple(calibrated[name]) for name in self.description.class_names)
        return prediction_sets(probability, ConformalScores(*scores), risk)

    def describe(self) -> str:
        """Return a description of the model as lines of text."""
        return "\n".join(f"{name + ':':20}{text}" for name, text in facts(self.description))


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read the weights of a checked model folder by the names that torch gives them.

    Raises
    ------
    ModelError
        When the folder is refused.
    """
    folder = find_model(folder)
    return _parse_weights(read_parts(folder)[0][WEIGHTS], folder / WEIGHTS)


def read_description(folder: Path) -> ModelDescription:
    """Read the description of a checked model folder; see `read_weights`."""
    folder = find_model(folder)
    return _read_description(read_parts(folder)[0], folder)


def read_graph(folder: Path) -> bytes:
    """Read the ONNX file of a checked model folder; see `read_weights`."""
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
    folder: Path,
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
    folder : Path
        Must not exist.
    onnx : bytes
        The graph, as `interop.network_to_onnx` makes it.
    weights : dict of ndarray
        As `interop.network_weights` gives them.
    description : ModelDescription
    license_id : str
        Of the model, as Hugging Face names licenses.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); never delete it.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ExistsError
        When the folder exists.
    ModelError
        When the parts do not make a model that can be loaded.
    """
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
