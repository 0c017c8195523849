"""Read and write model folders: checksums verified on reading, written atomically."""

from __future__ import annotations

import hashlib
import os
import re
import reprlib
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from craters.core import StrPath, files
from craters.data import splits
from craters.errors import ConfigError, ModelError
from craters.models.description import DAMAGED
from craters.models.onnx import read_tensors

GRAPH, WEIGHTS, DESCRIPTION, CARD = "model.onnx", "model.safetensors", "model.json", "MODEL_CARD.md"
PARTS = (GRAPH, WEIGHTS, DESCRIPTION, CARD)  # the weights only if the graph does not hold them
SUMS = "SHA256SUMS"
WEIGHTS_PREFIX = "network."  # of the names of weights, in a graph that holds each once

PRETRAINED, CIRCLES = "pretrained", "circles"  # in place of a folder: what ships in this package
_SHIPPED = {
    PRETRAINED: Path(__file__).parent / "pretrained",
    CIRCLES: Path(__file__).parent / "pretrained_circles",
}
CHOSEN_ON = "chosen_on.npy"  # hashes of the patches that the pretrained model was chosen by

_LARGEST = 1 << 29  # bytes of a file
# Windows lacks the flags that refuse links and pipes, and has one for files that are not text.
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def find_model(model: StrPath) -> Path:
    """Return a model folder by its path, or by the name of one that ships in this package.

    Parameters
    ----------
    model : path-like
        A model folder, a run folder that holds one as `model`, `pretrained` (the classifier of
        patches that ships in this package) or `circles` (the circle detector).

    Raises
    ------
    ConfigError
        If there is something of such a name in the working folder, too.
    ModelError
        If this installation lacks that model.
    """
    if (name := str(model)) in _SHIPPED:
        if os.path.lexists(name):
            raise ConfigError(
                f"{name}: is the name of a model that ships with craters, and of "
                f"{Path.cwd() / name}",
                f"Give ./{name} or the whole path for the latter, or work in another folder.",
            )
        return find_pretrained(name)
    folder = Path(model)
    inner = folder / "model"
    return inner if inner.is_dir() and not (folder / SUMS).exists() else folder


def find_pretrained(name: str = PRETRAINED) -> Path:
    """Return the folder of a model that ships in this package: `pretrained` or `circles`.

    Raises
    ------
    ModelError
        If this installation lacks it.
    """
    if not _SHIPPED[name].is_dir():
        raise ModelError(f"{name}: this installation lacks it", "Install craters again.")
    return _SHIPPED[name]


def short_hashes(images: np.ndarray) -> np.ndarray:
    """Hash each patch (N, S, S) to 64 bits; see `splits.content_ids`."""
    return np.array([int(name[:16], 16) for name in splits.content_ids(images)], np.uint64)


def chose_pretrained(images: np.ndarray) -> np.ndarray:
    """Return which patches are among those that the pretrained model was chosen by.

    Recipe and look were chosen by the figures on patches of several published sets; only these
    patches are known, byte for byte, not windows that were cut from images.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    return np.isin(short_hashes(images), np.load(Path(__file__).parent / CHOSEN_ON))


def is_model(path: StrPath) -> bool:
    """Return whether a path is a run or model folder, even a damaged one, or a shipped model."""
    if str(path) in _SHIPPED:
        return True
    is_run = all((Path(path) / name).is_file() for name in ("manifest.json", "config.json"))
    return is_run or any((find_model(path) / name).is_file() for name in (*PARTS, SUMS))


def copy_model(model: StrPath, folder: StrPath) -> None:
    """Copy a model folder, given by its path or as `pretrained`, after checking it.

    The copy has the same checksums, so the same identity.

    Raises
    ------
    ModelError
        If the model is damaged; see `read_parts`.
    """
    write_parts(Path(folder), read_parts(find_model(model))[0], lambda _: None)


def read_parts(folder: StrPath) -> tuple[dict[str, bytes], str]:
    """Read every file of a model folder; check names, types and checksums before parsing.

    Each file is read once, so the checked bytes are the bytes used.

    Returns
    -------
    parts : dict of bytes
        Content of each file, by name.
    sha256 : str
        Hash of SHA256SUMS, which covers all files.

    Raises
    ------
    ModelError
        If a file is missing, unexpected, a link, or changed; the message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    names = _check_names(folder)
    parts = {name: _read(folder / name) for name in names}
    listed = parts.pop(SUMS)
    sums = _parse_sums(listed, folder / SUMS, tuple(parts))
    for name, content in parts.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise ModelError(f"{folder / name}: is not as it was written (SHA-256)", DAMAGED)
    return parts, hashlib.sha256(listed).hexdigest()


