"""Real images, scanned by models that never saw their regions: recall of catalogued craters."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import harness
from accuracy.region_cv import dense_weights
from craters.core import Progress, files
from harness import WORK, Bench, BenchError, Keys, Row, Rows

NAME = "tiles"
TITLE = "Unseen regions of Mars: craters found in whole images"
FOLDS = harness.REGION_FOLDS
RESULT_VERSION = {"dense": 1, "dense-labels": 1, "original": 1}
NETWORKS = ("dense", "dense-labels", "original")  # the last is the baseline
DIAMETERS, RATE = "1.5,4.5", 0.5
WINDOW, BORDER = "4800m", "2400m"  # 48 and 24 pixels
RATES = (0.25, 0.5, 1.0, 2.0)  # false detections an image
LOWEST = 0.02  # probability from which on windows are candidates
EDGES_KM = (1.5, 2.0, 3.0, 4.5)
SCORES = {
    "own": "a detection's own window",
    "agreement": "mean of the windows within a quarter of a window",
}

SHORT = {"own": "", "agreement": ", neighbours averaged"}

_STATES = {"hit": "h", "false": "f", "ignored": "i", "outside": "o"}


def run(bench: Bench, progress: Progress) -> Row:
    """Train, scan and match the missing folds.

    `CRATERS_BENCH_NETWORKS=original` measures one network; the result shows what is stored of the
    other.
    """
    wanted = os.environ.get("CRATERS_BENCH_NETWORKS", ",".join(NETWORKS)).split(",")
    if unknown := set(wanted) - set(NETWORKS):
        raise BenchError(f"CRATERS_BENCH_NETWORKS: {unknown}, expected {', '.join(NETWORKS)}")

    def find(network: str, fold: int) -> Row:
        return measure(bench, network, fold, progress)

    def due(network: str, _: int) -> bool:
        return network in wanted

    return _result(harness.measure_missing(bench, NAME, keys(bench), find, due=due))


def keys(bench: Bench) -> Keys:
    """Return what the row of each network and fold depends on."""
    settings = {"folds": FOLDS, "diameters": DIAMETERS, "border": BORDER, "lowest": LOWEST}
    return {
        (network, fold): harness.row_key(bench, network, fold, settings, RESULT_VERSION[network])
        for network in NETWORKS
        for fold in range(FOLDS)
    }


def find_tiles(bench: Bench) -> Path:
    """Find the images next to the arrays; raise an error if they are missing."""
    folder = bench.data.parent / "themis_tiles"
    if not (folder / "robbins.csv").is_file():
        raise BenchError(f"{folder}: holds no robbins.csv; the images of themis_tiles are needed")
    return folder


def measure(bench: Bench, network: str, fold: int, progress: Progress) -> Row:
    """Train without a fold's regions, scan their images, and match the detections."""
    from craters.data import splits

    tiles, regions = find_tiles(bench), harness.held_out_regions(bench.data, fold)
    name = f"{network}-v{RESULT_VERSION[network]}-{harness.data_hash(bench.data)}"
    place = WORK / NAME / name / f"fold-{fold}"
    arrays = harness.write_arrays(bench.data, regions, place / "DATA")
    model = place / "MODEL"
    if not model.exists():
        script = Path(__file__).parent / "peers" / "craters_model.py"
        weights = dense_weights(bench, fold) if network == "dense" else None
        more = [weights] if weights else []
        _call([script, arrays, model, network, "100", *more], place / "model.log")
    paths = sorted(tiles.glob("*.tif"))
    inside = np.isin(splits.regions_of(np.array([path.stem for path in paths])), regions)
    images = [path for path, chosen in zip(paths, inside, strict=True) if chosen]
    scan = ["-m", "craters", "scan", *images, "--model", model, "--out", place / "SCAN", "--resume",
            "--decision-threshold", str(LOWEST), "--no-windows", "-q"]  # fmt: skip
    _call(scan, place / "scan.log")
    known = _catalogue(tiles / "robbins.csv", {path.stem for path in images}, place)
    row: Row = {"regions": regions, "images": [path.stem for path in images]}
    for score in SCORES:
        row[score] = _match(place, score, known, row["images"])
    hits = sum(state == "h" for _, _, state in row["own"]["detections"])
    progress.say(
        f"{network}, fold {fold}: {len(images)} images, {hits} craters found at any threshold"
    )
    return row


