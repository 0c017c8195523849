"""Lay out every result of benchmarks/results as a section of docs/measurements.md."""

from __future__ import annotations

import re
from typing import Any

from harness.base import ROOT

FIGURES = ROOT / "docs" / "figures"

_HEAD = """\
# All measurements

For those who check a figure or repeat it: every benchmark with its method, rows, spread, hardware,
versions and command. The page [Benchmarks](benchmarks.md) sums them up.
`benchmarks/harness/tables.py` writes both from the files in `benchmarks/results`; do not edit them.

Each cell is the mean ± standard deviation, with the 95 % interval of the mean (Student's t) in
brackets; n counts seeds or rounds. A single round has no spread and shows its value alone.
"""


def page(results: list[dict[str, Any]]) -> str:
    """Lay out every result as Markdown."""
    return "\n".join([_HEAD, *(section(result) for result in results)])


def section(result: dict[str, Any]) -> str:
    """Format one benchmark: description, findings, tables, how to repeat it."""
    parts = [f"## {result['title']}", " ".join(result["about"])]
    if result["findings"]:
        parts.append("\n".join(f"- {line}" for line in result["findings"]))
    if (FIGURES / f"bench-{result['name']}.png").is_file():
        parts.append(f"![{result['title']}](figures/bench-{result['name']}.png)")
    for title, names in result["tables"].items():
        parts.append(f"{title}:\n\n{table(result, names)}")
    if result["comparisons"]:
        parts.append(comparisons(result))
    parts.append(facts(result))
    return "\n\n".join(parts) + "\n"


def table(result: dict[str, Any], names: list[str]) -> str:
    """Lay out one row a contender, the baseline last."""
    titles = [result["titles"][name][0] for name in names]
    lines = [row(["", "n", *titles]), row(["---"] * (len(names) + 2))]
    for contender in sorted(result["contenders"], key=lambda one: one["baseline"]):
        if not all(name in contender["measures"] for name in names):
            continue  # a table of what only some have
        label = contender["label"] + (" (baseline)" if contender["baseline"] else "")
        cells = [cell(contender["measures"][name], result["titles"][name][1], "") for name in names]
        lines.append(row([label, str(len(contender["rounds"])), *cells]))
    return "\n".join(lines)


def comparisons(result: dict[str, Any]) -> str:
    """Lay out the paired differences."""
    lines = [row(["Difference", "of", "n", "", "margin"]), row(["---"] * 5)]
    for one in result["comparisons"]:
        title, digits = result["titles"][one["measure"]]
        found = cell(one, digits, "+")
        lines.append(row([one["label"], title, str(one["n"]), found, f"±{one['margin']:g}"]))
    return "\n".join(lines)


def cell(found: dict[str, Any], digits: int, sign: str) -> str:
    """Write mean ± standard deviation (interval)."""
    mean, *spread = (found[name] for name in ("mean", "sd", "low", "high"))
    if spread[0] is None:
        return f"{mean:{sign}.{digits}f}"
    sd, low, high = spread
    interval = f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"
    return f"{mean:{sign}.{digits}f} ± {sd:.{digits}f} ({interval})"


def facts(result: dict[str, Any]) -> str:
    """Describe how to repeat a benchmark, and where and when its rows were measured."""
    made = result["made"]
    machines = [f"{one['hardware']['processor']}, {one['hardware']['cpus']} CPUs" for one in made]
    commits = [f"{one['commit']} ({one['date']})" for one in made]
    numbers = sorted({pair for one in made for pair in one["versions"].items()})
    return "\n".join(
        [
            f"Command: `{result['command']}`  ",
            f"Measured at: {', '.join(dict.fromkeys(commits))}  ",
            f"Hardware: {'; '.join(dict.fromkeys(machines))}  ",
            f"Versions: {', '.join(f'{name} {number}' for name, number in numbers)}",
        ]
    )


def version_of(result: dict[str, Any], package: str) -> str:
    """Describe by which versions of a package the rows of a result were measured."""
    found = [one["versions"][package] for one in result["made"] if package in one["versions"]]
    return " and ".join(dict.fromkeys(found))


def processors(*results: dict[str, Any]) -> str:
    """Describe on which processors the rows of some results were measured."""
    found = [one["hardware"]["processor"] for result in results for one in result["made"]]
    return " and ".join(dict.fromkeys(found))


def row(cells: list[str]) -> str:
    """Write a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def anchor(result: dict[str, Any]) -> str:
    """Return the anchor of a section, as the site and GitHub make it of the heading."""
    kept = re.sub(r"[^\w\s-]", "", result["title"].lower()).strip()
    return re.sub(r"[-\s]+", "-", kept)
