"""Networks by cross-validation that holds whole regions of Mars out."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import harness
from harness import Bench, Row, RowStore

NAME = "region_cv"
TITLE = "Unseen regions: the original network and `compact`"
SEEDS = 3
NETWORKS = ("compact", "original")

_MEASURES = ("macro_f1", "roc_auc", "accuracy", "seconds")
_TITLES = {
    "macro_f1": ["macro F1, mean of 5 folds", 4],
    "roc_auc": ["ROC AUC", 4],
    "accuracy": ["accuracy", 4],
    "seconds": ["CPU seconds of training a fold", 1],
}


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Run the missing seeds; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    store, rows = RowStore(NAME), {name: {} for name in NETWORKS}
    for seed in range(SEEDS):
        for name in NETWORKS:
            key = harness.row_key(
                bench, name, seed, {"folds": 5}, harness.versions(), harness.training_modules()
            )
            row = None if bench.again else store.find(key)
            if row is None:
                row = cross_validate(bench, name, seed)
                store.add(key, row)
            rows[name][seed] = row
            say(f"{name}, seed {seed}: macro F1 {row['macro_f1']:.4f}")
    return _result(rows)


def cross_validate(bench: Bench, name: str, seed: int) -> Row:
    """Train on four folds and measure on the fifth, five times."""
    from craters import evaluate, patches, splits
    from craters.train import predict_logits, sigmoid, torch_threads

    found = patches.read_patches(
        bench.data / "Xtrain1.npy", bench.data / "Ytrain1.npy", bench.data / "groups_train.npy"
    )
    figures, seconds = [], []
    for split in splits.whole_folds(splits.regions_of(found.groups)):
        clock = time.process_time()
        with torch_threads(1):
            network = train(name, found.take(split.train), seed)
            seconds.append(time.process_time() - clock)
            held_out = found.take(split.validation)
            probability = sigmoid(predict_logits(network, np.asarray(held_out.images)))
        figures.append(evaluate.measure(held_out.labels, probability))
    return {
        "macro_f1": float(np.mean([one.macro_f1 for one in figures])),
        "roc_auc": float(np.mean([one.roc_auc for one in figures])),
        "accuracy": float(np.mean([one.accuracy for one in figures])),
        "seconds": float(np.mean(seconds)),
        "folds": [one.macro_f1 for one in figures],
    }


def train(name: str, part, seed: int):
    """Train one network as `craters run --method supervised` does, without its last refit."""
    from craters import augment, recipes, splits
    from craters.train import Examples, build_network, fit

    images = np.asarray(part.images)
    if name == "original":
        split = splits.validation_split(part, 0.2, seed)
        parts = (
            Examples(images[rows], part.labels[rows]) for rows in (split.train, split.validation)
        )
        return fit(build_network(name, 48), *parts, recipes.TrainConfig(75, 3e-4, seed=seed))[0]
    symmetry = augment.choose_symmetry("auto", images, part.labels).allowed
    recipe = recipes.modern_recipe(len(part), part.side, seed=seed, symmetry=symmetry)
    return fit(build_network(name, 48, symmetry), Examples(images, part.labels), None, recipe)[0]


def _result(rows: dict[str, dict[int, Row]]) -> Row:
    gain = harness.summarize(
        rows["compact"][seed]["macro_f1"] - rows["original"][seed]["macro_f1"]
        for seed in rows["compact"]
    )
    folds = np.mean([row["folds"] for row in rows["compact"].values()], axis=0)
    return {
        "title": TITLE,
        "about": [
            "Five folds of whole regions of themis48's labeled patches, each held out once; the "
            "score of a seed is the mean of its folds.",
            "`compact` is trained on four folds by its recipe, without validation; `original` "
            "keeps a fifth of the groups of its four folds to choose the epoch. One thread.",
        ],
        "command": f".venv/bin/python benchmarks/bench.py full --only {NAME}",
        "settings": {"seeds": SEEDS, "folds": 5},
        "hardware": harness.hardware(),
        "versions": harness.versions(),
        "titles": _TITLES,
        "tables": {"On held-out regions": _MEASURES},
        "contenders": [
            harness.contender(name, rows[name], _MEASURES, name == "original") for name in NETWORKS
        ],
        "comparisons": [
            {
                "label": "compact minus original, paired by seed",
                "measure": "macro_f1",
                "margin": 0.0,
                **gain,
            }
        ],
        "findings": [
            f"On regions that it has not seen, `compact` gains {100 * gain['mean']:.1f} points of "
            f"macro F1 over the original network (95 % interval over {gain['n']} seeds "
            f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}).",
            "Folds of `compact`, mean of the seeds: "
            + ", ".join(f"{fold:.3f}" for fold in folds)
            + ".",
        ],
    }
