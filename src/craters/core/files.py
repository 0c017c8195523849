"""Files and folders that are whole or absent: write beside the target, flush, rename."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import glob
import hashlib
import io
import json
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import DataError, ExistsError

_CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(target: Path, job: str) -> Iterator[None]:
    """Keep a second process away from a file or folder.

    The lock is of a hidden file beside `target`, which its holder removes while it still holds the
    lock. A process that opened the file before that tries again: it checks that the file that it
    locked is the one that is there.

    Parameters
    ----------
    target : Path
        It need not exist.
    job : str
        "run", "scan", ...: for the message.

    Raises
    ------
    ExistsError
        When another process holds it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    while True:
        with lock.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ExistsError(
                    f"{target}: another process is working on this {job}",
                    "Wait for it, or stop it.",
                ) from error
            if not _is_at(stream.fileno(), lock):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; give it that name when the block ends well.

    Parameters
    ----------
    folder : Path
        It must not exist. The folder around it is made where it is missing.

    Yields
    ------
    Path
        A new, empty folder, which is removed when the block ends with an error.
    """
    temporary = _temporary(folder)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; put it in place when the block ends well.

    Parameters
    ----------
    path : Path
        The file to write. Its folder is made where it is missing. An earlier file is replaced
        only when the block ends without an error; otherwise it stays as it was.

    Yields
    ------
    Path
        A new, empty file in the same folder, with the same suffix, to be written to.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    temporary = _temporary(path)
    temporary.open("wb").close()
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:  # an interrupt leaves no litter either
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Name a temporary file or folder beside `path`; remove those of processes that were killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for litter in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{path.suffix}"):
        owner = litter.name.removesuffix(f".partial{path.suffix}").rpartition(".")[2]
        if not owner.isdigit() or is_alive(int(owner)):
            continue
        if litter.is_dir():
            shutil.rmtree(litter, ignore_errors=True)
        else:
            litter.unlink(missing_ok=True)
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def move_aside(path: Path) -> Path:
    """Rename a file or folder to NAME.1, NAME.2, ...; the first that is free."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return path.rename(aside)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def release_pages(array: np.ndarray) -> None:
    """Drop what was read of a memory-mapped file from memory; it is read again where needed.

    The pages would go anyway when memory gets short, but until then they count as this process's.

    Parameters
    ----------
    array : ndarray
        A view of any depth. One that is not of a file, or may be written to, stays as it is.

    Examples
    --------
    >>> release_pages(np.zeros(3))
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and memoryview(base).readonly:
        base.madvise(mmap.MADV_DONTNEED)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write text that comes in parts to `path` as UTF-8, whole or not at all."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        stream.writelines(parts)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, to_json(content) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as .npy without pickling, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def to_json(content: Any) -> str:
    """Turn `content` into JSON; NumPy numbers and arrays, paths and tuples included.

    Raises
    ------
    ValueError
        When a number is NaN or infinite: JSON has no word for either.

    Examples
    --------
    >>> print(to_json({"n": np.int64(3)}))
    {
      "n": 3
    }
    """
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, default=_plain)


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    r"""Turn rows into CSV with line ends of one character; None is empty.

    Large tables are written some rows at a time: each piece is turned into text, and `write_parts`
    takes the pieces.

    Parameters
    ----------
    rows : iterable of iterable
        The names of the columns are the first row.

    Examples
    --------
    >>> to_csv([["id", "label"], ["a, b", 1], ["c", None]])
    'id,label\n"a, b",1\nc,\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def sha256_of(path: Path) -> str:
    """Hash a file's bytes, a piece at a time.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_csv_text(path: Path) -> str:
    """Read a table as text, without the mark that spreadsheets put before UTF-8.

    Raises
    ------
    DataError
        When it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not text in UTF-8, expected a CSV table", "Save it as CSV UTF-8."
        ) from error


def csv_delimiter(text: str) -> str:
    r"""Tell what stands between columns: the commonest of comma, semicolon and tab in the head.

    Examples
    --------
    >>> csv_delimiter("id;answer\np:1;crater, small, old"), csv_delimiter("id")
    (';', ',')
    """
    return max(",;\t", key=text.partition("\n")[0].count)
