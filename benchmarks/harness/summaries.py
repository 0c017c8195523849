"""The six tables of docs/benchmarks.md, made of stored results, and those of the README."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from harness.measurements import anchor, processors, row, version_of

Result = dict[str, Any]
Results = Mapping[str, Result]

_HEAD = """\
# Benchmarks

For those who choose a tool or cite its figures: six tables, each with its baseline and the command
that measures it again. [All measurements](measurements.md) gives methods, single rounds, spread and
versions. `make bench` runs what is quick, `make bench BENCH=full` everything.
`benchmarks/harness/tables.py` writes this page from `benchmarks/results`; do not edit it.
"""


def page(results: Results) -> str:
    """Lay out the six tables as Markdown."""
    parts = [_HEAD]
    for title, lines in _TABLES.items():
        found = lines(results)
        if found:
            parts.append(f"## {title}\n\n" + "\n".join(found) + "\n")
    return "\n".join(parts)


def readme_block(results: Results) -> str:
    """Lay out the README's tables: accuracy by labels, and circles."""
    tables = (_by_labels(results), circles(results))
    return "\n".join("\n".join(lines) + "\n" for lines in tables if lines)


def table(heading: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a Markdown table."""
    return [row(heading), f"|{' --- |' * len(heading)}", *(row(cells) for cells in rows)]


def source(*results: Result) -> str:
    """Say where the figures of a table come from, and by which commands."""
    commands = " ".join(f"`--only {result['name']}`" for result in results)
    links = ", ".join(
        f"[{result['title']}](measurements.md#{anchor(result)})" for result in results
    )
    machines = processors(*results)
    torch = " and ".join(dict.fromkeys(version_of(result, "torch") for result in results))
    return (
        f"Command: `python benchmarks/bench.py full` with {commands}. {machines}, two cores, "
        f"torch {torch}. More: {links}."
    )


def by_label(result: Result) -> dict[str, dict[str, Any]]:
    """Return the measures of each contender by its label."""
    return {one["label"]: one["measures"] for one in result["contenders"]}


def middle(measure: dict[str, Any], digits: int) -> str:
    """Write the median of the rounds, and their number."""
    return f"{measure['median']:,.{digits}f} ({measure['n']})"


def score(measure: dict[str, Any]) -> str:
    """Write mean ± standard deviation; a single round has none."""
    spread = "" if measure["sd"] is None else f" ± {measure['sd']:.3f}"
    return f"{measure['mean']:.3f}{spread}"


_STARTS = {  # headings by contender
    "pretrained": "from the pretrained network",
    "random": "from random weights",
    "original system": "original script's system (baseline)",
}


def _by_labels(results: Results) -> list[str]:
    """Macro F1 on unseen regions of `themis48` by the number of labels."""
    if (found := results.get("starts")) is None:
        return []
    measured = {label: each["macro_f1"] for label, each in by_label(found).items()}
    rows = [["none", score(measured["themis48: no label"]), "", ""]]
    for labels in ("50", "100", "250", "all"):
        scores = [measured.get(f"themis48, {labels} labels: {by}") for by in _STARTS]
        cells = ["" if one is None else f"{score(one)} ({one['n']})" for one in scores]
        rows.append(["all, about 975" if labels == "all" else labels, *cells])
    return [
        *table(["labeled patches", *_STARTS.values()], rows),
        "",
        "Macro F1 (the mean of the F1 of both classes) of patches of 48 x 48 px with or without "
        "crater, THEMIS images of Mars, on regions that gave no label: mean ± standard deviation "
        f"over draws of labels (their number); {processors(found)}, torch "
        f"{version_of(found, 'torch')}.",
    ]


def accuracy(results: Results) -> list[str]:
    """Accuracy by the number of labels, with where it comes from."""
    lines = _by_labels(results)
    if not lines:
        return []
    return [
        "The pretrained network ships in the package and has seen synthetic planets only: without "
        "a label it does nearly what a network from random weights does with a thousand.",
        "",
        *lines,
        "",
        source(results["starts"]),
    ]


_SETS = {
    "tiles": "THEMIS, 160 images of Mars",
    "ctx_mars": "CTX, 2 images of Mars",
    "hrsc": "HRSC, 2 images of Mars",
    "nac_moon": "LROC NAC, 6 images of the Moon",
}
_TRAINED, _UNTRAINED, _PEER = "trained on THEMIS", "no real label", "PyCDA 0.1.16"
_LAST = "48"  # px: the largest craters of the THEMIS catalogue that count


def circles(results: Results) -> list[str]:
    """Recall, precision and diameters of the circle detector, one row a sensor."""
    if (found := results.get("circles")) is None:
        return []
    measured, rows = by_label(found), []
    for name, words in _SETS.items():
        each = [measured.get(f"{by}: {name}") for by in (_TRAINED, _UNTRAINED, _PEER)]
        trained = each[0]
        if trained is None:
            continue
        count = found["sets"][f"{_TRAINED}: {name}"]["craters"]
        ratio, scatter = (trained[one]["mean"] for one in ("diameter_ratio", "diameter_scatter"))
        rows.append(
            [
                words,
                f"{count:,}",
                f"{trained['precision']['mean']:.2f}, {trained['recall']['mean']:.2f}",
                f"{ratio:.2f} ± {scatter:.2f}",
                *("" if one is None else _at_precision(one) for one in each),
            ]
        )
    heading = [
        "images", "craters", "precision, recall by default", "diameter, ratio to the catalogue",
        "recall at precision 0.8", "without any real label", "PyCDA (baseline)",
    ]  # fmt: skip
    return [
        *table(heading, rows),
        "",
        "Circles by the shipped detector (on THEMIS by detectors trained on other regions; the "
        "other sensors were never trained on). A circle is right if its centre is at most half a "
        "diameter off and its diameter within a factor of 2. Diameters: median ratio ± half of the "
        "16-84 % "
        "range; annotators of the NAC images drew boxes wider than rims. PyCDA was trained on the "
        f"HRSC images. {processors(found)}, torch {version_of(found, 'torch')}.",
    ]


def _at_precision(measures: dict[str, Any]) -> str:
    recall = measures["recall_at_precision"]["mean"]
    return f"{recall:.2f}" if recall else "never so precise"


def by_diameter(results: Results) -> list[str]:
    """Recall and precision of circles by diameter."""
    if (found := results.get("circles")) is None:
        return []
    rows = []
    for name, words in _SETS.items():
        bins = [found["sets"].get(f"{by}: {name}") for by in (_TRAINED, _UNTRAINED, _PEER)]
        if bins[0] is None:
            continue
        edges = [f"{one['from']:g}" for one in bins[0]["by_diameter"]]
        ends = [*edges[1:], _LAST if name == "tiles" else ""]
        for place, (start, end) in enumerate(zip(edges, ends, strict=True)):
            each = [None if one is None else one["by_diameter"][place] for one in bins]
            craters = each[0]["craters"]
            if not craters:
                continue
            least = "10" if name == "tiles" and not place else start
            rows.append(
                [
                    words,
                    f"{least} to {end}" if end else f"from {least}",
                    f"{craters:,}",
                    *("" if one is None else recall_of(one) for one in each),
                    f"{each[0]['precision']:.2f} of {each[0]['detections']:,}",
                ]
            )
    heading = [
        "images", "diameter, px", "craters", "recall, `circles`", "recall without any real label",
        "recall, PyCDA (baseline)", "precision, `circles`, of detections",
    ]  # fmt: skip
    return [
        "Small craters are found about as well as large ones, except on HRSC images; on those and "
        "on lunar ones the default threshold leaves out worn craters. In brackets: 95 % interval "
        "(Wilson).",
        "",
        *table(heading, rows),
        "",
        "At the default threshold, which expects a precision of 0.8. The sums over diameters:",
        "",
        *circles(results),
        "",
        source(found),
    ]


def recall_of(one: dict[str, Any]) -> str:
    """Write a recall with its interval."""
    from scipy.stats import binomtest

    if one["recall"] is None:
        return ""
    hits = round(one["recall"] * one["craters"])
    low, high = binomtest(hits, one["craters"]).proportion_ci(method="wilson")
    return f"{one['recall']:.2f} ({low:.2f} to {high:.2f})"


_FEWEST = 5  # draws that a row of the table needs
_PLACES = {"nanedi west": "HRSC, Nanedi West", "nanedi center": "HRSC, Nanedi Center",
           "themis48": "THEMIS"}  # fmt: skip


def unlabeled(results: Results) -> list[str]:
    """Gain of unlabeled patches over labels alone."""
    rows = []
    for name in ("unlabeled", "starts"):
        if (found := results.get(name)) is None:
            return []
        measured = by_label(found)
        for one in found["differences"]:
            if one["n"] < _FEWEST:
                continue
            label = re.sub(r" \(n = \d+\)$", "", one["label"])
            place, _, contest = label.partition(": ")
            method, _, against = contest.partition(" against ")
            if name == "starts":
                if "," not in method or against != "pretrained":
                    continue
                start, baseline = "pretrained", f"{place}: pretrained"
                method = method.partition(", ")[2]
            else:
                start, baseline = "random", f"{place}: supervised"
            gain = f"{one['mean']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"
            without = score(measured[baseline]["macro_f1"])
            data, _, labels = place.partition(", ")
            rows.append([start, _PLACES[data], labels, method, gain, f"{one['n']}", without])
    rows.sort(key=lambda cells: (cells[0] == "pretrained", cells[1], int(cells[2].split()[0])))
    heading = [
        "weights", "images", "labels", "method", "gain, points", "draws", "without (baseline)",
    ]  # fmt: skip
    return [
        "Unlabeled patches help networks from random weights with few labels; from the pretrained "
        "network no gain is found. The gain is in points of macro F1 on regions that gave no "
        "label, paired by draws of labels (5 at least), with its 95 % interval; the baseline is "
        "training on the labels alone.",
        "",
        *table(heading, rows),
        "",
        source(results["unlabeled"], results["starts"]),
    ]


def ratio(peer: dict[str, Any], ours: dict[str, Any], name: str) -> str:
    """Write how many times as long a peer takes: median and range over rounds."""
    values = [peer[name]["values"], ours[name]["values"]]
    if len(values[0]) != len(values[1]):
        return f"{peer[name]['median'] / ours[name]['median']:.2f}"
    ratios = [one / other for one, other in zip(*values, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


# What is timed, its benchmark, ours, the baseline, the measure, and digits of its seconds.
_TIMED = (
    ("the original job, same recipe and updates, one core: CPU seconds", "job",
     "original job, craters, 1 core", "original job, TensorFlow/Keras, 1 core", "cpu_s", 0),
    ("the same, against plain PyTorch", "job",
     "original job, craters, 1 core", "original job, plain PyTorch, 1 core", "cpu_s", 0),
    ("to the original job's quality, from random weights", "job",
     "`compact`, 5 epochs, craters, 2 cores", "original job, TensorFlow/Keras, 2 cores",
     "wall_s", 0),
    ("the same by the pretrained network, `craters predict` from a cold start", "job",
     "`craters predict`, pretrained, 2 cores", "original job, TensorFlow/Keras, 2 cores",
     "wall_s", 1),
    ("a default run with 50 labels, against the original system", "runs",
     "50 labels: defaults", "50 labels: original system", "wall_s", 0),
    ("a default run with about 975 labels, against the original system", "runs",
     "all labels: defaults", "all labels: original system", "wall_s", 0),
    ("a cold `craters predict` of 696 patches by the original network", "cold_predict",
     "`craters predict`, original network", "TensorFlow/Keras, original network", "wall_s", 2),
    ("the same by the pretrained network, against the original one in Keras", "cold_predict",
     "`craters predict`, pretrained network", "TensorFlow/Keras, original network", "wall_s", 2),
    ("a scan of 81 megapixels by `circles`, against `dense`", "circles_speed",
     "`circles`, 1 worker of 1 thread", "`dense`, stride 4, 1 worker of 1 thread", "wall_s", 1),
    ("the same by two workers, against one", "circles_speed",
     "`circles`, 2 workers of 1 thread", "`circles`, 1 worker of 1 thread", "wall_s", 1),
    ("the same by one worker, against a map by a fully convolutional Keras model", "circles_speed",
     "`circles`, 1 worker of 1 thread", "Keras, `original` fully convolutional, stride 6, 1 thread",
     "wall_s", 1),
    ("a map of 4 megapixels by the original network, against Keras window by window", "scan",
     "craters, stride 6", "Keras window by window, stride 6", "map_s", 2),
    ("the same, against a fully convolutional Keras model", "scan",
     "craters, stride 6", "Keras, fully convolutional, stride 6", "map_s", 2),
)  # fmt: skip


def speed(results: Results) -> list[str]:
    """Time beside that of a baseline, and the quality of both."""
    rows, used = [], []
    for words, name, ours, peer, measure, digits in _TIMED:
        if (found := results.get(name)) is None:
            continue
        measured = by_label(found)
        if ours not in measured or peer not in measured:
            continue
        mine, other = measured[ours], measured[peer]
        quality = (
            f"{mine['macro_f1']['mean']:.3f}, {other['macro_f1']['mean']:.3f}"
            if "macro_f1" in mine
            else ""
        )
        cells = [middle(mine[measure], digits), middle(other[measure], digits)]
        rows.append([words, *cells, ratio(other, mine, measure), quality])
        used += [] if found in used else [found]
    if not rows:
        return []
    heading = ["what", "craters, s", "baseline, s", "baseline : craters", "macro F1 of both"]
    return [
        "Both sides of a round are measured in turn in one session: median seconds (rounds), and "
        "the ratio with its range over the rounds.",
        "",
        *table(heading, rows),
        "",
        source(*used),
    ]


def _seconds(measure: dict[str, Any]) -> str:
    median = measure["median"]
    return f"{median:,.{1 if median < 10 else 0}f}"


def scale(results: Results) -> list[str]:
    """Time and memory by size: complete commands."""
    rows, used = [], []
    for name in ("growth", "circles_speed"):
        if (found := results.get(name)) is None:
            continue
        used.append(found)
        for label, each in by_label(found).items():
            rows.append(
                [
                    label if name == "growth" else f"a scan of 81,000,000 pixels: {label}",
                    _seconds(each["wall_s"]),
                    _seconds(each["cpu_s"]),
                    f"{each['peak_mib']['median']:,.0f}",
                    f"{each['wall_s']['n']}",
                ]
            )
    if not rows:
        return []
    return [
        "Memory grows far less than the input, and time less than in proportion. The largest image "
        "has the size of a mosaic of Mars at 100 m a pixel, most of it without data.",
        "",
        *table(["command, size", "seconds", "CPU seconds", "peak memory, MiB", "rounds"], rows),
        "",
        source(*used),
    ]


def honesty(results: Results) -> list[str]:
    """List what the program states about its figures, beside what is true."""
    rows, used = [], []
    if (found := results.get("intervals")) is not None:
        used.append(found)
        rows += _intervals(found)
    if (found := results.get("circles")) is not None:
        used.append(found)
        measured = by_label(found)
        for name, words in _SETS.items():
            if (each := measured.get(f"{_TRAINED}: {name}")) is not None:
                expected, true = (each[one]["mean"] for one in ("expected_precision", "precision"))
                what = f"expected precision of a scan: {words}"
                rows.append([what, f"{expected:.2f}", f"{true:.2f}", ""])
    if (found := results.get("keras_parity")) is not None:
        used.append(found)
        one = found["comparisons"][0]
        rows.append(
            [
                f"the original job scores as in Keras ({one['n']} seeds, macro F1)",
                f"0 ± {one['margin']:g}",
                f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})",
                "",
            ]
        )
    if not rows:
        return []
    return [
        "What the program states about its own figures, beside the truth: in simulations, where "
        "the truth is known, and on catalogued images.",
        "",
        *table(["statement", "stated", "true", "percentile bootstrap (baseline)"], rows),
        "",
        source(*used),
    ]


def _intervals(found: Result) -> list[list[str]]:
    """Summarize the simulation of intervals: means over its settings."""
    by_group = {"single patches": " patches, ", "whole regions": " groups, "}
    rows = []
    for words, mark in by_group.items():
        each = [one for label, one in by_label(found).items() if mark in label]
        for text, stated, now, before in (
            ("the 95 % interval of macro F1 holds the truth", "95 %", "covered", "covered_before"),
            ("a difference is claimed between equals", "5 %", "claimed", "claimed_before"),
        ):
            shares = [statistics.fmean(one[name]["mean"] for one in each) for name in (now, before)]
            cells = [f"{share:.1%}".replace("%", " %") for share in shares]
            rows.append([f"{text}, {words} ({len(each)} settings)", stated, *cells])
    return rows


_TABLES: dict[str, Callable[[Results], list[str]]] = {
    "Accuracy by labels": accuracy,
    "Circles by diameter": by_diameter,
    "Unlabeled data": unlabeled,
    "Speed": speed,
    "Scale": scale,
    "Honesty": honesty,
}
