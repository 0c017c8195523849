"""What was tried on `compact`: one change at a time, on the held-out regions of `region_cv`."""

from __future__ import annotations

import numpy as np

import harness
from accuracy import region_cv
from craters.core import Progress
from harness import Bench, Keys, Row, Rows

NAME = "designs"
TITLE = "What was tried on `compact`"
SEEDS = 1
RESULT_VERSION = 1

_MEASURES = ("macro_f1", "roc_auc", "parameters", "seconds")
_TITLES = {
    "macro_f1": ["macro F1, mean of 5 folds", 4],
    "roc_auc": ["ROC AUC", 4],
    "parameters": ["parameters", 0],
    "seconds": ["CPU seconds of training a fold", 1],
}


DESIGNS = {
    "mean": "mean of the map alone",
    "dihedral": "all eight flips and rotations",
    "unshifted": "no random shifts",
    "unflipped": "no flips",
    "mixed": "contrast jitter, half of the batch mixed in pairs",
    "own-scale": "each patch scaled by itself",
    "mean-max": "mean and maximum of the map",
    "narrow": "two thirds of the width",
    "plain-weights": "no average of the weights",
    "hard-labels": "no label smoothing",
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing trainings."""
    from accuracy.design_cells import train_cell

    rows = harness.train_missing(bench, NAME, keys(bench), train_cell, progress, _result)
    return _result(rows)


def keys(bench: Bench) -> Keys:
    """Return what the row of each training depends on."""
    return {
        (name, seed, fold): harness.row_key(
            bench, name, seed, {"folds": region_cv.FOLDS, "fold": fold}, RESULT_VERSION
        )
        for name in DESIGNS
        for seed in range(SEEDS)
        for fold in range(region_cv.FOLDS)
    }


def _result(rows: Rows) -> Row:
    """Compare the complete designs with `compact` of the same seeds."""
    reference = harness.read_result(region_cv.NAME)
    contenders, borrowed = [], []
    for name, what in DESIGNS.items():
        by_seed = {
            seed: [rows.get((name, seed, fold)) for fold in range(region_cv.FOLDS)]
            for seed in range(SEEDS)
        }
        whole = {
            seed: {key: float(np.mean([fold[key] for fold in folds])) for key in _MEASURES}
            for seed, folds in by_seed.items()
            if all(folds)
        }
        if whole:
            contenders.append(harness.contender(what, whole, _MEASURES, baseline=False))
    if reference is not None:
        contenders.append(_reference(reference))
        borrowed = [{"made": made} for made in reference["made"]]
    return harness.result(
        NAME,
        TITLE,
        rows=[*rows.values(), *borrowed],
        about=[
            "One change at a time to network, recipe or random transforms, trained and measured "
            "as `compact` in the table of unseen regions, which is the baseline here. With one "
            "seed, differences under a point are within its noise.",
        ],
        settings={"seeds": SEEDS, "folds": region_cv.FOLDS},
        titles=_TITLES,
        tables={"On held-out regions": _MEASURES},
        contenders=contenders,
        findings=[],
    )


def _reference(found: Row) -> Row:
    """Take `compact` over from the table of unseen regions."""
    from craters.models.networks import CompactNet

    row = next(one for one in found["contenders"] if one["label"] == "compact")
    count = sum(parameter.numel() for parameter in CompactNet().parameters())
    measures = {name: row["measures"][name] for name in _MEASURES if name != "parameters"}
    measures["parameters"] = harness.summarize([count])
    return {"label": "compact as it is", "baseline": True, "rounds": row["rounds"],
            "measures": measures}  # fmt: skip