def _call(arguments: list, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *map(str, arguments)]
    with log.open("w") as stream:
        if subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode:
            raise BenchError(f"{' '.join(command[1:4])} failed; see {log}")


def _catalogue(path: Path, names: set[str], place: Path) -> Path:
    """Keep the craters of some images."""
    rows = _read(path)
    header = list(rows[0])
    kept = place / "craters.csv"
    chosen = ([row[name] for name in header] for row in rows if row["tile"] in names)
    files.write_text(kept, files.to_csv([header, *chosen]))
    return kept


def _match(place: Path, score: str, known: Path, images: list[str]) -> Row:
    """Match detections by `craters match`; keep image numbers, probabilities and states."""
    from craters.maps.catalogues import MatchRequest, run_match

    table, out = place / f"{score}.csv", place / f"MATCH-{score}"
    _write_scores(place / "SCAN", table, score)
    shutil.rmtree(out, ignore_errors=True)
    request = MatchRequest(
        table, known, out, diameters=DIAMETERS, border=BORDER, window=WINDOW, body="mars",
        footprint=str(place / "SCAN" / "detections.gpkg"),
    )  # fmt: skip
    run_match(request)
    found = [
        (
            images.index(row["source"]),
            round(float(row["probability"]), 7),
            _STATES[row["state"].partition(":")[0]],
        )
        for row in _read(out / "detections.csv")
    ]
    craters = [
        (row["source"], float(row["diameter_km"]), float(row["probability"] or "nan"))
        for row in _read(out / "craters.csv")
        if row["state"] in ("found", "missed")
    ]
    return {
        "detections": found,
        "craters": [(*row[:2], None if np.isnan(row[2]) else row[2]) for row in craters],
    }


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _write_scores(scan: Path, table: Path, score: str) -> None:
    """Write detections with the score that ranks them."""
    rows = _read(scan / "detections.csv")
    if score == "agreement":
        _average(scan, rows)
    header = ["lon", "lat", "probability", "source"]
    ranked = ([row["lon"], row["lat"], row["p_crater"], row["source"]] for row in rows)
    files.write_text(table, files.to_csv([header, *ranked]))


def _average(scan: Path, rows: list[dict[str, str]]) -> None:
    """Replace each probability by the mean of the windows within a quarter of a window."""
    import json

    import rasterio

    facts = json.loads((scan / "summary.json").read_text())
    stride, middle = facts["stride"], (facts["window"] - 1) / 2
    reach, maps = facts["window"] // (4 * stride), {}
    for image in facts["images"]:
        with rasterio.open(scan / image["map"]) as dataset:
            maps[image["name"]] = dataset.read(1)
    for row in rows:
        r, c = (round((float(row[name]) - middle) / stride) for name in ("row", "col"))
        near = maps[row["source"]][max(r - reach, 0) : r + reach + 1,
                                   max(c - reach, 0) : c + reach + 1]  # fmt: skip
        row["p_crater"] = format(float(np.nanmean(near)), ".9g")


def pooled(rows: dict[int, Row], score: str):
    """Put the folds' stored matches together, as `craters match` would have them."""
    from craters.maps.catalogues.catalogue import Detections
    from craters.maps.catalogues.matching.pairing import (
        COUNTED,
        FALSE,
        HIT,
        IGNORED,
        OUTSIDE,
        Matching,
    )
    from craters.maps.geo import NO_PLANET

    images = [name for row in rows.values() for name in row["images"]]
    place = {name: number for number, name in enumerate(images)}
    found = [
        (row["images"][image], value, letter)
        for row in rows.values() for image, value, letter in row[score]["detections"]
    ]  # fmt: skip
    craters = [one for row in rows.values() for one in row[score]["craters"]]
    states = {"h": HIT, "f": FALSE, "i": IGNORED, "o": OUTSIDE}
    state = np.array([states[letter] for _, _, letter in found])
    matching = Matching(
        images=tuple(images),
        areas=np.full(len(images), np.nan),
        detection_image=np.array([place[name] for name, _, _ in found]),
        detection_state=state,
        detection_target=np.full(len(found), -1),
        distance=np.full(len(found), np.nan),
        target_crater=np.arange(len(craters)),
        target_image=np.array([place[name] for name, _, _ in craters]),
        target_state=np.full(len(craters), COUNTED),
        target_detection=np.full(len(craters), -1),
    )
    probability = np.array([value for _, value, _ in found])
    order = np.column_stack([np.arange(len(found)), np.zeros(len(found))])
    detections = Detections(order, probability, None, NO_PLANET, NAME)
    return matching, detections, craters


