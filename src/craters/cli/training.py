"""Command that trains the circle detector: `train`."""

from __future__ import annotations

from typing import Annotated

import typer

from craters.cli.options import command_of
from craters.cli.quality import StrictOption, refuse_severe
from craters.cli.terminal import JsonOption, QuietOption, TerminalProgress, configure_threads
from craters.settings import CircleTrainingConfig


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command("train")(train_command)


@command_of(CircleTrainingConfig)
def train_command(
    settings: CircleTrainingConfig,
    *,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    strict: StrictOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the circle detector on your own images with a catalogue of their craters.

    It is judged on images that are held out, region by region, and compared with the detector
    before training. Writes a run folder: the model, for craters scan --model, and a report.

    \b
    Examples:
      craters train tiles --catalogue robbins.csv --out RUN --diameters 1,
      craters train images --catalogue Annotations --out RUN --group-by '^[A-Z]+'
      craters train a.png b.png --catalogue craters.csv --out RUN --resume
    """
    configure_threads()
    from craters.core import files
    from craters.detection import report_lines, train_circles
    from craters.quality import checks

    with TerminalProgress(quiet=quiet or json) as progress:
        trained = train_circles(settings, resume=resume, force=force, progress=progress)
    if json:
        content = {"run": trained.folder, "metrics": trained.metrics}
        typer.echo(files.to_json(content | {"checks": checks.as_json(trained.checks)}))
    else:
        for line in [*report_lines(trained.metrics), *checks.lines(trained.checks)]:
            typer.echo(line)
        typer.echo(f"Report: {trained.folder / 'report.html'}")
    if strict:
        refuse_severe(trained.checks)
