"""Retrain on the current labels: run two commands in a separate process and follow their output.

`craters labels merge` writes the arrays with the current labels; `craters run` trains on them with
the settings of the previous run. From random weights, the method `auto` is replaced by
`pseudo-label`, as in cost-effective active learning (Wang et al. 2017, arXiv 1701.03551): people
label uncertain patches, and the model labels confident ones. `auto` would take several times as
long, and would estimate the pool's class share from the labels as if they were a random sample;
labels from the queue are not. From the pretrained model `auto` learns from the labels alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from craters.core import files
from craters.errors import CratersError, ExistsError

_NICE = 5  # so that the page stays responsive
_LINES = 40  # of output kept
_GRACE = 5.0  # seconds in which a stopped training ends by itself
START = (  # the command line, which ends with this process, even if that is killed
    "from craters.core.parallel import end_with_input; end_with_input(); "
    "from craters.cli import main; main()"
)
_NOT_OF_A_RUN = ("data", "out", "threads", "labels", "no_labels")


@dataclasses.dataclass
class Status:
    """State of a training: idle, one of `Retraining.states`, judging, done, failed or stopped."""

    state: str = "idle"
    number: int = 0
    line: str = ""
    started: float = 0.0
    seconds: float = 0.0
    error: str = ""
    merged: dict[str, Any] | None = None


class Retraining:
    """Retrain a model in the background, one training at a time.

    `states` are those in which the commands run, one after the other; the first writes labels.json.

    Parameters
    ----------
    store : Path
        The label store.
    target : Path
        Review target.
    data : Path or None
        The job's arrays; without them, only the labels are used.
    settings : dict
        Settings of the previous run, as in its config.json.
    on_done : callable
        Called with the new run's folder and the content of labels.json.
    """

    states: tuple[str, ...] = ("merging", "training")
    last_line = "Predicting all patches with the new model."

    def __init__(
        self,
        store: Path,
        target: Path,
        data: Path | None,
        settings: dict[str, Any],
        on_done: Callable[[Path, dict[str, Any]], None],
    ) -> None:
        self.store, self.target, self.data = store, target, data
        self.settings, self.on_done = settings, on_done
        self.folder = store.with_name(f"{store.stem}.models")
        self.status = Status()
        self.lines: deque[str] = deque(maxlen=_LINES)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether a training is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> int:
        """Start a training and return its number.

        Raises
        ------
        ExistsError
            If one is running.
        """
        with self._lock:
            if self.is_running:
                raise ExistsError("a training is already running", "Wait for it, or stop it.")
            number = self._next_number()
            self.status = Status(
                state="merging", number=number, line="Merging the labels.", started=time.monotonic()
            )
            self.lines.clear()
            self._thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._thread.start()
        return number

    def _next_number(self) -> int:
        number = 1
        while (self.folder / str(number)).exists() or (self.folder / f"{number}.data").exists():
            number += 1
        return number

    def stop(self) -> None:
        """Stop the running training; kill its processes if they do not end within seconds.

        Once it is trained, the new model is used: there is nothing to stop any more.
        """
        with self._lock:
            if not self.is_running or self.status.state == "judging":
                return
            self.status.state = "stopped"
            self._signal(signal.SIGTERM)
        self.wait(_GRACE)
        with self._lock:
            self._signal(signal.SIGKILL)
        self.wait()

    def _signal(self, number: int) -> None:
        """Send a signal to all processes of the training."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # already ended
                os.killpg(self._process.pid, number)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the training has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def to_dict(self) -> dict[str, Any]:
        """Return the status, ready for JSON."""
        status = dataclasses.asdict(self.status)
        if self.is_running:
            status["seconds"] = time.monotonic() - self.status.started
        del status["started"]
        return status | {"running": self.is_running, "lines": list(self.lines)}

    def prepare(self, number: int) -> None:
        """Write what the commands read."""
        files.write_text(self.folder / f"{number}.toml", to_toml(self.settings))

    def commands(self, number: int) -> list[list[str]]:
        """Return the commands of a training, one for each of `states`."""
        data, out = self.folder / f"{number}.data", self.folder / str(number)
        python = [sys.executable, "-c", START]
        arrays = ["--data", str(self.data)] if self.data else []
        return [
            [*python, "labels", "merge", str(self.store), str(self.target), *arrays,
             "--out", str(data)],
            [*python, "run", "--data", str(data), "--out", str(out),
             "--config", str(self.folder / f"{number}.toml")],
        ]  # fmt: skip

    def _run(self, number: int) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.prepare(number)
            for state, command in zip(self.states, self.commands(number), strict=True):
                if not self._enter(state):
                    return
                self._run_command(command)
                if state == "merging":
                    merged = self.folder / f"{number}.data" / "labels.json"
                    self.status.merged = json.loads(merged.read_text(encoding="utf-8"))
            if not self._enter("judging"):
                return
            self.status.line = self.last_line
            self.on_done(self.folder / str(number), self.status.merged or {})
            self.status.state = "done"
        except (CratersError, OSError) as error:
            if self.status.state != "stopped":
                self.status.state, self.status.error = "failed", str(error)
        finally:
            self.status.seconds = time.monotonic() - self.status.started

    def _enter(self, state: str) -> bool:
        """Begin a part of the training, unless it was stopped."""
        with self._lock:
            if self.status.state == "stopped":
                return False
            self.status.state = state
            return True

    def _run_command(self, command: list[str]) -> None:
        """Run a command, and record its output."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CRATERS_")}
        with self._lock:
            if self.status.state == "stopped":
                return
            # Its input ends with this process; see `end_with_input`.
            process = self._process = subprocess.Popen(
                command, env=clean, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True, errors="replace",
            )  # fmt: skip
        with process:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            for line in process.stdout or ():
                self.status.line = line.rstrip()
                self.lines.append(self.status.line)
            process.wait()
        with self._lock:
            self._process = None
        if process.returncode:
            message = next((line for line in reversed(self.lines) if line), "")
            raise CratersError(
                message.removeprefix("craters: error: ") or "the training ended early"
            )


def to_toml(settings: dict[str, Any]) -> str:
    r"""Format the settings of a run as TOML for retraining.

    Without a run, and after runs of earlier versions, training starts from the pretrained model.
    From random weights, the method `auto` becomes `pseudo-label`.

    Examples
    --------
    >>> to_toml({"method": "supervised", "seed": 3, "out": "RUN", "aim": None})
    'method = "supervised"\nseed = 3\nstart = "pretrained"\n'
    >>> to_toml({"seed": 3, "start": "random"})
    'seed = 3\nstart = "random"\nmethod = "pseudo-label"\n'
    """
    kept = {
        name: value
        for name, value in settings.items()
        if value is not None and name not in _NOT_OF_A_RUN
    }
    kept.setdefault("start", "pretrained")
    if kept["start"] == "random" and kept.get("method", "auto") == "auto":
        kept["method"] = "pseudo-label"
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in kept.items())
