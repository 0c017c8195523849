"""Commands that use a crater catalogue: `match`, `patches`."""

from __future__ import annotations

import typer

from craters.cli.options import command_of
from craters.cli.terminal import JsonOption, QuietOption, TerminalProgress
from craters.settings import MatchRequest, SamplingRequest


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("match")(match_command)
    app.command("patches")(patches_command)


@command_of(MatchRequest)
def match_command(
    settings: MatchRequest, *, json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Match detections with a crater catalogue, one to one: recall, precision, missed craters.

    \b
    Examples:
      craters match SCAN --catalogue robbins.csv --out MATCH --diameters 1.5,4.5
      craters match found.csv --catalogue craters.csv --out MATCH --window 48px --footprint tile.png
    """
    from craters.core import files
    from craters.maps.catalogues import match_report, run_match

    with TerminalProgress(quiet=quiet or json) as progress:
        content = run_match(settings, progress)
    if json:
        typer.echo(files.to_json({"match": settings.out, **content}))
        return
    typer.echo("\n".join(match_report.lines(content)))
    typer.echo(f"Report, tables and layers: {settings.out}")


@command_of(SamplingRequest)
def patches_command(
    settings: SamplingRequest, *, json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Sample labeled and unlabeled patches from images, in the layout that `craters run` reads.

    \b
    Examples:
      craters patches tiles --catalogue robbins.csv --out DATA --diameters 1,4.5
      craters patches mosaic.tif --catalogue robbins.gpkg --out DATA --cells 1000
      craters patches images --catalogue Annotations --out DATA --no-crs --diameters 12,48
      craters patches mosaic.tif --out POOL --unlabeled 5000
    """
    from craters.core import files
    from craters.maps.catalogues import patch_writer, sample_patches

    with TerminalProgress(quiet=quiet or json) as progress:
        content = sample_patches(settings, progress)
    if json:
        typer.echo(files.to_json({"data": settings.out, **content}))
        return
    typer.echo("\n".join(patch_writer.lines(content)))
    typer.echo(f"Arrays and positions: {settings.out}")
