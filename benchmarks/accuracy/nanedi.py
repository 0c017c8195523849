"""The official ten folds of HRSC orbit h0905 "Nanedi", with and without their copies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress, files
from harness import Bench, Keys, Row, Rows, RowStore

NAME = "nanedi"
TITLE = "Nanedi, official folds: `compact` beside quoted figures"
SEEDS = 3  # at most; fewer by --seeds
RESULT_VERSION = 1
REGIONS = ("west", "center")
KINDS = ("official", "without copies")
ONE, JOINED = "1 network a fold", "the seeds' mean logit"

_TITLES = {"west": ["West, crater F1 in %", 2], "center": ["Center, crater F1 in %", 2]}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing trainings."""
    paths = region_files(bench)
    if not all(path.is_file() for path in paths):
        progress.say(
            f"left out: {paths[0].parent} does not hold {' and '.join(p.name for p in paths)}"
        )
        return None
    store, wanted = RowStore(NAME), keys(bench)
    rows = {} if bench.fresh else {cell: store.find(key) for cell, key in wanted.items()}
    if None in rows.values() or not rows:
        measured = measure(bench, harness.WORK / f"{NAME}-{_short_hash(wanted)}", progress)
        rows = {cell: store.add(key, measured[cell]) for cell, key in wanted.items()}
    return _result(rows)


def keys(bench: Bench) -> Keys:
    """Return what the row of each seed, and the row of all seeds, depends on."""
    seeds = min(SEEDS, bench.seeds)
    cells = [(ONE, seed) for seed in range(seeds)] + [(JOINED, seeds)] * (seeds > 1)
    settings = {path.name: files.sha256_of(path) for path in region_files(bench)}
    return {cell: harness.row_key(bench, *cell, settings, RESULT_VERSION) for cell in cells}


def region_files(bench: Bench) -> list[Path]:
    """Return the files of the regions, which may be absent."""
    return [harness.nanedi_file(bench.data, region) for region in REGIONS]


def _short_hash(wanted: Keys) -> str:
    """Hash what rows depend on, so that a work folder is resumed only for the same rows."""
    return hashlib.sha256(files.to_json(list(wanted.values())).encode()).hexdigest()[:12]


def measure(bench: Bench, out: Path, progress: Progress) -> Rows:
    """Run the protocol once for all seeds, and take the seeds' mean logit as the ensemble."""
    from accuracy.fixed_folds.run import KFoldConfig, run_kfold
    from accuracy.fixed_folds.scores import Region

    seeds = min(SEEDS, bench.seeds)
    settings = KFoldConfig(paths=tuple(region_files(bench)), out=out, seeds=seeds)
    outcome = run_kfold(settings, resume=not bench.fresh, force=bench.fresh, progress=progress)
    rows = {(ONE, seed): _row(outcome.regions, seed) for seed in range(seeds)}
    if seeds == 1:
        return rows
    joined = [
        Region(
            data=region.data,
            copies=region.copies,
            seeds=[0],
            logits=region.logits.mean(axis=0, keepdims=True),
        )
        for region in outcome.regions
    ]
    return rows | {(JOINED, seeds): _row(joined, 0)}


def _row(regions: list, seed: int) -> Row:
    """Return the mean crater F1 of the folds, in percent, and the counts of copies."""
    from accuracy.fixed_folds.scores import estimate

    row: Row = {}
    for region in regions:
        scores, name = [region.scores()[seed]], region.data.name
        for kind in KINDS:
            f1 = estimate(scores, "crater_f1", without_copies=kind != "official")
            row[f"{name} {kind}"] = 100 * f1.mean
            row[f"{name} {kind} folds"] = [100 * fold for fold in f1.folds]
        row[f"{name} exact"] = int(region.copies.exact.sum())
        row[f"{name} near"] = int(region.copies.near.sum())
    return row


def _result(rows: Rows) -> Row:
    from accuracy.fixed_folds.report import QUOTE_NOTE

    ours = {
        label: {seed: row for (name, seed), row in rows.items() if name == label}
        for label in dict.fromkeys(name for name, _ in rows)
    }
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
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
    """Return the scores of the literature as rows without seeds."""
    from accuracy.fixed_folds.report import QUOTED

    return [
        {
            "label": f"{source}, as quoted",
            "baseline": False,
            "rounds": [],
            "measures": {name: harness.summarize([100 * scores[name]]) for name in REGIONS},
        }
        for source, scores in QUOTED.items()
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
