"""Commands for images of any size: `scan`, `completeness`, `sfd`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from craters.cli.options import command_of
from craters.cli.terminal import (
    PARTIAL,
    JsonOption,
    QuietOption,
    TerminalProgress,
    report_errors,
)
from craters.settings import ScanConfig


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("scan")(scan_command)
    app.command("completeness")(completeness_command)
    app.command("sfd")(size_frequency_command)


@command_of(ScanConfig)
def scan_command(
    settings: ScanConfig,
    *,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted scan.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate blocks, time, memory and disk.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Scan images of any size: a catalogue of craters with diameters and probabilities.

    Writes detections.gpkg and .csv, summary.json and report.html to a new folder. With a model of
    patches (--model), windows are predicted instead: also a map of their probabilities, and no
    diameters.

    \b
    Examples:
      craters scan mosaic.tif --out SCAN
      craters scan tiles/ --out SCAN --precision 0.9 --workers 2 --memory 2000
      craters scan mosaic.tif --out SCAN --resume
      craters scan mosaic.tif --out SCAN --dask tcp://HOST:8786
      craters scan mosaic.tif --model RUN --out SCAN
    """
    from craters.maps.scan import estimate, plan_scan, scan_images

    if dry_run:
        typer.echo("\n".join(estimate(plan_scan(settings))))
        return
    with TerminalProgress(quiet=quiet or json) as progress:
        scan = scan_images(settings, resume=resume, force=force, progress=progress)
    _show(scan.folder, scan.summary, as_json=json)
    if scan.summary["failed_blocks"]:
        typer.echo(
            f"craters: {scan.summary['failed_blocks']} block(s) failed; see "
            f"{scan.folder / 'failed.csv'}",
            err=True,
        )
        sys.exit(PARTIAL)


def size_frequency_command(
    scan: Annotated[Path, typer.Argument(help="Folder of a finished scan for circles.")],
    out: Annotated[Path, typer.Option(help="Folder to create; must not exist.")],
    completeness: Annotated[
        Path | None,
        typer.Option(
            help="Recall by diameter: completeness.csv, or its folder. [only precision corrected]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: JsonOption = False,
) -> None:
    """Count the craters of a scan by diameter: size-frequency distribution, and clusters.

    Writes the distribution, cumulative and differential, raw and corrected, with intervals
    (sfd.csv, sfd.png), the craters with their clusters (craters.csv), and summary.json. It gives
    no ages: craters export SCAN --format scc writes what Craterstats reads.

    \b
    Examples:
      craters sfd SCAN --out SFD
      craters sfd SCAN --out SFD --completeness COMPLETENESS
    """
    with report_errors():
        from craters.core import files
        from craters.detection import describe_size_frequency, write_size_frequency

        with TerminalProgress(quiet=json) as progress:
            summary = write_size_frequency(
                scan, out, completeness=completeness, seed=seed, progress=progress
            )
        if json:
            typer.echo(files.to_json({"sfd": out, **summary}))
            return
        typer.echo("\n".join(describe_size_frequency(summary)))
        typer.echo(f"Figure and tables: {out}")


def completeness_command(
    scan: Annotated[Path, typer.Argument(help="Folder of a finished scan for circles.")],
    out: Annotated[Path, typer.Option(help="Folder to create; must not exist.")],
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all usable CPUs.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the completeness of a scan by planted craters: recall by diameter and freshness.

    Synthetic craters are planted into parts of the scan's images under their own light, and
    searched by the scan's model at its threshold. Writes completeness.csv and .png and
    summary.json.

    \b
    Example:
      craters completeness SCAN --out COMPLETENESS
    """
    with report_errors():
        from craters.core import files
        from craters.detection import completeness_of_scan, completeness_sentences

        with TerminalProgress(quiet=quiet or json) as progress:
            summary = completeness_of_scan(scan, out, seed=seed, threads=threads, progress=progress)
        if json:
            typer.echo(files.to_json({"completeness": out, **summary}))
            return
        typer.echo("\n".join(completeness_sentences(summary)))
        typer.echo(f"Table and figure: {out}")


def _show(folder: Path, summary: dict[str, Any], *, as_json: bool) -> None:
    from craters.core import files
    from craters.maps.scan import describe_results

    if as_json:
        typer.echo(files.to_json({"scan": folder, "summary": summary}))
        return
    typer.echo("\n".join(describe_results(summary)))
    typer.echo(f"Report: {folder / 'report.html'}")
