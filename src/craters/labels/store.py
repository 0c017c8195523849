"""Append-only label store: answers of reviewers about patches, in one SQLite file.

An entry is an answer (crater, not, unsure) of one reviewer about one patch, or an undo of an
earlier entry. Triggers refuse changes and deletions. Each call is one transaction, flushed to disk
before it returns, so confirmed answers survive a killed process and a power failure. Several
processes may write concurrently.

A reviewer's current answer about a patch is the last one that was not undone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath
from craters.errors import ConfigError, DataError
from craters.labels.database import Database, EntryLog, now

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
    "missed",
    "field",
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
        check_answer(self, ANSWERS)


def check_answer(answer: Any, expected: Sequence[str]) -> None:
    """Check the facts of an `Answer` or `CircleAnswer`.

    Raises
    ------
    ConfigError
    """
    if answer.answer not in expected:
        raise ConfigError(f"answer is {answer.answer!r}, expected {', '.join(expected)}")
    if answer.why not in WHYS:
        raise ConfigError(f"why is {answer.why!r}, expected {', '.join(WHYS)}")
    for number in (answer.seconds, answer.probability):
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


class LabelStore(Database):
    """Answers about patches in one SQLite file; see `Database`.

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
        super().__init__(path, must_exist=must_exist, seed=seed)
        self._log = EntryLog(self, "entries", Entry)

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        return self._log.add_answers(reviewer, answers, key, self._store_patch)

    def _store_patch(self, answer: Answer) -> dict[str, Any]:
        patch, digest = answer.patch, answer.patch.digest
        known = self.rows("SELECT digest FROM patches WHERE id = ?", (patch.id,))
        if not known:
            self.insert(
                "patches",
                {
                    "id": patch.id, "digest": digest, "side": patch.pixels.shape[0],
                    "pixels": patch.pixels.tobytes(), "source": patch.source, "part": patch.part,
                    "image": patch.image, "given": patch.given,
                },
            )  # fmt: skip
        elif known[0][0] != digest:
            raise DataError(
                f"{self.path}: patch {patch.id} has other pixels than when it was labeled",
                "Was the array changed? Name another store by --labels.",
            )
        return {"patch": patch.id}

    def undo(self, reviewer: str, key: str = "") -> list[Entry]:
        """Undo a reviewer's last current answers: all of one `add`.

        Returns
        -------
        list of Entry
            The new entries; empty if there is nothing to undo.
        """
        return self._log.undo(reviewer, key)

    def entries(self, after: int = 0) -> list[Entry]:
        """Return all entries with a number above `after`, in order."""
        return self._log.entries(after)

    def last_entry(self) -> int:
        """Return the number of the last entry; 0 where there is none."""
        return self._log.last_entry()

    def fingerprint(self) -> str:
        """Hash all entries and the seed: equal fingerprints imply equal labels."""
        digest = hashlib.sha256(f"{self.seed}\n".encode())
        for entry in self.entries():
            digest.update(f"{dataclasses.astuple(entry)}\n".encode())
        return digest.hexdigest()

    def patches(self) -> dict[str, Patch]:
        """Return all patches with entries, by id."""
        rows = self.rows(
            "SELECT id, side, pixels, source, part, image, given FROM patches ORDER BY id"
        )
        return {
            row[0]: Patch(row[0], np.frombuffer(row[2], np.uint8).reshape(row[1], row[1]), *row[3:])
            for row in rows
        }

    def note_model(self, sha256: str, folder: StrPath, labels: int, note: str = "") -> None:
        """Record a model and its number of training labels, unless it is the last one recorded."""
        with self.transaction():
            last = self.rows("SELECT sha256 FROM models ORDER BY number DESC LIMIT 1")
            if not last or last[0][0] != sha256:
                model = {"sha256": sha256, "folder": str(Path(folder)), "labels": labels}
                self.insert("models", model | {"at": now(), "note": note})

    def models(self) -> list[dict[str, Any]]:
        """Return the recorded models, in order."""
        names = ("number", "sha256", "folder", "labels", "at", "note")
        rows = self.rows(f"SELECT {', '.join(names)} FROM models ORDER BY number")  # noqa: S608
        return [dict(zip(names, row, strict=True)) for row in rows]
