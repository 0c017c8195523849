"""Find the `craters` command, run it in a process of its own, and follow it; needs no QGIS."""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Callable, Mapping, Sequence

NAME = "craters"
PARTIAL = 7  # exit code: some blocks of an image failed, the others are in the result
GRACE = 10.0  # seconds in which a canceled command ends by itself

_PLACES = ("bin", "Scripts", ".venv/bin", ".venv/Scripts", ".")  # in an environment, or a clone
_FOREIGN = ("PYTHON", "GDAL_", "PROJ_")  # variables of the Python and the libraries of QGIS
_POLL = 0.1  # seconds
_ERROR, _WARNING = "craters: error: ", "Warning: "
_BLOCKS = re.compile(r"(\d+) of (\d+) blocks(, .* left.*)?")
_PERCENT = re.compile(r"(\d+) %(, .*)?")
_HINTS = {
    4: "Set the right coordinate system in the properties of the layer, or choose the body. For a "
    "picture without coordinates, check the box 'Work in pixels'.",
    6: "Choose a new or empty folder.",
}  # by exit code, in terms of a dialog; options of the command line are not there


class CommandError(Exception):
    """The command cannot be started, has failed, or was canceled; the text is for the user."""


def find_command(named: str, search_path: str | None = None, home: Path | None = None) -> str:
    """Return the path of the `craters` command.

    Parameters
    ----------
    named : str
        What the user named: the folder of an environment or of a clone of craters, or the command
        itself; empty: look on the path, and where `pip install --user` and pipx put commands.
    search_path : str, optional
        Instead of the variable PATH.
    home : Path, optional
        Instead of the user's home folder.

    Raises
    ------
    CommandError
        If there is no such command.
    """
    if not named:
        path = os.environ.get("PATH", "") if search_path is None else search_path
        local = (Path.home() if home is None else home) / ".local" / "bin"
        found = shutil.which(NAME, path=os.pathsep.join([path, str(local)]))
        if found is None:
            raise CommandError(
                "The command craters was not found. Install craters into a Python environment of "
                "its own, and name the folder of this environment under Raster > Craters > "
                "Environment, or Settings > Options > Processing > Providers > Craters."
            )
        return found
    place = Path(named).expanduser()
    if place.is_dir():
        path = os.pathsep.join(str(place / each) for each in _PLACES)
        found = shutil.which(NAME, path=path)
    else:
        found = shutil.which(str(place))
    if found is None:
        wrong = (
            "holds no command craters" if place.is_dir() else "is neither a folder nor a command"
        )
        raise CommandError(
            f"{named}: {wrong}. Name the folder of the Python environment that craters is "
            "installed in, under Raster > Craters > Environment."
        )
    return found


def clean_environment(environment: Mapping[str, str], command: str) -> dict[str, str]:
    """Return the environment for the command: without the Python, GDAL and PROJ of QGIS.

    Parameters
    ----------
    environment : mapping of str
        That of QGIS.
    command : str
        Path of the command; its folder comes first on the path.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FOREIGN) and name != "FORCE_COLOR"
    }
    path = [str(Path(command).parent), *filter(None, [environment.get("PATH")])]
    kept.update(PATH=os.pathsep.join(path), PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    return kept


def progress_of(line: str) -> float | None:
    """Return the percentage that a line of output states; None if it states none."""
    line = line.strip()
    if percent := _PERCENT.fullmatch(line):
        return float(percent[1])
    match = _BLOCKS.fullmatch(line)
    return 100 * int(match[1]) / max(int(match[2]), 1) if match else None


def warning_of(line: str) -> str:
    """Return the text of a warning; empty if the line is none."""
    return line[len(_WARNING) :] if line.startswith(_WARNING) else ""


def describe_failure(code: int, lines: Sequence[str]) -> str:
    """Say why the command failed: its own error messages, and what to do in a dialog.

    Parameters
    ----------
    code : int
        Exit code.
    lines : sequence of str
        Lines of stderr.
    """
    told = [line[len(_ERROR) :] for line in lines if line.startswith(_ERROR)]
    text = "\n".join(told or [line for line in lines if line.strip()][-5:])
    if not text:
        text = f"The command craters ended with code {code} and no message."
    return f"{text}\n{_HINTS[code]}" if code in _HINTS else text


def leftovers(folder: Path) -> set[Path]:
    """Return the hidden files and folders that a stopped command leaves beside its output."""
    return set(folder.parent.glob(f".{glob.escape(folder.name)}.*"))


def run_into(
    words: Sequence[str],
    folder: Path,
    *,
    is_canceled: Callable[[], bool],
    show: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    grace: float = GRACE,
) -> None:
    """Run a command that creates a folder; the folder is whole afterwards, or there is nothing.

    Parameters
    ----------
    words : sequence of str
        The command and its arguments.
    folder : Path
        The folder that the command creates: absent, or empty.
    is_canceled : callable
        Asked several times a second.
    show : callable
        Receives each line of output.
    environment : mapping of str, optional
        Variables of QGIS; by default those of this process.
    grace : float
        Seconds in which a canceled command ends by itself.

    Raises
    ------
    CommandError
        If the command fails or is canceled, or the folder holds something.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise CommandError(f"{folder}: exists already. {_HINTS[6]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    before = leftovers(folder)
    variables = clean_environment(os.environ if environment is None else environment, words[0])
    code, errors, was_stopped = _follow(words, variables, is_canceled, show, grace)
    if code in (0, PARTIAL) and folder.is_dir():
        return
    for path in leftovers(folder) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if was_stopped:
        raise CommandError("Canceled. No process is left, and nothing was written.")
    raise CommandError(describe_failure(code, errors))


def _follow(
    words: Sequence[str],
    environment: Mapping[str, str],
    is_canceled: Callable[[], bool],
    show: Callable[[str], None],
    grace: float,
) -> tuple[int, list[str], bool]:
    """Run a command to its end; return its exit code, its stderr, and whether it was stopped."""
    process = _start(words, environment)
    lines: queue.Queue[tuple[bool, str]] = queue.Queue()
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read, args=(stream, is_error, lines), daemon=True)
        for stream, is_error in ((process.stdout, False), (process.stderr, True))
    ]
    for reader in readers:
        reader.start()
    errors: list[str] = []
    was_stopped = False
    with process:
        try:
            while any(reader.is_alive() for reader in readers) or not lines.empty():
                if not was_stopped and is_canceled():
                    was_stopped = True
                    _stop(process, grace)
                with contextlib.suppress(queue.Empty):
                    is_error, line = lines.get(timeout=_POLL)
                    if is_error:
                        errors.append(line)
                    show(line)
        finally:
            _stop(process, grace)
    return process.returncode, errors, was_stopped


def _start(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a process in a group of its own, without a window."""
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=dict(environment),
            start_new_session=True,
            creationflags=flags,
        )
    except OSError as error:
        raise CommandError(f"{words[0]}: cannot be started ({error.strerror}).") from error


def _read(stream: IO[str], is_error: bool, lines: queue.Queue[tuple[bool, str]]) -> None:
    for line in stream:
        lines.put((is_error, line.rstrip("\r\n")))


def _stop(process: subprocess.Popen[str], grace: float) -> None:
    """Ask a process to end, and end it and all that it started after some seconds."""
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False)
        return
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    end = time.monotonic() + 1  # a killed group is gone once its processes are reaped
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        process.poll()
        time.sleep(_POLL / 10)
