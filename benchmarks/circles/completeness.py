"""Completeness by planted craters, against the recall of a catalogue in regions held out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import harness
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC, fold_model
from craters.core import Progress, files
from craters.detection import Completeness, PlantingWindow, measure_completeness
from craters.models import CircleDetector, size_strata
from harness import Bench, BenchError, Keys, Row, Rows
from pretrained import sets

if TYPE_CHECKING:
    from circles.search import HeldOut
    from craters.detection import LabeledImage

NAME = "circles_completeness"
TITLE = "Completeness by planted craters"
RESULT_VERSION = 2
EDGES = (10.0, 14.0, 20.0, 48.0)  # px
SETS = {"tiles": EDGES, "synthetic": EDGES, "hrsc": (12.0, 16.0, 24.0, 32.0, 64.0)}
PLANTED = 300  # craters in each bin
ROUNDS = 2  # seeds

_BORDER = 24.0  # px: least distance of craters that count from the edge
_TITLES = {
    "catalogue": ["recall of the catalogue", 3],
    "planted": ["recall by planted craters", 3],
    "difference": ["difference", 3],
    "planted_share": ["share of the planted that is found", 3],
    "craters": ["craters of the catalogue", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rounds."""
    from circles import images as real
    from circles import search, training
    from craters.detection.circle_training.validation import scene_probabilities
    from craters.evaluation import operating_point

    def measure_round(name: str, seed: int) -> Row:
        images = real.load_images(name, bench.data.parent)
        if name == "tiles":
            for folder in (SYNTHETIC, *map(fold_model, range(FOLDS))):
                if not folder.is_dir():
                    raise BenchError(f"{folder}: missing; `make circles` trains it")
            held = search.held_out(images, RULES[name])
            models = [training.load(fold_model(fold)) for fold in range(FOLDS)]
            detectors = [models[fold] for fold in real.fold_of(images)]
        else:
            model = training.load(SHIPPED)
            found = [training.detect(model, image) for image in images]
            probability = scene_probabilities(found, model.description.calibration)
            threshold = operating_point(np.concatenate(probability)).threshold
            called = [each >= threshold for each in probability]
            held = search.HeldOut(images, found, probability, called)
            detectors = [model] * len(images)
        row = measure(name, images, held, detectors, seed, progress)
        for each in row["bins"]:
            progress.say(_sentence(each))
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure_round))


def keys(bench: Bench) -> Keys:
    """Return what the row of each round depends on; the folds are made with the shipped model."""
    data = bench.data.parent
    model = files.sha256_of(SHIPPED / "model.onnx")[:16]
    result = {}
    for name, edges in SETS.items():
        if name != "synthetic" and not sets.folder_of(name, data).is_dir():
            continue
        settings = {
            "model": model,
            "set": name if name == "synthetic" else sets.fingerprint(name, data),
            "edges": list(edges),
            "planted": PLANTED,
        }
        for seed in range(ROUNDS):
            cell = name, seed
            result[cell] = harness.row_key(bench, *cell, settings, RESULT_VERSION)
    return result


def measure(
    name: str,
    images: Sequence[LabeledImage],
    held: HeldOut,
    detectors: Sequence[CircleDetector],
    seed: int,
    progress: Progress,
) -> Row:
    """Compare recall by planted craters with that of the catalogue, by diameter.

    Parameters
    ----------
    name : str
        Of the set.
    images : sequence of LabeledImage
    held : HeldOut
        What the detectors found in the images.
    detectors : sequence of CircleDetector
        Of each image.
    seed : int
    progress : Progress
    """
    measured = _planted(name, images, held, detectors, seed, progress)
    catalogue = _catalogue(name, images, held)
    bins = []
    for each, (share, count) in zip(
        [each for each in measured.recalls if each.freshness == "all"], catalogue, strict=True
    ):
        bins.append(
            {
                "from": each.low_px,
                "to": each.high_px,
                "catalogue": share,
                "craters": count,
                "planted": each.recall,
                "low": each.low,
                "high": each.high,
                "difference": each.recall - share,
                "planted_share": each.found / each.planted,
            }
        )
    return {"bins": bins, "smallest_px": measured.smallest_px, "blur_px": measured.blur}


