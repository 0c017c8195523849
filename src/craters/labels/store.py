"""Append-only label store: answers of reviewers about patches, in one SQLite file.

An entry is an answer (crater, not, unsure) of one reviewer about one patch, or an undo of an
earlier entry. Triggers refuse changes and deletions. Each call is one transaction, flushed to disk
before it returns, so confirmed answers survive a killed process and a power failure. Several
processes may write concurrently.

A reviewer's current answer about a patch is the last one that was not undone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import math
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath, files
from craters.errors import ConfigError, CratersError, DataError

CRATER, NOT, UNSURE = "crater", "not", "unsure"
ANSWERS = (CRATER, NOT, UNSURE)
WHYS = (
    "random",
    "uncertain",
    "diverse",
    "suspected",
    "disputed",
    "grid",
    "map",
    "chosen",
    "import",
)

_VERSION = "1"
_APPLICATION_ID = 0x63726C62  # "crlb": SQLite application id
_WAIT = 20.0  # seconds that a writer waits for a lock
_NAME = re.compile(r"[\w](?:[\w .'@+-]{0,38}[\w.])?")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

_TABLES = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE patches (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, side INTEGER NOT NULL, pixels BLOB NOT NULL,
  source TEXT NOT NULL, part TEXT NOT NULL, image TEXT, given INTEGER NOT NULL)""",
    """CREATE TABLE entries (
  entry INTEGER PRIMARY KEY AUTOINCREMENT, patch TEXT NOT NULL REFERENCES patches (id),
  reviewer TEXT NOT NULL, answer TEXT NOT NULL, undoes INTEGER REFERENCES entries (entry),
  at TEXT NOT NULL, seconds REAL, why TEXT NOT NULL, model TEXT NOT NULL, probability REAL,
  saw_probability INTEGER NOT NULL, key TEXT NOT NULL, UNIQUE (reviewer, key, patch))""",
    """CREATE TABLE models (
  number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL, folder TEXT NOT NULL,
  labels INTEGER NOT NULL, at TEXT NOT NULL, note TEXT NOT NULL)""",
)
_TRIGGERS = tuple(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'labels are never changed or removed'); END"
    for table in ("patches", "entries", "models")
    for verb in ("update", "delete")
)


@dataclasses.dataclass(frozen=True)
class Patch:
    """A patch as kept in the store, with its pixels.

    Parameters
    ----------
    id : str
    pixels : ndarray, shape (S, S), uint8
    source : str
        Source file.
    part : str
        "labeled", "extra", "test", or "scan".
    image : str or None
        Its source image, where known.
    given : int
        Given label; -1: none.
    """

    id: str
    pixels: np.ndarray
    source: str = ""
    part: str = "extra"
    image: str | None = None
    given: int = -1

    @property
    def digest(self) -> str:
        """Hash of the pixels."""
        return digest_of(self.pixels)


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer, before it is stored.

    Parameters
    ----------
    patch : Patch
    answer : str
        One of `ANSWERS`.
    why : str
        One of `WHYS`: reason for showing the patch.
    seconds : float or None
        Time to answer.
    model : str
        SHA-256 of the model that selected the patch, or "".
    probability : float or None
        Probability predicted by that model.
    saw_probability : bool
        Whether the reviewer looked at the probability.
    at : str
        ISO time; now, where empty.
    """

    patch: Patch
    answer: str
    why: str = "chosen"
    seconds: float | None = None
    model: str = ""
    probability: float | None = None
    saw_probability: bool = False
    at: str = ""

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise ConfigError(f"answer is {self.answer!r}, expected {', '.join(ANSWERS)}")
        if self.why not in WHYS:
            raise ConfigError(f"why is {self.why!r}, expected {', '.join(WHYS)}")
        for number in (self.seconds, self.probability):
            if number is not None and not math.isfinite(number):
                raise ConfigError(f"an answer has the number {number}, expected finite numbers")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the store; `undoes` is the number of the undone entry, or None."""

    entry: int
    patch: str
    reviewer: str
    answer: str
    undoes: int | None
    at: str
    seconds: float | None
    why: str
    model: str
    probability: float | None
    saw_probability: bool
    key: str


