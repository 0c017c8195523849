"""The audit: planted label flips on themis48, the copies of Nanedi, 100,000 patches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from harness import Bench, Row, RowStore

NAME = "audit"
TITLE = "The audit: flipped labels, copies, and 100,000 patches"
DRAWS, FOLDS, FLIPPED, LOOKED_AT = 5, 5, 0.05, 0.10
PATCHES = 100_000
ROUNDS = 3
REGIONS = ("west", "center")

_TRAINING = (
    "audit_labels", "augment", "kfold", "networks", "patches", "recipes", "splits", "train",
)  # fmt: skip
_SEARCH = ("audit_copies", "splits")
_TITLES = {
    "found": [f"share of the flipped in the top {LOOKED_AT:.0%}", 3],
    "top_5": ["share of the flipped in the top 5 %", 3],
    "suspected": ["share of the flipped that are suspected", 3],
    "wall_s": ["seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
    "equal": ["equal copies found, of all", 4],
    "near": ["near copies found, of all", 4],
}
_FLIPS, _TIMES, _COPIES = ("found", "top_5", "suspected"), ("wall_s", "cpu_s", "peak_mib"), (
    "equal", "near",
)  # fmt: skip


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do what is missing; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    flips = {draw: score(bench, draw, rows) for draw, rows in _trained(bench, say).items()}
    return _result(flips, _copies(bench, say), _timed(bench, say))


# Flipped labels


def flip(labels: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Flip labels at random; return all labels and the rows that were flipped."""
    random = np.random.default_rng([20, draw])
    rows = random.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    changed = labels.copy()
    changed[rows] = 1 - changed[rows]
    return changed, np.sort(rows)


def _labeled(data: Path, draw: int):
    import dataclasses

    from craters import patches

    arrays = ("Xtrain1", "Ytrain1", "groups_train")
    found = patches.read_patches(*(data / f"{name}.npy" for name in arrays))
    return dataclasses.replace(found, labels=flip(found.labels, draw)[0])


def _folds(data: Path, draw: int):
    """Draw the folds of the audit's first round."""
    from craters import audit_copies, audit_labels

    labeled = _labeled(data, draw)
    families = audit_copies.search_copies(np.asarray(labeled.images)).families
    drawn = audit_labels.draw_folds(labeled, families, folds=FOLDS, rounds=1, seed=draw)
    return labeled, drawn


def train_cell(*, tell, data: Path, draw: int, fold: int) -> Row:
    """Train without one fold on flipped labels, and predict it as the audit does."""
    from craters import audit_labels

    labeled, drawn = _folds(data, draw)
    one, images = drawn[fold], np.asarray(labeled.images)
    clock = time.process_time()
    logits = audit_labels.train_fold(
        tell=tell,
        images=images[one.train],
        labels=labeled.labels[one.train],
        held_out=images[one.held_out],
        seed=one.seed,
    )
    return {
        "rows": one.held_out.tolist(),
        "logits": [round(float(value), 4) for value in logits],
        "seconds": time.process_time() - clock,
    }


def _trained(bench: Bench, say: Callable[[str], None]) -> dict[int, list[Row]]:
    """Return the folds of every draw: stored, or trained now, side by side on all CPUs."""
    from craters.parallel import Task, run_tasks

    store, rows, waiting = RowStore(NAME), {}, {}
    for draw in range(DRAWS):
        for fold in range(FOLDS):
            row = None if bench.again else store.find(_training_key(bench, draw, fold))
            if row is None:
                waiting[f"flips/{draw}/{fold}"] = (draw, fold)
            else:
                rows[draw, fold] = row
    tasks = [
        Task(name, train_cell, {"data": bench.data, "draw": draw, "fold": fold})
        for name, (draw, fold) in waiting.items()
    ]
    for name, row in run_tasks(tasks, threads=len(harness.usable_cpus())):
        draw, fold = waiting[name]
        store.add(_training_key(bench, draw, fold), row)
        rows[draw, fold] = row
        say(f"{name}: {row['seconds']:.0f} CPU s")
    return {draw: [rows[draw, fold] for fold in range(FOLDS)] for draw in range(DRAWS)}


