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

        self.console = Console(stderr=stderr, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.layers = layers
        self.total = 0
        self.done: dict[str, int] = {}
        self.reported: dict[str, int] = {}
        self.tenth = 0  # tenths of the blocks of a scan already reported
        self.started = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> TerminalProgress:
        if self.console.is_terminal and not self.quiet:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.bar.add_task("training", total=None, unit="epochs")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def plan(self, epochs: int) -> None:
        """Set the total number of epochs of all trainings, to estimate the time left."""
        if not self.total:
            self.started = time.monotonic()
        self.total = epochs
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], total=epochs)

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
        """Update the bar, or print about every tenth epoch."""
        self.done[stage] = state.epoch
        finished = sum(self.done.values())
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=finished, description=f"stage {stage}")
        elif state.epoch // _PLAIN_EVERY > self.reported.get(stage, 0) and not state.finished:
            self.reported[stage] = state.epoch // _PLAIN_EVERY
            row = state.history[-1]
            left = (time.monotonic() - self.started) / finished * max(self.total - finished, 0)
            self.say(
                f"stage {stage}: epoch {state.epoch}, loss {row['loss']:.4f}, validation loss "
                f"{row['val_loss']:.4f}, about {left:.0f} s left"
            )

    def blocks(self, ended: int, total: int) -> None:
        """Update the bar, or print a line after every tenth of the blocks."""
        if self.bar is not None:
            self.bar.update(
                self.bar.task_ids[0],
                completed=ended,
                total=total,
                description="scanning",
                unit="blocks",
            )
        elif (tenth := 10 * ended // max(total, 1)) > self.tenth:
            self.tenth = tenth
            self.say(f"{ended} of {total} blocks")


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