def _check_names(folder: Path) -> list[str]:
    """Return the names of the files of a model, after checking that nothing else is there."""
    try:
        with os.scandir(folder) as entries:
            is_file = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except FileNotFoundError as error:  # removed meanwhile
        raise ModelError(f"{folder}: no such model folder") from error
    for name in (*PARTS, SUMS):
        if name not in is_file and name != WEIGHTS:
            hint = "Is it a model folder?" if not {SUMS, DESCRIPTION} & set(is_file) else DAMAGED
            raise ModelError(f"{folder / name}: is missing", hint)
    for name in sorted(is_file):
        if name not in (*PARTS, SUMS):
            raise ModelError(f"{folder / name}: does not belong to a model", "Move it elsewhere.")
        if not is_file[name]:
            raise ModelError(f"{folder / name}: is a link or a folder, expected a file", DAMAGED)
    return [name for name in (*PARTS, SUMS) if name in is_file]


def _read(path: Path) -> bytes:
    """Read a regular file; refuse links and pipes, even if replaced since the listing."""
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "is a link or no file"
        raise ModelError(f"{path}: {reason}", DAMAGED) from error
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelError(f"{path}: is a link or no file", DAMAGED)
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ModelError(f"{path}: has more than {_LARGEST >> 20} MiB, expected a small network")
    return content


def _parse_sums(content: bytes, path: Path, present: tuple[str, ...]) -> dict[str, str]:
    """Parse SHA256SUMS, which must list each file of a model exactly once."""
    sums: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] not in PARTS or match[2] in sums:
            raise ModelError(
                f"{path}: found the line {reprlib.repr(line)}, expected a sum for each of "
                f"{', '.join(present)}",
                DAMAGED,
            )
        sums[match[2]] = match[1]
    for name in present:
        if name not in sums:
            raise ModelError(f"{path}: has no sum for {name}", DAMAGED)
    for name in sums:
        if name not in present:
            raise ModelError(f"{path.with_name(name)}: is missing", DAMAGED)
    return sums


def description_text(parts: dict[str, bytes], folder: Path) -> str:
    """Return the text of model.json among the files of a model folder.

    Raises
    ------
    ModelError
        If it is not UTF-8.
    """
    try:
        return parts[DESCRIPTION].decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{folder / DESCRIPTION}: is no UTF-8 text", DAMAGED) from error


def parse_weights(parts: dict[str, bytes], folder: Path) -> dict[str, np.ndarray]:
    """Parse the weights of a model folder: those of its own file, or the tensors of its graph.

    Parameters
    ----------
    parts : dict of bytes
        Result of `read_parts`.
    folder : Path
        Its name in messages.

    Returns
    -------
    dict of ndarray
        By name in torch.

    Raises
    ------
    ModelError
        If they are damaged, or in neither file.
    """
    if WEIGHTS in parts:
        return _parse_safetensors(parts[WEIGHTS], folder / WEIGHTS)
    weights = {
        name.removeprefix(WEIGHTS_PREFIX): array
        for name, array in read_tensors(parts[GRAPH], str(folder / GRAPH)).items()
        if name.startswith(WEIGHTS_PREFIX)
    }
    if not weights:
        raise ModelError(f"{folder / WEIGHTS}: is missing, and {GRAPH} holds no weights", DAMAGED)
    counts = [name for name in weights if name.endswith("running_mean")]
    zero = np.zeros((), np.int64)  # batches seen: torch requires their number, but does not use it
    return weights | {name.replace("running_mean", "num_batches_tracked"): zero for name in counts}


def _parse_safetensors(content: bytes, path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is no valid safetensors file ({error})", DAMAGED) from error


def write_parts(folder: Path, parts: dict[str, bytes], check: Callable[[Path], object]) -> None:
    """Write the files of a model and their checksums to a new folder, atomically.

    Parameters
    ----------
    folder : Path
        An existing folder is moved aside (`NAME.1`, ...), never deleted.
    parts : dict of bytes
        Content by name; without `WEIGHTS` if the graph holds them.
    check : callable
        Called with the folder before it is renamed; raises if the model is invalid.
    """
    sums = [f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in parts]
    with files.new_folder(folder) as partial:
        for name, content in (parts | {SUMS: "".join(sums).encode()}).items():
            files.write_bytes(partial / name, content)
        check(partial)
        if folder.exists():
            files.move_aside(folder)
