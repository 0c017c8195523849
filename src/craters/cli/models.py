"""The verbs about models and the installation: import, export, info, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craters.cli.terminal import JsonOption, configure_threads, report_errors

ModelArgument = Annotated[
    Path, typer.Argument(help="Model folder, or a run folder that holds one as `model`.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("import")(import_command)
    app.command("export")(export_command)
    app.command("info")(info_command)
    app.command("doctor")(doctor_command)


def import_command(
    model: Annotated[
        Path, typer.Argument(help="Keras file (.h5 or .keras, of Keras 2 or 3), or ONNX file.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to make; must not exist.")],
    *,
    side: Annotated[
        int | None, typer.Option(help="Pixels of a patch, where the file leaves them open.")
    ] = None,
    brightest: Annotated[
        int | None,
        typer.Option(
            help="What the model takes for white: 1, 255 or 65535. [by its first scaling; else 1 "
            "of a Keras file, and needed of an ONNX file]"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="What an ONNX model gives: logit or probability. [by its last Sigmoid or Softmax]"
        ),
    ] = None,
    crater_class: Annotated[int, typer.Option(help="Output that means with crater: 0 or 1.")] = 1,
    decision_threshold: Annotated[
        float,
        typer.Option("--decision-threshold", "--threshold", help="Least probability of a crater."),
    ] = 0.5,
    resolution: Annotated[
        float | None, typer.Option(help="Metres a pixel, stored with the model.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read a Keras or an ONNX model and write it as a model folder; no code in it is executed.

    Of Keras, chains of plain layers are read, from gray patches to a sigmoid or a softmax of two. A
    Lambda, or a layer that is not on the list, is refused by name.

    Of ONNX, graphs of standard operators are read, from gray patches to one logit or probability,
    or two, for example exported by PyTorch. What the graph does not say must be given.

    \b
    Examples:
      craters import my_model.keras --out MODEL
      craters import my_model.h5 --out MODEL --brightest 255 --resolution 100
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
        )
        found = import_model(model, out, options)
        if json:
            typer.echo(files.to_json(found.to_dict()))
            return
        typer.echo("\n".join(found.lines))
        typer.echo(f"Model: {found.folder}")


def export_command(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="File to write; must not exist.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="h5, keras or onnx. [by the name of the file]"),
    ] = None,
) -> None:
    """Write a model as one file for other programs: ONNX, or Keras of the original network.

    \b
    Examples:
      craters export RUN --out model.onnx
      craters export RUN --out model.keras
    """
    with report_errors():
        configure_threads()
        from craters.models import export_model

        typer.echo(export_model(model, out, file_format or out.suffix.lstrip(".")))


def info_command(
    folder: Annotated[Path, typer.Argument(help="Run folder or model folder.")],
    json: JsonOption = False,
) -> None:
    """Check a run or a model folder, and say what it is and what its answers mean.

    \b
    Examples:
      craters info RUN
      craters info RUN/model
    """
    with report_errors():
        import dataclasses

        from craters.core import files
        from craters.models import Classifier
        from craters.pipeline import info

        if info.is_run(folder):
            found = info.read_run(folder)
            typer.echo(files.to_json(found.to_dict()) if json else "\n".join(found.lines()))
            return
        model = Classifier.load(folder)
        facts = dataclasses.asdict(model.description) | {"sha256": model.sha256}
        typer.echo(files.to_json(facts) if json else model.describe())


def doctor_command(json: JsonOption = False) -> None:
    """Look at the installation: versions, processor, GPU, what is missing and how to get it.

    Ends with code 1 where the core is not whole. Nothing is changed or sent anywhere.

    \b
    Example:
      craters doctor
    """
    with report_errors():
        configure_threads()
        from craters.core import environment, files

        found = environment.examine()
        typer.echo(files.to_json(found.to_dict()) if json else "\n".join(found.lines()))
    if not found.is_whole:
        raise typer.Exit(1)
