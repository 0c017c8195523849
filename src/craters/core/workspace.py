"""Resumable output folders: locked while in use, bound to inputs, settings and versions."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from craters.core import files
from craters.core.files import StrPath
from craters.core.progress import Progress
from craters.errors import DiskFullError, ExistsError

_STARTED = "started.json"
_NAMED = 5  # differences listed in an error
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything that the results of a job depend on.

    Parameters
    ----------
    settings : mapping
        Plain values by name, without those that do not affect results.
    inputs : mapping of str
        Hash of each input, by name.
    versions : mapping of str
        Versions of craters and the libraries that affect results; see `library_versions`.

    Examples
    --------
    >>> old = Fingerprint({"seed": 0}, {"a.npy": "12ab"}, {"numpy": "2.1"})
    >>> new = Fingerprint({"seed": 9}, {"a.npy": "34cd"}, {"numpy": "2.1"})
    >>> new.differences(old.record()["depends_on"])
    ['seed was 0 and is 9', 'a.npy has changed']
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    versions: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Return the JSON entries: the hash and its content."""
        content = files.to_json(dataclasses.asdict(self))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return {"fingerprint": digest, "depends_on": json.loads(content)}

    def differences(self, earlier: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Describe each difference from an earlier `depends_on`."""
        phrases, depends_on = [], self.record()["depends_on"]
        for part in ("settings", "inputs", "versions"):
            now, before = depends_on[part], earlier.get(part, {})
            for name in [*now, *(name for name in before if name not in now)]:
                old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
                if old is _ABSENT or new is _ABSENT:
                    phrases.append(f"{name} is {'new' if old is _ABSENT else 'gone'}")
                elif old != new and part == "inputs":
                    phrases.append(f"{name} has changed")
                elif old != new:
                    phrases.append(f"{name} was {old} and is {new}")
        return phrases


class Workspace:
    """The output folder of a job that can be interrupted and resumed.

    A job works either in a hidden folder next to `out`, renamed to `out` when it is complete, or
    in `out` itself, to which later calls may add.

    Parameters
    ----------
    out : Path
        The folder to create.
    job : str
        "run", "scan", ...: for messages.
    record : str
        Name of the JSON file in `out` with the entries of `Fingerprint.record`.
    resume : bool
        Continue an interrupted job with an equal fingerprint.
    force : bool
        Move an existing folder aside (`NAME.1`, `NAME.2`, ...); it is never deleted.
    in_place : bool
        Whether the job works in `out` itself.

    Raises
    ------
    ExistsError
        If `out` is not the name of a folder.
    """

    def __init__(
        self,
        out: StrPath,
        job: str,
        *,
        record: str,
        resume: bool,
        force: bool,
        in_place: bool = False,
    ) -> None:
        out = Path(out)
        if out.name in ("", ".", ".."):
            raise ExistsError(f"--out {out}: expected the name of a new folder")
        self.out, self.job, self.resume, self.force = out, job, resume, force
        self.in_place = in_place
        self.folder = out if in_place else out.with_name(f".{out.name}.unfinished")
        self.first_start = ""
        self.times_resumed = 0
        self._record = out / record
        self._note = self._record if in_place else self.folder / _STARTED
        self._may_replace = force

    def refuse_existing(self) -> None:
        """Raise ExistsError if the folder exists, unless it is resumed or moved aside.

        Raises
        ------
        ExistsError
        """
        if self.resume or self.force:
            return
        ways = "Continue it with --resume, move" if self.in_place else "Move"
        files.refuse_existing(self.out, f"{ways} it aside with --force, or choose a new name.")
        if self.folder.exists():
            raise ExistsError(
                f"{self.out}: an unfinished {self.job} of this name exists",
                "Continue it with --resume, or start over with --force.",
            )

    def read_record(self, fingerprint: Fingerprint) -> dict[str, Any] | None:
        """Read the record of the folder at `out`; None if there is no folder.

        Raises
        ------
        ExistsError
            If its fingerprint differs, or it is not a folder of this job.
        """
        if not self.out.exists():
            return None
        return self._read(self._record, fingerprint)

    @contextlib.contextmanager
    def open(
        self,
        fingerprint: Fingerprint,
        progress: Progress,
        entries: Mapping[str, Any] | None = None,
    ) -> Iterator[Path]:
        """Create the work folder or resume the existing one; lock it inside the block.

        Parameters
        ----------
        fingerprint : Fingerprint
            An interrupted job is resumed only if its fingerprint is equal.
        progress : Progress
            Receives whether the job is resumed, and where an existing folder was moved.
        entries : mapping, optional
            Additional entries of the record, for a job that works in place.

        Yields
        ------
        Path
            The work folder.

        Raises
        ------
        ExistsError
            If the folder is in use, or may not be resumed.

        Notes
        -----
        An interrupt gets a note (`__notes__`) that says where the unfinished job is.
        """
        with files.locked(self.out, self.job), self._explained():
            self.refuse_existing()  # again: another process may have finished meanwhile
            if not self.folder.exists():
                self._begin(fingerprint, progress, entries)
            elif self.resume:
                self._take_up(fingerprint, progress, entries)
            else:
                aside = files.move_aside(self.folder)
                progress.say(f"The earlier folder is now {aside}.")
                self._begin(fingerprint, progress, entries)
            yield self.folder

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Explain how to continue after an interrupt, or when the disk is full."""
        try:
            yield
        except KeyboardInterrupt as error:
            if self.folder.exists():
                error.add_note(self._kept())
            raise
        except DiskFullError as error:
            if not self.folder.exists():
                raise
            raise DiskFullError(error.message, f"Free some space. {self._kept()}") from error

    def _kept(self) -> str:
        """Describe where an unfinished job is, and how to continue it."""
        return (
            f"What is finished of this {self.job} is kept in {self.folder}; continue with the same "
            "command and --resume."
        )

    def publish(self, complete: StrPath, *, keep_work: bool = False) -> None:
        """Rename a complete folder to `out`; an existing one is moved aside.

        Raises
        ------
        ExistsError
            If a folder appeared meanwhile and may not be moved aside.
        """
        complete = Path(complete)
        if self.out.exists():
            if not self._may_replace:
                raise ExistsError(
                    f"{self.out}: appeared while the {self.job} was running", "Use --force."
                )
            files.move_aside(self.out)
        complete.rename(self.out)
        files.sync_folder(self.out.parent)
        if not keep_work:
            self.discard_work()

    def discard_work(self) -> None:
        """Remove the hidden work folder of a finished job."""
        if not self.in_place:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(
        self,
        fingerprint: Fingerprint,
        progress: Progress,
        entries: Mapping[str, Any] | None,
    ) -> None:
        if self.resume:
            if not self.force:  # another process may just have finished it
                files.refuse_existing(self.out, "Look at it, or use --force.")
            progress.say("There is nothing to resume; starting from the beginning.")
        self.first_start = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        # Created atomically with its record, so that a job killed at any moment can be resumed.
        with files.new_folder(self.folder) as partial:
            self._write_note(partial / self._note.name, fingerprint, entries)

    def _take_up(
        self,
        fingerprint: Fingerprint,
        progress: Progress,
        entries: Mapping[str, Any] | None,
    ) -> None:
        earlier = self._read(self._note, fingerprint)
        if not self.in_place:
            progress.say(f"Resuming the unfinished {self.job}.")
            self.first_start, self.times_resumed = earlier["first_start"], earlier["resumed"] + 1
            self._may_replace |= self.out.exists()
        self._write_note(self._note, fingerprint, entries)

    def _write_note(
        self, path: Path, fingerprint: Fingerprint, entries: Mapping[str, Any] | None
    ) -> None:
        if not self.in_place:
            entries = {"first_start": self.first_start, "resumed": self.times_resumed}
        files.write_json(path, {**(entries or {}), **fingerprint.record()})

    def _read(self, path: Path, fingerprint: Fingerprint) -> dict[str, Any]:
        """Read a record and compare its fingerprint."""
        article = "an" if self.job[0] in "aeiou" else "a"
        in_work_folder = path.parent != self.out
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            digest = record["fingerprint"]
        except FileNotFoundError as error:
            if in_work_folder:  # which always has a record
                raise self._too_early() from error
            raise self._foreign(path, article) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._foreign(path, article) from error
        if digest == fingerprint.record()["fingerprint"]:
            return record
        if "depends_on" not in record:
            raise self._too_early()
        phrases = fingerprint.differences(record["depends_on"])
        more = f", and {len(phrases) - _NAMED} more" if len(phrases) > _NAMED else ""
        which = f"is {article} {self.job}" if self.in_place else f"is a finished {self.job}"
        remedy = "Name a new folder, or move it aside by --force."
        if in_work_folder:
            which = f"the unfinished {self.job} is"
        if in_work_folder or self.in_place:
            remedy = "Repeat its settings, or start over with --force."
        raise ExistsError(
            f"{self.out}: {which} of other settings, inputs or versions: "
            f"{', '.join(phrases[:_NAMED])}{more}",
            remedy,
        )

    def _too_early(self) -> ExistsError:
        return ExistsError(
            f"{self.out}: this {self.job} is of an earlier version of craters, which did not "
            "record what results depend on",
            "Continue with that version, name a new folder, or start over with --force.",
        )

    def _foreign(self, path: Path, article: str) -> ExistsError:
        return ExistsError(
            f"{path.parent}: is not the folder of {article} {self.job}",
            "Name a new folder, or move it aside by --force.",
        )