def _planted(
    name: str,
    images: Sequence[LabeledImage],
    held: HeldOut,
    detectors: Sequence[CircleDetector],
    seed: int,
    progress: Progress,
) -> Completeness:
    """Measure completeness without the catalogue, in the images whose light is known."""
    windows, finders = [], {}
    calibrations = calibrations_of(held, [id(each) for each in detectors])
    for place, image in enumerate(images):
        called = held.is_called[place]
        if np.isfinite(image.azimuth):
            windows.append(
                PlantingWindow(
                    name=image.name, pixels=image.pixels, missing=image.missing,
                    azimuth=image.azimuth, circles=held.found[place][called],
                    probability=held.probability[place][called],
                )
            )  # fmt: skip
            finders[image.name] = detectors[place], calibrations[id(detectors[place])]

    def find(window: PlantingWindow, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        detector, calibration = finders[window.name]
        circles = detector.detect(pixels, missing=window.missing, azimuth=window.azimuth)
        probability = np.zeros(len(circles))
        for kind, (logits, values) in calibration.items():
            own = size_strata(circles) == kind
            inside = own & (circles["logit"] >= logits[0])
            probability[inside] = np.interp(circles["logit"][inside], logits, values)
        return circles[probability > 0], probability[probability > 0]

    return measure_completeness(
        windows, find, SETS[name], count=PLANTED, border=_BORDER, seed=seed, progress=progress,
    )  # fmt: skip


def calibrations_of(
    held: HeldOut, owners: Sequence[int]
) -> dict[int, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Return logits and probabilities of detections, rising, by detector and kind of circle."""
    result: dict[int, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for owner in set(owners):
        rows = [row for row, each in enumerate(owners) if each == owner]
        circles, probability = (
            np.concatenate([values[row][held.is_called[row]] for row in rows])
            for values in (held.found, held.probability)
        )
        kinds, result[owner] = size_strata(circles), {}
        for kind in np.unique(kinds).tolist():
            logits = circles["logit"][kinds == kind]
            order = np.argsort(logits, kind="stable")
            result[owner][kind] = logits[order], probability[kinds == kind][order]
    return result


def _catalogue(name: str, images: Sequence[LabeledImage], held: HeldOut) -> list[tuple[float, int]]:
    """Return the recall of the catalogue's craters, and their number, in each bin."""
    from circles import measure as measuring
    from craters.maps.catalogues import recall_by_diameter

    detections, catalogue, matching = measuring.matched(
        images,
        [each[kept] for each, kept in zip(held.found, held.is_called, strict=True)],
        [each[kept] for each, kept in zip(held.probability, held.is_called, strict=True)],
        dataclasses.replace(RULES[name], border=_BORDER),
    )
    shares = recall_by_diameter(matching, detections, catalogue, np.array(SETS[name]), 0.0)
    return [(each.share, each.n) for each in shares]


def _result(rows: Rows) -> Row:
    contenders, findings = [], []
    for name, edges in SETS.items():
        own = {seed: row for (each, seed), row in rows.items() if each == name}
        if not own:
            continue
        for place, (low, high) in enumerate(itertools.pairwise(edges)):
            by_seed = {seed: row["bins"][place] for seed, row in own.items()}
            label = f"{name}, {low:g} to {high:g} px"
            contenders.append(harness.contender(label, by_seed, tuple(_TITLES), False))
            findings += [
                f"{name}, seed {seed}: {_sentence(each)}" for seed, each in by_seed.items()
            ]
        worst = max(abs(each["difference"]) for row in own.values() for each in row["bins"])
        target = " (target: 0.10, aim 0.05)" if name == "tiles" else ""
        findings.append(f"{name}: largest difference of a bin: {worst:.3f}{target}.")
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Images of `themis_tiles`, each searched by the detector that was trained without its "
            "region, at the threshold for a precision of 0.8. The recall of the catalogue is that "
            "of `circles`: the distance of the centres is at most half the crater's diameter, the "
            "ratio of the diameters 0.5 to 2, and craters count 24 px from the edge at least. "
            "Images of `hrsc` and synthetic scenes are searched by the shipped detector. Of the "
            "scenes, only clearly visible craters count.",
            f"{PLANTED} synthetic craters are planted in each bin under the light of each image; "
            "the recall of the image's craters is estimated from them and the detections, without "
            "the catalogue. Intervals of single seeds are in the findings.",
        ],
        settings={"folds": FOLDS, "planted": PLANTED, "rounds": ROUNDS},
        titles=_TITLES,
        tables={"By diameter": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
    )


def _sentence(each: Row) -> str:
    return (
        f"{each['from']:g} to {each['to']:g} px: {each['planted']:.3f} ({each['low']:.3f} to "
        f"{each['high']:.3f}) by planted craters, {each['catalogue']:.3f} of {each['craters']} "
        "craters of the catalogue"
    )
