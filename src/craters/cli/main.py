"""The `craters` command, and its subcommands run, dataset, synth, demo, predict and others."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from craters._version import __version__
from craters.cli import catalogues, models, quality, review, scan, training
from craters.cli.models import ModelArgument
from craters.cli.options import command_of
from craters.cli.quality import StrictOption
from craters.cli.terminal import (
    PARTIAL,
    GroupByOption,
    JsonOption,
    PositiveOption,
    QuietOption,
    SideOption,
    SunAzimuthOption,
    TerminalProgress,
    configure_threads,
    interrupt_on_sigterm,
    report_errors,
)
from craters.settings import CompareConfig, DataForm, LookName, RunConfig

if TYPE_CHECKING:
    from craters.models import Inputs, Lights, Predictions
    from craters.pipeline import RunOutcome

# New objects between two searches for unreachable ones. Python's default, 700, costs a tenth of a
# short run: torch alone brings hundreds of thousands that stay.
_GARBAGE = 50_000

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"craters {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find impact craters in planetary images, with diameters, from few labels or none.

    \b
    Examples:
      craters demo
      craters run --data DATA --out RUN
      craters predict RUN/model patches.npy
      craters synth --out DATA --seed 7
    """


@app.command("run")
@command_of(RunConfig, from_file=True)
def run_command(
    settings: RunConfig,
    *,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    strict: StrictOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network, evaluate it, predict the test set; write a run folder.

    \b
    Examples:
      craters run --data DATA --out RUN
      craters run --data DATA --out RUN --resume
      craters run --data DATA --out RUN --method original --network original
      CRATERS_SEED=3 craters run --config run.toml --json
    """
    configure_threads()
    from craters.pipeline import run_job

    with TerminalProgress(quiet=quiet or json) as progress:
        outcome = run_job(settings, resume=resume, force=force, progress=progress)
    _show_run(outcome, as_json=json)
    if strict:
        quality.refuse_severe(outcome.checks)


def _show_run(outcome: RunOutcome, *, as_json: bool = False) -> None:
    from craters.core import files
    from craters.pipeline import report
    from craters.quality import checks

    if as_json:
        content = {"run": outcome.folder, "metrics": outcome.metrics}
        typer.echo(files.to_json(content | {"checks": checks.as_json(outcome.checks)}))
        return
    for line in [*report.summary_lines(outcome.metrics), *checks.lines(outcome.checks)]:
        typer.echo(line)
    typer.echo(f"Report: {outcome.folder / 'report.html'}")


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to write the arrays into; must not exist.")],
    seed: Annotated[int, typer.Option(help="Random seed; equal seeds give identical files.")] = 0,
    labeled: Annotated[int, typer.Option(help="Labeled patches.")] = 1500,
    unlabeled: Annotated[int, typer.Option(help="Unlabeled patches.")] = 1500,
    test: Annotated[int, typer.Option(help="Test patches.")] = 500,
    look: Annotated[
        LookName | None,
        typer.Option(help="Look of the planet. [a Mars in thermal infrared, lit from the left]"),
    ] = None,
) -> None:
    """Generate synthetic patches of a procedural planet, in the layout that `craters run` reads.

    \b
    Examples:
      craters synth --out DATA --seed 7
      craters synth --out DATA --look moon
    """
    with report_errors():
        from craters.core import files
        from craters.synthetic import write_dataset

        files.refuse_existing(out)
        paths = write_dataset(
            out, seed=seed, n_labeled=labeled, n_unlabeled=unlabeled, n_test=test, look=look
        )
        for path in paths.values():
            typer.echo(path)


@app.command("dataset")
def dataset_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Class folders of pictures, a table (CSV) or an archive (.npz)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to create; must not exist.")],
    positive: PositiveOption = None,
    side: SideOption = 0,
    group_by: GroupByOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a data set as arrays, and say how it was understood.

    Commands with --data read such data sets themselves; this one shows what they see.

    \b
    Examples:
      craters dataset FOLDERS --out DATA
      craters dataset labels.csv --out DATA --positive hole --group-by 'ESP_[0-9]+'
    """
    with TerminalProgress(quiet=quiet or json) as progress, report_errors():
        from craters.core import files
        from craters.data import convert_dataset

        form = DataForm(positive=positive, side=side, group_by=group_by)
        made = convert_dataset(source, out, form, progress=progress)
        for warning in made.summary["warnings"]:
            typer.echo(f"Warning: {warning}", err=True)
        typer.echo(files.to_json(made.summary) if json else "\n".join(made.lines))
        if not json:
            typer.echo(f"Arrays: {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data and run.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Random seed of data and training.")] = 2,
    quiet: QuietOption = False,
) -> None:
    """Run the whole pipeline on synthetic data, and scan a scene; takes about half a minute.

    After training, the shipped circle detector searches a synthetic scene, and its circles are
    compared with the craters that are there. With the default seed, pseudo-labels are added and
    shift the class balance; other seeds may add none. Each call writes a new folder `run` and moves
    an earlier one aside.

    \b
    Example:
      craters demo --out demo
    """
    with report_errors():
        configure_threads()
        from craters.cli.demo import scan_scene
        from craters.pipeline import run_job
        from craters.synthetic import write_dataset

        data = out / f"data-{seed}"
        if not data.exists():
            typer.echo("Generating patches of a procedural Mars ...", err=True)
            write_dataset(data, seed=seed)
        settings = RunConfig(
            data=data, out=out / "run", method="original", network="original", seed=seed
        )
        with TerminalProgress(quiet=quiet) as progress:
            outcome = run_job(settings, force=True, progress=progress)
        _show_run(outcome)
        for line in scan_scene(out / "scene", seed):
            typer.echo(line)


