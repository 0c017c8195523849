"""Networks by cross-validation that holds whole regions of Mars out: scores and calibration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from harness import Bench, Row, RowStore

NAME = "region_cv"
TITLE = "Unseen regions: `compact`, `dense` and the original network"
SEEDS = 3
DENSE_SEEDS = 1  # a student takes ten minutes of a slow core
FOLDS = 5

_MODULES = ("augment", "distill", "networks", "patches", "recipes", "splits", "train")
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


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do the missing trainings; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    teachers = [cell for cell in plan() if cell[0] == "compact"]
    others = [cell for cell in plan() if cell[0] != "compact"]
    return _result({**measured(bench, teachers, say), **measured(bench, others, say)})


def plan() -> list[tuple[str, int, int]]:
    """List every training: kind, seed, fold.

    "measured" is `compact` on four fifths of the training folds: its validation patches give the
    temperature, as in `craters run`.
    """
    seeds = {
        "compact": SEEDS, "dense": DENSE_SEEDS, "measured": SEEDS, "original": SEEDS,
        "dense-labels": DENSE_SEEDS,
    }  # fmt: skip
    return [
        (kind, seed, fold)
        for kind, count in seeds.items()
        for seed in range(count)
        for fold in range(FOLDS)
    ]


def measured(
    bench: Bench, cells: list[tuple[str, int, int]], say: Callable[[str], None]
) -> dict[tuple[str, int, int], Row]:
    """Return the row of each cell: stored, or trained now, side by side on all CPUs."""
    from craters.parallel import Task, run_tasks

    store, rows, waiting = RowStore(NAME), {}, {}
    for cell in cells:
        row = None if bench.again else store.find(_key(bench, *cell))
        if row is not None and _is_whole(bench, *cell):
            rows[cell] = row
        else:
            waiting["/".join(map(str, cell))] = cell
    tasks = [
        Task(name, train_cell, {"data": bench.data, "cell": cell, "work": _work(bench)})
        for name, cell in waiting.items()
    ]
    for name, row in run_tasks(tasks, threads=len(harness.usable_cpus())):
        cell = waiting[name]
        store.add(_key(bench, *cell), row)
        rows[cell] = row
        say(f"{name}: macro F1 {row['macro_f1']:.4f}, {row['seconds']:.0f} s")
    return rows


def _key(bench: Bench, kind: str, seed: int, fold: int) -> Row:
    settings = {"folds": FOLDS, "fold": fold}
    return harness.row_key(bench, kind, seed, settings, harness.versions(), code())


def code() -> list[Path]:
    return [path for path in harness.package_modules() if path.stem in _MODULES]


def _work(bench: Bench) -> Path:
    return harness.WORK / NAME / f"{harness.data_hash(bench.data)}-{harness.code_hash(code())}"


def _is_whole(bench: Bench, kind: str, seed: int, fold: int) -> bool:
    """Tell whether the teachers' weights are here, as long as a student still waits for them."""
    if kind != "compact":
        return True
    waiting = [
        one for one in range(DENSE_SEEDS)
        if RowStore(NAME).find(_key(bench, "dense", one, fold)) is None
    ]  # fmt: skip
    return not waiting or _weights(_work(bench), seed, fold).is_file()


def _weights(work: Path, seed: int, fold: int, kind: str = "compact") -> Path:
    return work / f"{kind}-{seed}-{fold}.safetensors"


def dense_weights(bench: Bench, fold: int) -> Path | None:
    """Find the weights of the first `dense` network of a fold, where it was trained here."""
    path = _weights(_work(bench), 0, fold, "dense")
    return path if path.is_file() else None


def train_cell(*, tell, data: Path, cell: tuple[str, int, int], work: Path) -> Row:  # noqa: ARG001
    """Train one network and predict its held-out fold; some leave their weights to others."""
    from safetensors.torch import save_file

    from craters import evaluate, patches, splits
    from craters.train import predict_logits, sigmoid

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
        network = distill(data, part, outside, seed, [_weights(work, n, fold) for n in range(3)])
    else:
        network = train(kind, part, seed)
    seconds = time.process_time() - clock
    if kind in ("compact", "dense"):
        work.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, _weights(work, seed, fold, kind))
    logits = predict_logits(network, np.asarray(held_out.images))
    figures = evaluate.measure(held_out.labels, sigmoid(logits))
    names = ("macro_f1", "roc_auc", "accuracy")
    return {name: float(getattr(figures, name)) for name in names} | {
        "seconds": seconds,
        "logits": [round(float(value), 4) for value in logits],
        "labels": held_out.labels.tolist(),
    }


ARRAYS = ("Xtrain1", "Ytrain1", "groups_train")


def train(kind: str, part, seed: int):
    """Train one network as `craters run --method supervised` does."""
    from craters import augment, recipes, splits
    from craters.train import Examples, build_network, fit

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

    from craters import augment, patches, recipes, splits
    from craters.distill import Distillation, build_teacher
    from craters.train import Examples, build_network, fit

    images = np.asarray(part.images)
    symmetry = augment.choose_symmetry("auto", images, part.labels).allowed
    teacher = build_teacher([load_file(path) for path in teachers], part.side)
    pool = patches.read_patches(data / "Xtrain1_extra.npy", None, data / "groups_extra.npy")
    inside = ~np.isin(splits.regions_of(pool.groups), list(outside))
    recipe = recipes.distillation_recipe(len(part), part.side, seed=seed, symmetry=symmetry)
    objective = Distillation(teacher, np.asarray(pool.images)[inside], recipe)
    build = build_network("dense", part.side, symmetry)
    return fit(build, Examples(images, part.labels), None, recipe, objective=objective)[0]


def _by_seed(rows: dict[tuple[str, int, int], Row], kind: str) -> dict[int, Row]:
    """Average the folds of each seed."""
    seeds = sorted({seed for found, seed, _ in rows if found == kind})
    return {
        seed: {
            name: float(np.mean([rows[kind, seed, fold][name] for fold in range(FOLDS)]))
            for name in _MEASURES
        }
        for seed in seeds
    }


def calibrate(rows: dict[tuple[str, int, int], Row], seed: int) -> Row:
    """Pool out-of-fold probabilities, each fold after a temperature fitted inside its training."""
    from craters import calibration

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
    error = calibration.expected_calibration_error(truth, pooled)
    floor = calibration.calibration_floor(pooled)[0]
    return {
        "temperature": float(np.mean(temperatures)),
        "ece_before": calibration.expected_calibration_error(truth, np.concatenate(before)),
        "ece_after": error,
        "floor": floor,
        "above_floor": error - floor,
    }


def _result(rows: dict[tuple[str, int, int], Row]) -> Row:
    """Gather what docs and README show."""
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


def _findings(rows: dict[tuple[str, int, int], Row], gain: Row, cost: Row, above: Row) -> list[str]:
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
