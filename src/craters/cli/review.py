"""Commands for labels of reviewers: `review`, and the group `labels`."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import signal
from pathlib import Path
from typing import Annotated

import typer

from craters.cli.terminal import JsonOption, SunAzimuthOption, TerminalProgress, report_errors

CIRCLE_FORMATS = (
    "csv", "gpkg", "voc", "yolo", "coco", "scc", "diam", "craterstats-shp", "robbins",
)  # fmt: skip

labels_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Export, import and merge labels, and compare reviewers.",
)

StoreArgument = Annotated[Path, typer.Argument(help="Label store, as written by `craters review`.")]
VotesOption = Annotated[int, typer.Option("--votes", min=1, help="Votes that a label needs.")]


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("review")(review_command)
    app.add_typer(labels_app, name="labels")


def review_command(
    target: Annotated[
        Path, typer.Argument(help="Patch array, folder of arrays, run folder or scan folder.")
    ],
    *,
    labels: Annotated[
        Path | None, typer.Option(help="Label store. [TARGET.labels.sqlite]", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, or pretrained. [the target's, else pretrained]"),
    ] = None,
    sun_azimuth: SunAzimuthOption = None,
    data: Annotated[
        Path | None, typer.Option(help="Arrays for retraining. [the run's own]")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="Folder of `craters audit`, to find suspected labels.")
    ] = None,
    reviewer: Annotated[str, typer.Option(help="Your name. [the login name]")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all usable CPUs.")] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Label patches in the browser, retrain, and measure the gain; served on this machine only.

    Prints the address; stop with Ctrl-C. Each answer is on disk before the page confirms it.
    Without a model, the pretrained one orders the first queue, before there is any label.

    \b
    Examples:
      craters review RUN
      craters review SCAN --labels mine.sqlite --data DATA
      craters review patches.npy
      craters review patches.npy --model RUN
    """
    with report_errors():
        from craters.labels import check_reviewer
        from craters.review import serve

        name = check_reviewer(reviewer or _login_name())

        def show_address(address: str) -> None:
            typer.echo(address)
            typer.echo("Open this address in a browser. Stop with Ctrl-C.", err=True)
            if open_browser:
                import webbrowser

                webbrowser.open(address)

        signal.signal(signal.SIGTERM, _exit_on_sigterm)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C stops the page
            serve(
                target, store=labels, model=model, data=data, audit=audit,
                sun_azimuth=sun_azimuth, reviewer=name, port=port, threads=threads,
                progress=TerminalProgress(), on_ready=show_address,
            )  # fmt: skip


def _exit_on_sigterm(*_: object) -> None:
    """Exit cleanly on SIGTERM, so that a running training also stops."""
    raise SystemExit(0)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # e.g. in a container without user names
        return "me"


