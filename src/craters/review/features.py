"""Predict all patches with a model, and extract the network's features. Needs no torch.

The features are the input of the last layer with weights: the graph's last Gemm, MatMul or Conv.
A copy of the graph gets this value as a further output. Without a model or such a layer, the
features are the pixels, averaged to 12 x 12 and standardised per patch. The principal components of
a sample reduce the features to at most 32 dimensions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files
from craters.data import normalize, transform
from craters.errors import CratersError
from craters.models import (
    GRAPH,
    INPUT,
    OUTPUT,
    Classifier,
    Lights,
    find_model,
    message_fields,
    open_graph,
    orientations,
    read_parts,
)
from craters.review.source import Source

COMPONENTS = 32
NETWORK, PIXELS = "network", "pixels"  # where features come from

_SAMPLE = 2048  # patches that the components are found on
_BATCH = 32
_GRID = 12
_WEIGHTED = (b"Gemm", b"MatMul", b"Conv")
_SEED = 0


def find_feature_name(graph: bytes) -> str | None:
    """Return the name of the input of an ONNX graph's last layer with weights, or None."""
    name = None
    for number, value in message_fields(memoryview(graph)):
        if number != 7 or not isinstance(value, memoryview):  # ModelProto.graph
            continue
        for inner, node in message_fields(value):
            if inner == 1 and isinstance(node, memoryview):  # GraphProto.node, in order of use
                parts = list(message_fields(node))
                kind = [bytes(text) for tag, text in parts if tag == 4]
                inputs = [bytes(text) for tag, text in parts if tag == 1]
                if kind and kind[0] in _WEIGHTED and inputs:
                    name = inputs[0].decode("utf-8", "replace")
    return None if name == INPUT else name


def with_output(graph: bytes, name: str) -> bytes:
    """Return an ONNX file with one of its inner values as a further output."""
    value = _message(1, name.encode())  # ValueInfoProto.name; its type is inferred
    parts = []
    for number, content in message_fields(memoryview(graph)):
        # A model has only fields that are integers or messages.
        if isinstance(content, int):
            parts.append(_varint(number << 3) + _varint(content))
        else:
            more = _message(12, value) if number == 7 else b""
            parts.append(_message(number, bytes(content) + more))
    return b"".join(parts)


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


Proceed = Callable[[int, int], bool]  # takes numbers of patches: done, all; False stops


class _StoppedError(Exception):
    """The work was stopped by `Proceed`."""


class _Patches:
    """The patches of a source in place of an array (N, side, side), read by rows."""

    ndim = 3

    def __init__(self, source: Source, proceed: Proceed) -> None:
        self._source, self._proceed = source, proceed
        self.shape = (len(source), source.side, source.side)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        if not self._proceed(0, len(self)):
            raise _StoppedError
        return self._source.read(rows)


