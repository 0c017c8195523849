"""Keras files read as data: layers and numbers by an allow-list, and nothing is ever executed.

A Keras file may hold Python code that Keras runs when it opens the file, even in its safe mode
(CVE-2025-1550, CVE-2025-9905, CVE-2025-9906). Here its JSON and its arrays are parsed; a layer that
is not on the list is refused by name.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import reprlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import ModelError
from craters.models.keras.layers import KerasLayer, read_layer

MOST_LAYERS = 200

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LARGEST = {_CONFIG: 1 << 22, _METADATA: 1 << 20, _WEIGHTS: 1 << 28}  # bytes
_MODULES = re.compile(r"(tensorflow\.|tf_)?keras(\.[a-z_0-9]+)*")
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError, MemoryError)
_HINT = "Only plain chains of layers are read; code in a file is never run."


@dataclasses.dataclass(frozen=True)
class KerasModel:
    """A chain of layers as a Keras file holds it.

    Parameters
    ----------
    layers : tuple of KerasLayer
        In order, weights included; without the input layer.
    input_shape : tuple of int or None
        Of a batch: rows, columns, channels; None where any size goes.
    keras_version : str
        What wrote the file.
    """

    layers: tuple[KerasLayer, ...]
    input_shape: tuple[int | None, ...]
    keras_version: str


def read_keras(path: Path) -> KerasModel:
    """Read a Keras file (.h5 or .keras, of Keras 2 or 3) without Keras.

    Parameters
    ----------
    path : Path

    Returns
    -------
    KerasModel

    Raises
    ------
    ModelError
        When it is no such file, is damaged, or holds a layer that is not read here; it is named.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file, expected a Keras model (.h5 or .keras)")
    with path.open("rb") as stream:
        start = stream.read(8)
    try:
        if start[:2] == b"PK":
            return _read_zip(path)
        if start == b"\x89HDF\r\n\x1a\n":
            return _read_h5(path)
    except _RefusedError as error:
        raise ModelError(f"{path}: {error}", _HINT) from error
    except _DAMAGE as error:  # HDF5 finds damage wherever it looks, in many words
        raise ModelError(f"{path}: is damaged ({error})", "Save it again.") from error
    hint = "Save it by model.save('model.keras')."
    if start[:1] == b"\x80":
        hint = f"It looks like a pickle, which is never opened. {hint}"
    raise ModelError(f"{path}: is no Keras file, expected .h5 or .keras", hint)


class _RefusedError(ValueError):
    """What is wrong with a file, without its name."""


# --- the two containers ------------------------------------------------------------------------


def _read_zip(path: Path) -> KerasModel:
    """Read a .keras file: a zip of two JSON texts and the weights. Nothing is unpacked to disk."""
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            parts = dict(_parts(archive))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, EOFError, OSError,
            NotImplementedError, ValueError) as error:  # fmt: skip
        if isinstance(error, _RefusedError):
            raise
        raise _RefusedError(f"is damaged ({error})") from error
    for name in (_CONFIG, _WEIGHTS):
        if name not in parts:
            raise _RefusedError(f"holds no {name}")
    config = _parse_json(parts[_CONFIG], _CONFIG)
    version = _parse_json(parts.get(_METADATA, b"{}"), _METADATA).get("keras_version")
    entries, shape = _chain(config)
    with _open(h5py, io.BytesIO(parts[_WEIGHTS])) as store:
        layers = _with_weights(entries, _ZipWeights(h5py, store))
    return KerasModel(layers, shape, _text(version))


