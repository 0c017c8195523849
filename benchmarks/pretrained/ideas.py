"""What makes a network that was pretrained on synthetic planets work on real images."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import harness
from craters.core import Progress
from craters.settings import PretrainConfig
from harness import Bench, Keys, Row, Rows
from pretrained import quality, scores, sets

if TYPE_CHECKING:
    from pretrained.trials import Idea

NAME = "pretraining_ideas"
TITLE = "Pretraining: ideas tried"
RESULT_VERSION = 1

_TITLES = {
    "themis48": ["themis48, macro F1", 3],
    "nanedi": ["Nanedi, macro F1", 3],
    "tiles": ["tiles, average precision", 3],
    "hrsc": ["hrsc, average precision", 3],
    "ctx_mars": ["ctx_mars, average precision", 3],
    "nac_moon": ["nac_moon, ROC AUC", 3],
    "mean": ["mean", 3],
    "half 1": ["mean, half 1", 3],
    "half 2": ["mean, half 2", 3],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Pretrain with each idea that has no row, and predict the real sets."""
    from pretrained.trials import IDEAS

    def measure(name: str, seed: int) -> Row:
        row = try_idea(IDEAS[name], seed, bench.data.parent, progress)
        progress.say(f"{name}: {', '.join(f'{key} {row[key]:.3f}' for key in _TITLES)}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each idea depends on."""
    from pretrained.trials import IDEAS

    data = bench.data.parent
    parts = {name: sets.fingerprint(name, data) for name in sets.NAMES}
    return {
        (name, 0): harness.row_key(
            bench,
            name,
            0,
            {"rounds": idea.rounds, "sets": parts},
            RESULT_VERSION,
        )
        for name, idea in IDEAS.items()
    }


def try_idea(idea: Idea, seed: int, data: Path, progress: Progress) -> Row:
    """Pretrain a network with an idea and predict the real sets."""
    from craters.pretraining import pretrain

    folder = harness.WORK / "ideas"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    config = PretrainConfig(folder / "model", rounds=idea.rounds, seed=seed, **idea.settings)
    made = pretrain(config, look=idea.look, recipe=idea.recipe, progress=progress)
    seconds = time.perf_counter() - start
    predict = quality.predictor(made.folder)
    parts: dict[str, Row] = {"whole": {}, "half 1": {}, "half 2": {}}
    for one in map(sets.coarse, sets.load_sets(data)):
        probability = predict(one.images, one.groups)
        for part, found in parts.items():
            inside = part == "whole" or sets.in_half(one, int(part[-1]) - 1)
            rows = np.flatnonzero(np.broadcast_to(inside, len(one)))
            if len(rows):
                figures = scores.figures(one.labels[rows], probability[rows], one.stride)
                found[one.name] = figures
    halves = {part: _measures(figures)["mean"] for part, figures in parts.items()}
    return {
        **_measures(parts["whole"]),
        "half 1": halves["half 1"],
        "half 2": halves["half 2"],
        "seconds": seconds,
        "sets": parts["whole"],
        "history": made.history,
    }


def _measures(figures: dict[str, Row]) -> dict[str, float]:
    """Choose one measure of each set, and their mean."""
    nanedi = [each["macro_f1"] for name, each in figures.items() if name.startswith("nanedi")]
    row = {"themis48": figures["themis48"]["macro_f1"], "nanedi": statistics.fmean(nanedi)}
    for name in ("tiles", "hrsc", "ctx_mars"):
        if name in figures:
            row[name] = figures[name]["average_precision"]
    if "nac_moon" in figures:
        row["nac_moon"] = figures["nac_moon"]["roc_auc"]
    return row | {"mean": statistics.fmean(row.values())}


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    from pretrained.trials import IDEAS, ROUNDS

    contenders = [
        harness.contender(IDEAS[name].title, {seed: row}, _TITLES, baseline=name == "base")
        for (name, seed), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=list(rows.values()),
        about=[
            f"Each network is trained for {ROUNDS} rounds of about 33,000 new patches and 64,000 "
            "patches seen, with one change, and has seen no real image. "
            "Windows of grids: a quarter of them. One seed: differences below about 0.01 are "
            "noise.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"Ideas": tuple(_TITLES)},
        contenders=contenders,
        findings=_findings({name: row for (name, _), row in rows.items()}),
    )


def _findings(rows: dict[str, Row]) -> list[str]:
    """Choose an idea on one half of the regions and images, and report it on the other."""
    from pretrained.trials import IDEAS

    lines = []
    for chosen_on, other in (("half 1", "half 2"), ("half 2", "half 1")):
        best = max(rows, key=lambda name: rows[name][chosen_on])
        lines.append(
            f"Best on {chosen_on}: {IDEAS[best].title}, {rows[best][chosen_on]:.3f}; on {other} it "
            f"has {rows[best][other]:.3f}, without it {rows['base'][other]:.3f}."
        )
    return lines