def _training_key(bench: Bench, draw: int, fold: int) -> Row:
    settings = {"folds": FOLDS, "fold": fold, "flipped": FLIPPED}
    return harness.row_key(bench, "flips", draw, settings, harness.versions(), _code(_TRAINING))


def _code(names: tuple[str, ...]) -> list[Path]:
    return [path for path in harness.package_modules() if path.stem in names]


def score(bench: Bench, draw: int, folds: list[Row]) -> Row:
    """Rank the labels of a draw, and look for the flipped ones at the top."""
    from craters.audit_labels import confident_learning

    truth = np.load(bench.data / "Ytrain1.npy").ravel()
    labels, flipped = flip(truth, draw)
    logits = np.full(len(labels), np.nan)
    for fold in folds:
        logits[fold["rows"]] = fold["logits"]
    found = confident_learning(labels, 1 / (1 + np.exp(-logits)))

    def share(top: float) -> float:
        return float(np.isin(flipped, found.order[: round(top * len(labels))]).mean())

    return {
        "found": share(LOOKED_AT),
        "top_5": share(FLIPPED),
        "suspected": float(found.suspected[flipped].mean()),
    }


# Copies of Nanedi


def _copies(bench: Bench, say: Callable[[str], None]) -> dict[int, Row]:
    """Hold the search against a comparison of all pairs of West and Center, pixel by pixel."""
    from craters.audit_copies import search_copies

    paths = [bench.data.parent / "nanedi28" / f"{region}.npz" for region in REGIONS]
    if not all(path.is_file() for path in paths):
        say(f"left out: {paths[0].parent} does not hold {' and '.join(p.name for p in paths)}")
        return {}
    images = np.concatenate([np.load(path)["X"].reshape(-1, 28, 28) for path in paths])
    found = search_copies(images, shift=0)
    equal, near = brute_force(images)
    row = {
        "equal": float(found.is_repeated[equal].mean()),
        "near": float(found.is_near[near].mean()),
        "n_equal": int(equal.sum()),
        "n_near": int(near.sum()),
        "too_many": int((found.is_repeated & ~equal).sum() + (found.is_near & ~near).sum()),
    }
    say(f"Nanedi: {row['n_equal']} equal, {row['n_near']} near, {row['too_many']} too many")
    return {0: row}