def figures(rows: dict[int, Row], score: str) -> Row:
    """Work out recall at each rate, its interval over images, precision, and recall by size."""
    from craters.maps.catalogues.matching.curves import (
        bootstrap_rates,
        make_curve,
        threshold_at_rate,
    )

    matching, detections, craters = pooled(rows, score)
    curve = make_curve(matching, detections)
    intervals = bootstrap_rates(matching, detections, RATES)
    found: Row = {"craters": len(craters), "images": len(matching.images)}
    for rate, interval in zip(RATES, intervals, strict=True):
        row = curve.at(threshold_at_rate(curve, rate))
        found[f"recall_{rate:g}"] = float(curve.recall[row]) if row >= 0 else 0.0
        found[f"precision_{rate:g}"] = float(curve.precision[row]) if row >= 0 else 0.0
        if rate == RATE and interval is not None:
            found["low"], found["high"] = interval.low, interval.high
    threshold = threshold_at_rate(curve, RATE)
    for low, high in itertools.pairwise(EDGES_KM):
        inside = [
            p is not None and p >= threshold
            for _, d, p in craters
            if low <= d < high or d == high == EDGES_KM[-1]
        ]
        found[f"recall_{low:g}_{high:g}"] = float(np.mean(inside)) if inside else 0.0
    return found


def points(rows: dict[int, Row], score: str) -> Row:
    """Return precision and recall of all folds together where each further crater is found."""
    from craters.maps.catalogues.matching.curves import make_curve

    matching, detections, _ = pooled(rows, score)
    curve = make_curve(matching, detections)
    counts, keep = np.unique(curve.hits, return_index=True)
    keep = keep[counts > 0]
    return {
        name: np.round(getattr(curve, name)[keep], 4).tolist() for name in ("recall", "precision")
    }


def _result(found: Rows) -> Row:
    """Assemble the result; networks with missing folds are left out."""
    by_network = harness.by_contender(found, NETWORKS)
    rows = {name: folds for name, folds in by_network.items() if len(folds) == FOLDS}
    at_rates = tuple(f"{kind}_{rate:g}" for rate in RATES for kind in ("recall", "precision"))
    sizes = tuple(f"recall_{low:g}_{high:g}" for low, high in itertools.pairwise(EDGES_KM))
    titles = {
        f"{kind}_{rate:g}": [f"{kind} at {rate:g} false an image", 3]
        for rate in RATES
        for kind in ("recall", "precision")
    } | {name: [f"{name.replace('_', ' ', 1).replace('_', ' to ')} km", 3] for name in sizes}
    contenders, findings, curves = [], [], {}
    for network, folds in rows.items():
        for score, words in SCORES.items():
            one = figures(folds, score)
            label = f"{network}, ranked by {words}"
            curves[f"{network}/{score}"] = {"label": f"{network}{SHORT[score]}"} | points(
                folds, score
            )
            contenders.append(
                harness.contender(label, {0: one}, (*at_rates, *sizes), network == NETWORKS[-1])
            )
            findings.append(
                f"{label}: recall {one[f'recall_{RATE:g}']:.3f} (95 % interval over "
                f"{one['images']} images {one['low']:.3f} to {one['high']:.3f}) of "
                f"{one['craters']} craters at {RATE:g} false detections an image, precision "
                f"{one[f'precision_{RATE:g}']:.3f}"
                + (" (target: recall 0.80)." if network == "dense" else ".")
            )
    return harness.result(
        NAME,
        TITLE,
        rows=[row for folds in rows.values() for row in folds.values()],
        about=[
            "The images of themis_tiles, 416 x 416 pixels at 100 m, in five folds of whole regions "
            "(those of region_cv); each fold is scanned by a model trained on the labels and the "
            "pool of the other regions (`dense`: by region_cv, where it ran before), matched by "
            "`craters match`.",
            f"Counted: craters of {DIAMETERS.replace(',', ' to ')} km of Robbins & Hynek 2012, "
            "whole and 24 pixels inside. One threshold for all folds gives the stated rate of "
            "false detections, which that catalogue decides about: a false one may be a crater "
            "that it does not list.",
        ],
        settings={"folds": FOLDS},
        titles=titles,
        tables={"At rates of false detections": at_rates, "By diameter, at 0.5": sizes},
        contenders=contenders,
        findings=findings,
        curves=curves,
    )
