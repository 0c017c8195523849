"""Networks by cross-validation that holds whole regions of Mars out: scores and calibration."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import Bench, Keys, Row, Rows, RowStore

NAME = "region_cv"
TITLE = "Unseen regions: `compact`, `dense` and the original network"
SEEDS = 3
DENSE_SEEDS = 1  # a student takes ten minutes of a slow core
FOLDS = harness.REGION_FOLDS
# Networks of `compact` teach those of `dense`: raise both.
RESULT_VERSION = {"compact": 1, "dense": 1, "measured": 1, "original": 1, "dense-labels": 1}
ARRAYS = ("Xtrain1", "Ytrain1", "groups_train")

_MEASURES = ("macro_f1", "roc_auc", "accuracy", "seconds")
_CALIBRATION = ("temperature", "ece_before", "ece_after", "floor", "above_floor")
_TITLES = {
    "macro_f1": ["macro F1, mean of 5 folds", 4],
    "roc_auc": ["ROC AUC", 4],
    "accuracy": ["accuracy", 4],
    "seconds": ["CPU seconds of training a fold", 1],
    "temperature": ["temperature, mean of 5 folds", 3],
    "ece_before": ["ECE before", 4],
    "ece_after": ["ECE after", 4],
    "floor": ["ECE of a perfectly calibrated model", 4],
    "above_floor": ["ECE after, above that", 4],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing trainings."""
    wanted, rows = keys(bench), Rows()
    call = partial(train_cell, work=_work(bench))
    for group in (plan("compact"), plan("dense", "measured", "original", "dense-labels")):
        part = {cell: wanted[cell] for cell in group}
        anew = _without_weights(bench, group)
        rows |= harness.train_missing(bench, NAME, part, call, progress, anew=anew)
    return _result(rows)


def keys(bench: Bench) -> Keys:
    """Return what the row of each training depends on."""
    return {cell: _key(bench, *cell) for cell in plan(*RESULT_VERSION)}


def _key(bench: Bench, kind: str, seed: int, fold: int) -> Row:
    settings = {"folds": FOLDS, "fold": fold}
    return harness.row_key(bench, kind, seed, settings, RESULT_VERSION[kind])


def plan(*kinds: str) -> list[tuple[str, int, int]]:
    """List the trainings of some kinds: kind, seed, fold.

    "measured" is `compact` on four fifths of the training folds: its validation patches give the
    temperature, as in `craters run`.
    """
    return [
        (kind, seed, fold)
        for kind in kinds
        for seed in range(DENSE_SEEDS if kind.startswith("dense") else SEEDS)
        for fold in range(FOLDS)
    ]


def _work(bench: Bench) -> Path:
    return harness.WORK / NAME / harness.data_hash(bench.data)


