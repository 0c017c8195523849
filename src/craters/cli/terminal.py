"""Terminal output of the commands: progress, error messages, shared options."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from craters.errors import CratersError

if TYPE_CHECKING:
    from rich.progress import Progress

    from craters.training import TrainState

_SIGPIPE = 13  # its number, which Windows does not define
PARTIAL = 7  # exit code: a part of the input could not be processed

_PLAIN_EVERY = 10  # epochs between two plain lines
_QUICK = 5.0  # seconds in which no other plain line is needed


def configure_threads() -> None:
    """Make idle OpenMP threads spin only briefly; call before torch is imported.

    By default they spin for long, which slows training down several times if another process
    shares a core. Ten thousand spins take microseconds and keep nearly all of the speed.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class TerminalProgress:
    """Show progress: a bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    quiet : bool
        Print only warnings.
    layers : bool
        Print each network's layers.
    stderr : bool
        Print to stderr, so that stdout holds only results.
    """

    def __init__(self, *, quiet: bool = False, layers: bool = False, stderr: bool = True) -> None:
        from rich.console import Console  # late: not every command shows progress

        from craters.core import TimeLeft

        self.console = Console(stderr=stderr, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.layers = layers
        self.reported: dict[str, int] = {}
        self.unit = ""  # of the pieces of work, such as epochs or blocks
        self.tenth = 0  # tenths of the work already reported
        self.left = TimeLeft()
        self.began = 0.0  # time of the first report of this unit
        self.is_open = False
        self.bar: Progress | None = None

    def __enter__(self) -> TerminalProgress:
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def plan(self, epochs: int) -> None:
        """Show the bar; the time that epochs take is measured from the end of the first one."""
        if self.unit != "epochs":
            self._show_bar(0, epochs, "epochs")

    def say(self, text: str) -> None:
        """Print a plain line."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        self.console.print("Warning:", text, style="yellow", markup=False)

    def network(self, name: str, network: Any) -> None:
        """Print the layer table of a network that is about to be trained."""
        if self.layers:
            from craters.pipeline import layer_table

            self.say(f"\nNetwork of stage {name}:\n{layer_table(network.layers())}\n")

    def epoch(self, stage: str, state: TrainState) -> None:
        """Name the stage in the bar, or print about every tenth epoch."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], description=f"stage {stage}")
        elif state.epoch // _PLAIN_EVERY > self.reported.get(stage, 0) and not state.finished:
            self.reported[stage] = state.epoch // _PLAIN_EVERY
            row = state.history[-1]
            self.say(
                f"stage {stage}: epoch {state.epoch}, loss {row['loss']:.4f}, {self.left.text}"
            )

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        """Update the bar, or print a line after every tenth of long work, with the time left."""
        from craters.core import PERCENT, TimeLeft

        share = done / max(total, 1) if share is None else share
        if unit != self.unit:
            self.unit, self.tenth, self.left = unit, int(10 * share), TimeLeft()
            self.began = time.monotonic()
        self.left.update(share)
        self._show_bar(done, total, unit)
        if self.bar is None and unit != "epochs" and (tenth := int(10 * share)) > self.tenth:
            self.tenth = tenth
            if time.monotonic() - self.began < _QUICK:
                return
            left = f", {self.left.text}" if done < total else ""
            amount = f"{done} %" if unit == PERCENT else f"{done} of {total} {unit}"
            self.say(f"{amount}{left}")

    def _show_bar(self, done: int, total: int, unit: str) -> None:
        """Show the finished work in the bar, on a terminal."""
        if self.is_open and self.bar is None and self.console.is_terminal and not self.quiet:
            self.bar = _make_bar(self)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, total=total, unit=unit)


def _make_bar(shown: TerminalProgress) -> Progress:
    """Start a bar of the finished work, with the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class TimeLeftColumn(ProgressColumn):
        """The time left, which is unknown at first."""

        def render(self, task: Task) -> Text:  # noqa: ARG002
            return Text(shown.left.text, style="progress.remaining")

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeLeftColumn(),
        console=shown.console,
        transient=True,
    )
    bar.start()
    bar.add_task("", total=None, unit="")
    return bar


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Report errors as one line on stderr, and exit with their code."""
    try:
        yield
    except CratersError as error:
        typer.echo(f"craters: error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    except ModuleNotFoundError as error:
        from craters.core import environment

        missing = environment.missing_extra(error.name or "")
        if missing is None:
            raise
        typer.echo(f"craters: error: {missing}", err=True)
        raise SystemExit(missing.exit_code) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and (closed := _closed_pipes()):
            for descriptor in closed:  # so that flushing them at exit is no further error
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            raise SystemExit(128 + _SIGPIPE) from error
        file = f"{error.filename2 or error.filename}: " if error.filename else ""
        typer.echo(f"craters: error: {file}{error.strerror or error}", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])[-1:]
        typer.echo(" ".join(["craters: interrupted.", *notes]), err=True)
        ended_by = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        raise SystemExit(128 + ended_by) from error


def _closed_pipes() -> list[int]:
    """Return the file descriptors of output whose reader has ended, as that of `| head`."""
    descriptors = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # of streams that are no files
            descriptors.append(stream.fileno())
    if not hasattr(select, "poll"):  # Windows
        return descriptors[:1]
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)
    return [descriptor for descriptor, event in poll.poll(0) if event & select.POLLERR]


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, by which a system, or `kill`, asks it to end."""


def interrupt_on_sigterm() -> None:
    """Make SIGTERM an interrupt like Ctrl-C, so that processes and locks are released."""
    signal.signal(signal.SIGTERM, _raise_terminated)


def _raise_terminated(*_: object) -> None:
    raise Terminated


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
PositiveOption = Annotated[
    str | None,
    typer.Option(help="Class or label that means 'with crater', if its name does not say so."),
]
SideOption = Annotated[
    int,
    typer.Option(min=0, help="Side of patches that pictures are resized to; 0: their median."),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(help="Regular expression that finds the source image in a file name."),
]
SunAzimuthOption = Annotated[
    float | None,
    typer.Option(
        help="Degrees clockwise from image up (map north) where the light comes from, for "
        "pretrained. [estimated from the patches]"
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")
]
