"""The SQLite file of a label store: opening, transactions, and tables that only grow.

Triggers refuse changes and deletions. Each transaction is flushed to disk before it ends, so
confirmed answers survive a killed process and a power failure. Several processes may write
concurrently.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from craters.core import StrPath, files
from craters.errors import ConfigError, CratersError, DataError

_VERSION = 2
_APPLICATION_ID = 0x63726C62  # "crlb": SQLite application id
_WAIT = 20.0  # seconds that a writer waits for a lock
_NAME = re.compile(r"[\w](?:[\w .'@+-]{0,38}[\w.])?")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

_FACTS = "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_TABLES = {  # by the version that added them
    1: {
        "patches": """CREATE TABLE patches (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, side INTEGER NOT NULL, pixels BLOB NOT NULL,
  source TEXT NOT NULL, part TEXT NOT NULL, image TEXT, given INTEGER NOT NULL)""",
        "entries": """CREATE TABLE entries (
  entry INTEGER PRIMARY KEY AUTOINCREMENT, patch TEXT NOT NULL REFERENCES patches (id),
  reviewer TEXT NOT NULL, answer TEXT NOT NULL, undoes INTEGER REFERENCES entries (entry),
  at TEXT NOT NULL, seconds REAL, why TEXT NOT NULL, model TEXT NOT NULL, probability REAL,
  saw_probability INTEGER NOT NULL, key TEXT NOT NULL, UNIQUE (reviewer, key, patch))""",
        "models": """CREATE TABLE models (
  number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL, folder TEXT NOT NULL,
  labels INTEGER NOT NULL, at TEXT NOT NULL, note TEXT NOT NULL)""",
    },
    2: {
        "places": """CREATE TABLE places (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, image TEXT NOT NULL, x REAL NOT NULL, y REAL NOT NULL,
  width REAL NOT NULL, height REAL NOT NULL, number INTEGER NOT NULL, source TEXT NOT NULL)""",
        "place_entries": """CREATE TABLE place_entries (
  entry INTEGER PRIMARY KEY AUTOINCREMENT, patch TEXT NOT NULL REFERENCES places (id),
  reviewer TEXT NOT NULL, answer TEXT NOT NULL, undoes INTEGER REFERENCES place_entries (entry),
  at TEXT NOT NULL, seconds REAL, why TEXT NOT NULL, model TEXT NOT NULL, probability REAL,
  saw_probability INTEGER NOT NULL, key TEXT NOT NULL, x REAL, y REAL, diameter REAL,
  UNIQUE (reviewer, key, patch))""",
    },
}


_OF_ANSWER = ("answer", "seconds", "why", "model", "probability", "saw_probability")

EntryT = TypeVar("EntryT", bound=Any)


def _triggers(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'labels are never changed or removed'); END"
        for verb in ("update", "delete")
    ]


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


def check_key(key: str) -> str:
    """Return a valid idempotency key; create one if empty."""
    if key and not _KEY.fullmatch(key):
        raise ConfigError(f"key is {key[:80]!r}, expected 1 to 64 letters, digits, - or _")
    return key or secrets.token_urlsafe(12)


def now() -> str:
    """Return the time as it is stored."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class Database:
    """The file of a label store; safe to share between threads and processes.

    See `LabelStore` for parameters and errors.
    """

    def __init__(self, path: StrPath, *, must_exist: bool = False, seed: int | None = None) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise DataError(f"{path}: no such label store", "Make one by `craters review`.")
        self._lock = threading.RLock()
        with self.clear_errors():
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
        if version is None or version not in [str(number) for number in _TABLES]:
            raise DataError(f"{self.path}: has version {version}, expected 1 to {_VERSION}")
        if version != str(_VERSION):
            self._upgrade()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _make_tables(self, seed: int) -> None:
        with self.transaction():
            # Another process may have created the tables meanwhile.
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._db.execute(_FACTS)
            for number in _TABLES:
                self._add_tables(number)
            for name, value in (
                ("version", str(_VERSION)),
                ("seed", str(seed)),
                ("created", now()),
            ):
                self._db.execute("INSERT INTO facts VALUES (?, ?)", (name, value))

    def _add_tables(self, version: int) -> None:
        for table, statement in _TABLES[version].items():
            for each in (statement, *_triggers(table)):
                self._db.execute(each)

    def _upgrade(self) -> None:
        """Add the tables of later versions; no row changes but the version."""
        with self.transaction():
            version = int(self.fact("version") or _VERSION)  # another process may have done it
            for number in range(version + 1, _VERSION + 1):
                self._add_tables(number)
            self._db.execute("UPDATE facts SET value = ? WHERE name = 'version'", (str(_VERSION),))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run an atomic transaction and flush it to disk; one writer at a time."""
        with self._lock, self.clear_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Turn errors of SQLite into errors that say what to do."""
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

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock, self.clear_errors():
            return self._db.execute(query, tuple(values)).fetchall()

    def insert(self, table: str, row: dict[str, Any]) -> None:
        """Insert a row by the names of its columns; within a transaction."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._db.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
            tuple(row.values()),
        )

    def fact(self, name: str) -> str | None:
        """Return a value that was stored when the store was created."""
        found = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return str(found[0][0]) if found else None


class EntryLog(Generic[EntryT]):
    """The entries of one table: appended, found by their key, undone.

    Parameters
    ----------
    database : Database
    table : str
    kind : type
        Dataclass of an entry, whose fields are the columns of the table.
    """

    def __init__(self, database: Database, table: str, kind: type[EntryT]) -> None:
        self._database, self._table, self._kind = database, table, kind
        self._names = [field.name for field in dataclasses.fields(kind)]

    def add_answers(
        self,
        reviewer: str,
        answers: Sequence[Any],
        key: str,
        store_subject: Callable[[Any], dict[str, Any]],
    ) -> list[EntryT]:
        """Append answers in one transaction; see `LabelStore.add`.

        Parameters
        ----------
        reviewer : str
        answers : sequence of Answer or CircleAnswer
        key : str
        store_subject : callable
            Stores what an answer is about; returns the columns that only this table has.
        """
        check_reviewer(reviewer)
        key = check_key(key)
        with self._database.transaction():
            if not self._by_key(reviewer, key):
                for answer in answers:
                    row = {name: getattr(answer, name) for name in _OF_ANSWER}
                    row |= {"at": answer.at or now(), "reviewer": reviewer, "key": key}
                    self._database.insert(self._table, row | store_subject(answer))
            return self._by_key(reviewer, key)

    def entries(self, after: int = 0) -> list[EntryT]:
        """Return all entries with a number above `after`, in order."""
        return self._select("WHERE entry > ?", (after,))

    def last_entry(self) -> int:
        """Return the number of the last entry; 0 where there is none."""
        return int(self._database.rows(f"SELECT max(entry) FROM {self._table}")[0][0] or 0)  # noqa: S608

    def undo(self, reviewer: str, key: str = "") -> list[EntryT]:
        """Undo a reviewer's last current answers: all of one request.

        Returns
        -------
        list of entries
            The new ones; empty if there is nothing to undo.
        """
        check_reviewer(reviewer)
        key = check_key(key)
        with self._database.transaction():
            known = self._by_key(reviewer, key)
            if known:
                return known
            last = self._database.rows(
                f"SELECT key FROM {self._table} WHERE reviewer = ? AND undoes IS NULL AND entry "  # noqa: S608
                f"NOT IN (SELECT undoes FROM {self._table} WHERE undoes IS NOT NULL) "
                "ORDER BY entry DESC LIMIT 1",
                (reviewer,),
            )
            for entry in self._by_key(reviewer, last[0][0]) if last else []:
                row = {name: getattr(entry, name) for name in self._names if name != "entry"}
                row |= {"undoes": entry.entry, "at": now(), "key": key}
                row |= {"seconds": None, "probability": None, "saw_probability": False}
                self._database.insert(self._table, row)
            return self._by_key(reviewer, key)

    def _by_key(self, reviewer: str, key: str) -> list[EntryT]:
        """Return the entries of one request."""
        return self._select("WHERE reviewer = ? AND key = ?", (reviewer, key))

    def _select(self, where: str, values: tuple[Any, ...]) -> list[EntryT]:
        rows = self._database.rows(
            f"SELECT {', '.join(self._names)} FROM {self._table} {where} ORDER BY entry",  # noqa: S608
            values,
        )
        entries = (dict(zip(self._names, row, strict=True)) for row in rows)
        return [
            self._kind(**row | {"saw_probability": bool(row["saw_probability"])}) for row in entries
        ]
