"""Write files and folders atomically: write a temporary file next to the target, flush, rename."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import glob
import hashlib
import io
import json
import mmap
import os
import re
import secrets
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

from craters.errors import CratersError, DataError, DiskFullError, ExistsError

# Suffixes of pictures that both Pillow and GDAL read.
PICTURE_SUFFIXES = (
    ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".bmp", ".gif", ".pgm", ".ppm",
    ".pnm", ".webp",
)  # fmt: skip

StrPath = str | os.PathLike[str]

_CHUNK = 1 << 20
_PARTIAL = ".partial"
_POLL = 0.02  # seconds between two attempts to lock
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_PHRASES = ("no space left", "disk is full", "quota exceeded")  # of GDAL, SQLite and HDF5
_LEAST_FREE = 1 << 20  # bytes; a disk with less counts as full if it cannot be written
_LEAST_NEED = 50_000  # bytes of what was written to a full disk, that its message states
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # characters that no table holds
_ASIDE = re.compile(r"\([^)]*\)|\[[^]]*\]|\"[^\"]*\"")


def path_list(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return paths as `Path`; a single path counts as a list of one.

    Examples
    --------
    >>> path_list("a.tif") == path_list(["a.tif"]) == [Path("a.tif")]
    True
    """
    return [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]


def sync_folder(folder: StrPath) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power failure."""
    if sys.platform == "win32":  # which opens no folders, and journals renames
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_data(descriptor: int) -> None:
    """Flush the content of an open file to disk, and of its metadata what reading needs."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # Linux and BSD have the former


@contextlib.contextmanager
def disk_errors(path: StrPath, written: StrPath | None = None) -> Iterator[None]:
    """Explain errors inside the block by a full disk, if that is their cause.

    Parameters
    ----------
    path : path-like
        The file or folder that is being written; for the message.
    written : path-like, optional
        Folder of what was written until the error; the message says that more is needed.

    Raises
    ------
    DiskFullError
    """
    try:
        yield
    except Exception as error:
        if _is_of_full_disk(error, Path(path)):
            raise disk_full(path, written) from error
        raise


def disk_full(path: StrPath, written: StrPath | None = None) -> DiskFullError:
    """Return the error for a path on a full disk; see `disk_errors`."""
    entries = () if written is None else Path(written).rglob("*")
    size = sum(entry.stat().st_size for entry in entries if entry.is_file())
    need = f"; it needs more than {size / 1e6:,.1f} MB" if size >= _LEAST_NEED else ""
    return DiskFullError(
        f"{path}: no space is left on the disk{need}", "Free some space, then repeat the command."
    )


def _is_of_full_disk(error: Exception, path: Path) -> bool:
    """Return whether an error, perhaps of a library that hides its cause, is of a full disk."""
    is_named = isinstance(error, DiskFullError)  # with the path of a file in this folder
    if is_named or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    text = str(error).casefold()
    if any(phrase in text for phrase in _FULL_PHRASES):
        return True
    if not isinstance(error, OSError | CratersError | sqlite3.Error) or not path.parent.exists():
        return False
    return shutil.disk_usage(path.parent).free < _LEAST_FREE