class Scorer:
    """Compute probabilities and features of patches with a model.

    Parameters
    ----------
    folder : Path
        A model folder, or a run folder.
    threads : int
    sun_azimuth : float, optional
        Direction of light, as a user stated it; for models that turn patches to their light.
    """

    def __init__(self, folder: Path, threads: int = 0, *, sun_azimuth: float | None = None) -> None:
        self.folder, self.sun_azimuth = Path(folder), sun_azimuth
        self._light: tuple[Source, Lights] | None = None
        self.classifier = Classifier.load(self.folder, threads=threads)
        self.sha256 = self.classifier.sha256
        graph = read_parts(find_model(self.folder))[0][GRAPH]
        self.feature_name = find_feature_name(graph)
        self._session: Any = None
        if self.feature_name is not None and self.feature_name != OUTPUT:
            wide = with_output(graph, self.feature_name)
            self._session = open_graph(wide, threads=threads, source=str(self.folder))

    @property
    def threshold(self) -> float:
        """The decision threshold."""
        return float(self.classifier.description.decision_threshold)

    def light_of(self, source: Source, proceed: Proceed | None = None) -> Lights | None:
        """Return the light of all patches of a source; None if the model takes them as they are.

        It is the stated one, else that which a scan found, else estimated once, for each source
        image where they are known.
        """
        if self.classifier.description.light is None:
            return None
        if self._light is None or self._light[0] is not source:
            light = source.light
            if light is None or self.sun_azimuth is not None:
                images: Any = _Patches(source, proceed or (lambda _done, _total: True))
                light = self.classifier.find_light(
                    images, groups=source.groups, sun_azimuth=self.sun_azimuth
                )
            self._light = source, light
        return self._light[1]

    def score_rows(self, source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Score rows of a source; see `score`."""
        light = self.light_of(source)
        return self.score(source.read(rows), None if light is None else light.azimuth[rows])

    def score(
        self, images: np.ndarray, azimuth: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute probabilities and features.

        Parameters
        ----------
        images : ndarray, shape (N, S, S), uint8
        azimuth : ndarray, shape (N,), optional
            Of the light, for models that turn patches to it; see `Classifier.logits`.

        Returns
        -------
        probability : ndarray, shape (N,), float32
        features : ndarray, shape (N, K), or None
            None where the graph has none; of turned patches, the mean over all orientations.
        """
        frame = self.classifier.description.light
        if self._session is None:
            logits, features = self.classifier.logits(images, azimuth=azimuth), None
        elif frame is None:
            logits, features = self._run(images)
        else:
            if azimuth is None:
                azimuth = self.classifier.find_light(images).azimuth
            parts = []
            values, number = np.unique(azimuth, return_inverse=True)
            for place, value in enumerate(values):
                rows = np.flatnonzero(number == place)
                views = [
                    self._run(transform(images[rows], name))
                    for name in orientations(float(value), frame)
                ]
                means = (np.mean(outputs, 0, np.float64) for outputs in zip(*views, strict=True))
                parts.append((rows, *means))
            order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
            logits, features = (
                np.concatenate([part[each] for part in parts])[order].astype(np.float32)
                for each in (1, 2)
            )
        return self.classifier.probability(logits), features

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the graph on patches as they are; return logits (N,) and features (N, K)."""
        logits, features = [], []
        for first in range(0, len(images), _BATCH):
            batch = images[first : first + _BATCH]
            many = np.repeat(batch, 2, axis=0) if len(batch) == 1 else batch
            out, inner = self._session.run([OUTPUT, self.feature_name], {INPUT: normalize(many)})
            logits.append(out.reshape(len(many), -1)[: len(batch), 0])
            features.append(_flat(inner)[: len(batch)])
        return np.concatenate(logits), np.concatenate(features)


def _flat(inner: np.ndarray) -> np.ndarray:
    """Average feature maps over space; return feature vectors unchanged."""
    vectors = inner if inner.ndim == 2 else inner.mean(axis=tuple(range(2, inner.ndim)))
    return np.asarray(vectors, np.float32)


def pixel_features(images: np.ndarray) -> np.ndarray:
    """Return patches averaged to 12 x 12 pixels and standardised.

    Examples
    --------
    >>> pixel_features(np.zeros((2, 48, 48), np.uint8)).shape
    (2, 144)
    """
    side = images.shape[1]
    edges = np.linspace(0, side, min(_GRID, side) + 1).astype(int)
    sums = np.add.reduceat(images.astype(np.float32), edges[:-1], axis=1)
    sums = np.add.reduceat(sums, edges[:-1], axis=2)
    sizes = np.diff(edges)
    means = (sums / np.outer(sizes, sizes)).reshape(len(images), -1)
    means -= means.mean(axis=1, keepdims=True)
    return means / np.maximum(means.std(axis=1, keepdims=True), 1.0)


@dataclasses.dataclass(frozen=True)
class Components:
    """The principal components of a sample of features."""

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Components:
        """Fit the components to features scaled to unit standard deviation."""
        mean, spread = features.mean(axis=0), features.std(axis=0)
        scaled = (features - mean) / np.maximum(spread, 1e-6)
        _, _, axes = np.linalg.svd(scaled, full_matrices=False)
        return cls(mean, (axes[:COMPONENTS] / np.maximum(spread, 1e-6)).T.astype(np.float32))

    def project(self, features: np.ndarray) -> np.ndarray:
        """Project features to `COMPONENTS` dimensions or fewer."""
        return ((features - self.mean) @ self.axes).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PatchPredictions:
    """Predictions and features of all patches.

    Parameters
    ----------
    sha256 : str
        Of the model; "" without a model.
    probability : ndarray of float32, shape (N,)
        NaN without a model.
    features : ndarray of float32, shape (N, K)
    origin : str
        `NETWORK` or `PIXELS`: where the features come from.
    threshold : float
    light : str
        Direction of light to which patches were turned, in words; empty if they were not.
    """

    sha256: str
    probability: np.ndarray
    features: np.ndarray
    origin: str
    threshold: float
    light: str = ""


def predict_all(
    source: Source,
    scorer: Scorer | None,
    *,
    cache: Path | None = None,
    proceed: Proceed | None = None,
) -> PatchPredictions | None:
    """Score every patch, in batches; reuse results from `cache`.

    Parameters
    ----------
    source : Source
    scorer : Scorer or None
    cache : Path, optional
        Folder of cached results, one file for each model and set of patches.
    proceed : callable, optional
        Called with the numbers of patches done and in total; False stops the work, and None is
        returned.
    """
    proceed = proceed or (lambda _done, _total: True)
    path = None if cache is None else cache / _cache_name(source, scorer)
    if path is not None and path.is_file() and (cached := _read_cache(path, len(source), scorer)):
        return cached
    try:
        light = None if scorer is None else scorer.light_of(source, proceed)
    except _StoppedError:
        return None
    random = np.random.default_rng(_SEED)
    rows = np.sort(random.permutation(len(source))[:_SAMPLE])
    probability, sample, origin = _score(scorer, light, rows, source.read(rows))
    components = Components.of(sample)
    features = np.empty((len(source), components.axes.shape[1]), np.float32)
    known = np.full(len(source), np.nan, np.float32)
    for first, images in source.pieces():
        if not proceed(first, len(source)):
            return None
        rows = np.arange(first, first + len(images))
        probability, inner, _ = _score(scorer, light, rows, images)
        known[rows], features[rows] = probability, components.project(inner)
    sentence = "" if light is None else light.sentence
    if path is not None:
        with files.atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, probability=known, features=features, origin=origin, light=sentence)
    proceed(len(source), len(source))
    return PatchPredictions(
        sha256=scorer.sha256 if scorer else "",
        probability=known,
        features=features,
        origin=origin,
        threshold=scorer.threshold if scorer else 0.5,
        light=sentence,
    )


def _score(
    scorer: Scorer | None, light: Lights | None, rows: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    if scorer is None:
        return np.full(len(images), np.nan, np.float32), pixel_features(images), PIXELS
    probability, features = scorer.score(images, None if light is None else light.azimuth[rows])
    if features is None:
        return probability, pixel_features(images), PIXELS
    return probability, features, NETWORK


def _cache_name(source: Source, scorer: Scorer | None) -> str:
    """Name the results of a model for a set of patches."""
    parts = [_fingerprint(source)[:16], scorer.sha256[:16] if scorer else "none"]
    if scorer and scorer.sun_azimuth is not None and scorer.classifier.description.light:
        parts.append(f"{scorer.sun_azimuth:g}")
    return f"{'-'.join(parts)}.npz"


def _fingerprint(source: Source) -> str:
    """Hash the names, sizes and modification times of the patch files."""
    digest = hashlib.sha256()
    for part in source.parts:
        digest.update(f"{part.name} {part.source} {len(part.pixels)} {source.side}\n".encode())
        if (file := Path(part.source)).is_file():
            facts = file.stat()
            digest.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
        elif (summary := file / "summary.json").is_file():
            digest.update(summary.read_bytes())
    return digest.hexdigest()


def _read_cache(path: Path, count: int, scorer: Scorer | None) -> PatchPredictions | None:
    """Read cached results; None where the file is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            predictions = PatchPredictions(
                sha256=scorer.sha256 if scorer else "",
                probability=arrays["probability"],
                features=arrays["features"],
                origin=str(arrays["origin"]),
                threshold=scorer.threshold if scorer else 0.5,
                light=str(arrays["light"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = predictions.probability.shape == (count,)
    return predictions if is_whole and len(predictions.features) == count else None


class Background:
    """Predict all patches in a background thread.

    Parameters
    ----------
    source : Source
    cache : Path
    on_done : callable
        Called with the predictions.
    """

    def __init__(
        self, source: Source, cache: Path, on_done: Callable[[PatchPredictions], None]
    ) -> None:
        self.source, self.cache, self.on_done = source, cache, on_done
        self.progress, self.failure = (0, 0), ""
        self._thread: threading.Thread | None = None
        self._stop, self._is_closed = threading.Event(), False

    def start(self, scorer: Scorer | None) -> None:
        """Start predicting, after stopping a running prediction."""
        self.stop()
        if self._is_closed:
            return
        self._stop, self.failure = threading.Event(), ""
        self.progress = (0, len(self.source))
        self._thread = threading.Thread(target=self._run, args=(scorer,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop, and start nothing any more."""
        self._is_closed = True
        self.stop()

    def wait(self) -> None:
        """Wait until all patches are predicted."""
        if self._thread is not None:
            self._thread.join()

    def _proceed(self, done: int, total: int) -> bool:
        self.progress = (done, total)
        return not self._stop.is_set()

    def _run(self, scorer: Scorer | None) -> None:
        try:
            predictions = predict_all(self.source, scorer, cache=self.cache, proceed=self._proceed)
        except (CratersError, OSError) as error:
            self.failure = str(error)
            return
        if predictions is not None:
            self.on_done(predictions)
            self.progress = (len(self.source), len(self.source))