def _parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Read the files of the archive that are used, each up to its limit."""
    names = [item.filename for item in archive.infolist()]
    for item in archive.infolist():
        name = item.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise _RefusedError(f"holds a file that would be put elsewhere, {reprlib.repr(name)}")
        if names.count(name) > 1:
            raise _RefusedError(f"holds {reprlib.repr(name)} twice")
        if name not in _LARGEST:
            if name.rstrip("/") == "assets" and item.file_size == 0:
                continue
            raise _RefusedError(f"holds {reprlib.repr(name)}, which is not of a plain model")
        if item.file_size > _LARGEST[name]:
            raise _RefusedError(
                f"its {name} has more than {_LARGEST[name] >> 20} MiB when unpacked"
            )
        with archive.open(item) as stream:
            # By a number: left to itself, zipfile unpacks everything before it cuts off what is
            # more than the list says.
            content = stream.read(item.file_size)
        if len(content) != item.file_size:
            raise _RefusedError(f"its {name} is cut off")
        yield name, content


def _read_h5(path: Path) -> KerasModel:
    """Read a .h5 file: the JSON in an attribute, the weights in groups."""
    import h5py

    with _open(h5py, path) as store:
        config = _parse_json(_attribute(store, "model_config"), "model_config")
        version = _attribute(store, "keras_version", b"")
        entries, shape = _chain(config)
        layers = _with_weights(entries, _H5Weights(h5py, store))
    return KerasModel(layers, shape, _text(version.decode("utf-8", "replace")))


def _open(h5py: Any, source: Any) -> Any:
    try:
        return h5py.File(source, "r")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _RefusedError(f"its weights cannot be read ({error})") from error


def _text(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[\w.+\-]{1,40}", value) else "unknown"


def _attribute(group: Any, name: str, default: bytes | None = None) -> bytes:
    """Read a text attribute of bounded size."""
    try:
        if name not in group.attrs:
            if default is None:
                raise _RefusedError(
                    f"has no {name}: it holds weights alone, expected a whole model"
                )
            return default
        if group.attrs.get_id(name).get_storage_size() > _LARGEST[_CONFIG]:
            raise _RefusedError(f"its {name} has more than {_LARGEST[_CONFIG] >> 20} MiB")
        found = group.attrs[name]
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise _RefusedError(f"its {name} cannot be read ({error})") from error
    if isinstance(found, str):
        return found.encode("utf-8", "replace")
    if not isinstance(found, bytes):
        raise _RefusedError(f"its {name} is no text")
    return found


def _parse_json(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"its {name} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise _RefusedError(f"its {name} is no JSON object")
    return found


# --- the chain of layers -----------------------------------------------------------------------


def _chain(config: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[int | None, ...]]:
    """List a model's layers in order, and its input's shape."""
    kind, inner = _kind(config), config.get("config")
    if kind == "Sequential":
        entries = inner.get("layers") if isinstance(inner, dict) else inner
        ordered = _entries(entries)
    elif kind in ("Functional", "Model"):
        if not isinstance(inner, dict):
            raise _RefusedError("its layers cannot be read")
        ordered = _follow(_entries(inner.get("layers")), inner)
    else:
        raise _RefusedError(f"is a {reprlib.repr(kind)}, expected a Sequential or Functional model")
    shape = None
    if ordered and _kind(ordered[0]) == "InputLayer":
        shape = _shape(_config(ordered.pop(0)))
    elif ordered:
        shape = _shape(_config(ordered[0]))
    if shape is None:
        build = config.get("build_config")
        shape = _shape(build if isinstance(build, dict) else {})
    if shape is None:
        raise _RefusedError("does not say what its input's shape is")
    return ordered, shape


def _entries(layers: object) -> list[dict[str, Any]]:
    if not isinstance(layers, list) or not 0 < len(layers) <= MOST_LAYERS:
        raise _RefusedError(f"its layers are no list of 1 to {MOST_LAYERS}")
    names = set()
    for entry in layers:
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            raise _RefusedError(f"its layer {reprlib.repr(entry)} cannot be read")
        name = _config(entry).get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in names:
            raise _RefusedError(f"its layer name {reprlib.repr(name)} is none, odd or there twice")
        names.add(name)
    return layers


def _config(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["config"]
    return found


def _kind(entry: dict[str, Any]) -> str:
    """Return the class of an entry, if it is Keras's own."""
    kind, module = entry.get("class_name"), entry.get("module", "keras")
    own = entry.get("registered_name")
    foreign = not isinstance(module, str) or not _MODULES.fullmatch(module)
    if not isinstance(kind, str):
        raise _RefusedError(f"its class {reprlib.repr(kind)} cannot be read")
    if foreign or own not in (None, kind):
        raise _RefusedError(f"holds code of its own: {reprlib.repr(own or module)} ({kind[:60]})")
    return kind


def _shape(config: dict[str, Any]) -> tuple[int | None, ...] | None:
    for key in ("batch_shape", "batch_input_shape", "input_shape"):
        found = config.get(key)
        if isinstance(found, list) and len(found) > 1:
            sizes = found[1:]
            if all(size is None or (type(size) is int and 0 < size < 1 << 16) for size in sizes):
                return tuple(sizes)
    return None


