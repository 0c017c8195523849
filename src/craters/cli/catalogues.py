"""The verbs that take a crater catalogue: `match` and `patches`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craters.cli.terminal import JsonOption, QuietOption, TerminalProgress, plain_errors

_ColumnsOption = Annotated[
    str,
    typer.Option(help="Unusual names in the catalogue: lon=LON_E,lat=LAT_N,diameter_km=D."),
]
_BodyOption = Annotated[str, typer.Option(help="mars, moon, ...: where no file tells.")]


def register(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("match")(match_command)
    app.command("patches")(patches_command)


def match_command(
    detections: Annotated[
        Path, typer.Argument(help="Folder of a scan, its detections.gpkg, or a CSV table.")
    ],
    catalogue: Annotated[Path, typer.Option(help="CSV of craters: lon, lat, diameter_km.")],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    diameters: Annotated[
        str, typer.Option(help="Range that counts, km: 1.5,4.5. [up to a window]")
    ] = "",
    false_per_image: Annotated[
        float, typer.Option(help="State recall at so many false detections an image.")
    ] = 0.5,
    border: Annotated[
        str, typer.Option(help="Ignore craters so near an edge: 24px, 2.4km. [half a window]")
    ] = "",
    window: Annotated[
        str,
        typer.Option(
            "--window", "--window-m", help="Size of a window: 4800m, 48px. [as the scan tells]"
        ),
    ] = "",
    footprint: Annotated[
        str,
        typer.Option(help="What was scanned: polygons, image, folder; none. [as the scan tells]"),
    ] = "",
    bins: Annotated[
        str, typer.Option(help="Edges of diameter bins, km: 1.5,2,3,4.5. [steps of root 2]")
    ] = "",
    columns: _ColumnsOption = "",
    detection_columns: Annotated[
        str, typer.Option(help="Unusual names in the detections: probability=score.")
    ] = "",
    body: _BodyOption = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap over images.")] = 0,
    json: JsonOption = False,
) -> None:
    """Match detections with a crater catalogue, one to one: recall, precision, what was missed.

    \b
    Examples:
      craters match SCAN --catalogue robbins.csv --out MATCH --diameters 1.5,4.5
      craters match found.csv --catalogue craters.csv --out MATCH --window 48px --footprint tile.png
    """
    with plain_errors():
        from craters.core import files
        from craters.maps.catalogues import MatchRequest, match_report, run_match

        request = MatchRequest(
            detections, catalogue, out, columns=columns, detection_columns=detection_columns,
            diameters=diameters, window=window, border=border, footprint=footprint, body=body,
            false_per_image=false_per_image, bins=bins, seed=seed,
        )  # fmt: skip
        content = run_match(request)
        if json:
            typer.echo(files.to_json({"match": out, **content}))
            return
        typer.echo("\n".join(match_report.lines(content)))
        typer.echo(f"Tables, layers and figure: {out}")


def patches_command(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    catalogue: Annotated[
        Path | None,
        typer.Option(help="CSV of craters: lon, lat, diameter_km. [none: unlabeled patches only]"),
    ] = None,
    side: Annotated[int, typer.Option(help="Pixels a side of a patch.")] = 48,
    diameters: Annotated[
        str, typer.Option(help="Craters of label 1, km: 1.5,4.5. [10 pixels to a window]")
    ] = "",
    jitter: Annotated[
        float | None,
        typer.Option(help="Pixels of a crater from the patch's centre. [a quarter of a patch]"),
    ] = None,
    crater_share: Annotated[float, typer.Option(help="Share of label 1; 0.5: balanced.")] = 0.5,
    unlabeled: Annotated[int, typer.Option(help="Unlabeled patches, in all.")] = 1000,
    test_share: Annotated[float, typer.Option(help="Share of images held out as test set.")] = 0.2,
    test_images: Annotated[
        str, typer.Option(help="Hold out these instead: names or patterns, tharsis_*,elysium_*.")
    ] = "",
    cells: Annotated[
        int, typer.Option(help="Deal images into cells of so many pixels, a group each; 0: none.")
    ] = 0,
    max_gap: Annotated[float, typer.Option(help="Share of a patch that may be missing.")] = 0.0,
    resolution: Annotated[
        float | None, typer.Option(help="Metres a pixel to resample to. [as they are]")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Stored values that become 0 and 255: LOW,HIGH. [measured]")
    ] = "",
    band: Annotated[int, typer.Option(help="Band to cut from; 0: the only one.")] = 0,
    columns: _ColumnsOption = "",
    crs: Annotated[str, typer.Option(help="System of the images: IAU_2015:49910.")] = "",
    body: _BodyOption = "",
    no_crs: Annotated[
        bool, typer.Option("--no-crs", help="Images have no place; catalogue: x_px, y_px.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cut labeled and unlabeled patches out of images, in the layout that `craters run` reads.

    \b
    Examples:
      craters patches tiles --catalogue robbins.csv --out DATA --diameters 1,4.5
      craters patches mosaic.tif --catalogue robbins.csv --out DATA --cells 1000
      craters patches mosaic.tif --out POOL --unlabeled 5000
    """
    with plain_errors():
        from craters.core import files
        from craters.maps.catalogues import CutRequest, patch_writer
        from craters.maps.geo import ReadOptions

        request = CutRequest(
            tuple(images), out, catalogue=catalogue, columns=columns, side=side,
            diameters=_read_pair(diameters, "--diameters"), jitter=jitter,
            crater_share=crater_share, unlabeled=unlabeled, test_share=test_share,
            test_images=test_images, cells=cells, max_gap=max_gap, seed=seed,
            read=ReadOptions(
                crs=crs, body=body, no_crs=no_crs, scale=_read_pair(scale, "--scale"),
                resolution=resolution, band=band,
            ),
        )  # fmt: skip
        content = patch_writer.cut_patches(request, TerminalProgress(quiet=quiet or json))
        if json:
            typer.echo(files.to_json({"data": out, **content}))
            return
        typer.echo("\n".join(patch_writer.lines(content)))
        typer.echo(f"Arrays and positions: {out}")


def _read_pair(text: str, option: str) -> tuple[float, float] | None:
    from craters.errors import ConfigError

    if not text:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} is {text!r}, expected two numbers, e.g. 1.5,4.5") from None
    return first, second
