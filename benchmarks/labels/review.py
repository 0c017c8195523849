"""The review page: from key press to the next patch, memory, and labels that a reviewer saves."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import harness
from craters.core import Progress
from harness import Bench, Keys, Row
from labels import simulated_review
from labels.review_page import ANSWERS, PATCHES, PAUSE, measure_page
from labels.simulated_review import (
    ALL,
    GOAL,
    METHOD,
    MOST,
    PRETRAINED,
    START,
    STEP,
    WRONG,
    counts,
    key_of,
    simulate,
)

NAME = simulated_review.NAME
TITLE = "The review page: latency, memory, and labels to macro F1 0.90"
RESULT_VERSION = 1  # of the page; the simulated reviewer has its own
REPEATS = 5
ORDERS = ("queue", "random")

_PAGE = ("median_ms", "p95_ms", "reply_ms", "reply_p95_ms", "memory_mib", "peak_mib")
_TITLES = {
    "median_ms": ["key press to next patch, median ms", 1],
    "p95_ms": ["95th percentile, ms", 1],
    "reply_ms": ["answer on disk and replied, median ms", 1],
    "reply_p95_ms": ["95th percentile, ms", 1],
    "memory_mib": ["server's memory, MiB", 0],
    "peak_mib": ["its peak, MiB", 0],
    "labels": [f"labels asked until macro F1 {GOAL}", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows, writing each."""
    from craters.core import Task, run_tasks

    page = harness.measure_missing(
        bench, NAME, _page_key(bench), lambda *_: measure_page(PATCHES, ANSWERS, progress)
    )["page", 0]
    # The queue goes ahead: its first round is also the random order's.
    paths_wanted = [(order, repeat) for order in ORDERS for repeat in range(REPEATS)]
    paths_wanted.sort(key=lambda path: path[1] + (1.5 if path[0] == "random" else 0))
    paths_wanted += [(order, repeat) for order in _further() for repeat in range(REPEATS)]
    wanted = {f"{order} {repeat}": (order, repeat) for order, repeat in paths_wanted}
    tasks = [
        Task(word, _path, {"bench": bench, "order": order, "repeat": repeat})
        for word, (order, repeat) in wanted.items()
    ]
    paths = {}
    for word, rounds in run_tasks(tasks, threads=len(harness.usable_cpus())):
        paths[wanted[word]] = rounds
        progress.say(
            f"{word}: {rounds[-1]['labels']} labels, macro F1 {rounds[-1]['macro_f1']:.3f}"
        )
        harness.write_result(NAME, _result(page, paths))
    return _result(page, paths)


def _path(*, send: Any, bench: Bench, order: str, repeat: int) -> list[Row]:  # noqa: ARG001
    """Follow one order to the goal, on one thread."""
    from craters.core import NullProgress, torch_threads

    with torch_threads(1):
        return simulate(bench, order, repeat, NullProgress())


def _further() -> tuple[str, ...]:
    """Return further ways to ask; the pretrained model is none where it is not installed."""
    from craters.errors import ModelError
    from craters.models import find_pretrained

    try:
        find_pretrained()
    except ModelError:
        return (ALL,)
    return (ALL, PRETRAINED)


def keys(bench: Bench) -> Keys:
    """Return what the rows of the page, and of each round that may be asked for, depend on."""
    return _page_key(bench) | {
        (order, repeat, labels): key_of(bench, order, repeat, labels)
        for order in (*ORDERS, *_further())
        for repeat in range(REPEATS)
        for labels in counts(order)
    }


def _page_key(bench: Bench) -> Keys:
    settings = {"patches": PATCHES, "answers": ANSWERS, "pause": PAUSE}
    return {("page", 0): harness.row_key(bench, "page", 0, settings, RESULT_VERSION)}


def labels_needed(rounds: list[Row]) -> int | None:
    """Return how many labels were asked when the goal was first reached; None: it was not."""
    return next((row["labels"] for row in rounds if row["macro_f1"] >= GOAL), None)