def _without_weights(bench: Bench, cells: list[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Find the teachers whose weights are not here while a student still waits for them."""
    store = RowStore(NAME)
    waiting = {
        fold for _, seed, fold in plan("dense")
        if store.find(_key(bench, "dense", seed, fold)) is None
    }  # fmt: skip
    return {
        (kind, seed, fold)
        for kind, seed, fold in cells
        if kind == "compact" and fold in waiting
        and not _weights(_work(bench), seed, fold).is_file()
    }  # fmt: skip


def _weights(work: Path, seed: int, fold: int, kind: str = "compact") -> Path:
    return work / f"{kind}-v{RESULT_VERSION[kind]}-{seed}-{fold}.safetensors"


def dense_weights(bench: Bench, fold: int) -> Path | None:
    """Find the weights of the first `dense` network of a fold, where it was trained here."""
    path = _weights(_work(bench), 0, fold, "dense")
    return path if path.is_file() else None


def train_cell(*, send, data: Path, cell: tuple[str, int, int], work: Path) -> Row:  # noqa: ARG001
    """Train one network and predict its held-out fold; some leave their weights to others."""
    from safetensors.torch import save_file

    from craters.data import patches, splits
    from craters.evaluation import Scored, metrics
    from craters.training import predict_logits, sigmoid

    kind, seed, fold = cell
    found = patches.read_patches(*(data / f"{name}.npy" for name in ARRAYS))
    regions = splits.regions_of(found.groups)
    split = splits.whole_folds(regions, FOLDS)[fold]
    part, held_out = found.take(split.train), found.take(split.validation)
    if kind == "measured":
        apart = splits.validation_split(part, 0.2, seed)
        part, held_out = part.take(apart.train), part.take(apart.validation)
    clock = time.process_time()
    if kind == "dense":
        outside = set(regions[split.validation].tolist())
        network = distill(
            data, part, outside, seed, [_weights(work, n, fold) for n in range(SEEDS)]
        )
    else:
        network = train(kind, part, seed)
    seconds = time.process_time() - clock
    if kind in ("compact", "dense"):
        work.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, _weights(work, seed, fold, kind))
    logits = predict_logits(network, np.asarray(held_out.images))
    figures = metrics.measure(Scored(labels=held_out.labels, probability=sigmoid(logits)))
    names = ("macro_f1", "roc_auc", "accuracy")
    return {name: float(getattr(figures, name)) for name in names} | {
        "seconds": seconds,
        "logits": [round(float(value), 4) for value in logits],
        "labels": held_out.labels.tolist(),
    }


def train(kind: str, part, seed: int):
    """Train one network as `craters run --method supervised` does."""
    from craters.data import augment, splits
    from craters.training import Examples, build_network, fit, recipes

    images = np.asarray(part.images)
    if kind == "original":
        split = splits.validation_split(part, 0.2, seed)
        parts = (
            Examples(images[rows], part.labels[rows]) for rows in (split.train, split.validation)
        )
        return fit(build_network(kind, 48), *parts, recipes.TrainConfig(75, 3e-4, seed=seed))[0]
    symmetry = augment.choose_symmetry("auto", images, part.labels).allowed
    recipe = recipes.modern_recipe(len(part), part.side, seed=seed, symmetry=symmetry)
    name = "dense" if kind == "dense-labels" else "compact"
    return fit(build_network(name, 48, symmetry), Examples(images, part.labels), None, recipe)[0]


def distill(data: Path, part, outside: set[str], seed: int, teachers: list[Path]):
    """Train `dense` by three `compact`, on labels and pool without the held-out regions."""
    from safetensors.torch import load_file

    from craters.data import augment, patches, splits
    from craters.training import Examples, build_network, fit, recipes
    from craters.training.distillation import Distillation, build_teacher

    images = np.asarray(part.images)
    symmetry = augment.choose_symmetry("auto", images, part.labels).allowed
    build = build_network("compact", part.side)
    teacher = build_teacher([load_file(path) for path in teachers], build)
    pool = patches.read_patches(data / "Xtrain1_extra.npy", None, data / "groups_extra.npy")
    inside = ~np.isin(splits.regions_of(pool.groups), list(outside))
    recipe = recipes.distillation_recipe(len(part), part.side, seed=seed, symmetry=symmetry)
    objective = Distillation(teacher, np.asarray(pool.images)[inside], recipe)
    build = build_network("dense", part.side, symmetry)
    return fit(build, Examples(images, part.labels), None, recipe, objective=objective)[0]


def _by_seed(rows: Rows, kind: str) -> dict[int, Row]:
    """Average the folds of each seed."""
    seeds = sorted({seed for found, seed, _ in rows if found == kind})
    return {
        seed: {
            name: float(np.mean([rows[kind, seed, fold][name] for fold in range(FOLDS)]))
            for name in _MEASURES
        }
        for seed in seeds
    }


def calibrate(rows: Rows, seed: int) -> Row:
    """Pool out-of-fold probabilities, each fold after a temperature fitted inside its training."""
    from craters.evaluation import Scored, calibration

    labels, before, after, temperatures = [], [], [], []
    for fold in range(FOLDS):
        measured, held_out = rows["measured", seed, fold], rows["compact", seed, fold]
        temperature = calibration.fit_temperature(
            np.array(measured["labels"]), np.array(measured["logits"], np.float32)
        )
        logits = np.array(held_out["logits"], np.float32)
        labels.append(np.array(held_out["labels"]))
        before.append(calibration.apply_temperature(logits, 1.0))
        after.append(calibration.apply_temperature(logits, temperature))
        temperatures.append(temperature)
    truth, pooled = np.concatenate(labels), np.concatenate(after)
    error = calibration.expected_calibration_error(Scored(labels=truth, probability=pooled))
    floor = calibration.calibration_floor(pooled)[0]
    return {
        "temperature": float(np.mean(temperatures)),
        "ece_before": calibration.expected_calibration_error(
            Scored(labels=truth, probability=np.concatenate(before))
        ),
        "ece_after": error,
        "floor": floor,
        "above_floor": error - floor,
    }


def _result(rows: Rows) -> Row:
    """Assemble the result for docs and README."""
    labels = {"compact": "compact", "dense": "dense", "dense-labels": "dense, labels alone",
              "original": "original"}  # fmt: skip
    by_seed = {kind: _by_seed(rows, kind) for kind in labels}
    labels = {kind: text for kind, text in labels.items() if by_seed[kind]}
    calibrated = {seed: calibrate(rows, seed) for seed in range(SEEDS)}
    for seed, row in calibrated.items():
        by_seed["compact"][seed] |= row
    gain, cost = _difference(by_seed, "original"), _difference(by_seed, "dense", -1)
    above = harness.summarize(row["above_floor"] for row in calibrated.values())
    contenders = [
        harness.contender(text, by_seed[kind], _MEASURES, kind == "original")
        for kind, text in labels.items()
    ]
    contenders[0]["measures"] |= {
        name: harness.summarize(row[name] for row in calibrated.values()) for name in _CALIBRATION
    }
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=_ABOUT,
        settings={"seeds": SEEDS, "dense_seeds": DENSE_SEEDS, "folds": FOLDS},
        titles=_TITLES,
        tables={
            "On held-out regions": _MEASURES,
            "Calibration of `compact`, pooled over the held-out folds": _CALIBRATION,
        },
        contenders=contenders,
        findings=_findings(rows, gain, cost, above),
        comparisons=[
            {
                "label": "compact minus original, paired by seed",
                "measure": "macro_f1",
                "margin": 0.0,
                **gain,
            },
            {
                "label": "dense minus compact, paired by seed",
                "measure": "macro_f1",
                "margin": 0.01,
                **cost,
            },
        ],
    )


_ABOUT = [
    "Five folds of whole regions of themis48's labeled patches, each held out once; the score of "
    "a seed is the mean of its folds.",
    "`compact` is trained on four folds by its recipe, without validation; `original` keeps a "
    "fifth of the groups of its four folds to choose the epoch.",
    "`dense` is taught by the fold's three `compact` networks, on the labeled patches of the four "
    "folds and on the unlabeled pool without images of the held-out regions.",
    "The temperature of a fold comes from another `compact`, trained on four fifths of its four "
    "folds, on the validation patches kept from it, as in `craters run`. One thread a training.",
]


def _difference(by_seed: dict[str, dict[int, Row]], other: str, sign: int = 1) -> Row:
    """Summarize `compact` minus another kind (or the reverse) over the seeds that both have."""
    return harness.summarize(
        sign * (by_seed["compact"][seed]["macro_f1"] - row["macro_f1"])
        for seed, row in by_seed[other].items()
    )


def _findings(rows: Rows, gain: Row, cost: Row, above: Row) -> list[str]:
    folds = [
        np.mean([rows["compact", seed, fold]["macro_f1"] for seed in range(SEEDS)])
        for fold in range(FOLDS)
    ]
    return [
        f"On regions that it has not seen, `compact` gains {100 * gain['mean']:.1f} points of "
        f"macro F1 over the original network (95 % interval over {gain['n']} seeds "
        f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}). Seeds share folds: the interval "
        "says how far training chance moves it, not how far other regions would.",
        f"`dense` lies {100 * cost['mean']:+.1f} points of macro F1 from one `compact` of the same "
        f"seed (n = {cost['n']} seed{'s' if cost['n'] > 1 else ''} x {FOLDS} folds).",
        f"ECE of `compact` after its temperature lies {100 * above['mean']:+.1f} points from its "
        f"floor (n = {above['n']} seeds).",
        "Folds of `compact`, mean of the seeds: " + ", ".join(f"{fold:.3f}" for fold in folds)
        + ".",
    ]  # fmt: skip
