"""The files of a model: read only when all are as they were written, written all or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import reprlib
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from craters.core import files
from craters.errors import ModelError
from craters.models.description import DAMAGED

GRAPH, WEIGHTS, DESCRIPTION, CARD = "model.onnx", "model.safetensors", "model.json", "MODEL_CARD.md"
PARTS = (GRAPH, WEIGHTS, DESCRIPTION, CARD)
SUMS = "SHA256SUMS"

_LARGEST = 1 << 29  # bytes of a file


def find_model(folder: Path) -> Path:
    """Name the model folder: `folder` itself, or `folder/model` of a run folder."""
    inner = folder / "model"
    return inner if inner.is_dir() and not (folder / SUMS).exists() else folder


def read_parts(folder: Path) -> tuple[dict[str, bytes], str]:
    """Read every file of a model folder; check names, kinds and sums before anything is parsed.

    What is checked is what is used: each file is read once.

    Returns
    -------
    parts : dict of bytes
        The files' content by name.
    sha256 : str
        Of SHA256SUMS, and so of everything.

    Raises
    ------
    ModelError
        When a file is missing, foreign, a link, or changed; it is named.
    """
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
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except FileNotFoundError as error:  # since it was seen
        raise ModelError(f"{folder}: no such model folder") from error
    for name in (*PARTS, SUMS):
        if name not in found:
            hint = "Is it a model folder?" if not {SUMS, DESCRIPTION} & set(found) else DAMAGED
            raise ModelError(f"{folder / name}: is missing", hint)
    for name, is_file in sorted(found.items()):
        if name not in (*PARTS, SUMS):
            raise ModelError(f"{folder / name}: does not belong to a model", "Move it elsewhere.")
        if not is_file:
            raise ModelError(f"{folder / name}: is a link or a folder, expected a file", DAMAGED)


def _read(path: Path) -> bytes:
    """Read a plain file; what became a link, a pipe or nothing since it was listed is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        found = "is missing" if isinstance(error, FileNotFoundError) else "is a link or no file"
        raise ModelError(f"{path}: {found}", DAMAGED) from error
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelError(f"{path}: is a link or no file", DAMAGED)
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ModelError(f"{path}: has more than {_LARGEST >> 20} MiB, expected a small network")
    return content


def _parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Parse SHA256SUMS; it lists the files of a model, each once, and nothing else."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] not in PARTS or match[2] in found:
            raise ModelError(
                f"{path}: found the line {reprlib.repr(line)}, expected a sum for each of "
                f"{', '.join(PARTS)}",
                DAMAGED,
            )
        found[match[2]] = match[1]
    for name in PARTS:
        if name not in found:
            raise ModelError(f"{path}: has no sum for {name}", DAMAGED)
    return found


def write_parts(folder: Path, parts: dict[str, bytes], check: Callable[[Path], object]) -> None:
    """Write the files of a model and their sums into a new folder, all or none.

    Parameters
    ----------
    folder : Path
        An earlier one is moved aside (`NAME.1`, ...), never deleted.
    parts : dict of bytes
        Content by name.
    check : callable
        Called with the folder before it is put in place; raises where the model is no good.
    """
    sums = [f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in PARTS]
    with _whole_folder(folder) as partial:
        for name, content in (parts | {SUMS: "".join(sums).encode()}).items():
            files.write_bytes(partial / name, content)
        check(partial)


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder`; put it in place when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _drop_stale(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            files.move_aside(folder)
        partial.rename(folder)
        files.sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _drop_stale(folder: Path) -> None:
    """Remove what processes that were killed while they wrote `folder` left beside it."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.partial")
    for litter in folder.parent.iterdir():
        match = pattern.fullmatch(litter.name)
        if match is None:
            continue
        owner = int(match[1])
        # This process has not begun to write yet: its own number is an earlier process's.
        if owner == os.getpid() or not files.is_alive(owner):
            shutil.rmtree(litter, ignore_errors=True)
