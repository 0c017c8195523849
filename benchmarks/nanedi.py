"""The official ten folds of HRSC orbit h0905 "Nanedi", with and without their copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from craters import files
from harness import Bench, Row, RowStore

NAME = "nanedi"
TITLE = "Nanedi, official folds: `compact` beside quoted figures"
SEEDS = 3  # at most; fewer by --seeds
REGIONS = ("west", "center")
KINDS = ("official", "without copies")
ONE, JOINED = "1 network a fold", "the seeds' mean logit"

_TITLES = {"west": ["West, crater F1 in %", 2], "center": ["Center, crater F1 in %", 2]}
_MODULES = (
    "augment", "kfold", "kfold_run", "kfold_score", "networks", "patches", "recipes", "splits",
    "train",
)  # fmt: skip


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do the missing trainings; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    paths = [bench.data.parent / "nanedi28" / f"{region}.npz" for region in REGIONS]
    if not all(path.is_file() for path in paths):
        say(f"left out: {paths[0].parent} does not hold {' and '.join(p.name for p in paths)}")
        return None
    store = RowStore(NAME)
    seeds = min(SEEDS, bench.seeds)
    wanted = {(ONE, seed): _key(bench, ONE, seed, paths) for seed in range(seeds)}
    if seeds > 1:
        wanted[JOINED, seeds] = _key(bench, JOINED, seeds, paths)
    rows = {} if bench.again else {name: store.find(key) for name, key in wanted.items()}
    if None in rows.values() or not rows:
        out = harness.WORK / f"{NAME}-{_short_hash(wanted)}"
        rows = measure(paths, seeds, out, bench.again, say)
        for name, key in wanted.items():
            store.add(key, rows[name])
    return _result(rows)


def _code() -> list[Path]:
    return [path for path in harness.package_modules() if path.stem in _MODULES]


def _key(bench: Bench, contender: str, number: int, paths: list[Path]) -> Row:
    settings = {path.name: files.sha256_of(path) for path in paths}
    return harness.row_key(bench, contender, number, settings, harness.versions(), _code())


def _short_hash(wanted: dict[tuple[str, int], Row]) -> str:
    """Name the state of code, versions and data, so that finished trainings are of one state."""
    return hashlib.sha256(files.to_json(list(wanted.values())).encode()).hexdigest()[:12]


def measure(
    paths: list[Path], seeds: int, out: Path, again: bool, say: Callable[[str], None]
) -> dict[tuple[str, int], Row]:
    """Run the protocol once for all seeds, and take the seeds' mean logit as the ensemble."""
    from craters.kfold_run import KFoldConfig, run_kfold
    from craters.kfold_score import Region

    settings = KFoldConfig(tuple(paths), out, seeds=seeds)
    found = run_kfold(settings, resume=not again, force=again, say=say)
    rows = {(ONE, seed): _row(found.regions, seed) for seed in range(seeds)}
    if seeds == 1:
        return rows
    joined = [
        Region(one.data, one.copies, [0], one.logits.mean(axis=0, keepdims=True))
        for one in found.regions
    ]
    return rows | {(JOINED, seeds): _row(joined, 0)}


def _row(regions: list, seed: int) -> Row:
    """Return the mean crater F1 of the folds, in percent, and what is told beside it."""
    from craters.kfold_score import estimate

    row: Row = {}
    for one in regions:
        scores = [one.scores()[seed]]
        for kind in KINDS:
            found = estimate(scores, "crater_f1", without_copies=kind != "official")
            row[f"{one.data.name} {kind}"] = 100 * found.mean
            row[f"{one.data.name} {kind} folds"] = [100 * fold for fold in found.folds]
        row[f"{one.data.name} exact"] = int(one.copies.exact.sum())
        row[f"{one.data.name} near"] = int(one.copies.near.sum())
    return row


def _result(rows: dict[tuple[str, int], Row]) -> Row:
    from craters.kfold_report import QUOTE_NOTE

    ours = {
        label: {seed: row for (name, seed), row in rows.items() if name == label}
        for label in dict.fromkeys(name for name, _ in rows)
    }
    return harness.result(
        NAME,
        TITLE,
        about=[
            "Ten folds of 28 x 28 patches at 12.5 m a pixel, as they were published; `compact` is "
            "trained on nine by its default recipe, without validation, and the score is the mean "
            "of the ten held-out folds.",
            "'Without copies' leaves out the held-out patches that are equal to a training patch "
            "or correlate with one by more than 0.95.",
            "The n of a quoted row is 0.",
            QUOTE_NOTE,
        ],
        settings={"seeds": len(ours[ONE]), "folds": 10},
        titles=_TITLES,
        tables={"Mean of the ten folds": REGIONS},
        contenders=[*_contenders(ours), *_quoted()],
        findings=[*(_finding(label, ours[label]) for label in ours), _copies(rows[ONE, 0])],
        command=f".venv/bin/python benchmarks/bench.py full --only {NAME} --seeds {len(ours[ONE])}",
        comparisons=[_what_copies_add(ours[ONE], region) for region in REGIONS],
    )


def _contenders(ours: dict[str, dict[int, Row]]) -> list[Row]:
    return [
        harness.contender(
            f"craters, {label}, {kind}",
            {seed: {name: row[f"{name} {kind}"] for name in REGIONS} for seed, row in rows.items()},
            REGIONS,
            False,
        )
        for label, rows in ours.items()
        for kind in KINDS
    ]


def _quoted() -> list[Row]:
    """Lay the literature's figures out as rows that no seed of this project stands behind."""
    from craters.kfold_report import QUOTED

    return [
        {
            "label": f"{source}, as quoted",
            "baseline": False,
            "rounds": [],
            "measures": {name: harness.summarize([100 * found[name]]) for name in REGIONS},
        }
        for source, found in QUOTED.items()
    ]


def _what_copies_add(rows: dict[int, Row], region: str) -> Row:
    gain = harness.summarize(
        row[f"{region} official"] - row[f"{region} without copies"] for row in rows.values()
    )
    return {
        "label": f"{ONE}: official minus without copies",
        "measure": region,
        "margin": 0.0,
        **gain,
    }


def _finding(label: str, rows: dict[int, Row]) -> str:
    parts = []
    for region in REGIONS:
        official, kept = (
            float(np.mean([row[f"{region} {kind}"] for row in rows.values()])) for kind in KINDS
        )
        folds = np.mean([row[f"{region} official folds"] for row in rows.values()], axis=0)
        error = float(np.std(folds, ddof=1)) / len(folds) ** 0.5
        parts.append(
            f"{region.title()} {official:.2f} % (standard error over folds {error:.2f}), "
            f"{kept:.2f} % without copies"
        )
    return f"Crater F1 of {label}: {'; '.join(parts)}."


def _copies(row: Row) -> str:
    parts = [
        f"{region.title()}: {row[f'{region} exact']} patches have an equal one in another fold, "
        f"{row[f'{region} near']} more a near copy"
        for region in REGIONS
    ]
    return f"{'; '.join(parts)}."
