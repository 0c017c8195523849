"""Write docs/benchmarks.md from benchmarks/results/*.json; nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.base import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "figures"

_MARKS = ("<!-- results -->", "<!-- /results -->")
_DEAD = 0.5  # macro F1 of networks that call nearly everything one class
_CORES = ", 2 cores"  # how labels of `job` end that the README shows

_HEAD = """\
# Benchmarks

This page is written by `benchmarks/harness/tables.py` from the files in `benchmarks/results`; do
not edit it. `make bench` runs what is quick, `make bench BENCH=full` everything.

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


def processors(result: dict[str, Any]) -> str:
    """Describe on which processors the rows of a result were measured."""
    found = [one["hardware"]["processor"] for one in result["made"]]
    return " and ".join(dict.fromkeys(found))


def row(cells: list[str]) -> str:
    """Write a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def write(out: Path = PAGE, readme: Path = README) -> Path:
    """Write the page, and the block of the README; equal results give equal bytes."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(found), encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    before, after = text.partition(_MARKS[0])[0], text.partition(_MARKS[1])[2]
    block = readme_block({result["name"]: result for result in found})
    readme.write_text(f"{before}{_MARKS[0]}\n{block}{_MARKS[1]}{after}", encoding="utf-8")
    return out


def _short(score: dict[str, Any]) -> str:
    """Write mean ± standard deviation; a single seed has none."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return f"{score['mean']:.3f}{spread}"


def readme_block(results: dict[str, dict[str, Any]]) -> str:
    """Format the README's tables: no label, few labels, unseen regions, and time beside peers."""
    parts = [
        _no_label(results.get("pretrained"), results.get("region_cv")),
        _circles(results.get("circles")),
        _few_labels(results.get("starts")),
        _quality(results.get("region_cv")),
        _speed(results.get("job")),
    ]
    return "\n".join(part for part in parts if part)


_REAL = {
    "themis48": ("THEMIS, 13 regions of Mars, 48 px", "macro_f1"),
    "tiles": ("THEMIS, windows at their natural share of craters", "average_precision"),
    "nanedi_west": ("HRSC, Nanedi West, 28 px", "macro_f1"),
    "nanedi_center": ("HRSC, Nanedi Center, 28 px", "macro_f1"),
    "hrsc": ("HRSC, windows of two images", "average_precision"),
    "ctx_mars": ("CTX, windows of two images", "average_precision"),
    "nac_moon": ("LROC NAC, windows of six images of the Moon, 24 px", "average_precision"),
}


