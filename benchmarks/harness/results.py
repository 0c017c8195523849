"""What a benchmark found: honest summaries, laid out as the tables and figures read it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from craters.core import files
from harness.base import RESULTS, Row


def summarize(values: Iterable[float]) -> Row:
    """Return n, values, mean, median, standard deviation and the 95 % t interval of the mean.

    A single value has no spread: its `sd`, `low` and `high` are None.
    """
    from scipy.stats import t

    found = [float(value) for value in values]
    n, mean = len(found), statistics.fmean(found)
    row = {"n": n, "values": found, "mean": mean, "median": statistics.median(found)}
    if n < 2:
        return row | {"sd": None, "low": None, "high": None}
    sd = statistics.stdev(found)
    half = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return row | {"sd": sd, "low": mean - half, "high": mean + half}


def spread(values: Iterable[float]) -> str:
    """Write a median and the range of the rounds."""
    found = list(values)
    middle = statistics.median(found)
    digits = 1 if middle >= 10 else 2
    return (
        f"{middle:.{digits}f} ({min(found):.{digits}f} to {max(found):.{digits}f}, "
        f"n = {len(found)})"
    )


def contender(label: str, rows: dict[int, Row], names: Iterable[str], baseline: bool) -> Row:
    """Summarize each named value of a contender over its rounds."""
    measures = {name: summarize(row[name] for row in rows.values()) for name in names}
    return {"label": label, "baseline": baseline, "rounds": list(rows), "measures": measures}


def result(
    name: str, title: str, *, rows: Iterable[Row], about: list[str], settings: Row, titles: Row,
    tables: Row, contenders: list[Row], findings: list[str], **more: Any,
) -> Row:  # fmt: skip
    """Assemble the result of a benchmark for the tables and figures of the docs.

    Parameters
    ----------
    name, title : str
    rows : iterable of dict
        All rows that it is made of, for their `made`: where and when they were measured.
    about : list of str
        How it was measured, a paragraph each.
    settings : dict
    titles : dict
        For each measure, the heading of its column, and the digits.
    tables : dict
        For each table's title, the measures in it.
    contenders : list of dict
        As `contender` makes them.
    findings : list of str
    more
        Whatever else belongs to it, or takes the place of what is set here.
    """
    return {
        "title": title,
        "about": about,
        "command": f".venv/bin/python benchmarks/bench.py full --only {name}",
        "settings": settings,
        "made": all_made(rows),
        "titles": titles,
        "tables": tables,
        "contenders": contenders,
        "comparisons": [],
        "findings": findings,
    } | more


def all_made(rows: Iterable[Row]) -> list[Row]:
    """List each `made` of some rows once, the earliest first."""
    found: list[Row] = []
    for row in rows:
        if row["made"] not in found:
            found.append(row["made"])
    return sorted(found, key=lambda made: (made["date"], made["commit"]))


def write_result(name: str, result: Row) -> Path:
    """Write the result of a benchmark to results/NAME.json."""
    path = RESULTS / f"{name}.json"
    files.write_json(path, {"name": name} | result)
    return path


def read_result(name: str) -> Row | None:
    """Read the stored result of a benchmark, if any."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