def digest_of(pixels: np.ndarray) -> str:
    """Hash pixels, so that labels never apply to another patch of the same id."""
    return hashlib.blake2b(
        np.ascontiguousarray(pixels, np.uint8).tobytes(), digest_size=8
    ).hexdigest()


def check_reviewer(name: str) -> str:
    """Return a reviewer's name, or raise ConfigError.

    Examples
    --------
    >>> check_reviewer("Ann B.")
    'Ann B.'
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"reviewer is {name[:60]!r}, expected 1 to 40 letters, digits, spaces or . - ' @ +"
        )
    return name


class LabelStore:
    """Answers in one SQLite file; safe to share between threads and processes.

    Parameters
    ----------
    path : Path
    must_exist : bool
        Do not create a new file.
    seed : int or None
        Seed of the random part of a new store; random by default.

    Raises
    ------
    DataError
        If the file is no label store, is damaged, or must exist and is missing.
    """

    def __init__(self, path: StrPath, *, must_exist: bool = False, seed: int | None = None) -> None:
        path = Path(path)
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise DataError(f"{path}: no such label store", "Make one by `craters review`.")
        self._lock = threading.RLock()
        with self._clear_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=_WAIT, check_same_thread=False, isolation_level=None
            )
            try:
                self._open(secrets.randbelow(2**31) if seed is None else seed)
            except BaseException:
                self._db.close()
                raise

    def _open(self, seed: int) -> None:
        (application_id,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application_id != _APPLICATION_ID and tables:
            raise DataError(f"{self.path}: is a database, but not a label store")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        if not tables:
            self._make_tables(seed)
        version = self.fact("version")
        if version != _VERSION:
            raise DataError(f"{self.path}: has version {version}, expected {_VERSION}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_tables(self, seed: int) -> None:
        with self._transaction():
            # Another process may have created the tables meanwhile.
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            for statement in _TABLES + _TRIGGERS:
                self._db.execute(statement)
            for name, value in (
                ("version", _VERSION),
                ("seed", str(seed)),
                ("created", _now()),
            ):
                self._db.execute("INSERT INTO facts VALUES (?, ?)", (name, value))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run an atomic transaction and flush it to disk; one writer at a time."""
        with self._lock, self._clear_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise files.disk_full(self.path) from error
            raise CratersError(
                f"{self.path}: labels cannot be stored or read ({error})",
                "Is the disk full, or does another program lock the file?",
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: is no label store, or damaged ({error})", "Name another file."
            ) from error

    def fact(self, name: str) -> str | None:
        """Return a value that was stored when the store was created."""
        with self._lock, self._clear_errors():
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    @property
    def seed(self) -> int:
        """Seed of the random part, fixed when the store was created."""
        return int(self.fact("seed") or 0)

    def add(self, reviewer: str, answers: Sequence[Answer], key: str = "") -> list[Entry]:
        """Store answers in one transaction; they are on disk when this returns.

        Parameters
        ----------
        reviewer : str
        answers : sequence of Answer
            Of different patches.
        key : str
            Idempotency key: repeating the call, as a browser does without a reply, adds nothing.

        Returns
        -------
        list of Entry
            As stored, by this call or an earlier one with the same key.

        Raises
        ------
        DataError
            If the store has a patch of the same id with other pixels.
        """
        check_reviewer(reviewer)
        key = check_key(key)
        with self._transaction():
            known = self._by_key(reviewer, key)
            if known:
                return known
            for answer in answers:
                self._add_patch(answer.patch)
                row = (
                    answer.patch.id, reviewer, answer.answer, None, answer.at or _now(),
                    answer.seconds, answer.why, answer.model, answer.probability,
                    int(answer.saw_probability), key,
                )  # fmt: skip
                self._insert(row)
            return self._by_key(reviewer, key)

    def _insert(self, row: tuple[Any, ...]) -> None:
        self._db.execute(
            "INSERT INTO entries (patch, reviewer, answer, undoes, at, seconds, why, model, "
            "probability, saw_probability, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def _add_patch(self, patch: Patch) -> None:
        digest = patch.digest
        row = self._db.execute("SELECT digest FROM patches WHERE id = ?", (patch.id,)).fetchone()
        if row is None:
            self._db.execute(
                "INSERT INTO patches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (patch.id, digest, patch.pixels.shape[0], patch.pixels.tobytes(), patch.source,
                 patch.part, patch.image, patch.given),
            )  # fmt: skip
        elif row[0] != digest:
            raise DataError(
                f"{self.path}: patch {patch.id} has other pixels than when it was labeled",
                "Was the array changed? Name another store by --labels.",
            )

    def undo(self, reviewer: str, key: str = "") -> list[Entry]:
        """Undo a reviewer's last current answers: all of one `add`.

        Returns
        -------
        list of Entry
            The new entries; empty if there is nothing to undo.
        """
        check_reviewer(reviewer)
        key = check_key(key)
        with self._transaction():
            known = self._by_key(reviewer, key)
            if known:
                return known
            last = self._db.execute(
                "SELECT key FROM entries WHERE reviewer = ? AND undoes IS NULL AND entry NOT IN "
                "(SELECT undoes FROM entries WHERE undoes IS NOT NULL) ORDER BY entry DESC LIMIT 1",
                (reviewer,),
            ).fetchone()
            if last is None:
                return []
            for entry in self._by_key(reviewer, last[0]):
                self._insert(
                    (entry.patch, reviewer, entry.answer, entry.entry, _now(), None, entry.why,
                     entry.model, None, 0, key)
                )  # fmt: skip
            return self._by_key(reviewer, key)

    def _by_key(self, reviewer: str, key: str) -> list[Entry]:
        return self._entries("WHERE reviewer = ? AND key = ?", (reviewer, key))

    def _entries(self, where: str, values: tuple[Any, ...]) -> list[Entry]:
        with self._lock, self._clear_errors():
            rows = self._db.execute(
                "SELECT entry, patch, reviewer, answer, undoes, at, seconds, why, model, "  # noqa: S608
                f"probability, saw_probability, key FROM entries {where} ORDER BY entry",
                values,
            ).fetchall()
        return [Entry(*(*row[:10], bool(row[10]), row[11])) for row in rows]

    def entries(self, after: int = 0) -> list[Entry]:
        """Return all entries with a number above `after`, in order."""
        return self._entries("WHERE entry > ?", (after,))

    def last_entry(self) -> int:
        """Return the number of the last entry; 0 where there is none."""
        with self._lock, self._clear_errors():
            row = self._db.execute("SELECT max(entry) FROM entries").fetchone()
        return int(row[0] or 0)

    def fingerprint(self) -> str:
        """Hash all entries and the seed: equal fingerprints imply equal labels."""
        digest = hashlib.sha256(f"{self.seed}\n".encode())
        for entry in self.entries():
            digest.update(f"{dataclasses.astuple(entry)}\n".encode())
        return digest.hexdigest()

    def patches(self) -> dict[str, Patch]:
        """Return all patches with entries, by id."""
        with self._lock, self._clear_errors():
            rows = self._db.execute(
                "SELECT id, side, pixels, source, part, image, given FROM patches ORDER BY id"
            ).fetchall()
        return {
            row[0]: Patch(row[0], np.frombuffer(row[2], np.uint8).reshape(row[1], row[1]), *row[3:])
            for row in rows
        }

    def note_model(self, sha256: str, folder: StrPath, labels: int, note: str = "") -> None:
        """Record a model and its number of training labels, unless it is the last one recorded."""
        folder = Path(folder)
        with self._transaction():
            last = self._db.execute(
                "SELECT sha256 FROM models ORDER BY number DESC LIMIT 1"
            ).fetchone()
            if last is None or last[0] != sha256:
                self._db.execute(
                    "INSERT INTO models (sha256, folder, labels, at, note) VALUES (?, ?, ?, ?, ?)",
                    (sha256, str(folder), labels, _now(), note),
                )

    def models(self) -> list[dict[str, Any]]:
        """Return the recorded models, in order."""
        names = ("number", "sha256", "folder", "labels", "at", "note")
        with self._lock, self._clear_errors():
            rows = self._db.execute(
                f"SELECT {', '.join(names)} FROM models ORDER BY number"  # noqa: S608
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]


def check_key(key: str) -> str:
    """Return a valid idempotency key; create one if empty."""
    if key and not _KEY.fullmatch(key):
        raise ConfigError(f"key is {key[:80]!r}, expected 1 to 64 letters, digits, - or _")
    return key or secrets.token_urlsafe(12)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
