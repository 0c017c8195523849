"""Save and load training states atomically, as safetensors (no pickle)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from craters.core import StrPath, files
from craters.errors import DataError
from craters.training.attempt import TrainState

_TENSORS = ("weights", "optimizer", "average", "best_weights")


def save_state(path: StrPath, state: TrainState) -> None:
    """Write a training state atomically; it replaces an earlier one only when complete.

    Parameters
    ----------
    path : path-like
        A .safetensors file: tensors by name, everything else as JSON in its header.
    state : TrainState
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for part in _TENSORS:
        for name, tensor in getattr(state, part).items():
            tensors[f"{part}:{name}"] = tensor.contiguous()
    plain = {
        field.name: getattr(state, field.name)
        for field in dataclasses.fields(state)
        if field.name not in _TENSORS
    }
    # Best and current weights may share tensors, which safetensors does not allow.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    files.write_bytes(path, save(tensors, {"state": json.dumps(plain)}))


def load_state(path: StrPath) -> TrainState:
    """Read a training state written by `save_state`.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _TENSORS}
    try:
        with safe_open(path, framework="pt") as stream:
            plain = json.loads(stream.metadata()["state"])
            for key in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
                part, _, name = key.partition(":")
                parts[part][name] = stream.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise DataError(
            f"{path}: is a damaged checkpoint ({error})", "Remove its folder and start again."
        ) from error
    return TrainState(**{**parts, **plain})