def _follow(entries: list[dict[str, Any]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Put the layers of a functional model in order; refuse what is no single chain."""
    before = {_config(entry)["name"]: _source(entry) for entry in entries}
    after = {source: name for name, source in before.items() if source is not None}
    starts = [name for name, source in before.items() if source is None]
    if len(starts) != 1 or len(after) != len(entries) - 1:
        raise _RefusedError("its layers branch or join, expected one chain")
    by_name = {_config(entry)["name"]: entry for entry in entries}
    ordered = [starts[0]]
    while ordered[-1] in after and len(ordered) <= len(entries):
        ordered.append(after[ordered[-1]])
    if len(ordered) != len(entries) or any(name not in by_name for name in ordered):
        raise _RefusedError("its layers branch or join, expected one chain")
    ends = config.get("output_layers")
    if ends not in ([ordered[-1], 0, 0], [[ordered[-1], 0, 0]]):
        raise _RefusedError("its output is not its last layer's")
    return [by_name[name] for name in ordered]


def _source(entry: dict[str, Any]) -> str | None:
    """Name the layer that one is applied to; None of an input layer."""
    nodes = entry.get("inbound_nodes")
    name = _config(entry)["name"]
    if nodes == []:
        return None
    found: object = None
    if isinstance(nodes, list) and len(nodes) == 1:
        node = nodes[0]
        if isinstance(node, dict):  # Keras 3
            given = node.get("args")
            given = given[0] if isinstance(given, list) and len(given) == 1 else None
            inner = given.get("config") if isinstance(given, dict) else None
            found = inner.get("keras_history") if isinstance(inner, dict) else None
        elif isinstance(node, list) and len(node) == 1 and isinstance(node[0], list):  # Keras 2
            found = node[0][:3]
    if not (isinstance(found, list) and isinstance(found[:1], list) and found[1:3] == [0, 0]):
        raise _RefusedError(f"its layer {name!r} is used several times or has several inputs")
    if not isinstance(found[0], str):
        raise _RefusedError(f"its layer {name!r} has an input that cannot be read")
    return found[0]


# --- the weights -------------------------------------------------------------------------------


def _with_weights(entries: list[dict[str, Any]], weights: Any) -> tuple[KerasLayer, ...]:
    layers = []
    for entry in entries:
        kind, config = _kind(entry), _config(entry)
        if kind == "InputLayer":
            continue
        try:
            layers.append(read_layer(kind, config, weights.of(kind, config["name"])))
        except ValueError as error:
            if isinstance(error, _RefusedError):
                raise
            raise _RefusedError(f"its layer {config['name']!r} ({kind[:60]}) {error}") from error
    return tuple(layers)


class _Weights:
    """Arrays of an open HDF5 file: plain ones that lie in the file itself, of bounded size."""

    def __init__(self, h5py: Any, store: Any) -> None:
        self.h5py, self.store, self.left = h5py, store, _LARGEST[_WEIGHTS]

    def item(self, group: Any, path: str) -> Any:
        """Walk to an item; links to other files or elsewhere are refused."""
        for name in path.split("/"):
            if not isinstance(group, self.h5py.Group) or name in ("", ".", ".."):
                return None
            link = group.get(name, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self.h5py.HardLink):
                raise _RefusedError(f"its {name!r} is a link, expected numbers in the file itself")
            group = group[name]
        return group

    def array(self, group: Any, path: str) -> np.ndarray:
        """Read an array of plain floating-point numbers."""
        found = self.item(group, path)
        if not isinstance(found, self.h5py.Dataset):
            raise _RefusedError(f"has no numbers at {reprlib.repr(path)}")
        if found.external or found.is_virtual:
            raise _RefusedError(f"keeps the numbers of {reprlib.repr(path)} in another file")
        if found.dtype.kind != "f" or found.dtype.itemsize > 8 or len(found.shape) > 4:
            raise _RefusedError(
                f"holds {found.dtype} at {reprlib.repr(path)}, expected plain floats"
            )
        self.left -= 4 * found.size
        if self.left < 0:
            raise _RefusedError(f"has more than {_LARGEST[_WEIGHTS] >> 20} MiB of weights")
        try:
            numbers = np.array(found[()], np.float32)
        except (OSError, RuntimeError, ValueError) as error:
            raise _RefusedError(
                f"its numbers at {reprlib.repr(path)} are damaged ({error})"
            ) from error
        if not np.isfinite(numbers).all():
            raise _RefusedError(f"its numbers at {reprlib.repr(path)} are not all finite")
        return numbers


class _H5Weights(_Weights):
    """Of a .h5 file: a group a layer, which lists the names of its arrays."""

    def of(self, kind: str, name: str) -> list[np.ndarray]:  # noqa: ARG002
        """Read the weights of a layer, in Keras's order."""
        group = self.item(self.store, f"model_weights/{name}")
        if group is None:
            return []
        try:
            names = list(group.attrs.get("weight_names", []))
        except (OSError, RuntimeError, TypeError) as error:
            raise _RefusedError(f"its list of weights cannot be read ({error})") from error
        texts = [each.decode() if isinstance(each, bytes) else str(each) for each in names]
        if len(texts) > 8:
            raise _RefusedError(f"its layer {name!r} has {len(texts)} arrays")
        return [self.array(group, text) for text in texts]


class _ZipWeights(_Weights):
    """Of a .keras file: groups named after the layers' classes, counted."""

    def __init__(self, h5py: Any, store: Any) -> None:
        super().__init__(h5py, store)
        self.counts: dict[str, int] = {}
        homes = ("layers", "_layer_checkpoint_dependencies")  # of Keras 3, and of Keras 2
        self.home = next((name for name in homes if self.item(store, name) is not None), homes[0])

    def of(self, kind: str, name: str) -> list[np.ndarray]:
        """Read the weights of a layer, in Keras's order."""
        stem = _snake(kind)
        number = self.counts.get(stem, 0)
        self.counts[stem] = number + 1
        path = f"{self.home}/{stem}{f'_{number}' if number else ''}/vars"
        group = self.item(self.store, path)
        if not isinstance(group, self.h5py.Group):
            return []
        told = group.attrs.get("name", name)
        if told != name:
            raise _RefusedError(f"its weights of {reprlib.repr(told)} stand where {name!r} is due")
        count = len(group)
        if count > 8:
            raise _RefusedError(f"its layer {name!r} has {count} arrays")
        return [self.array(group, str(place)) for place in range(count)]


def _snake(name: str) -> str:
    """Turn a class's name into that of its group: MaxPooling2D, max_pooling2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