@contextlib.contextmanager
def locked(target: StrPath, job: str, *, wait: float = 0.0) -> Iterator[None]:
    """Lock a file or folder against other processes.

    The lock is on a hidden file next to `target`, which its holder removes before it releases the
    lock (except on Windows, where no open file can be removed). A process that opened the file
    before its removal notices that the locked file is not the one at the path, and tries again.

    Parameters
    ----------
    target : path-like
        May be absent.
    job : str
        "run", "scan", ...: used in the message.
    wait : float
        Seconds to wait for another process that holds the lock.

    Raises
    ------
    ExistsError
        If another process holds the lock.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock, end = target.with_name(f".{target.name}.lock"), time.monotonic() + wait
    while True:
        with lock.open("w") as stream:
            if not _try_lock(stream.fileno()):
                if time.monotonic() < end:
                    time.sleep(_POLL)
                    continue
                raise ExistsError(
                    f"{target}: another process is working on this {job}",
                    "Wait for it, or stop it.",
                )
            if not _is_at(stream.fileno(), lock):
                continue
            try:
                yield
            finally:
                if sys.platform != "win32":
                    lock.unlink(missing_ok=True)
            return


def _try_lock(descriptor: int) -> bool:
    """Lock an open file or folder, unless another process holds the lock.

    The system frees the lock when the file is closed, also if the process is killed.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def new_folder(folder: StrPath) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`; rename it to `folder` if the block succeeds.

    Parameters
    ----------
    folder : path-like
        Must not exist. Missing parent folders are created.

    Yields
    ------
    Path
        A new, empty folder, removed if the block raises.
    """
    folder = Path(folder)
    with _temporary_folder(folder) as temporary:
        yield temporary
        temporary.rename(folder)
        sync_folder(folder.parent)


@contextlib.contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is created if missing. An existing file is replaced only if
        the block succeeds.

    Yields
    ------
    Path
        A new, empty file of the same name, in a hidden folder next to it.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("complete")
    >>> target.read_text()
    'complete'
    """
    path = Path(path)
    with _temporary_folder(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        yield temporary
        with temporary.open("r+b") as stream:  # Windows flushes no file that is only read
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Create a hidden folder next to `path`, locked inside the block and removed after it.

    Such folders without a lock were left by killed processes, of this machine or of another one
    with the same file system, and are removed. Process ids do not show that.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        with contextlib.suppress(OSError), _locked_folder(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PARTIAL}")
    try:
        with disk_errors(path, temporary), contextlib.ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                temporary.mkdir(exist_ok=True)
                try:
                    stack.enter_context(_locked_folder(temporary))
                except (BlockingIOError, FileNotFoundError):  # taken for a leftover meanwhile
                    time.sleep(_POLL)
                    continue
                except OSError:  # this file system has no locks: nobody removes leftovers
                    pass
                break
            yield temporary
    finally:  # also after an interrupt
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder inside the block.

    Raises
    ------
    BlockingIOError
        If another process holds the lock.
    FileNotFoundError
        If the folder was removed meanwhile.
    OSError
        If the file system has no locks of folders.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _try_lock(descriptor):
            raise BlockingIOError(f"{folder}: in use")
        if not _is_at(descriptor, folder):
            raise FileNotFoundError(f"{folder}: removed")
        yield
    finally:
        os.close(descriptor)


def refuse_existing(path: StrPath, hint: str = "Choose a new name.") -> None:
    """Raise ExistsError if a file or folder exists, so that nothing is overwritten.

    Examples
    --------
    >>> refuse_existing("no/such/folder")
    """
    if Path(path).exists():
        raise ExistsError(f"{path}: exists already", hint)


def move_aside(path: StrPath) -> Path:
    """Rename a file or folder to NAME.1, NAME.2, ...: the first free name."""
    path = Path(path)
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return path.rename(aside)


def write_bytes(path: StrPath, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def release_pages(array: np.ndarray) -> None:
    """Release the memory pages of a memory-mapped array; they are read again on access.

    The system would release them under memory pressure, but until then they count as used.

    Parameters
    ----------
    array : ndarray
        Any view. Arrays not mapped from a file, or mapped writable, are left unchanged.

    Examples
    --------
    >>> release_pages(np.zeros(3))
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    can_release = hasattr(mmap, "MADV_DONTNEED")  # not on Windows
    if can_release and isinstance(base, mmap.mmap) and memoryview(base).readonly:
        base.madvise(mmap.MADV_DONTNEED)


def write_text(path: StrPath, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode())


def write_parts(path: StrPath, parts: Iterable[str]) -> None:
    """Write an iterable of strings to `path` as UTF-8, atomically."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        stream.writelines(parts)


def write_json(path: StrPath, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, atomically."""
    write_text(path, to_json(content) + "\n")


def write_array(path: StrPath, array: np.ndarray) -> None:
    """Write `array` as .npy without pickling, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def to_json(content: Any) -> str:
    """Convert `content`, with NumPy numbers and arrays, paths and tuples, to JSON.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON cannot represent.

    Examples
    --------
    >>> print(to_json({"n": np.int64(3)}))
    {
      "n": 3
    }
    """
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, default=_plain)


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    r"""Format rows as CSV with `\n` line ends; None becomes an empty field.

    For large tables, format some rows at a time and pass the pieces to `write_parts`.

    Parameters
    ----------
    rows : iterable of iterable
        The first row holds the column names.

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


def sha256_of(path: StrPath) -> str:
    """Return the SHA-256 hash of a file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    path = Path(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_csv_text(path: StrPath, *, may_be_latin_1: bool = False) -> tuple[str, str]:
    """Read a table as text, in UTF-8, UTF-16 or, if allowed, Latin-1 (Windows-1252).

    Parameters
    ----------
    path : Path
    may_be_latin_1 : bool
        Whether to read text in neither UTF-8 nor UTF-16 as Latin-1.

    Returns
    -------
    text : str
        Without byte order mark, with line feeds as line ends.
    encoding : str
        "UTF-8", "UTF-16" or "Latin-1".

    Raises
    ------
    DataError
        If it is missing or not text.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path}: no such file, expected a CSV table") from error
    for encoding, codec in _encodings(content):
        if encoding == "Latin-1" and not may_be_latin_1:
            break
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(codec)
            if not _CONTROL.search(text):
                return text.replace("\r\n", "\n").replace("\r", "\n"), encoding
    raise DataError(f"{path}: is not text in UTF-8, expected a CSV table", "Save it as CSV UTF-8.")


def _encodings(content: bytes) -> list[tuple[str, str]]:
    """Return the encodings that a text may have, with the codec of each, the likeliest first."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return [("UTF-16", "utf-16")]
    for first, codec in ((1, "utf-16-le"), (0, "utf-16-be")):  # without byte order mark
        if 2 * content[first::2].count(0) > len(content[first::2]):
            return [("UTF-16", codec)]
    return [("UTF-8", "utf-8-sig"), ("Latin-1", "cp1252")]


def csv_delimiter(text: str) -> str:
    r"""Detect the delimiter: the most frequent of comma, semicolon and tab in the header.

    Quoted and bracketed parts of the header do not count.

    Examples
    --------
    >>> csv_delimiter("id;answer\np:1;crater, small, old"), csv_delimiter("id")
    (';', ',')
    >>> csv_delimiter("Longitude (deg, east);Latitude (deg, north)")
    ';'
    """
    header = _ASIDE.sub("", text.partition("\n")[0])
    return max(",;\t", key=header.count)
