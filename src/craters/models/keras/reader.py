"""Read Keras files as data: layers from an allow-list and their weights; no code is executed.

A Keras file may contain Python code that Keras runs when it opens the file, even in safe mode
(CVE-2025-1550, CVE-2025-9905, CVE-2025-9906). This module only parses the JSON and the arrays; a
layer that is not on the allow-list is refused by name.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import reprlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath
from craters.errors import ModelError
from craters.models.keras.allowed import TRAINING_ONLY, read_settings
from craters.models.keras.layers import KerasLayer

MOST_LAYERS = 200

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LARGEST = {_CONFIG: 1 << 22, _METADATA: 1 << 20, _WEIGHTS: 1 << 28}  # bytes
_INPUT, _MODELS = "InputLayer", ("Sequential", "Functional", "Model")
_EXPORTED = "craters_class_names"  # an attribute that only `craters.models.keras.writer` writes
_MODULES = re.compile(r"(tensorflow\.|tf_)?keras(\.[a-z_0-9]+)*")
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_DAMAGE = (
    OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError, MemoryError, EOFError,
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip
_HINT = "Only plain chains of layers are supported; code in a file is never executed."
_WITHOUT_RANDOM = (
    "model = keras.models.clone_model(model, recursive=True, clone_function=lambda each: "
    'keras.layers.Identity() if type(each).__name__.startswith("Random") else each); '
)


@dataclasses.dataclass(frozen=True)
class KerasModel:
    """The chain of layers in a Keras file.

    Parameters
    ----------
    layers : tuple of KerasLayer
        In order, with weights, without the input layer.
    input_shape : tuple of int or None
        Rows, columns and channels; None where the size is open.
    keras_version : str
        Version of Keras that wrote the file.
    is_export : bool
        Whether this package exported it; its input is 0..1.
    """

    layers: tuple[KerasLayer, ...]
    input_shape: tuple[int | None, ...]
    keras_version: str
    is_export: bool = False


class _RefusedError(ValueError):
    """The reason for refusing a file, without the file's name."""

    hint = _HINT


class _UnsupportedError(_RefusedError):
    """The reason for refusing a model that may be a good one, but not of plain layers."""


def read_keras(path: StrPath) -> KerasModel:
    """Read a Keras file (.h5 or .keras, of Keras 2 or 3) without Keras.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    KerasModel

    Raises
    ------
    ModelError
        If it is no Keras file, is damaged, or contains an unsupported layer, which is named.
    """
    path = Path(path)
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
        raise ModelError(f"{path}: {error}", error.hint) from error
    except _DAMAGE as error:  # a damaged file can fail anywhere, with any of these errors
        raise ModelError(f"{path}: is damaged ({error})", "Save it again.") from error
    hint = "Save it by model.save('model.keras')."
    if start[:1] == b"\x80":
        hint = f"It looks like a pickle, which is never opened. {hint}"
    raise ModelError(f"{path}: is no Keras file, expected .h5 or .keras", hint)


# --- the two containers --------------------------------------------------------------------------


def _read_zip(path: Path) -> KerasModel:
    """Read a .keras file: a zip of JSON texts and the weights. Nothing is unpacked to disk."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        parts = dict(_parts(archive))
    for name in (_CONFIG, _WEIGHTS):
        if name not in parts:
            raise _RefusedError(f"holds no {name}")
    metadata = _parse_json(parts.get(_METADATA, b"{}"), _METADATA)
    with h5py.File(io.BytesIO(parts[_WEIGHTS]), "r") as store:
        version = metadata.get("keras_version")
        model = _read_model(parts[_CONFIG], version, store, _groups_of_zip, path)
    return dataclasses.replace(model, is_export=_EXPORTED in metadata)


def _parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the archive's files; refuse unexpected and too large ones."""
    names = [item.filename for item in archive.infolist()]
    for item in archive.infolist():
        name = item.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise _RefusedError(f"holds a file that would be put elsewhere, {reprlib.repr(name)}")
        if names.count(name) > 1:
            raise _RefusedError(f"holds {reprlib.repr(name)} twice")
        if name.rstrip("/") == "assets" and item.file_size == 0:
            continue
        if name not in _LARGEST:
            raise _RefusedError(f"holds {reprlib.repr(name)}, which is not of a plain model")
        _check_size(name, item.file_size, when=" when unpacked")
        with archive.open(item) as stream:
            # With a size: without one, zipfile unpacks everything before it applies the size
            # listed in the archive.
            content = stream.read(item.file_size)
        if len(content) != item.file_size:
            raise _RefusedError(f"its {name} is cut off")
        yield name, content


