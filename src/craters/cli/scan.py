"""The verbs that work on images with a place: scan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from craters.cli.terminal import JsonOption, QuietOption, TerminalProgress, plain_errors

_PARTIAL = 7  # exit code: some blocks failed

_DaskOption = Annotated[
    str,
    typer.Option(
        help="Let a Dask cluster work: its scheduler's address, or local: --workers processes."
    ),
]
_DeviceOption = Annotated[
    str, typer.Option(help="cpu: ONNX Runtime; cuda, cuda:1: torch on a GPU; torch: on the CPU.")
]
_PrecisionOption = Annotated[str, typer.Option(help="Of torch: bfloat16, or float32.")]
_WindowsOption = Annotated[bool, typer.Option(help="Write the outlines of all candidates.")]
_ParquetOption = Annotated[
    bool, typer.Option("--parquet", help="Write detections.parquet (GeoParquet) too.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("scan")(scan_command)


def scan_command(
    images: Annotated[
        list[Path], typer.Argument(help="Images (GeoTIFF, VRT, ISIS3, PDS4, ...), or folders.")
    ],
    model: Annotated[Path, typer.Option(help="Model folder, or a run folder that holds one.")],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    stride: Annotated[
        int | None,
        typer.Option(help="Pixels between windows. [the network's own, or half a window]"),
    ] = None,
    decision_threshold: Annotated[
        float | None,
        typer.Option(
            "--decision-threshold", "--threshold", help="Probability of a candidate. [the model's]"
        ),
    ] = None,
    merge: Annotated[
        float | None, typer.Option(help="Pixels between two detections. [half a window]")
    ] = None,
    max_gap: Annotated[
        float, typer.Option(help="Share of a window that may be missing; else it has no value.")
    ] = 0.2,
    gap: Annotated[
        int, typer.Option(help="Side in pixels from which on missing pixels are a gap.")
    ] = 8,
    scale: Annotated[
        str | None,
        typer.Option(help="LOW,HIGH: stored values that become 0 and 255. [8-bit: as stored]"),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="m/px to scan at; 0: never resample. [the model's]")
    ] = None,
    band: Annotated[int, typer.Option(help="Band to scan; 0: the only one.")] = 0,
    crs: Annotated[str, typer.Option(help="Coordinate system, such as IAU_2015:49910.")] = "",
    body: Annotated[str, typer.Option(help="Body the image is of: mars, moon, mercury, ...")] = "",
    no_crs: Annotated[
        bool, typer.Option("--no-crs", help="Work in pixels where there is no system.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the map: float32, uint16 or uint8.")] = "float32",
    workers: Annotated[int, typer.Option(help="Blocks worked on at once.")] = 1,
    threads: Annotated[int, typer.Option(help="CPUs for all workers; 0: all usable.")] = 0,
    memory: Annotated[float, typer.Option(help="Megabytes to stay within.")] = 1000.0,
    dask: _DaskOption = "",
    device: _DeviceOption = "cpu",
    precision: _PrecisionOption = "bfloat16",
    windows: _WindowsOption = True,
    parquet: _ParquetOption = False,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted scan.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell windows, time, memory and disk.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Scan images of any size: a map of probabilities and a catalogue of detections.

    Leaves probability.tif, detections.gpkg and .csv, summary.json and report.html in a new folder.
    A detection is a place to look at; no diameters are measured.

    \b
    Examples:
      craters scan mosaic.tif --model RUN --out SCAN
      craters scan tiles/ --model RUN --out SCAN --workers 2 --dry-run
      craters scan mosaic.tif --model RUN --out SCAN --resume
      craters scan mosaic.tif --model RUN --out SCAN --dask tcp://HOST:8786
    """
    with plain_errors():
        from craters.maps.geo import ReadOptions
        from craters.maps.scan import ScanConfig, estimate, plan_scan, scan_images

        read = ReadOptions(crs, body, no_crs, _read_scale(scale), resolution, gap, band)
        config = ScanConfig(
            tuple(images), model, out, stride, decision_threshold, merge, max_gap, dtype, read,
            workers, threads, memory, dask, device, precision, windows, parquet,
        )  # fmt: skip
        if dry_run:
            typer.echo("\n".join(estimate(plan_scan(config))))
            return
        with TerminalProgress(quiet=quiet or json) as progress:
            found = scan_images(config, resume=resume, force=force, progress=progress)
        _show(found.folder, found.summary, as_json=json)
    if found.summary["failed_blocks"]:
        typer.echo(
            f"craters: {found.summary['failed_blocks']} block(s) failed; see "
            f"{found.folder / 'failed.csv'}",
            err=True,
        )
        sys.exit(_PARTIAL)


def _read_scale(text: str | None) -> tuple[float, float] | None:
    from craters.errors import ConfigError

    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--scale {text}: expected LOW,HIGH, such as 0,4095") from error
    return low, high


def _show(folder: Path, summary: dict[str, Any], *, as_json: bool) -> None:
    from craters.core import files
    from craters.maps.scan import precision_sentence

    if as_json:
        typer.echo(files.to_json({"scan": folder, "summary": summary}))
        return
    area = summary["area_km2"]
    typer.echo(
        f"{summary['detections']:,} detections from {summary['windows_with_value']:,} of "
        f"{summary['windows']:,} windows"
        + (f", over {area:,.0f} km2 of {summary['body']}." if area is not None else ".")
    )
    typer.echo(precision_sentence(summary["expected"]))
    typer.echo(f"Report: {folder / 'report.html'}")
