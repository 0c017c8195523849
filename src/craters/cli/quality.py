"""The verbs that check data before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from craters.cli.terminal import (
    JsonOption,
    QuietOption,
    SeedOption,
    TerminalProgress,
    plain_errors,
    settle_threads,
)

if TYPE_CHECKING:
    from craters.quality import Check

StrictOption = Annotated[
    bool, typer.Option("--strict", help="End with code 7 where a severe check fired.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("audit")(audit_command)
    app.command("check")(check_command)


def audit_command(
    data: Annotated[Path, typer.Option(help="Folder of Xtrain1, Ytrain1; others may be absent.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder for tables and contact sheets.")
    ] = None,
    fix: Annotated[Path | None, typer.Option(help="New folder for cleaned copies.")] = None,
    fix_labels: Annotated[
        str, typer.Option(help="In cleaned copies, keep or drop suspected labels.")
    ] = "keep",
    repeats: Annotated[
        int, typer.Option(help="Rounds of trainings, averaged; 0: leave the labels alone.")
    ] = 1,
    folds: Annotated[int, typer.Option(help="Trainings of a round.")] = 5,
    shift: Annotated[
        int, typer.Option(help="Pixels by which near copies may be moved, 0 to 4.")
    ] = 1,
    seed: SeedOption = None,
    threads: Annotated[int, typer.Option(help="Trainings at once; 0: all usable CPUs.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on; repeats may be added.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look for wrong labels, copies, flawed patches, and shift between the arrays.

    The arrays are only read. Cleaned copies go to a new folder, with a list of what was left out.

    \b
    Examples:
      craters audit --data DATA --out AUDIT
      craters audit --data DATA --repeats 0 --fix CLEANED
      craters audit --data DATA --out AUDIT --repeats 3 --resume --json
    """
    with plain_errors():
        settle_threads()
        from craters.core import files
        from craters.quality import AuditConfig, run_audit

        settings = AuditConfig(
            data, out, fix, fix_labels, repeats, folds, shift, seed or 0, threads  # type: ignore[arg-type]
        )  # fmt: skip
        progress = TerminalProgress(quiet=quiet or json)
        found = run_audit(settings, resume=resume, force=force, progress=progress)
        if json:
            typer.echo(files.to_json({"audit": out, "fix": fix, **found.summary}))
            return
        for line in found.lines:
            typer.echo(line)
        for folder, what in ((out, "Tables and sheets"), (fix, "Cleaned copies, left_out.csv")):
            if folder is not None:
                typer.echo(f"{what}: {folder}")


def check_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[
        Path | None, typer.Option(help="Where the run's arrays are now. [where it read them]")
    ] = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Check a finished run again for what makes its figures doubtful.

    Arrays are looked at only where they are still the ones that the run was made from. What each
    check means stands in docs/checks.md.

    \b
    Examples:
      craters check RUN
      craters check RUN --data DATA --strict --json
    """
    with plain_errors():
        from craters.core import files
        from craters.quality import checks

        made = checks.run_checks(run, data_folder=data)
        if json:
            typer.echo(files.to_json({"run": run, "checks": checks.as_json(made)}))
        else:
            typer.echo("\n".join(checks.lines(made, everything=True)))
        if strict:
            refuse_severe(made)


def refuse_severe(made: list[Check]) -> None:
    """End with a code of its own where a severe check fired.

    Raises
    ------
    CheckError
    """
    from craters.errors import CheckError

    severe = [check.id for check in made if check.is_severe]
    if severe:
        raise CheckError(
            f"--strict: severe checks fired: {', '.join(severe)}", "docs/checks.md says what to do."
        )
