"""Run the numbered checks, which look for reasons to doubt the metrics of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from craters.core import Progress, StrPath, page_templates
from craters.data import JobData
from craters.quality import check_rules as rules
from craters.quality.check_records import RunRecord, read_new_run, read_run_record
from craters.quality.check_rules import Finding, State

Severity = Literal["severe", "warning", "note"]

NAME = "checks.json"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Definition of a check; `docs/checks.md` has a section of the same number."""

    id: str
    title: str
    severity: Severity
    examine: Callable[[RunRecord], Finding]
    needs_labels: bool = True


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of a check.

    Parameters
    ----------
    id : str
        C01, C02, ...
    title : str
        What the check looks for.
    severity : {"severe", "warning", "note"}
        Severe: a metric of the run cannot be trusted.
    state : {"fired", "passed", "not checked"}
    sentence : str
        The finding with its numbers, or why the check could not be made.
    """

    id: str
    title: str
    severity: Severity
    state: State
    sentence: str

    @property
    def is_severe(self) -> bool:
        """Whether a severe check fired."""
        return self.state == "fired" and self.severity == "severe"


RULES = (
    Rule("C01", "equal patches in training and evaluation", "severe", rules.equal_copies),
    Rule("C02", "nearly equal patches in training and evaluation", "warning", rules.near_copies),
    Rule("C03", "no better than the commoner class", "severe", rules.majority),
    Rule("C04", "no better than human labels alone", "warning", rules.no_gain),
    Rule("C05", "pseudo-labels in an evaluation set", "severe", rules.pseudo_labels_evaluated),
    Rule("C06", "pseudo-labels shift the share of craters", "warning", rules.prior_shift),
    Rule("C07", "fitted and reported on the same patches", "note", rules.fitted_and_reported),
    Rule("C08", "a difference claimed that is not shown", "warning", rules.unshown_difference),
    Rule("C09", "source images on both sides of a split", "severe", rules.shared_groups),
    Rule("C10", "nearly the same answer for every patch", "severe", rules.collapsed, False),
    Rule("C11", "a test set evaluated more than once", "warning", rules.repeated_test, False),
    Rule("C12", "intervals that hold chance", "warning", rules.chance_in_interval),
    Rule("C13", "files changed since the run", "severe", rules.changed_files, False),
    Rule("C14", "arrays read as of different pixel ranges", "warning", rules.mixed_ranges, False),
    Rule("C15", "patches that chose the pretrained model", "note", rules.chosen_on, False),
    Rule("C16", "probabilities that mean nothing", "severe", rules.temperature_at_limit),
)


def run_checks(
    folder: StrPath, *, data_folder: StrPath | None = None, progress: Progress | None = None
) -> list[Check]:
    """Check a finished run from its files, and from its arrays if available.

    Parameters
    ----------
    folder : path-like
        A run folder. It is only read.
    data_folder : path-like, optional
        Folder of the arrays; by default where the run read them. They are used only if their
        hashes match the manifest.
    progress : Progress, optional
        Receives the progress of the search for copies.

    Returns
    -------
    list of Check
        All checks, in the order of their numbers; of a run without labels only those that need
        none.

    Raises
    ------
    DataError
        If the folder is not a finished run, or a file in it cannot be read.
    """
    folder = Path(folder)
    data_folder = None if data_folder is None else Path(data_folder)
    return _examine(read_run_record(folder, data_folder, progress))


def check_new_run(folder: StrPath, data: JobData, progress: Progress | None = None) -> list[Check]:
    """Check a run whose metrics and tables are written, before its manifest is.

    Parameters
    ----------
    folder : path-like
    data : JobData
        The arrays that the run was made from.
    progress : Progress, optional
        As for `run_checks`.
    """
    folder = Path(folder)
    return _examine(read_new_run(folder, data, progress))


def _examine(record: RunRecord) -> list[Check]:
    made = []
    for rule in RULES:
        if rule.needs_labels and not record.has_labels:
            continue
        try:
            finding = rule.examine(record)
        except KeyError as error:  # written by another version
            finding = Finding("not checked", f"the run folder's files hold no {error}")
        made.append(
            Check(
                id=rule.id,
                title=rule.title,
                severity=rule.severity,
                state=finding.state,
                sentence=finding.sentence,
            )
        )
    return made


def as_json(made: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the checks as plain values."""
    return [dataclasses.asdict(check) for check in made]


def lines(made: Sequence[Check], *, everything: bool = False) -> list[str]:
    r"""Format the checks for the terminal: those that fired or could not be made, or all.

    Examples
    --------
    >>> made = [
    ...     Check("C01", "equal patches", "severe", "fired", "3 of 30 test patches are."),
    ...     Check("C02", "near copies", "warning", "passed", "None are."),
    ... ]
    >>> print("\n".join(lines(made)))
    Checks: 1 of 2 fired (1 severe).
      C01  severe       equal patches: 3 of 30 test patches are.
    """
    shown = [check for check in made if everything or check.state != "passed"]
    return [headline(made), *map(_line, shown)]


def _line(check: Check) -> str:
    word = check.severity if check.state == "fired" else check.state
    return f"  {check.id}  {word:<11}  {check.title}: {check.sentence}"


def headline(made: Sequence[Check]) -> str:
    """Summarize how many checks fired and how many could not be made."""
    counts = {
        severity: sum(check.state == "fired" and check.severity == severity for check in made)
        for severity in ("severe", "warning", "note")
    }
    words = [f"{count} {_plural(name, count)}" for name, count in counts.items() if count]
    fired = f"{sum(counts.values())} of {len(made)} fired ({', '.join(words)})"
    text = f"Checks: {fired if words else f'none of {len(made)} fired'}"
    unknown = sum(check.state == "not checked" for check in made)
    return f"{text}; {unknown} could not be checked." if unknown else f"{text}."


def _plural(severity: str, count: int) -> str:
    return severity if severity == "severe" or count == 1 else f"{severity}s"


def to_html(made: Sequence[Check]) -> str:
    """Render the checks as a section of the report."""
    page = page_templates("craters.quality").get_template("checks.html")
    return page.render(checks=made, headline=headline(made).removeprefix("Checks: ").capitalize())
