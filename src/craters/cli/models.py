"""Commands for models and the installation: `pretrain`, `import`, `export`, `info`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craters.cli.options import command_of
from craters.cli.terminal import (
    JsonOption,
    QuietOption,
    TerminalProgress,
    configure_threads,
    report_errors,
)
from craters.settings import PretrainConfig

# Text, not a path: `pretrained` and `./pretrained` differ.
ModelArgument = Annotated[
    str, typer.Argument(help="Model folder, a run folder that contains one, or pretrained.")
]


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("pretrain")(pretrain_command)
    app.command("import")(import_command)
    app.command("export")(export_command)
    app.command("info")(info_command)
    app.command("doctor")(doctor_command)


@command_of(PretrainConfig)
def pretrain_command(
    settings: PretrainConfig,
    *,
    resume: Annotated[bool, typer.Option(help="Continue after the last finished round.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network on synthetic planets only, as the model `pretrained` was; takes hours.

    \b
    Examples:
      craters pretrain --out MODEL
      craters pretrain --out MODEL --look moon --resume
    """
    configure_threads()
    from craters.pretraining import pretrain

    with TerminalProgress(quiet=quiet) as progress:
        pretrained = pretrain(settings, resume=resume, force=force, progress=progress)
    typer.echo(f"Model: {pretrained.folder}")


def import_command(
    model: Annotated[
        Path, typer.Argument(help="Keras file (.h5 or .keras, of Keras 2 or 3), or ONNX file.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to create; must not exist.")],
    *,
    side: Annotated[
        int | None, typer.Option(help="Side of a patch in pixels, if the file does not fix it.")
    ] = None,
    brightest: Annotated[
        int | None,
        typer.Option(
            help="Value of white in training pixels, before they were standardized: 1, 255 or "
            "65535. [from the first scaling or standardization; required where that leaves it open]"
        ),
    ] = None,
    mean: Annotated[
        float | None,
        typer.Option(
            help="Mean that was subtracted from the pixels before training, if they were "
            "standardized as (pixel - MEAN) / STD; in the scale of --brightest."
        ),
    ] = None,
    std: Annotated[
        float | None,
        typer.Option(help="Standard deviation that they were then divided by; in the same scale."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Output of an ONNX model: logit or probability. [from its last Sigmoid or Softmax]"
        ),
    ] = None,
    crater_class: Annotated[int, typer.Option(help="Output class that means crater: 0 or 1.")] = 1,
    decision_threshold: Annotated[
        float, typer.Option(help="Minimum probability of a crater.")
    ] = 0.5,
    resolution: Annotated[
        float | None, typer.Option(help="Resolution in m/px, stored with the model.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convert a Keras or ONNX model to a model folder; code in the file is never executed.

    Keras: sequential models of standard layers, from gray patches to a sigmoid or a softmax over
    two classes. Lambda and other unsupported layers are refused by name.

    ONNX: graphs of standard operators, from gray patches to one or two logits or probabilities, for
    example exported by PyTorch. Use the options for what the graph does not state.

    \b
    Examples:
      craters import my_model.keras --out MODEL
      craters import my_model.h5 --out MODEL --brightest 255 --resolution 100
      craters import my_model.h5 --out MODEL --mean 124.8 --std 42.2
      craters import my_model.onnx --out MODEL --brightest 1 --output logit
    """
    with report_errors():
        configure_threads()
        from craters.core import files
        from craters.models import ImportOptions, import_model

        options = ImportOptions(
            side=side,
            brightest=brightest,
            crater_class=crater_class,
            resolution=resolution,
            decision_threshold=decision_threshold,
            output=output,
            mean=mean,
            std=std,
        )
        imported = import_model(model, out, options)
        for text in imported.warnings:
            typer.echo(f"Warning: {text}", err=True)
        if json:
            typer.echo(files.to_json(imported.to_dict()))
            return
        typer.echo("\n".join(imported.lines))
        typer.echo(f"Model: {imported.folder}")


def export_command(
    source: Annotated[
        str,
        typer.Argument(help="Model folder, run folder or pretrained; or the folder of a scan."),
    ],
    out: Annotated[Path, typer.Option(help="File to write, or folder for a scan; must not exist.")],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Model: h5, keras or onnx [from the file name]. Scan: voc, yolo, coco, scc, diam, "
            "craterstats-shp or robbins.",
        ),
    ] = None,
) -> None:
    """Export a model to one file, or the detections of a scan to the files of other tools.

    Models become ONNX, or Keras for the original network. Detections with diameters become boxes
    of Pascal VOC, YOLO or COCO, in pixels of the images; or a count with the scanned area, which
    Craterstats reads (scc, diam, craterstats-shp); or a table with the column names of Robbins's
    catalogues.

    \b
    Examples:
      craters export RUN --out model.onnx
      craters export pretrained --out pretrained.onnx
      craters export RUN --out model.keras
      craters export SCAN --format voc --out BOXES
      craters export SCAN --format scc --out COUNT
    """
    with report_errors():
        configure_threads()
        if (Path(source) / "detections.csv").is_file():
            from craters.maps.scan import export_scan

            typer.echo(export_scan(source, out, file_format or out.suffix.lstrip(".")))
            return
        from craters.models import export_model

        typer.echo(export_model(source, out, file_format or out.suffix.lstrip(".")))


def info_command(
    folder: Annotated[
        str, typer.Argument(help="Run folder, model folder, pretrained, or circles.")
    ],
    json: JsonOption = False,
) -> None:
    """Check and describe a run or model folder, and the meaning of its predictions.

    \b
    Examples:
      craters info RUN
      craters info RUN/model
      craters info pretrained
      craters info circles
    """
    with report_errors():
        import dataclasses

        from craters.core import files
        from craters.models import CircleDetector, Classifier, is_circle_model
        from craters.pipeline import info

        if info.is_run(folder):
            run = info.read_run(folder)
            typer.echo(files.to_json(run.to_dict()) if json else "\n".join(run.lines()))
            return
        load = CircleDetector.load if is_circle_model(folder) else Classifier.load
        model: CircleDetector | Classifier = load(folder)
        facts = dataclasses.asdict(model.description) | {"sha256": model.sha256}
        typer.echo(files.to_json(facts) if json else model.describe())


def doctor_command(json: JsonOption = False) -> None:
    """Check the installation: versions, CPU, GPU, missing packages and how to install them.

    Exits with code 1 if the core is incomplete. Changes nothing and sends nothing.

    \b
    Example:
      craters doctor
    """
    with report_errors():
        configure_threads()
        from craters.core import environment, files

        installation = environment.examine()
        typer.echo(
            files.to_json(installation.to_dict()) if json else "\n".join(installation.lines())
        )
    if not installation.is_whole:
        raise typer.Exit(1)
