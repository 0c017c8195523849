"""Choices of `auto` from random weights and their gain, on the draws of `unlabeled`."""

from __future__ import annotations

import functools
import time
from collections import Counter
from pathlib import Path
from statistics import NormalDist, median

import harness
from craters.core import Progress
from harness import Bench, Keys, Row, RowStore
from unlabeled import methods

NAME = "auto_choice"
TITLE = "What `auto` takes from random weights, and what that comes to"
RESULT_VERSION = 1
SUPERVISED = "supervised"
LEVEL = 0.95  # of the intervals that `auto` judges by
MOST_LOST = 0.5  # points of macro F1 below `supervised`, on average

_TITLES = {"macro_f1": ["macro F1, held-out places", 4]}

ROWS = (
    ("nanedi west", 50), ("nanedi center", 50), ("themis48", 50), ("nanedi west", 100),
    ("nanedi center", 100), ("themis48", 100), ("themis48", 250),
)  # fmt: skip

METHODS = (SUPERVISED, "fixmatch")  # that `auto` may take
Cell = tuple[str, int | str, int]  # data, labels, draw
Trained = dict[methods.Cell, Row]


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing folds."""
    kept = trained(bench)
    make = functools.partial(result, kept=kept)
    return make(harness.train_missing(bench, NAME, keys(bench), choose_cell, progress, make))


def keys(bench: Bench) -> Keys:
    """Return what the row of each choice depends on."""
    draws = min(methods.DRAWS, bench.seeds)
    return {cell: _key(bench, *cell) for cell in cells(draws, trained(bench))}


def _key(bench: Bench, data: str, labels: int | str, draw: int) -> Row:
    settings = methods.settings_of(bench, data, labels)
    return harness.row_key(bench, "auto", draw, settings, RESULT_VERSION)


def choose_cell(*, send, data: Path, cell: Cell) -> Row:  # noqa: ARG001
    """Cross-fit the candidates on the labels of a draw; the kept network is not trained here."""
    from craters.core import torch_threads
    from craters.data import choose_symmetry
    from craters.semi_supervised import learn
    from craters.training import RunConfig, Trainer
    from unlabeled.draws import draw_cell

    name, labels, draw = cell
    labeled, pool, *_ = draw_cell(data, name, labels, draw)
    config = RunConfig(
        data, data, method="auto", network="compact", start="random", seed=draw, threads=1
    )
    symmetry = choose_symmetry(config.symmetry, labeled.images, labeled.labels)
    clock = time.process_time()
    with torch_threads(1):
        trainer = Trainer(config.training, symmetry.allowed, pool.images)
        found = learn("auto", labeled, pool, trainer)
    return {
        "method": found.method,
        "share": None if found.share is None else found.share.share,
        "folds": {
            method: {"difference": one.difference, "low": one.low, "high": one.high}
            for method, one in found.verdicts.items()
        },
        "seconds": time.process_time() - clock,
    }


def cells(draws: int, kept: Trained) -> list[Cell]:
    """List data, labels and draw of every choice, those first on which most hangs.

    Rows come first that a wrong choice could take too far below `supervised`, and in each row the
    draws in which the methods are farthest apart.
    """
    ordered = []
    for place, row in enumerate(ROWS):
        apart = {draw: abs(_gain(kept, *row, draw) or 0.0) for draw in range(draws)}
        safe = (least(row, {}, kept) or 0.0) >= -MOST_LOST
        by_gap = sorted(apart, key=lambda draw: -apart[draw])
        ordered += [(safe, rank, place, (*row, draw)) for rank, draw in enumerate(by_gap)]
    return [cell for *_, cell in sorted(ordered)]


def trained(bench: Bench) -> Trained:
    """Read the rows of the networks that `auto` may keep."""
    store, found = RowStore(methods.NAME), {}
    for data, labels in ROWS:
        for draw in range(min(methods.DRAWS, bench.seeds)):
            for method in METHODS:
                cell = (data, labels, method, draw)
                if (row := store.find(methods.key_of(bench, cell))) is not None:
                    found[cell] = row
    return found


def _gain(kept: Trained, data: str, labels: int | str, draw: int) -> float | None:
    """Return the gain of the only candidate over `supervised` in a draw, in points of macro F1."""
    rows = {method: kept.get((data, labels, method, draw)) for method in METHODS}
    base = rows.pop(SUPERVISED)
    found = [row for row in rows.values() if row is not None]
    if base is None or len(found) != 1:
        return None
    return 100 * (found[0]["macro_f1"] - base["macro_f1"])


def least(row: tuple[str, int | str], chosen: dict[Cell, Row], kept: Trained) -> float | None:
    """Return the least mean gain of `auto` over all draws, where not every draw is chosen yet.

    A draw without a choice counts as the worse of both methods. None where a network is missing.
    """
    gains = []
    for draw in range(methods.DRAWS):
        gain, choice = _gain(kept, *row, draw), chosen.get((*row, draw))
        if gain is None:
            return None
        abstains = choice is not None and choice["method"] == SUPERVISED
        gains.append(0.0 if abstains else min(gain, 0.0) if choice is None else gain)
    return sum(gains) / len(gains)


def result(rows: dict[Cell, Row], kept: Trained) -> Row:
    """Take the network of the chosen method for each draw, and compare it with `supervised`."""
    contenders, findings = [], []
    for data, labels in ROWS:
        ours, theirs, taken = dict[int, Row](), dict[int, Row](), Counter[str]()
        for draw in range(methods.DRAWS):
            method = rows.get((data, labels, draw), {}).get("method")
            auto = kept.get((data, labels, method, draw))
            supervised = kept.get((data, labels, SUPERVISED, draw))
            if auto is not None and supervised is not None:
                ours[draw], theirs[draw] = auto, supervised
                taken[method] += 1
        name = f"{data}, {labels} labels"
        if len(ours) == methods.DRAWS:
            for label, found in ((SUPERVISED, theirs), ("auto", ours)):
                base = label == SUPERVISED
                contenders.append(
                    harness.contender(f"{name}: {label}", found, ("macro_f1",), baseline=base)
                )
        chosen = [row for cell, row in rows.items() if cell[:2] == (data, labels)]
        words = f" {_taken(taken)}{_folds(chosen)}" if taken else ""
        findings += _finding(name, ours, theirs, least((data, labels), rows, kept), words)
    return harness.result(
        NAME,
        TITLE,
        rows=[*rows.values(), *kept.values()],
        about=[
            "On the draws of the table of what unlabeled patches are worth, from random weights "
            "(from the pretrained model `auto` is `supervised`): `auto` cross-fits its "
            "candidates on the labels of the draw and takes one, or `supervised`. The network that "
            "is kept is, bit for bit, the one that the table holds for the method taken, so its "
            "macro F1 on the held-out fold is read there.",
        ],
        settings={"draws": methods.DRAWS, "network": "compact"},
        titles=_TITLES,
        tables={"Macro F1 on the held-out fold": ("macro_f1",)},
        contenders=contenders,
        findings=findings,
    )


def _taken(taken: Counter[str]) -> str:
    return f"Taken: {', '.join(f'{method} {n}' for method, n in taken.most_common())}."


def _folds(chosen: list[Row]) -> str:
    """Describe the gain of the candidates in the folds of the draws, with its uncertainty."""
    found = [one for row in chosen for one in row["folds"].values()]
    if not found:
        return ""
    gains = [100 * one["difference"] for one in found]
    reach = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    errors = [100 * (one["high"] - one["low"]) / 2 / reach for one in found]
    return (
        f" The folds said {min(gains):+.1f} to {max(gains):+.1f} points (median standard error "
        f"{median(errors):.1f})."
    )


def _finding(
    name: str, ours: dict[int, Row], theirs: dict[int, Row], least: float | None, words: str
) -> list[str]:
    """Describe the gain of `auto`, or its lower bound while draws have no choice yet."""
    asked = f"at most {MOST_LOST:g} below are asked for"
    if len(ours) == methods.DRAWS and (found := methods.difference(ours, theirs)) is not None:
        return [
            f"{name}: auto {found['mean']:+.1f} points to supervised (95 % {found['low']:+.1f} to "
            f"{found['high']:+.1f}, n = {found['n']}, draws from {found['least']:+.1f} to "
            f"{found['most']:+.1f}; {asked}).{words}"
        ]
    if least is not None:
        return [
            f"{name}: auto at least {least:+.1f} points to supervised over {methods.DRAWS} "
            f"draws: the folds of {len(ours)} are trained, the others count as the worse of both "
            f"methods ({asked}).{words}"
        ]
    if words:  # no other method's network is trained that could be compared
        return [f"{name}: the folds of {len(ours)} of {methods.DRAWS} draws are trained.{words}"]
    return []
