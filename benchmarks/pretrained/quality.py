"""The shipped network on real images, with no label used: quality by set, and when turned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from accuracy import region_cv
from craters.core import Progress, files
from harness import MODEL, Bench, BenchError, Keys, Row, Rows
from pretrained import sets

NAME = "pretrained"
TITLE = "No label used: the shipped network on real images"
RESULT_VERSION = 1
DRAWS = 1000  # of the bootstrap over groups

_TITLES = {
    "macro_f1": ["macro F1 at 0.5", 3],
    "best_macro_f1": ["macro F1, best threshold", 3],
    "roc_auc": ["ROC AUC", 3],
    "average_precision": ["average precision", 3],
    "false_per_megapixel": ["false windows a megapixel, recall 0.8", 1],
    "least_turned": ["least macro F1 of the eight ways", 3],
    "span_turned": ["greatest minus least", 3],
}
_TABLES = {
    "Labeled patches": ("macro_f1", "roc_auc"),
    "Windows of a grid": ("average_precision", "roc_auc", "false_per_megapixel"),
    "At the threshold that is best for the set, chosen on its labels": ("best_macro_f1",),
    "Patches mirrored and turned, eight ways": ("least_turned", "span_turned"),
}


def run(bench: Bench, progress: Progress) -> Row:
    """Predict the sets whose rows are missing."""

    def find(name: str, _: int) -> Row:
        row = measure(name, bench.data.parent)
        progress.say(f"{name}: macro F1 {row['whole']['macro_f1']:.4f}, n = {row['whole']['n']}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), find))


def keys(bench: Bench) -> Keys:
    """Return what the row of each set depends on."""
    graph = MODEL / "model.onnx"
    if not graph.is_file():
        raise BenchError(f"{graph}: missing; `craters pretrain` makes it")
    model, data = files.sha256_of(graph), bench.data.parent
    return {
        (name, 0): harness.row_key(
            bench, name, 0, {"set": sets.fingerprint(name, data), "model": model}, RESULT_VERSION
        )
        for name in sets.NAMES
        if sets.folder_of(name, data).is_dir()
    }


def predictor(model: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the prediction that is measured: images and groups to probabilities.

    The direction of light is estimated for each image; of `themis48`, for all patches together.
    """
    from craters.models import load_model

    classifier = load_model(model)

    def predict(images: np.ndarray, groups: np.ndarray) -> np.ndarray:
        if classifier.description.light is None:  # of a trial
            return classifier.probability(classifier.logits(images))
        lights = classifier.find_light(images, groups=groups)
        return classifier.probability(classifier.logits(images, azimuth=lights.azimuth))

    return predict


def measure(name: str, data: Path) -> Row:
    """Measure a set as a whole, by group and by half; patches also mirrored and turned."""
    from pretrained import scores

    predict = predictor(MODEL)
    (one,) = sets.load_sets(data, (name,))
    probability = predict(one.images, one.groups)
    row: Row = {"whole": scores.evaluate_set(one, probability, draws=DRAWS)}
    for number in (0, 1):
        rows = np.flatnonzero(sets.in_half(one, number))
        if 0 < len(rows) < len(one):
            half = scores.figures(one.labels[rows], probability[rows], one.stride)
            row[f"half {number + 1}"] = half
    if not one.stride:
        row["turned"] = scores.turned_macro_f1(one, predict)
    return row


def _result(rows: Rows) -> Row:
    """Assemble the result; networks trained on labels come from `region_cv`."""
    contenders = [one for (name, _), row in rows.items() for one in _contenders(name, row)]
    reference = harness.read_result(region_cv.NAME)
    borrowed = []
    if reference is not None:
        contenders += _references(reference)
        borrowed = [{"made": made} for made in reference["made"]]
    return harness.result(
        NAME,
        TITLE,
        rows=[*rows.values(), *borrowed],
        about=[
            "The network that ships with the package, trained on synthetic images alone, on the "
            "sets of `benchmarks/pretrained/sets.py`. Rows of 1,217 labels are those of the table "
            "of unseen regions: trained on the other regions of `themis48`.",
            "Windows lie on a grid of half a window. With crater: at least half of the disc of a "
            "listed crater is inside; without: none touches the window; others are left out. "
            "False windows are counted per million pixels of the windows that have a label. "
            "`ctx_mars` lists craters incompletely: a false window may show one.",
            "Halves are whole regions or images: what is chosen on one half is reported on the "
            "other.",
        ],
        settings={"recall": 0.8, "draws": DRAWS},
        titles=_TITLES,
        tables=_TABLES,
        contenders=contenders,
        findings=[line for (name, _), row in rows.items() for line in _findings(name, row)],
        sets={
            name: {key: each for key, each in row["whole"].items() if key != "groups"}
            for (name, _), row in rows.items()
        },
    )


def _contenders(name: str, row: Row) -> list[Row]:
    """Return a table's row for the whole set and for each half."""
    found = []
    for part in ("whole", "half 1", "half 2"):
        if part not in row:
            continue
        figures = dict(row[part])
        if part == "whole" and "turned" in row:
            scores = row["turned"].values()
            figures |= {"least_turned": min(scores), "span_turned": max(scores) - min(scores)}
        is_grid = "false_per_megapixel" in figures
        measures = [
            measure for measure in _TITLES
            if figures.get(measure) is not None
            and measure not in (("macro_f1",) if is_grid else ("average_precision",))
        ]  # fmt: skip
        words = "" if part == "whole" else f", {part}"
        label = f"`{name}`{words}: {figures['n']:,}, {figures['crater_share']:.1%} craters"
        found.append(harness.contender(label, {0: figures}, measures, baseline=False))
    return found


def _references(found: Row) -> list[Row]:
    """Take the networks trained on labels over from the table of unseen regions."""
    return [
        {
            "label": f"`themis48`, {one['label']}, trained on 1,217 labels",
            "baseline": one["baseline"],
            "rounds": one["rounds"],
            "measures": {measure: one["measures"][measure] for measure in ("macro_f1", "roc_auc")},
        }
        for one in found["contenders"]
        if one["label"] in ("compact", "original")
    ]


def _findings(name: str, row: Row) -> list[str]:
    """Say the interval over groups, and the worst group."""
    whole, measure = row["whole"], "average_precision" if name in sets.RULES else "macro_f1"
    words = {"average_precision": "average precision", "macro_f1": "macro F1"}[measure]
    lines = []
    by_group = {
        group: each[measure] for group, each in whole["groups"].items() if each[measure] is not None
    }
    if "intervals" in whole:
        low, high = whole["intervals"][measure]
        lines.append(
            f"{name}: {words} {whole[measure]:.3f} (95 % interval over {len(whole['groups'])} "
            f"groups {low:.3f} to {high:.3f}, percentile bootstrap)."
        )
    if len(by_group) > 1:
        worst = min(by_group, key=by_group.__getitem__)
        lines.append(f"{name}: {words} is least in {worst}, {by_group[worst]:.3f}.")
    return lines
