"""The audit: flipped labels, copies, findings on real arrays, 100,000 patches."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import harness
from accuracy.nanedi import region_files
from craters.core import Progress
from harness import Bench, Keys, Row

NAME = "audit"
TITLE = "The audit: flipped labels, copies, and 100,000 patches"
RESULT_VERSION = {"flips": 1, "many": 1}
DRAWS, FOLDS, FLIPPED, LOOKED_AT = 5, 5, 0.05, 0.10
PATCHES = 100_000
ROUNDS = 3

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


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows.

    The copies of Nanedi and the real arrays are looked at in every full call.
    """
    folds = harness.train_missing(bench, NAME, _flip_keys(bench), train_cell, progress)
    flips = {
        draw: score(bench, draw, [folds["flips", draw, fold] for fold in range(FOLDS)])
        for draw in range(DRAWS)
    }
    copies = _copies(bench, progress)

    def measure(_: str, number: int) -> Row:
        row = measure_audit(PATCHES)
        progress.say(f"round {number}: {row['wall_s']:.0f} s, {row['peak_mib']:.0f} MiB")
        return row

    many = harness.measure_missing(bench, NAME, _many_keys(bench), measure)
    rows = [*folds.values(), *many.values(), {"made": harness.made()}]
    timed = harness.by_contender(many, ["many"])["many"]
    return _result(rows, flips, copies, timed, _examined(bench))


def keys(bench: Bench) -> Keys:
    """Return what the row of each training, and of each round of the many patches, depends on."""
    return _flip_keys(bench) | _many_keys(bench)


def _flip_keys(bench: Bench) -> Keys:
    settings, version = {"folds": FOLDS, "flipped": FLIPPED}, RESULT_VERSION["flips"]
    return {
        ("flips", draw, fold): harness.row_key(
            bench, "flips", draw, settings | {"fold": fold}, version
        )
        for draw in range(DRAWS)
        for fold in range(FOLDS)
    }


def _many_keys(bench: Bench) -> Keys:
    settings = {"patches": PATCHES, "cpus": len(harness.usable_cpus())}
    return {
        ("many", number): harness.row_key(bench, "many", number, settings, RESULT_VERSION["many"])
        for number in range(ROUNDS)
    }


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

    from craters.data import patches

    arrays = ("Xtrain1", "Ytrain1", "groups_train")
    found = patches.read_patches(*(data / f"{name}.npy" for name in arrays))
    return dataclasses.replace(found, labels=flip(found.labels, draw)[0])


def _folds(data: Path, draw: int):
    """Draw the folds of the audit's first round."""
    from craters.data import search_copies
    from craters.quality import label_errors

    labeled = _labeled(data, draw)
    families = search_copies(np.asarray(labeled.images)).families
    drawn = label_errors.draw_folds(labeled, families, folds=FOLDS, rounds=1, seed=draw)
    return labeled, drawn


