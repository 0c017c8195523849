"""`craters train`: what training on some images of one's own gives, and how long it takes."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import harness
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC
from craters.core import Progress, files
from harness import WORK, Bench, BenchError, Keys, Row, Rows
from pretrained import sets

if TYPE_CHECKING:
    from craters.detection import LabeledImage
    from craters.maps.catalogues import MatchRule

NAME = "circles_training"
TITLE = "Circles: training on images of one's own"
RESULT_VERSION = 1

_PLACE = WORK / NAME
_SIZES = {"tiles: no image": 0, "tiles: 10 images": 10, "tiles: 40 images": 40,
          "tiles: all images": None}  # fmt: skip
_MOON = {"nac_moon: no image": False, "nac_moon: 3 images": True}
_TIME = "160 images, from start to report"
_TITLES = {
    "recall_at_rate": ["recall at 0.5 false an image", 3],
    "registered": ["the same, shift of the catalogue taken out", 3],
    "recall_at_precision": ["recall at precision 0.8", 3],
    "average_precision": ["average precision", 3],
    "best_f1": ["best F1", 3],
    "diameter_ratio": ["median ratio of diameters", 3],
    "wall_s": ["wall seconds", 0],
    "cpu_s": ["CPU seconds", 0],
    "peak_mib": ["peak memory, MiB", 0],
}
_FOUND = tuple(name for name in _TITLES if name not in ("wall_s", "cpu_s", "peak_mib"))


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows."""

    def measure(name: str, _: int) -> Row:
        if not SYNTHETIC.is_dir():
            raise BenchError(f"{SYNTHETIC}: missing; `make circles` trains it")
        if name == _TIME:
            row = _timed(bench.data.parent)
        elif name in _SIZES:
            row = _tiles(bench.data.parent, _SIZES[name])
        else:
            row = _moon(bench.data.parent, is_trained=_MOON[name])
        progress.say(f"{name}: {row}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender depends on.

    The weights that saw no real image are made with the shipped ones, which stand for them.
    """
    data = bench.data.parent
    names = {"nac_moon": (*_MOON,), "tiles": (*_SIZES, _TIME)}
    settings = {"model": files.sha256_of(SHIPPED / "model.onnx")[:16]}
    return {
        (name, 0): harness.row_key(
            bench,
            name,
            0,
            settings | {"set": sets.fingerprint(each, data), "rule": str(RULES[each])},
            RESULT_VERSION,
        )
        for each, members in names.items()
        if sets.folder_of(each, data).is_dir()
        for name in members
    }


def _tiles(data: Path, size: int | None) -> Row:
    """Hold the regions of each fold out; train on some images of the others."""
    from circles import images as real
    from circles import training

    images, truth = _prepared(data)
    folds = real.fold_of(images)
    found: list[np.ndarray] = [np.empty(0)] * len(images)
    for fold in range(FOLDS):
        others = np.random.default_rng(fold).permutation(np.flatnonzero(folds != fold))[:size]
        members = np.flatnonzero(folds == fold)
        circles = _train_and_search(
            [truth[row] for row in others], [images[row] for row in members], SYNTHETIC, fold
        )
        for row, own in zip(members, circles, strict=True):
            found[row] = own
    row = _figures(images, found, "tiles")
    moved = _figures(training.listed(truth), found, "tiles")
    return row | {"registered": moved["recall_at_rate"]}


@functools.cache
def _prepared(data: Path) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Return the THEMIS images as they are, and prepared for training."""
    from circles import images as real
    from circles import training

    images = real.load_images("tiles", data)
    return images, training.prepared(images, training.load(SYNTHETIC))


def _moon(data: Path, *, is_trained: bool) -> Row:
    """Train on three images and search the other three, and swap them."""
    from circles import images as real
    from craters.detection.circle_training.preparation import (
        MARGIN,
        measure_limit,
        register_images,
        with_unlisted,
        within_limit,
    )

    images = real.load_images("nac_moon", data)
    start = _train_and_search([], images, SHIPPED, 0)
    rule = _rule("nac_moon")
    found = list(start)
    halves = (slice(0, 3), slice(3, 6)) if is_trained else ()
    for number, half in enumerate(halves):
        seen = [image for place, image in enumerate(images) if place not in range(6)[half]]
        before = [circles for place, circles in enumerate(start) if place not in range(6)[half]]
        moved, _, _ = register_images(seen, before, rule)
        limit = measure_limit(moved, before, [1.0] * len(moved), ("px", 1.0))
        learned = [
            with_unlisted(
                within_limit(image, limit.smallest, limit.largest), circles,
                MARGIN * limit.smallest,
            )
            for image, circles in zip(moved, before, strict=True)
        ]  # fmt: skip
        found[half] = _train_and_search(learned, images[half], SHIPPED, number)
    return _figures(images, found, "nac_moon") | {"registered": None}


def _train_and_search(
    images: Sequence[LabeledImage], searched: Sequence[LabeledImage], start: Path, seed: int
) -> list[np.ndarray]:
    """Train as `craters train` does, and search other images; without images, do not train."""
    from circles import training
    from craters.detection import fine_tune
    from craters.detection.circle_training.run import SHARES, usual_training
    from craters.models import CircleDescription, LightFrame, read_weights, write_circle_model

    if not images:
        detector = training.load(start)
        return [training.detect(detector, image) for image in searched]
    how = dataclasses.replace(usual_training(len(images)), share=SHARES[-1], seed=seed)
    network = fine_tune(
        read_weights(start), images, LightFrame(), how, threads=len(harness.usable_cpus())
    )
    model = write_circle_model(_PLACE / "model", network, CircleDescription(), force=True)
    try:
        detector = training.load(model)
        return [training.detect(detector, image) for image in searched]
    finally:
        shutil.rmtree(model)


def _rule(name: str) -> MatchRule:
    from circles import measure

    return measure.match_rule(RULES[name])


def _figures(images: Sequence[LabeledImage], found: Sequence[np.ndarray], name: str) -> Row:
    """Measure circles, ordered by the network's own probability."""
    from circles import measure
    from craters.models import raw_probability

    raw = [raw_probability(circles) for circles in found]
    row = measure.figures(images, found, raw, RULES[name], [each >= 0.5 for each in raw])
    names = (*_FOUND, "images", "craters")
    return {each: row[each] for each in names if each in row}


def _timed(data: Path) -> Row:
    """Run the whole command on all THEMIS images, on two cores."""
    out = _PLACE / "out"
    for folder in (out, out.with_name(".out.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    tiles = sets.folder_of("tiles", data)
    command = [
        sys.executable, "-m", "craters", "train", str(tiles), "--catalogue",
        str(tiles / "robbins.csv"), "--out", str(out), "--start", str(SYNTHETIC),
        "--diameters", "1,", "--threads", "2", "-q",
    ]  # fmt: skip
    usage = harness.measure_process(
        command, _PLACE / "last.log", cpus=harness.usable_cpus(2), one_thread=True
    )
    shutil.rmtree(out)
    return dataclasses.asdict(usage)


def _result(rows: Rows) -> Row:
    contenders = []
    for (name, _), row in rows.items():
        shown = tuple(each for each in _TITLES if row.get(each) is not None)
        contenders.append(harness.contender(name, {0: row}, shown, name.endswith("no image")))
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "What `craters train` gives, by its own recipe and all the way to the trained "
            "weights. Circles are matched as in `circles`, and ordered by the network's own "
            "probability.",
            "THEMIS tiles: the regions of four folds are held out; training is on some images of "
            "the other regions (drawn at random), from the weights that saw synthetic scenes "
            "only. Craters count from 10 to 48 px, 24 px from the edge at least. The catalogue is "
            "shifted against the images by 1 to 5 px: recall is stated with and without that "
            "shift.",
            "`nac_moon`: trained on three images and tested on the other three, and swapped, from "
            "the shipped detector. Craters count from 12 px.",
            "Time: the whole command on the 160 THEMIS images, with the detectors that judge it, "
            "on two cores.",
        ],
        settings={"folds": FOLDS},
        titles=_TITLES,
        tables={
            "What is found": _FOUND,
            "The whole command": ("wall_s", "cpu_s", "peak_mib"),
        },
        contenders=contenders,
        findings=_findings(rows),
    )


def _findings(rows: Rows) -> list[str]:
    """Compare the rows with their targets."""
    lines = []
    targets = {
        "tiles: 10 images": ("recall_at_rate", ".87, aim .92"),
        "tiles: 40 images": ("recall_at_rate", ".90, aim .95"),
        "tiles: all images": ("recall_at_rate", ".92, aim .97"),
        "nac_moon: 3 images": ("recall_at_precision", ".68, aim .85"),
    }
    for name, (figure, words) in targets.items():
        if (name, 0) in rows:
            row = rows[name, 0]
            lines.append(f"{name}: {_TITLES[figure][0]} {row[figure]:.3f} (target: {words}).")
    if (_TIME, 0) in rows:
        minutes = rows[_TIME, 0]["wall_s"] / 60
        lines.append(f"{_TIME}: {minutes:.1f} minutes on two cores (target: 15, aim 5).")
    return lines