def _read_h5(path: Path) -> KerasModel:
    """Read a .h5 file: the JSON in an attribute, the weights in groups."""
    import h5py

    with h5py.File(path, "r") as store:
        config = _attribute(store, "model_config")
        if config is None:
            raise _RefusedError(
                "has no model_config: it holds weights alone, expected a whole model"
            )
        version = _attribute(store, "keras_version")
        model = _read_model(config, version, store, _groups_of_h5, path)
        return dataclasses.replace(model, is_export=_EXPORTED in store.attrs)


def _attribute(store: Any, name: str) -> Any:
    """Read a text attribute of bounded size."""
    if name not in store.attrs:
        return None
    _check_size(_CONFIG, store.attrs.get_id(name).get_storage_size())
    text = store.attrs[name]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _check_size(name: str, size: int, when: str = "") -> None:
    if size > _LARGEST[name]:
        raise _RefusedError(f"its {name} has more than {_LARGEST[name] >> 20} MiB{when}")


def _parse_json(text: Any, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _RefusedError(f"its {name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise _RefusedError(f"its {name} is no JSON object")
    return content


# --- the chain of layers -------------------------------------------------------------------------

_Entry = dict[str, Any]  # JSON of a layer: its class, its settings as "config", its input layer


_Groups = Iterator[tuple[Any, list[str]]]  # of each layer but inputs: group, paths of its arrays


@dataclasses.dataclass(frozen=True)
class _Node:
    """A layer of a chain, or a model within it, which is a chain itself."""

    kind: str
    name: str
    config: _Entry
    chain: tuple[_Node, ...] = ()

    @property
    def leaves(self) -> list[_Node]:
        """The layer itself, or the layers of a model within the chain."""
        return [leaf for node in self.chain for leaf in node.leaves] if self.chain else [self]


_FindGroups = Callable[[_Node, Any], _Groups]


def _read_model(
    text: Any, version: object, store: Any, groups: _FindGroups, path: Path
) -> KerasModel:
    is_version = isinstance(version, str) and re.fullmatch(r"[\w.+\-]{1,40}", version)
    version = str(version) if is_version else "unknown"
    config = _parse_json(text, _CONFIG)
    try:
        model = _Node("Sequential", "", config, _chain(config))
        shape = _input_shape(
            model.leaves[0].config, config.get("build_config"), config.get("config")
        )
        return KerasModel(tuple(_read_layers(model, groups(model, store))), shape, version)
    except _UnsupportedError as error:
        error.hint = _way_by_onnx(path, version, has_random='"Random' in json.dumps(config))
        raise


def _way_by_onnx(path: Path, version: str, *, has_random: bool) -> str:
    """Return what to type to import a model that is not read here."""
    target = f"{path.stem}.onnx"
    lines = f"python -m tf2onnx.convert --keras {path.name} --output {target}"
    if not version.startswith("2."):
        random = _WITHOUT_RANDOM if has_random else ""  # ONNX lacks their operators
        lines = (
            f'in Python: import keras; model = keras.models.load_model("{path.name}"); {random}'
            f'model.export("{target}", format="onnx")'
        )
    return (
        f"{_HINT} If you trust the file, export it by tf2onnx and import that, {lines}; then: "
        f"craters import {target} --out MODEL"
    )


def _dig(value: Any, *steps: str | int) -> Any:
    """Return a nested value of parsed JSON, or None if there is none."""
    for step in steps:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value


def _kind(entry: _Entry) -> str:
    """Return the class of an entry, if it is Keras's own."""
    kind, module = entry.get("class_name"), entry.get("module", "keras")
    own = entry.get("registered_name")
    if not isinstance(kind, str):
        raise _RefusedError(f"its class {reprlib.repr(kind)} cannot be read")
    foreign = not isinstance(module, str) or not _MODULES.fullmatch(module)
    if foreign or own not in (None, kind):
        raise _UnsupportedError(
            f"holds code of its own: {reprlib.repr(own or module)} ({kind[:60]})"
        )
    return kind


def _chain(config: _Entry) -> tuple[_Node, ...]:
    """List a model's layers in order; those of models within it are their chains."""
    kind, inner = _kind(config), config.get("config")
    if kind not in _MODELS:
        raise _UnsupportedError(
            f"is a {reprlib.repr(kind)}, expected a Sequential or Functional model"
        )
    entries = inner if isinstance(inner, list) else _dig(inner, "layers")
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_LAYERS:
        raise _RefusedError(f"its layers are no list of 1 to {MOST_LAYERS}")
    names = set()
    for entry in entries:
        name = _dig(entry, "config", "name")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in names:
            raise _RefusedError(f"its layer name {reprlib.repr(name)} is none, odd or there twice")
        names.add(name)
    if kind != "Sequential":
        entries = _follow(entries, _dig(inner, "output_layers"))
    nodes = []
    for entry in entries:
        kind, config = _kind(entry), entry["config"]
        chain = _chain(entry) if kind in _MODELS else ()
        nodes.append(_Node(kind, config["name"], config, chain))
    return tuple(nodes)


def _follow(entries: list[_Entry], ends: object) -> list[_Entry]:
    """Sort the layers of a functional model; refuse models that are not a single chain."""
    models = {entry["config"]["name"] for entry in entries if _kind(entry) in _MODELS}
    after = {_source(entry, models): entry for entry in entries}
    ordered, name = [], None
    while name in after:
        ordered.append(after.pop(name))
        name = ordered[-1]["config"]["name"]
    if len(ordered) != len(entries):
        raise _UnsupportedError("its layers branch or join, expected one chain")
    end = _dig(ends, 0) if isinstance(_dig(ends, 0), list) else ends
    if (
        not isinstance(end, list)
        or end[:1] != [name]
        or not _is_first_call(end[1:], name in models)
    ):
        raise _UnsupportedError("its output is not that of its last layer")
    return ordered


def _source(entry: _Entry, models: set[str]) -> str | None:
    """Return the name of the layer that gives the input; None for an input layer."""
    nodes = entry.get("inbound_nodes")
    if nodes == []:
        return None
    origin = None
    if isinstance(nodes, list) and len(nodes) == 1:
        inputs = _dig(nodes, 0, "args") or nodes[0]  # Keras 3, else Keras 2
        if isinstance(inputs, list) and len(inputs) == 1:
            origin = _dig(inputs, 0, "config", "keras_history") or inputs[0]
    name, *place = origin[:3] if isinstance(origin, list) else [None]
    if not isinstance(name, str) or not _is_first_call(place, name in models):
        name = entry["config"]["name"]
        raise _UnsupportedError(f"its layer {name!r} is used several times or has several inputs")
    return name


def _is_first_call(place: object, is_model: bool) -> bool:
    """Return whether a tensor is the only output of a layer's only call: its numbers are 0.

    The calls of a model within another are not counted from 0 by all versions of Keras.
    """
    return place == [0, 0] or (is_model and _dig(place, 1) == 0 and type(_dig(place, 0)) is int)


def _input_shape(*configs: object) -> tuple[int | None, ...]:
    """Return the shape of the input without the batch, from the first settings that state it."""
    for config in configs:
        for key in ("batch_shape", "batch_input_shape", "input_shape", "build_input_shape"):
            shape = _dig(config, key)
            if isinstance(shape, list) and len(shape) > 1:
                sizes = shape[1:]
                if all(n is None or (type(n) is int and 0 < n < 1 << 16) for n in sizes):
                    return tuple(sizes)
    raise _RefusedError("does not state the shape of its input")


# --- the weights ---------------------------------------------------------------------------------


def _read_layers(model: _Node, groups: _Groups) -> Iterator[KerasLayer]:
    """Read the settings of all layers, check the total size of the weights, then read these."""
    layers = []
    leaves = [leaf for leaf in model.leaves if leaf.kind != _INPUT]
    if len(leaves) > MOST_LAYERS:
        raise _RefusedError(f"its layers are no list of 1 to {MOST_LAYERS}")
    for leaf in leaves:
        try:
            layers.append(KerasLayer(leaf.kind, leaf.name, read_settings(leaf.kind, leaf.config)))
        except ValueError as error:
            raise _UnsupportedError(
                f"its layer {leaf.name!r} ({leaf.kind[:60]}) {error}"
            ) from error
    datasets = []
    for layer, (group, paths) in zip(layers, groups, strict=True):
        if len(paths) > 8:
            raise _RefusedError(f"its layer {layer.name!r} has {len(paths)} arrays")
        used = 0 if layer.kind in TRAINING_ONLY else len(paths)  # not the state of a generator
        used = min(used, 2) if layer.kind == "Normalization" else used  # the third is a count
        datasets.append([_dataset(group, path) for path in paths[:used]])
    size = sum(4 * dataset.size for of_layer in datasets for dataset in of_layer)
    _check_size(_WEIGHTS, size, " of weights")
    for layer, of_layer in zip(layers, datasets, strict=True):
        yield dataclasses.replace(layer, weights=tuple(map(_numbers, of_layer)))


def _groups_of_h5(model: _Node, store: Any) -> _Groups:
    """Find the weights in a .h5 file: one group for each layer, which lists its arrays.

    The group of a model within the model lists the arrays of all its layers; the part of a path
    before the last is the name of a layer.
    """
    for node in model.chain:
        group = _item(store, f"model_weights/{node.name}")
        listed = [] if group is None else group.attrs.get("weight_names", [])
        paths = [path.decode() if isinstance(path, bytes) else str(path) for path in listed]
        if not node.chain:
            if node.kind != _INPUT:
                yield group, paths
            continue
        owners = {path: f"/{path}".split("/")[-2] for path in paths}
        names = [leaf.name for leaf in node.leaves]
        if odd := [path for path, owner in owners.items() if names.count(owner) != 1]:
            raise _UnsupportedError(f"has weights {reprlib.repr(odd[0])} of no layer in particular")
        for leaf in node.leaves:
            if leaf.kind != _INPUT:
                yield group, [path for path in paths if owners[path] == leaf.name]


def _groups_of_zip(model: _Node, store: Any) -> _Groups:
    """Find the weights in a .keras file: groups named by class and number, as conv2d_1."""
    import h5py

    roots = ("layers", "_layer_checkpoint_dependencies")  # Keras 3, Keras 2
    root = next((name for name in roots if _item(store, name) is not None), roots[0])
    counts: dict[str, int] = {}
    for node in model.chain:
        if node.kind == _INPUT:
            continue
        stem = _snake(node.kind)
        number = counts[stem] = counts.get(stem, -1) + 1
        place = f"{root}/{stem}{f'_{number}' if number else ''}"
        if node.chain:
            yield from _groups_of_zip(node, _item(store, place))
            continue
        group = _item(store, f"{place}/vars")
        if not isinstance(group, h5py.Group):
            yield None, []
            continue
        name = group.attrs.get("name", node.name)
        if name != node.name:
            raise _RefusedError(
                f"has weights of {reprlib.repr(name)}, expected those of {node.name!r}"
            )
        yield group, [str(place) for place in range(len(group))]


def _snake(name: str) -> str:
    """Return the name of a class's group: max_pooling2d for MaxPooling2D."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _item(group: Any, path: str) -> Any:
    """Return an item of an HDF5 file, or None; refuse soft and external links."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group) or name in ("", ".", ".."):
            return None
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise _RefusedError(f"its {name!r} is a link, expected numbers in the file itself")
        group = group[name]
    return group


def _dataset(group: Any, path: str) -> Any:
    """Find an array of floating-point numbers that is stored in the file itself."""
    import h5py

    dataset, place = _item(group, path), reprlib.repr(path)
    if not isinstance(dataset, h5py.Dataset):
        raise _RefusedError(f"has no numbers at {place}")
    if dataset.external or dataset.is_virtual:
        raise _RefusedError(f"keeps the numbers of {place} in another file")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8 or len(dataset.shape) > 4:
        raise _RefusedError(f"holds {dataset.dtype} at {place}, expected plain floats")
    return dataset


def _numbers(dataset: Any) -> np.ndarray:
    numbers = np.array(dataset[()], np.float32)
    if not np.isfinite(numbers).all():
        raise _RefusedError(f"its numbers at {reprlib.repr(dataset.name)} are not all finite")
    return numbers
