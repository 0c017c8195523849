"""The share of craters in a pool: estimated from few and many labels, against the truth."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress, files
from harness import Bench, Keys, Row, Rows
from unlabeled.methods import REGIONS

NAME = "share"
TITLE = "The pool's share of craters, estimated"
DRAWS = 5
RESULT_VERSION = 2  # 2: the interval of the share tests its fit
BUDGETS = (50, 100, 250, 1000)
SHARES = (0.05, 0.1, 0.2, 0.4)
TARGET = 3.0  # points

_TITLES = {
    "error": ["absolute error, points", 2],
    "bias": ["bias, points", 2],
    "inside": ["inside the 95 % interval", 2],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing trainings."""
    rows = harness.train_missing(bench, NAME, keys(bench), train_cell, progress, _result)
    return _result(rows)


def keys(bench: Bench) -> Keys:
    """Return what the row of each draw depends on."""
    return {
        (region, labels, draw): _key(bench, region, labels, draw)
        for labels in sorted(BUDGETS, reverse=True)
        for region in REGIONS
        for draw in range(min(DRAWS, bench.seeds))
    }


def _key(bench: Bench, region: str, labels: int, draw: int) -> Row:
    path = harness.nanedi_file(bench.data, region.split()[1])
    settings = {"labels": labels, "sha256": files.sha256_of(path)}
    return harness.row_key(bench, region, draw, settings, RESULT_VERSION)


def train_cell(*, send, data: Path, cell: tuple[str, int, int]) -> Row:  # noqa: ARG001
    """Return, for each share, the truth of a drawn pool and its estimate with the interval."""

    from accuracy.fixed_folds.folds import read_fold_set
    from craters.compare import cells
    from craters.core import torch_threads
    from craters.data import make_patch_set
    from craters.evaluation.class_share import estimate_class_share
    from craters.semi_supervised import learn
    from craters.settings import Cell
    from craters.training import RunConfig, Trainer
    from unlabeled.draws import is_copy

    region, labels, draw = cell
    found = read_fold_set(harness.nanedi_file(data, region.split()[1]))
    images = np.asarray(found.images)
    everything = np.arange(len(images))
    rows = cells.draw_labels(found.labels, everything, Cell("any", "compact", labels, draw, 1))
    rest = np.setdiff1d(everything, rows)
    rest = rest[~is_copy(images[rest], images[rows])]
    labeled = make_patch_set(images[rows], found.labels[rows])
    config = RunConfig(data, data, method="fixmatch", start="random", seed=draw, threads=1)
    trainer = Trainer(config.training, ("identity", "up-down"), images[:0])
    clock = time.process_time()
    with torch_threads(1):
        learned = learn("fixmatch", labeled, make_patch_set(images[rest]), trainer, judge=False)
    fitted, truth = learned.supervised, found.labels[rest]
    random = np.random.default_rng(draw)
    shares = {}
    for share in SHARES:
        chosen = draw_pool(truth, share, random)
        pairs = zip(learned.folds.folds, fitted.pool_logits, strict=True)
        asked, logits = zip(*((np.sort(fold.pool), found) for fold, found in pairs), strict=True)
        asked, logits = np.concatenate(asked), np.concatenate(logits)
        drawn = np.isin(asked, chosen)
        one = estimate_class_share(
            labeled.labels, fitted.logits, logits[drawn], pool_groups=asked[drawn]
        )
        shares[f"{share:g}"] = {
            "truth": float(truth[chosen].mean()), "share": one.share, "low": one.low,
            "high": one.high,
        }  # fmt: skip
    return {"shares": shares, "seconds": time.process_time() - clock}


def draw_pool(truth: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Draw as many patches as there are for a share of craters."""
    craters, others = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    count = min(len(craters) / share, len(others) / (1 - share))
    return np.concatenate(
        [
            random.choice(craters, round(count * share), replace=False),
            random.choice(others, round(count * (1 - share)), replace=False),
        ]
    )


def _result(rows: Rows) -> Row:
    """Average over regions and draws, for each budget and share."""
    contenders, findings = [], []
    for labels in BUDGETS:
        found = [row for cell, row in rows.items() if cell[1] == labels]
        if not found:
            continue
        for share in SHARES:
            cases = [row["shares"][f"{share:g}"] for row in found]
            errors = [100 * (case["share"] - case["truth"]) for case in cases]
            table = {
                number: {
                    "error": abs(error), "bias": error,
                    "inside": float(case["low"] <= case["truth"] <= case["high"]),
                }
                for number, (error, case) in enumerate(zip(errors, cases, strict=True))
            }  # fmt: skip
            label = f"{labels} labels, {share:.0%} of the pool"
            contenders.append(harness.contender(label, table, tuple(_TITLES), baseline=False))
        cases = [case for row in found for case in row["shares"].values()]
        errors = [100 * abs(case["share"] - case["truth"]) for case in cases]
        inside = sum(case["low"] <= case["truth"] <= case["high"] for case in cases)
        findings.append(
            f"{labels} labels: {np.mean(errors):.1f} points off on average, at most "
            f"{max(errors):.1f}, over pools of {', '.join(f'{share:.0%}' for share in SHARES)} "
            f"({len(found)} draws of labels; target: {TARGET:g}); the 95 % interval holds the "
            f"truth in {inside} of {len(cases)}."
        )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "So many labels of Nanedi West or Center are drawn, in the class shares of the region; "
            "the rest, without copies of them, is the pool, from which patches are drawn so that a "
            "known share holds a crater. The share is estimated as `craters run` does it: three "
            "networks cross-fitted on the labels, Platt's line, the share of greatest likelihood. "
            "n counts draws of labels in both regions.",
        ],
        settings={"draws": DRAWS, "shares": list(SHARES)},
        titles=_TITLES,
        tables={"Errors": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
    )
