"""Commands that check data and runs: `audit`, `check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from craters.cli.options import command_of
from craters.cli.terminal import (
    JsonOption,
    QuietOption,
    TerminalProgress,
    configure_threads,
    report_errors,
)
from craters.settings import AuditConfig

if TYPE_CHECKING:
    from craters.quality import Check

StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with code 7 if a severe check fired.")
]


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("audit")(audit_command)
    app.command("check")(check_command)


@command_of(AuditConfig)
def audit_command(
    settings: AuditConfig,
    *,
    resume: Annotated[bool, typer.Option(help="Continue; repeats may be added.")] = False,
    force: Annotated[bool, typer.Option(help="Move an earlier folder aside first.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find probable label errors, copies, flawed patches, and shift between the arrays.

    The arrays are not changed. Cleaned copies go to a new folder, with a list of removed patches.

    \b
    Examples:
      craters audit --data DATA --out AUDIT
      craters audit --data DATA --repeats 0 --fix CLEANED
      craters audit --data DATA --out AUDIT --repeats 3 --resume --json
    """
    configure_threads()
    from craters.core import files
    from craters.quality import run_audit

    with TerminalProgress(quiet=quiet or json) as progress:
        audit = run_audit(settings, resume=resume, force=force, progress=progress)
    out, fix = settings.out, settings.fix
    if json:
        typer.echo(files.to_json({"audit": out, "fix": fix, **audit.summary}))
        return
    for line in audit.lines:
        typer.echo(line)
    for folder, content in ((out, "Tables and sheets"), (fix, "Cleaned copies, left_out.csv")):
        if folder is not None:
            typer.echo(f"{content}: {folder}")


def check_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the run's arrays. [as recorded in the run]")
    ] = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Check a finished run again for problems that make its metrics unreliable.

    Arrays are checked only if they have not changed since the run. docs/checks.md explains each
    check.

    \b
    Examples:
      craters check RUN
      craters check RUN --data DATA --strict --json
    """
    with report_errors():
        from craters.core import files
        from craters.quality import checks

        with TerminalProgress(quiet=json) as progress:
            made = checks.run_checks(run, data_folder=data, progress=progress)
        if json:
            typer.echo(files.to_json({"run": run, "checks": checks.as_json(made)}))
        else:
            typer.echo("\n".join(checks.lines(made, everything=True)))
        if strict:
            refuse_severe(made)


def refuse_severe(made: list[Check]) -> None:
    """Raise CheckError if a severe check fired.

    Raises
    ------
    CheckError
    """
    from craters.errors import CheckError

    severe = [check.id for check in made if check.is_severe]
    if severe:
        raise CheckError(
            f"--strict: severe checks fired: {', '.join(severe)}",
            "See docs/checks.md for each check.",
        )