@app.command()
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Model or run folder, or pretrained, which is also used if no model is given; "
            "then one array of patches (.npy or .npz), or images of one patch each, or a folder."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="New file: .csv for all columns, .npy for the labels. [CSV to stdout]"),
    ] = None,
    sun_azimuth: SunAzimuthOption = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all usable CPUs.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify patches with a model folder, or with none by the pretrained model; needs no torch.

    Columns: id, probability of a crater, label, and the prediction set if the model is calibrated.
    Images that cannot be used, for example of another size, are listed; the exit code is then 7.

    The pretrained model takes patches of 24 to 96 pixels with craters of any body and resolution,
    lit from any direction, which is estimated from all of them together.

    \b
    Examples:
      craters predict RUN/model Xtest1.npy > predictions.csv
      craters predict RUN patch_1.png patch_2.png --json
      craters predict PATCHES --sun-azimuth 315 --out predictions.csv
    """
    with report_errors():
        from craters.core import Steps, files
        from craters.models import (
            PRETRAINED,
            doubts,
            find_pretrained,
            load_model,
            measured_quality,
            predict_table,
            read_inputs,
        )

        _check_new_table(out)
        model, paths = _model_and_patches(paths)
        classifier = load_model(model or find_pretrained(), threads=threads)
        description = classifier.description
        with TerminalProgress(quiet=quiet or json) as progress:
            steps = Steps(progress, {"read": 1, "predict": 1})
            inputs = read_inputs(
                paths, description.side_range, description.pixels, steps.within("read")
            )
            table = predict_table(
                classifier, inputs.patches, sun_azimuth=sun_azimuth,
                progress=steps.within("predict"),
            )  # fmt: skip
        if description.pretraining and not quiet:
            quality = measured_quality(description, inputs.patches.side)
            chosen = "pretrained" if model else "pretrained, as none is given"
            typer.echo(f"Model: {chosen}; on real patches like these: {quality}.", err=True)
        _show_predictions(table, inputs, doubts(description, inputs.patches.images), quiet=quiet)
        if out is not None and out.suffix == ".npy":
            files.write_array(out, table.labels)
        elif out is not None:
            files.write_parts(out, table.csv_parts())
        if json:
            typer.echo(files.to_json({"model": model or PRETRAINED, **table.to_dict()}))
        elif out is None:
            for part in table.csv_parts():
                typer.echo(part, nl=False)
        if inputs.skipped:
            total = len(inputs.skipped) + len(inputs.patches)
            typer.echo(f"craters: {len(inputs.skipped)} of {total} images were skipped", err=True)
            raise SystemExit(PARTIAL)


def _model_and_patches(paths: list[str]) -> tuple[str, list[str]]:
    """Divide paths into that of the model, empty if none is given, and those of patches."""
    from craters.errors import ConfigError
    from craters.models import is_model

    first, *rest = paths
    # A missing path before others can only be meant as a model, whose error is the clearer one.
    if not is_model(first) and (not rest or Path(first).exists()):
        return "", paths
    if not rest:
        raise ConfigError(f"{first}: is a model, and no patches are given", "Name them after it.")
    return first, rest


def _show_predictions(
    table: Predictions, inputs: Inputs, doubts: list[str], *, quiet: bool
) -> None:
    """Print notes, the summary, the light, and what makes the predictions doubtful."""
    if not quiet:
        for note in inputs.patches.notes:
            typer.echo(f"Note: {note}.", err=True)
        typer.echo(table.summary(), err=True)
    _show_light(table.light, quiet=quiet)
    for text in doubts:
        typer.echo(
            f"Warning: {inputs.patches.source}: {text}; the quality that was measured does not "
            "hold for such patches.",
            err=True,
        )
    for reason in inputs.skipped:
        typer.echo(f"Skipped: {reason}.", err=True)


def _show_light(light: Lights | None, *, quiet: bool) -> None:
    """Print the direction of light to which patches were turned; warn where it is unknown."""
    if light is None:
        return
    if not light.is_known:
        typer.echo(f"Warning: {light.sentence}. State it by --sun-azimuth.", err=True)
    elif not quiet:
        typer.echo(f"{light.sentence.capitalize()}.", err=True)


def _check_new_table(out: Path | None) -> None:
    """Refuse other file types and existing files before computing anything."""
    from craters.core import files
    from craters.errors import ConfigError

    if out is not None and out.suffix not in (".csv", ".npy"):
        raise ConfigError(f"--out {out}: expected the name of a .csv or .npy file")
    if out is not None:
        files.refuse_existing(out)


@app.command("evaluate")
def evaluate_command(
    model: ModelArgument,
    data: Annotated[
        Path, typer.Option(help="Labeled data set: arrays, class folders, a table, or an archive.")
    ],
    *,
    which: Annotated[
        str | None,
        typer.Option("--set", help="Labeled set: test or train. [test, if there is one]"),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Assumed share of craters, for which precision is computed.")
    ] = 0.03,
    risk: Annotated[
        float, typer.Option(help="Accepted share of prediction sets that miss the true class.")
    ] = 0.1,
    positive: PositiveOption = None,
    side: SideOption = 0,
    group_by: GroupByOption = None,
    json: JsonOption = False,
) -> None:
    """Evaluate a model folder on labeled patches, with confidence intervals.

    \b
    Examples:
      craters evaluate RUN --data DATA
      craters evaluate pretrained --data DATA --set train
      craters evaluate pretrained --data FOLDERS --positive hole
    """
    with report_errors():
        from craters.core import files
        from craters.data import arrays_of, find_array
        from craters.models import Classifier
        from craters.pipeline import assess
        from craters.quality import test_set_uses

        form = DataForm(positive=positive, side=side, group_by=group_by)
        with TerminalProgress(quiet=json) as progress:
            data = arrays_of(data, form, progress)
            which = which or ("test" if find_array(data, "Xtest1").is_file() else "train")
            assessment = assess(
                Classifier.load(model), data,
                which=which, prior=prior, risk=risk, progress=progress,
            )  # fmt: skip
        missed = test_set_uses.note_evaluation(
            model, data, which, assessment.figures["metrics"]["n"]
        )
        for text in [*assessment.warnings, *([missed] if missed else [])]:
            typer.echo(f"Warning: {text}", err=True)
        typer.echo(files.to_json(assessment.figures) if json else "\n".join(assessment.lines))


@app.command("compare")
@command_of(CompareConfig)
def compare_command(
    settings: CompareConfig,
    *,
    resume: Annotated[
        bool, typer.Option(help="Continue; seeds or contenders may be added.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only print what would be computed.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare methods and networks at equal label budgets, on held-out folds, paired by seed.

    Prints the expected duration first. Writes tables and a figure to the folder.

    \b
    Examples:
      craters compare --data DATA --out CMP --budgets 50,all --seeds 5
      craters compare --data DATA --out CMP --budgets 50,all --seeds 10 --resume
    """
    configure_threads()
    from craters.compare import compare, plan
    from craters.core import files

    if dry_run:
        typer.echo("\n".join(plan(settings, resume=resume)))
        return
    progress = TerminalProgress(quiet=quiet or json)
    comparison = compare(settings, resume=resume, force=force, progress=progress)
    typer.echo(files.to_json(comparison.summary) if json else "\n".join(comparison.lines))
    if not json:
        typer.echo(f"Tables and figure: {comparison.folder}")
    comparison.refuse_failed()


models.register(app)
scan.register(app)
review.register(app)
quality.register(app)
catalogues.register(app)
training.register(app)


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_GARBAGE)
    interrupt_on_sigterm()
    try:
        with report_errors():
            app()
    finally:
        gc.freeze()  # Python's searches at its end take half a second after an import of torch