def train_cell(*, send, data: Path, cell: tuple[str, int, int]) -> Row:
    """Train without one fold on flipped labels, and predict it as the audit does."""
    from craters.quality import label_errors

    _, draw, fold = cell
    labeled, drawn = _folds(data, draw)
    one, images = drawn[fold], np.asarray(labeled.images)
    clock = time.process_time()
    logits = label_errors.train_fold(
        send=send,
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


def score(bench: Bench, draw: int, folds: list[Row]) -> Row:
    """Rank the labels of a draw, and look for the flipped ones at the top."""
    from craters.quality.label_errors import confident_learning

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


def _copies(bench: Bench, progress: Progress) -> dict[int, Row]:
    """Hold the search against a comparison of all pairs of West and Center, pixel by pixel."""
    from craters.data import search_copies

    paths = region_files(bench)
    if not all(path.is_file() for path in paths):
        progress.say(
            f"left out: {paths[0].parent} does not hold {' and '.join(p.name for p in paths)}"
        )
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
    progress.say(
        f"Nanedi: {row['n_equal']} equal, {row['n_near']} near, {row['too_many']} too many"
    )
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
    """Make different patches by combining synthetic patches."""
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


def measure_audit(count: int) -> Row:
    """Measure one audit in a process of its own: a tenth of the patches is labeled, at random."""
    work = harness.WORK / NAME
    folder, out = work / f"many-{count}", work / f"found-{count}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    images = synthetic(count)
    equal, near = plant(images)
    labeled = count // 10
    np.save(folder / "Xtrain1.npy", images[:labeled].reshape(labeled, -1))
    np.save(folder / "Ytrain1.npy", np.arange(labeled) % 2)
    np.save(folder / "Xtrain1_extra.npy", images[labeled:].reshape(count - labeled, -1))
    del images
    script = Path(__file__).parent / "peers" / "audit_many.py"
    command = [sys.executable, str(script), str(folder), str(out)]
    usage = harness.measure_process(command, work / "log.txt", cpus=harness.usable_cpus())
    found = np.load(out)
    return {
        "wall_s": round(float(found["seconds"]), 1),
        "cpu_s": usage.cpu_s,
        "peak_mib": usage.peak_mib,
        "equal": float(found["repeated"][equal].mean()),
        "near": float((found["near"] | found["repeated"])[near].mean()),
    }


# Real arrays


def _examined(bench: Bench) -> dict[str, Row]:
    """Audit the real arrays as `craters audit` does; finished trainings lie in work/audit."""
    from craters.cli.terminal import TerminalProgress
    from craters.quality import AuditConfig, run_audit

    folders = {"themis48": bench.data}
    paths = region_files(bench)
    if all(path.is_file() for path in paths):
        folders["Nanedi, West and Center"] = _write_nanedi(paths)
    found = {}
    for name, folder in folders.items():
        out = harness.WORK / NAME / name.partition(",")[0].lower()
        settings = AuditConfig(folder, out, threads=len(harness.usable_cpus()))
        found[name] = run_audit(settings, resume=True, progress=TerminalProgress()).summary
    return found


def _write_nanedi(paths: list[Path]) -> Path:
    """Write the regions of Nanedi as one labeled set in the layout of a job."""
    folder = harness.WORK / NAME / "nanedi-data"
    folder.mkdir(parents=True, exist_ok=True)
    regions = [np.load(path) for path in paths]
    images = [region["X"].reshape(len(region["X"]), -1) for region in regions]
    np.save(folder / "Xtrain1.npy", np.concatenate(images))
    np.save(folder / "Ytrain1.npy", np.concatenate([region["y"] for region in regions]))
    return folder


def _say_examined(name: str, found: Row) -> str:
    """Summarize an audit in one line."""
    labels, labeled = found["labels"], found["arrays"]["labeled"]["n"]
    flawed = {
        flaw: sum(counts[flaw] for counts in found["flawed"].values())
        for flaw in found["flawed"]["labeled"]
    }
    parts = [
        f"{labels['suspected']} of {labeled:,} labels are suspected, about "
        f"{labels['estimated_errors']:.0f} expected to be wrong (accuracy out of fold "
        f"{labels['accuracy_out_of_fold']:.3f})"
    ]
    parts += [
        f"{one['equal']:,} {one['of']} patches equal and {one['near']:,} more nearly equal to "
        + ("another" if one["of"] == one["in"] else f"a patch of {one['in']}")
        for one in found["copies"]
    ]
    parts.append(f"pairs of copies with different labels: {len(found['conflicts'])}")
    parts.append(", ".join(f"{n} {flaw}" for flaw, n in flawed.items() if n) or "no flawed patch")
    parts += [
        f"{one['first']} and {one['second']} can be told apart with area {one['area']:.2f} "
        f"({one['interval']['low']:.2f} to {one['interval']['high']:.2f})"
        for one in found["shifts"]
    ]
    return f"{name}: {'; '.join(parts)}."


# What it all says


def _result(
    rows: list[Row], flips: dict[int, Row], copies: dict[int, Row], timed: dict[int, Row],
    examined: dict[str, Row],
) -> Row:  # fmt: skip
    contenders = [
        harness.contender("5 % of themis48's labels flipped", flips, _FLIPS, False),
        harness.contender(f"audit of {PATCHES:,} patches", timed, (*_TIMES, *_COPIES), False),
    ]
    if copies:
        contenders.append(harness.contender("Nanedi, West and Center", copies, _COPIES, False))
    return harness.result(
        NAME,
        TITLE,
        rows=rows,
        about=[
            f"{FLIPPED:.0%} of the labels of themis48 are flipped at random, {DRAWS} draws; each "
            f"patch is predicted by one `compact` of {FOLDS}, trained on the flipped labels of "
            "other source images, and labels are ranked by the probability that they get.",
            "Copies of Nanedi are held against a comparison of all pairs.",
            f"{PATCHES:,} patches are mixed from the procedural Mars, a tenth of them labeled; a "
            "twentieth are equal copies, a twentieth near ones; near copies moved by one pixel are "
            "looked for, too. No network is trained (`--repeats 0`); their time adds to it.",
        ],
        settings={"draws": DRAWS, "folds": FOLDS, "flipped": FLIPPED, "patches": PATCHES},
        titles=_TITLES,
        tables={"Flipped labels": _FLIPS, "Copies": _COPIES, "Time and memory": _TIMES},
        contenders=contenders,
        findings=[
            *_findings(flips, copies, timed),
            *(_say_examined(name, found) for name, found in examined.items()),
        ],
    )


def _findings(flips: dict[int, Row], copies: dict[int, Row], timed: dict[int, Row]) -> list[str]:
    shares = ", ".join(f"{row['found']:.2f}" for row in flips.values())
    mean = float(np.mean([row["found"] for row in flips.values()]))
    slowest = max(timed.values(), key=lambda row: row["wall_s"])
    lines = [
        f"Of the flipped labels, {mean:.1%} are in the audit's top {LOOKED_AT:.0%} ({DRAWS} draws: "
        f"{shares}).",
        f"The audit of {PATCHES:,} patches, without trainings, takes {slowest['wall_s']:.0f} s and "
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