def _no_label(found: dict[str, Any] | None, trained: dict[str, Any] | None) -> str:
    """Lay out the shipped network on real images with no label, from `pretrained`."""
    if found is None:
        return ""
    lines = [
        "| `pretrained`, no label used | macro F1 | average precision | ROC AUC | n, craters |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (label, main) in _REAL.items():
        if (one := found["sets"].get(name)) is None:
            continue
        figures = {main: f"{one[main]:.3f}"}
        if "intervals" in one:
            low, high = one["intervals"][main]
            figures[main] += f" ({low:.3f} to {high:.3f})"
        lines.append(
            row(
                [
                    label,
                    figures.get("macro_f1", ""),
                    figures.get("average_precision", ""),
                    f"{one['roc_auc']:.3f}",
                    f"{one['n']:,}, {one['crater_share']:.0%}",
                ]
            )
        )
    for one in (trained or {"contenders": []})["contenders"]:
        if one["baseline"]:
            macro_f1, roc_auc = (_short(one["measures"][name]) for name in ("macro_f1", "roc_auc"))
            label = "THEMIS, original script's network with 1,217 labels (baseline)"
            lines.append(row([label, macro_f1, "", roc_auc, "1,217, 64%"]))
    lines += [
        "",
        "`pretrained` ships in the package and has seen synthetic planets only. In brackets: 95 % "
        f"interval over regions. {processors(found)}. [How it was measured](docs/benchmarks.md).",
    ]
    return "\n".join(lines) + "\n"


_STARTS = {  # headings by contender
    "pretrained": "from the pretrained model",
    "random": "from random weights",
    "original system": "original script's system (baseline)",
}


def _few_labels(found: dict[str, Any] | None) -> str:
    """Lay out macro F1 on unseen regions of `themis48` by the number of labels, from `starts`."""
    if found is None:
        return ""
    measured = {one["label"]: one["measures"]["macro_f1"] for one in found["contenders"]}
    lines = [
        f"| labels | {' | '.join(_STARTS.values())} |",
        f"| --- {'| --- ' * len(_STARTS)}|",
        row(["none", _short(measured["themis48: no label"]), "", ""]),
    ]
    for labels in ("50", "100", "250", "all"):
        scores = [measured.get(f"themis48, {labels} labels: {by}") for by in _STARTS]
        cells = ["" if score is None else f"{_short(score)} ({score['n']})" for score in scores]
        lines.append(row(["all, about 975" if labels == "all" else labels, *cells]))
    lines += [
        "",
        "Macro F1 on a fifth of the regions of THEMIS, 48 px, another fifth in each draw of "
        "labels; mean ± standard deviation over draws (their number); "
        f"{processors(found)}, torch {version_of(found, 'torch')}. "
        "[How many labels are enough?](docs/few-labels.md)",
    ]
    return "\n".join(lines) + "\n"


_CIRCLES_BY = ("no real label", "trained on THEMIS", "PyCDA 0.1.16")
_CIRCLE_SETS = {
    "tiles": "THEMIS, 13 regions of Mars, 10 to 48 px",
    "ctx_mars": "CTX, two images of Mars",
    "hrsc": "HRSC, two images of Mars",
    "nac_moon": "LROC NAC, six images of the Moon",
}


def _circles(found: dict[str, Any] | None) -> str:
    """Lay out recall, precision and diameters of the circle detector, from `circles`."""
    if found is None:
        return ""
    measured = {one["label"]: one["measures"] for one in found["contenders"]}
    lines = [
        "| circles | craters | recall at precision 0.8: no real label | `circles` "
        "| PyCDA (baseline) | precision, recall by default | diameter, ratio |",
        f"|{' --- |' * 7}",
    ]
    for name, words in _CIRCLE_SETS.items():
        rows = [measured.get(f"{by}: {name}") for by in _CIRCLES_BY]
        trained = rows[1]
        if trained is None:
            continue
        recalls = [
            "" if each is None else f"{each['recall_at_precision']['mean']:.2f}" for each in rows
        ]
        by_default = f"{trained['precision']['mean']:.2f}, {trained['recall']['mean']:.2f}"
        ratio = (
            f"{trained['diameter_ratio']['mean']:.2f} ± {trained['diameter_scatter']['mean']:.2f}"
        )
        count = str(found["sets"][f"{_CIRCLES_BY[1]}: {name}"]["craters"])
        lines.append(row([words, count, *recalls, by_default, ratio]))
    lines += [
        "",
        "`circles` ships in the package: trained on synthetic scenes and THEMIS images; its THEMIS "
        "row is of networks trained on the other regions. Craters of the other sets count from 12 "
        "px. A circle is right if its centre is at most half a diameter off and its diameter "
        "within a factor of 2; the ratio of diameters is median ± half the 16-84 % range. "
        f"{processors(found)}, torch {version_of(found, 'torch')}. "
        "[How it was measured](docs/benchmarks.md)",
    ]
    return "\n".join(lines) + "\n"


def _quality(found: dict[str, Any] | None) -> str:
    """Lay out macro F1 on unseen regions, from `region_cv`."""
    if found is None:
        return ""
    lines = [
        "| network | macro F1 on unseen regions of Mars | ROC AUC | n |",
        "| --- | --- | --- | --- |",
    ]
    for one in sorted(found["contenders"], key=lambda contender: contender["baseline"]):
        label = f"`{one['label']}`".replace(", labels alone`", "` from labels alone")
        if one["baseline"]:
            label = "original script's (baseline)"
        scores = [one["measures"][name] for name in ("macro_f1", "roc_auc")]
        cells = [_short(score) for score in scores]
        seeds = f"{scores[0]['n']} seed{'s' if scores[0]['n'] > 1 else ''}"
        lines.append(row([label, *cells, f"{seeds} x 5 folds"]))
    lines += [
        "",
        "1,217 labeled THEMIS patches, whole regions held out, human labels only, from random "
        f"weights; mean ± standard deviation over seeds; {processors(found)}, torch "
        f"{version_of(found, 'torch')}. "
        "[How it was measured](docs/benchmarks.md).",
    ]
    return "\n".join(lines) + "\n"


def _speed(found: dict[str, Any] | None) -> str:
    """Format time and quality of one training, compared with the peers, from `job`."""
    if found is None:
        return ""
    both = [one for one in found["contenders"] if one["label"].endswith(_CORES)]
    lines = [
        "| one training, start to predictions, two cores | seconds | CPU seconds | macro F1 |",
        "| --- | --- | --- | --- |",
    ]
    for one in both:
        label = one["label"].removesuffix(_CORES)
        wall, cpu, score = (one["measures"][name] for name in ("wall_s", "cpu_s", "macro_f1"))
        if dead := sum(value < _DEAD for value in score["values"]):
            label += f"; {dead} of {score['n']} rounds one-sided"
        figures = [
            f"{middle} ({min(measure['values']):{form}} to {max(measure['values']):{form}})"
            for middle, measure, form in (
                (f"{wall['median']:.0f}", wall, ".0f"), (f"{cpu['median']:.0f}", cpu, ".0f"),
                (f"{score['mean']:.3f}", score, ".3f"),
            )
        ]  # fmt: skip
        lines.append(row([label + " (baseline)" * one["baseline"], *figures]))
    rounds = max(one["measures"]["wall_s"]["n"] for one in both)
    lines += [
        "",
        "The same patches, from random weights, another fifth of the regions unseen in each of "
        f"{rounds} rounds; "
        f"medians of the times, mean of macro F1, and their ranges; {processors(found)}, torch "
        f"{version_of(found, 'torch')}, tensorflow {version_of(found, 'tensorflow')}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(write().relative_to(ROOT))
