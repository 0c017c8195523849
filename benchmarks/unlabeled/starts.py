"""How many labels are enough: training from random and from pretrained weights, and none."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress, files
from harness import MODEL, Bench, Keys, Row, Rows
from unlabeled import methods

NAME = "starts"
TITLE = "How many labels are enough: no label, pretrained and random starts"
DRAWS = 10
FEW_DRAWS = 5  # of random weights, and of methods that use the pool
FEWEST_DRAWS = 3  # of the original system
NONE, PRETRAINED, RANDOM, ORIGINAL = "no label", "pretrained", "random", "original system"
POOLED = ("fixmatch", "self-training")  # from the pretrained model
RESULT_VERSION = {NONE: 2, PRETRAINED: 3, RANDOM: 1, ORIGINAL: 1} | dict.fromkeys(POOLED, 1)
SETS = ("themis48", "nanedi west", "nanedi center")
BUDGETS: tuple[int | str, ...] = (50, 100, 250, "all")  # all: of themis48 only
FEW = BUDGETS[0]

_TITLES = {
    "macro_f1": ["macro F1", 4],
    "roc_auc": ["ROC AUC", 4],
    "average_precision": ["average precision, natural share", 3],
    "seconds": ["CPU seconds", 0],
}

Cell = tuple[str, int | str, str, int]  # data, labels, contender, draw


def run(bench: Bench, progress: Progress) -> Row:
    """Train the missing rows."""
    _windows(bench.data)  # cached as a file once, not by every process
    rows = harness.train_missing(bench, NAME, keys(bench), train_cell, progress, _result)
    return _result(rows)


def keys(bench: Bench) -> Keys:
    """Return what the row of each training depends on."""
    weights = {"weights": files.sha256_of(MODEL / "model.onnx")[:16]}
    return {
        (data, labels, by, draw): harness.row_key(
            bench,
            by,
            draw,
            methods.settings_of(bench, data, labels)
            | ({} if by in (RANDOM, ORIGINAL) else weights),
            RESULT_VERSION[by],
        )
        for data, labels, by, draw in cells(bench.seeds)
    }


def cells(seeds: int) -> list[Cell]:
    """List data, labels, contender and draw of every training, the main ones first."""
    plan = [(data, FEW, NONE, DRAWS) for data in SETS]  # held-out places are the same
    for by, draws in ((PRETRAINED, DRAWS), (RANDOM, FEW_DRAWS)):
        plan += [(data, labels, by, draws) for data in SETS for labels in _budgets(data)]
    plan += [(data, FEW, by, FEW_DRAWS) for by in POOLED for data in SETS]
    plan += [(SETS[0], labels, ORIGINAL, FEWEST_DRAWS) for labels in BUDGETS]
    return [
        (data, labels, by, draw)
        for data, labels, by, draws in plan
        for draw in range(min(draws, seeds))
    ]


def _budgets(data: str) -> tuple[int | str, ...]:
    return BUDGETS if data == SETS[0] else BUDGETS[:-1]


def train_cell(*, send, data: Path, cell: Cell) -> Row:  # noqa: ARG001
    """Train the network that `craters run` would keep, and measure it on held-out places."""
    from craters.core import torch_threads
    from craters.evaluation import Scored, metrics
    from unlabeled.draws import draw_cell

    name, labels, by, draw = cell
    labeled, pool, images, truth, _ = draw_cell(data, name, labels, draw)
    clock = time.process_time()
    with torch_threads(1):
        predict = _train(data, by, labeled, pool, draw)
        seconds = time.process_time() - clock
        found = metrics.measure(Scored(labels=truth, probability=predict(images)))
        row = {
            "macro_f1": found.macro_f1,
            "roc_auc": found.roc_auc,
            "seconds": seconds,
            "labels": 0 if by == NONE else len(labeled),
        }
        if name == SETS[0] and by in (NONE, PRETRAINED, RANDOM):
            row["average_precision"] = _on_windows(data, draw, predict)
    return row


def _train(data: Path, by: str, labeled, pool, draw: int):
    """Return a function that predicts the probability of patches."""
    from craters.models import load_model
    from craters.pipeline import kept_network
    from craters.training import RunConfig, predict_logits, sigmoid

    if by == NONE:
        model = load_model(MODEL, threads=1)
        return lambda images: np.asarray(model.predict_proba(images))
    choice = {
        ORIGINAL: {"method": "original", "network": "original"},
        RANDOM: {"method": "supervised", "start": "random"},
        PRETRAINED: {"method": "supervised"},
    }.get(by, {"method": by})
    network = kept_network(labeled, pool, RunConfig(data, data, seed=draw, threads=1, **choice))
    return lambda images: sigmoid(predict_logits(network, images))


def _on_windows(data: Path, draw: int, predict) -> float:
    """Return the average precision on all windows of the images of the held-out regions."""
    from sklearn.metrics import average_precision_score

    from craters.compare import cells as compared
    from craters.data import splits

    sets = compared.read_compare_data(data)
    drawn = compared.draw_folds(sets, "region", 5).folds
    held_out = splits.regions_of(sets.labeled.take(drawn[draw % len(drawn)].test).groups)
    windows = _windows(data)
    windows = windows.take(np.isin(windows.groups, held_out))
    return float(average_precision_score(windows.labels, predict(windows.images)))


@functools.cache
def _windows(data: Path):
    from pretrained import sets

    return sets.load_sets(data.parent, ("tiles",))[0]


def _result(rows: Rows) -> Row:
    """Compare the contenders on the same draws."""
    contenders, findings, differences = [], [], []
    for data in SETS:
        none = _of(rows, data, FEW, NONE)
        if none:
            contenders.append(_contender(f"{data}: no label", none, is_baseline=False))
        for labels in _budgets(data):
            name = f"{data}, {labels} labels"
            found = {by: _of(rows, data, labels, by) for by in RESULT_VERSION if by != NONE}
            contenders += [
                _contender(f"{name}: {_words(by)}", each, is_baseline=by in (RANDOM, ORIGINAL))
                for by, each in found.items()
                if each
            ]
            pairs = [(PRETRAINED, NONE, none), (PRETRAINED, RANDOM, found[RANDOM])]
            pairs += [(by, PRETRAINED, found[PRETRAINED]) for by in POOLED]
            for by, other, others in pairs:
                if (gap := methods.difference(found[by], others)) is not None:
                    label = f"{name}: {_words(by)} against {_words(other)}"
                    differences.append({"label": f"{label} (n = {gap['n']})"} | gap)
                    findings.append(
                        f"{label} {gap['mean']:+.1f} points (95 % {gap['low']:+.1f} to "
                        f"{gap['high']:+.1f}, n = {gap['n']}, draws from {gap['least']:+.1f} to "
                        f"{gap['most']:+.1f})"
                    )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Draws and held-out places are those of `unlabeled`: a fifth of the regions of "
            "themis48 (48 px), an official fold of Nanedi (28 px). The network that `craters run` "
            "keeps is measured there: by `--method supervised` from the pretrained model and from "
            "random weights, by methods that also use the pool, and the original system "
            "(`--method original --network original`). Average precision is that of all windows "
            "of `themis_tiles`, at half a window's stride, in the same regions.",
            "These sets also chose the recipe and the pretrained network.",
        ],
        settings={"draws": DRAWS, "few_draws": FEW_DRAWS, "network": "compact"},
        titles=_TITLES,
        tables={"Held-out places": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
        differences=differences,
    )


def _contender(label: str, rows: dict[int, Row], *, is_baseline: bool) -> Row:
    measures = [name for name in _TITLES if all(name in row for row in rows.values())]
    return harness.contender(label, rows, tuple(measures), is_baseline)


def _words(by: str) -> str:
    return f"pretrained, {by}" if by in POOLED else by


def _of(rows: Rows, data: str, labels: int | str, by: str) -> dict[int, Row]:
    found = {cell[3]: row for cell, row in rows.items() if cell[:3] == (data, labels, by)}
    return dict(sorted(found.items()))