@labels_app.command("export")
def export_command(
    store: StoreArgument,
    out: Annotated[Path, typer.Option(help="Folder to create; must not exist.")],
    votes: VotesOption = 1,
    target: Annotated[
        Path | None, typer.Option(help="Scan for circles that was reviewed, for --format.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help=f"Of circles: {', '.join(CIRCLE_FORMATS)}.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Write labels as arrays and CSV with ids, or circles as a catalogue.

    Arrays are in the original layout. Without --format, circles are written as circles.csv, in
    pixels of the scan, and all answers about them as circle_answers.csv.

    \b
    Examples:
      craters labels export RUN.labels.sqlite --out LABELS
      craters labels export SCAN.labels.sqlite --out CRATERS --target SCAN --format gpkg
    """
    with report_errors():
        from craters.core import files

        if target is not None or file_format:
            written, count = _export_circles(store, out, target, file_format, votes)
            typer.echo(files.to_json({"out": out, "circles": count}) if json else written)
            return
        from craters.labels import LabelStore, export_labels

        with LabelStore(store, must_exist=True) as labels:
            exported = export_labels(labels, out, least=votes)
        if json:
            typer.echo(files.to_json({"out": out, **exported}))
            return
        typer.echo(
            f"{exported['labels']} labels of {exported['patches']} patches, "
            f"{exported['entries']} entries: {out}"
            if "circles" not in exported
            else f"{exported['circles']} craters, {exported['circle_entries']} entries: {out}"
        )


def _export_circles(
    store: Path, out: Path, target: Path | None, file_format: str, votes: int
) -> tuple[str, int]:
    """Write the craters of reviewers for another tool; return what was written, and how many."""
    from craters.errors import ConfigError
    from craters.labels import CircleLabels, LabelStore, reviewed_craters
    from craters.maps.scan import export_reviewed

    if target is None:
        raise ConfigError("--format: needs the scan that was reviewed", "Name it by --target.")
    with LabelStore(store, must_exist=True) as labels:
        craters = reviewed_craters(CircleLabels(labels), least=votes)
    circles = [
        {"image": each.place.image, "id": each.place.id, "at": each.at,
         "reviewers": "; ".join(each.reviewers), **dataclasses.asdict(each.circle)}
        for each in craters
    ]  # fmt: skip
    return export_reviewed(target, circles, out, file_format), len(circles)


@labels_app.command("import")
def import_command(
    store: StoreArgument,
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV with columns id and answer (crater, not, unsure; 1, 0). For a scan for "
            "circles: a catalogue of craters of any format, or circle_answers.csv."
        ),
    ],
    target: Annotated[
        Path, typer.Option(help="Target that the ids refer to, as for `craters review`.")
    ],
    reviewer: Annotated[str, typer.Option(help="Reviewer of rows without one.")] = "",
    json: JsonOption = False,
) -> None:
    """Add the answers of a table to a store; importing it again adds nothing.

    Answers older than the reviewer's current answer are skipped.

    \b
    Examples:
      craters labels import RUN.labels.sqlite bo.csv --target RUN --reviewer Bo
      craters labels import SCAN.labels.sqlite bo.gpkg --target SCAN --reviewer Bo
    """
    with report_errors():
        from craters.review import is_circle_scan

        if is_circle_scan(target):
            typer.echo(_import_circles(store, table, target, reviewer, as_json=json))
            return
        from craters.core import files
        from craters.errors import DataError
        from craters.labels import LabelStore, Patch, add_answers, read_answers
        from craters.review import open_target

        source = open_target(target)

        def find(name: str) -> Patch:
            row = source.row_of(name)
            if row is None:
                raise DataError(f"{table}: patch {name!r} is not in {target}")
            return source.patch(row)

        answers = read_answers(table, find, reviewer=reviewer)  # before a store is created
        is_new = not store.exists()
        with LabelStore(store) as labels:
            added, older = add_answers(labels, answers)
        if json:
            counts = {"added": added, "older": older, "new_store": is_new}
            typer.echo(files.to_json(counts))
        else:
            typer.echo(f"{added} answers added" + (f" to a new store: {store}" if is_new else "."))
            if older:
                typer.echo(f"{older} skipped: their reviewers answered later.")


def _import_circles(store: Path, table: Path, target: Path, reviewer: str, *, as_json: bool) -> str:
    """Add craters, or answers, to a store; return what was added."""
    from craters.core import files
    from craters.labels import LabelStore, check_reviewer, is_circle_answers
    from craters.review import CircleSession, import_circles, open_circles

    if not is_circle_answers(table):
        check_reviewer(reviewer)  # before a store is created
    scan, is_new = open_circles(target), not store.exists()
    with LabelStore(store) as labels:
        added = import_circles(CircleSession(scan, labels), table, reviewer)
    if as_json:
        return files.to_json({"added": added, "new_store": is_new})
    return f"{added} answers added" + (f" to a new store: {store}" if is_new else ".")


@labels_app.command("agree")
def agree_command(store: StoreArgument, json: JsonOption = False) -> None:
    """Compare each pair of reviewers: share of equal answers, Cohen's kappa, disputed patches.

    \b
    Example:
      craters labels agree RUN.labels.sqlite
    """
    with report_errors():
        from craters.core import files
        from craters.labels import LabelStore, agreement_lines, agreement_summary

        with LabelStore(store, must_exist=True) as labels:
            agreement = agreement_summary(labels)
        typer.echo(files.to_json(agreement) if json else "\n".join(agreement_lines(agreement)))


@labels_app.command("merge")
def merge_command(
    store: StoreArgument,
    target: Annotated[Path, typer.Argument(help="Target that was reviewed.")],
    out: Annotated[Path, typer.Option(help="Folder to create; must not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="Arrays to merge into. [the target's own]")
    ] = None,
    votes: VotesOption = 1,
    json: JsonOption = False,
) -> None:
    """Merge the labels of reviewers into the arrays of a job, for `craters run --data`.

    The random part is excluded from training and from the unlabeled pool. Its patches that were
    answered without gaps from the start become the test set.

    Of a scan for circles, images without the random fields and labels.csv are written, for
    `craters train MERGED/images --catalogue MERGED/labels.csv`.

    \b
    Example:
      craters labels merge RUN.labels.sqlite RUN --out MERGED
    """
    with report_errors():
        from craters.core import files
        from craters.data import read_job_data
        from craters.labels import LabelStore, write_snapshot
        from craters.review import is_circle_scan, job_of, open_target, random_rows

        files.refuse_existing(out)
        if is_circle_scan(target):
            from craters.review import CircleSession, open_circles, write_training_data

            with LabelStore(store, must_exist=True) as labels:
                session = CircleSession(open_circles(target), labels)
                summary = write_training_data(session, out, least=votes)
            typer.echo(files.to_json(summary) if json else f"{summary['sentence']}.")
            return
        with LabelStore(store, must_exist=True) as labels:
            source = open_target(target, data=data)
            folder = data or source.data
            job = (
                job_of(source, labels.seed)
                if folder is None
                else read_job_data(folder, is_partial=True)
            )
            order = [source.id_of(row) for row in random_rows(source, labels.seed).tolist()]
            summary = write_snapshot(labels, job, out, least=votes, order=order)
        typer.echo(files.to_json(summary) if json else f"{summary['sentence']}.")