def _result(page: Row, paths: dict[tuple[str, int], list[Row]]) -> Row:
    """Lay out the page, and the repeats that both orders have gone through."""
    both = [repeat for repeat in range(REPEATS) if all((one, repeat) in paths for one in ORDERS)]
    needed = {order: {repeat: labels_needed(paths[order, repeat]) for repeat in both}
              for order in ORDERS}  # fmt: skip
    # Where the goal was not reached, at least all that was asked was needed.
    rows = {
        order: {repeat: {"labels": count or paths[order, repeat][-1]["labels"]}
                for repeat, count in found.items()}
        for order, found in needed.items()
    }  # fmt: skip
    start = {repeat: labels_needed(paths[PRETRAINED, repeat])
             for repeat in range(REPEATS) if (PRETRAINED, repeat) in paths}  # fmt: skip
    contenders = [
        harness.contender(f"page at {PATCHES:,} patches", {0: page}, _PAGE, False),
        *(harness.contender(f"{order} order", rows[order], ("labels",), order == "random")
          for order in reversed(ORDERS) if both),
    ]  # fmt: skip
    contenders += _started(paths, start)
    return harness.result(
        NAME,
        TITLE,
        rows=[page, *(row for rounds in paths.values() for row in rounds)],
        about=[
            f"A headless Chromium presses {ANSWERS} keys, one every {PAUSE} s at the earliest; "
            "the clock runs from the key press to the frame after the next patch is decoded.",
            f"A simulated reviewer answers patches of themis48, {WRONG:.0%} of them wrongly. Every "
            f"{STEP} answers, `compact` is trained from random weights (`--method {METHOD}`, the "
            "patches that are left as the pool) and measured on held-out regions, in either order. "
            "The queue's random part counts as asked and is not trained on; what was not asked of "
            "it is in the pool here, where the page leaves it out.",
        ],
        settings={
            "patches": PATCHES,
            "answers": ANSWERS,
            "start": START,
            "step": STEP,
            "wrong": WRONG,
            "goal": GOAL,
        },
        titles=_TITLES,
        tables={"Page": _PAGE} | ({"Labels": ("labels",)} if both else {}),
        contenders=contenders,
        findings=[
            *_findings(page, needed, rows),
            *_from_pretrained(paths, start),
            *_ceiling(paths),
        ],
        curves={
            order: {
                str(repeat): [[row["labels"], row["macro_f1"]] for row in paths[order, repeat]]
                for repeat in both
            }
            for order in ORDERS
        },
    )


def _started(paths: dict[tuple[str, int], list[Row]], start: dict[int, int | None]) -> list[Row]:
    """Lay out the start from the pretrained model, if any repeat has one."""
    asked = {
        repeat: {"labels": paths[PRETRAINED, repeat][-1]["labels"] if count is None else count}
        for repeat, count in start.items()
    }
    title = "queue from the pretrained model"
    return [harness.contender(title, asked, ("labels",), False)] if asked else []


def _findings(
    page: Row, needed: dict[str, dict[int, int | None]], rows: dict[str, dict[int, Row]]
) -> list[str]:
    def words(order: str) -> str:
        return ", ".join(
            str(count) if count else f"over {rows[order][repeat]['labels']}"
            for repeat, count in needed[order].items()
        )

    said = [
        f"At {PATCHES:,} patches, the next patch is there {page['median_ms']:.0f} ms after a key "
        f"press (median of {page['answers']}; 95th percentile {page['p95_ms']:.0f} ms), and the "
        f"answer is on disk after {page['reply_ms']:.0f} ms (95th percentile "
        f"{page['reply_p95_ms']:.0f} ms); the server takes {page['memory_mib']:.0f} MiB, "
        f"{page['peak_mib']:.0f} at most."
    ]
    if count := len(rows["queue"]):
        sums = {order: sum(row["labels"] for row in rows[order].values()) for order in ORDERS}
        said.append(
            f"Labels until macro F1 {GOAL} on held-out regions, {count} of {REPEATS} repeats: "
            f"queue {words('queue')}; random order {words('random')}; "
            f"{sums['queue'] / sums['random']:.2f} of the random order's in all (target: 0.6)."
        )
    return said


def _from_pretrained(
    paths: dict[tuple[str, int], list[Row]], needed: dict[int, int | None]
) -> list[str]:
    """Describe the labels that are needed from the pretrained model on."""
    if not needed:
        return []
    words = ", ".join(
        f"over {paths[PRETRAINED, repeat][-1]['labels']}" if count is None else str(count)
        for repeat, count in needed.items()
    )
    alone = [paths[PRETRAINED, repeat][0]["macro_f1"] for repeat in needed]
    return [
        f"From the pretrained model, {len(needed)} of {REPEATS} repeats need {words} labels until "
        f"macro F1 {GOAL}; without any label it is {np.mean(alone):.3f} ({min(alone):.3f} to "
        f"{max(alone):.3f}). The better of it and the network trained last is used, by the answers "
        "of the random part."
    ]


def _ceiling(paths: dict[tuple[str, int], list[Row]]) -> list[str]:
    """Describe the result of labeling all patches."""
    found = [rounds[-1] for (order, _), rounds in sorted(paths.items()) if order == ALL]
    if not found:
        return []
    counts, reached = ([row[name] for row in found] for name in ("labels", "macro_f1"))
    return [
        f"With every patch answered ({min(counts):,} to {max(counts):,}, {WRONG:.0%} wrongly), "
        f"macro F1 is {np.mean(reached):.3f} ({min(reached):.3f} to {max(reached):.3f}, "
        f"n = {len(found)})."
    ]


def main() -> None:
    """Try one part alone: nothing of it is stored as a result."""
    from craters.cli.terminal import TerminalProgress

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["page", "simulate"])
    parser.add_argument("--patches", type=int, default=PATCHES)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--order", choices=[*ORDERS, PRETRAINED], action="append")
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    if asked.part == "page":
        found = measure_page(asked.patches, asked.answers, TerminalProgress())
        print(json.dumps({name: value for name, value in found.items()
                          if not isinstance(value, list)}, indent=2))  # fmt: skip
        return
    bench = Bench(harness.find_data(asked.data), full=True, seeds=1)
    for order in asked.order or ORDERS:
        simulate(bench, order, asked.repeat, TerminalProgress(), most=asked.most)


if __name__ == "__main__":
    main()
