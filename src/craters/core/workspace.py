"""Resumable output folders: locked while in use, and bound to what their results depend on."""

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
from craters.core.progress import Progress
from craters.errors import ExistsError

_STARTED = "started.json"
_NAMED = 5  # differences that a refusal names
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What the results of a job depend on.

    Parameters
    ----------
    settings : mapping
        Plain values by name; those that change no result are left out.
    inputs : mapping of str
        A hash of each input, by its name.
    versions : mapping of str
        Of craters and of the libraries that compute results; see `library_versions`.

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
        """Return the entries of a JSON file: the hash, and what it was made of."""
        content = files.to_json(dataclasses.asdict(self))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return {"fingerprint": digest, "depends_on": json.loads(content)}

    def differences(self, earlier: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """List what differs from an earlier `depends_on`, a phrase each."""
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

    A job either works in a hidden folder beside `out`, which gets the name `out` when it is whole,
    or in `out` itself, where later calls may add to what is there.

    Parameters
    ----------
    out : Path
        The folder to make.
    job : str
        "run", "scan", ...: for messages.
    record : str
        The JSON file in `out` that holds the entries of `Fingerprint.record`.
    resume : bool
        Go on with an interrupted job of an equal fingerprint.
    force : bool
        Move an earlier folder aside (`NAME.1`, `NAME.2`, ...); it is never deleted.
    in_place : bool
        Whether the job works in `out` itself.

    Raises
    ------
    ExistsError
        When `out` names no folder.
    """

    def __init__(
        self, out: Path, job: str, *, record: str, resume: bool, force: bool, in_place: bool = False
    ) -> None:
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
        """Refuse a folder that is there unless it is resumed or moved aside.

        Raises
        ------
        ExistsError
        """
        if self.resume or self.force:
            return
        if self.out.exists():
            ways = "Name a new folder, or move it aside by --force."
            if self.in_place:
                ways = "Go on with it by --resume, move it aside by --force, or name a new folder."
            raise ExistsError(f"{self.out}: exists already", ways)
        if self.folder.exists():
            raise ExistsError(
                f"{self.out}: an unfinished {self.job} of this name is there",
                "Go on with it by --resume, or start anew by --force.",
            )

    def read_record(self, fingerprint: Fingerprint) -> dict[str, Any] | None:
        """Read the record of the folder at `out`; None where there is no folder.

        Raises
        ------
        ExistsError
            When it was made from something else, or is no folder of this job.
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
        """Make the folder to work in, or take up the one that is there; lock it inside the block.

        Parameters
        ----------
        fingerprint : Fingerprint
            An interrupted job is taken up only where it has an equal one.
        progress : Progress
            Receives whether the job is resumed, and where an earlier folder went.
        entries : mapping, optional
            More entries of the record of a job that works in place.

        Yields
        ------
        Path
            The folder to work in.

        Raises
        ------
        ExistsError
            When the folder is in use, or is not to be resumed.
        """
        with files.locked(self.out, self.job):
            self.refuse_existing()  # again: another process may have ended since
            if not self.folder.exists():
                self._begin(fingerprint, progress, entries)
            elif self.resume:
                self._take_up(fingerprint, progress, entries)
            else:
                aside = files.move_aside(self.folder)
                progress.say(f"The earlier folder is now {aside}.")
                self._begin(fingerprint, progress, entries)
            yield self.folder

    def publish(self, whole: Path, *, keep_work: bool = False) -> None:
        """Give a whole folder inside the work folder the name `out`; an earlier one moves aside.

        Raises
        ------
        ExistsError
            When a folder appeared meanwhile that may not be moved aside.
        """
        if self.out.exists():
            if not self._may_replace:
                raise ExistsError(
                    f"{self.out}: appeared while the {self.job} was at work", "Use --force."
                )
            files.move_aside(self.out)
        whole.rename(self.out)
        files.sync_folder(self.out.parent)
        if not keep_work:
            self.discard_work()

    def discard_work(self) -> None:
        """Remove the hidden folder of a job that is finished."""
        if not self.in_place:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(
        self,
        fingerprint: Fingerprint,
        progress: Progress,
        entries: Mapping[str, Any] | None,
    ) -> None:
        if self.resume:
            if self.out.exists() and not self.force:  # another process has just finished it
                raise ExistsError(f"{self.out}: exists already", "Look at it, or use --force.")
            progress.say("There is nothing to go on with; starting from the beginning.")
        self.first_start = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        # A folder without its record is never seen, so that a kill at any moment can be resumed.
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
            progress.say(f"Going on with the unfinished {self.job}.")
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
            found = json.loads(path.read_text(encoding="utf-8"))
            digest = found["fingerprint"]
        except FileNotFoundError as error:
            if in_work_folder:  # which never lacks its record
                raise self._too_early() from error
            raise self._foreign(path, article) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._foreign(path, article) from error
        if digest == fingerprint.record()["fingerprint"]:
            return found
        if "depends_on" not in found:
            raise self._too_early()
        phrases = fingerprint.differences(found["depends_on"])
        more = f", and {len(phrases) - _NAMED} more" if len(phrases) > _NAMED else ""
        which = f"is {article} {self.job}" if self.in_place else f"is a finished {self.job}"
        remedy = "Name a new folder, or move it aside by --force."
        if in_work_folder:
            which = f"the unfinished {self.job} is"
        if in_work_folder or self.in_place:
            remedy = "Repeat its settings, or start anew by --force."
        raise ExistsError(
            f"{self.out}: {which} of other settings, inputs or versions: "
            f"{', '.join(phrases[:_NAMED])}{more}",
            remedy,
        )

    def _too_early(self) -> ExistsError:
        return ExistsError(
            f"{self.out}: this {self.job} is of an earlier version of craters, which did not "
            "record what results depend on",
            "Go on with that version, name a new folder, or start anew by --force.",
        )

    def _foreign(self, path: Path, article: str) -> ExistsError:
        return ExistsError(
            f"{path.parent}: is not the folder of {article} {self.job}",
            "Name a new folder, or move it aside by --force.",
        )
