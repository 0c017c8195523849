"""Read and write model folders: checksums verified on reading, written atomically."""

from __future__ import annotations

import hashlib
import os
import re
import reprlib
import stat
from collections.abc import Callable
from pathlib import Path

from craters.core import StrPath, files
from craters.errors import ModelError
from craters.models.description import DAMAGED

GRAPH, WEIGHTS, DESCRIPTION, CARD = "model.onnx", "model.safetensors", "model.json", "MODEL_CARD.md"
PARTS = (GRAPH, WEIGHTS, DESCRIPTION, CARD)
SUMS = "SHA256SUMS"

_LARGEST = 1 << 29  # bytes of a file


def find_model(folder: StrPath) -> Path:
    """Return the model folder: `folder` itself, or `folder/model` of a run folder."""
    folder = Path(folder)
    inner = folder / "model"
    return inner if inner.is_dir() and not (folder / SUMS).exists() else folder


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
    _check_names(folder)
    parts = {name: _read(folder / name) for name in (*PARTS, SUMS)}
    listed = parts.pop(SUMS)
    sums = _parse_sums(listed, folder / SUMS)
    for name, content in parts.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise ModelError(f"{folder / name}: is not as it was written (SHA-256)", DAMAGED)
    return parts, hashlib.sha256(listed).hexdigest()


def _check_names(folder: Path) -> None:
    try:
        with os.scandir(folder) as entries:
            is_file = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except FileNotFoundError as error:  # removed meanwhile
        raise ModelError(f"{folder}: no such model folder") from error
    for name in (*PARTS, SUMS):
        if name not in is_file:
            hint = "Is it a model folder?" if not {SUMS, DESCRIPTION} & set(is_file) else DAMAGED
            raise ModelError(f"{folder / name}: is missing", hint)
    for name in sorted(is_file):
        if name not in (*PARTS, SUMS):
            raise ModelError(f"{folder / name}: does not belong to a model", "Move it elsewhere.")
        if not is_file[name]:
            raise ModelError(f"{folder / name}: is a link or a folder, expected a file", DAMAGED)


def _read(path: Path) -> bytes:
    """Read a regular file; refuse links and pipes, even if replaced since the listing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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


def _parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Parse SHA256SUMS, which must list each file of a model exactly once."""
    sums: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] not in PARTS or match[2] in sums:
            raise ModelError(
                f"{path}: found the line {reprlib.repr(line)}, expected a sum for each of "
                f"{', '.join(PARTS)}",
                DAMAGED,
            )
        sums[match[2]] = match[1]
    for name in PARTS:
        if name not in sums:
            raise ModelError(f"{path}: has no sum for {name}", DAMAGED)
    return sums


def write_parts(folder: Path, parts: dict[str, bytes], check: Callable[[Path], object]) -> None:
    """Write the files of a model and their checksums to a new folder, atomically.

    Parameters
    ----------
    folder : Path
        An existing folder is moved aside (`NAME.1`, ...), never deleted.
    parts : dict of bytes
        Content by name.
    check : callable
        Called with the folder before it is renamed; raises if the model is invalid.
    """
    sums = [f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in PARTS]
    with files.new_folder(folder) as partial:
        for name, content in (parts | {SUMS: "".join(sums).encode()}).items():
            files.write_bytes(partial / name, content)
        check(partial)
        if folder.exists():
            files.move_aside(folder)