def brute_force(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell of each patch whether another is equal, and whether one of other pixels is near."""
    flat = images.reshape(len(images), -1)
    _, content, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    centred = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, np.inf)
    near = np.zeros(len(images), bool)
    for row, one in enumerate(unit):
        near[row] = ((unit @ one > 0.95) & (content.ravel() != content.ravel()[row])).any()
    return counts[content.ravel()] > 1, near


# 100,000 patches


def synthetic(count: int) -> np.ndarray:
    """Make different patches by laying patches of the procedural Mars over each other."""
    from craters import make_patches

    base = make_patches(2000, crater_share=0.5, seed=0).images
    random = np.random.default_rng(0)
    made = np.empty((count, *base.shape[1:]), np.uint8)
    for start in range(0, count, 1000):
        part = made[start : start + 1000]
        first, second = random.integers(0, len(base), (2, len(part)))
        weight = random.uniform(0.35, 0.65, (len(part), 1, 1))
        part[:] = base[first] * weight + base[second][:, ::-1] * (1 - weight)
    return made


def plant(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plant equal and near copies into the last tenth; return the rows of each kind."""
    random = np.random.default_rng(1)
    rows = np.arange(len(images) - len(images) // 10, len(images))
    equal, near = np.array_split(rows, 2)
    images[equal] = images[random.integers(0, rows[0], len(equal))]
    source = images[random.integers(0, rows[0], len(near))]
    images[near] = np.clip(source * 0.9 + random.normal(8, 1, source.shape), 0, 255)
    return equal, near


def search_many(path: Path, out: Path) -> None:
    """Search stored patches for copies; a process of its own, whose memory is measured."""
    from craters.audit_copies import search_copies

    images = np.load(path)
    clock = time.perf_counter()
    found = search_copies(images, threads=len(harness.usable_cpus()))
    seconds = time.perf_counter() - clock
    np.savez(out, repeated=found.is_repeated, near=found.is_near, seconds=seconds)


def _timed(bench: Bench, say: Callable[[str], None], count: int = PATCHES) -> dict[int, Row]:
    """Search so many patches, in rounds; planted copies have to be found."""
    store, rows = RowStore(NAME), {}
    for number in range(ROUNDS):
        settings = {"patches": count, "cpus": len(harness.usable_cpus())}
        key = harness.row_key(bench, "search", number, settings, harness.versions(), _code(_SEARCH))
        row = None if bench.again else store.find(key)
        if row is None:
            row = measure_search(count)
            store.add(key, row)
        say(f"{count:,} patches: {row['wall_s']:.0f} s, {row['peak_mib']:.0f} MiB")
        rows[number] = row
    return rows


def measure_search(count: int) -> Row:
    """Measure one search in a process of its own."""
    work = harness.WORK / NAME
    work.mkdir(parents=True, exist_ok=True)
    path, out = work / f"patches-{count}.npy", work / f"found-{count}.npz"
    images = synthetic(count)
    equal, near = plant(images)
    np.save(path, images)
    del images
    command = [sys.executable, __file__, str(path), str(out)]
    usage = harness.measure_process(command, work / "log.txt", cpus=harness.usable_cpus())
    found = np.load(out)
    return {
        "wall_s": round(float(found["seconds"]), 1),
        "cpu_s": usage.cpu_s,
        "peak_mib": usage.peak_mib,
        "equal": float(found["repeated"][equal].mean()),
        "near": float((found["near"] | found["repeated"])[near].mean()),
    }


def _result(flips: dict[int, Row], copies: dict[int, Row], timed: dict[int, Row]) -> Row:
    contenders = [
        harness.contender("5 % of themis48's labels flipped", flips, _FLIPS, False),
        harness.contender(f"search of {PATCHES:,} patches", timed, (*_TIMES, *_COPIES), False),
    ]
    if copies:
        contenders.append(harness.contender("Nanedi, West and Center", copies, _COPIES, False))
    return {
        "title": TITLE,
        "about": [
            f"{FLIPPED:.0%} of the labels of themis48 are flipped at random, {DRAWS} draws; each "
            f"patch is predicted by one `compact` of {FOLDS}, trained on the flipped labels of "
            "other source images, and labels are ranked by the probability that they get.",
            "Copies of Nanedi are held against a comparison of all pairs.",
            f"{PATCHES:,} patches are mixed from the procedural Mars; a twentieth are equal "
            "copies, a twentieth near ones; near copies moved by one pixel are looked for, too.",
        ],
        "command": f".venv/bin/python benchmarks/bench.py full --only {NAME}",
        "settings": {"draws": DRAWS, "folds": FOLDS, "flipped": FLIPPED, "patches": PATCHES},
        "hardware": harness.hardware(),
        "versions": harness.versions(),
        "titles": _TITLES,
        "tables": {"Flipped labels": _FLIPS, "Copies": _COPIES, "Time and memory": _TIMES},
        "contenders": contenders,
        "comparisons": [],
        "findings": _findings(flips, copies, timed),
    }


def _findings(flips: dict[int, Row], copies: dict[int, Row], timed: dict[int, Row]) -> list[str]:
    shares = ", ".join(f"{row['found']:.2f}" for row in flips.values())
    mean = float(np.mean([row["found"] for row in flips.values()]))
    slowest = max(timed.values(), key=lambda row: row["wall_s"])
    lines = [
        f"Of the flipped labels, {mean:.1%} are in the audit's top {LOOKED_AT:.0%} ({DRAWS} draws: "
        f"{shares}).",
        f"The search of {PATCHES:,} patches takes {slowest['wall_s']:.0f} s and "
        f"{slowest['peak_mib']:.0f} MiB at most, of {len(timed)} rounds; of the planted copies it "
        f"finds {slowest['equal']:.1%} of the equal and {slowest['near']:.1%} of the near ones.",
    ]
    lines += [
        f"Nanedi: {row['equal']:.1%} of {row['n_equal']} patches with an equal one and "
        f"{row['near']:.1%} of {row['n_near']} with a near copy are found, {row['too_many']} too "
        "many."
        for row in copies.values()
    ]
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 2:  # a trial: python benchmarks/audit.py COUNT
        print(json.dumps(measure_search(int(sys.argv[1])), indent=2))
    else:
        search_many(Path(sys.argv[1]), Path(sys.argv[2]))
