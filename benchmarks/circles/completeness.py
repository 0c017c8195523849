"""Completeness by planted craters, against the recall of a catalogue in regions held out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import harness
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC, CircleRule, fold_model
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
PLANTED = 300  # craters in each bin
ROUNDS = 2  # seeds

_SET = "tiles"
_TITLES = {
    "catalogue": ["recall of the catalogue", 3],
    "planted": ["recall by planted craters", 3],
    "difference": ["difference", 3],
    "planted_share": ["share of the planted that is found", 3],
    "craters": ["craters of the catalogue", 0],
}


def run(bench: Bench, progress: Progress) -> Row | None:
    """Measure the missing rounds; a quick call reports the stored result."""
    if not bench.full:
        return harness.tell_stored(NAME, progress)

    from circles import images as real
    from circles import search, training

    def measure_round(_: str, seed: int) -> Row:
        for folder in (SYNTHETIC, *map(fold_model, range(FOLDS))):
            if not folder.is_dir():
                raise BenchError(f"{folder}: missing; `make circles` trains it")
        images = real.load_images(_SET, bench.data.parent)
        held = search.held_out(images, RULES[_SET])
        detectors = [training.load(fold_model(fold)) for fold in range(FOLDS)]
        row = measure(
            images, held, [detectors[fold] for fold in real.fold_of(images)], seed, progress
        )
        for each in row["bins"]:
            progress.say(_sentence(each))
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure_round))


def keys(bench: Bench) -> Keys:
    """Return what the row of each round depends on; the folds are made with the shipped model."""
    settings = {
        "model": files.sha256_of(SHIPPED / "model.onnx")[:16],
        "set": sets.fingerprint(_SET, bench.data.parent),
        "edges": list(EDGES),
        "planted": PLANTED,
    }
    return {
        (_SET, seed): harness.row_key(bench, _SET, seed, settings, RESULT_VERSION)
        for seed in range(ROUNDS)
    }


def measure(
    images: Sequence[LabeledImage],
    held: HeldOut,
    detectors: Sequence[CircleDetector],
    seed: int,
    progress: Progress,
) -> Row:
    """Compare recall by planted craters with that of the catalogue, by diameter.

    Parameters
    ----------
    images : sequence of LabeledImage
    held : HeldOut
        What the detectors found in the images.
    detectors : sequence of CircleDetector
        Of each image.
    seed : int
    progress : Progress
    """
    measured = _planted(images, held, detectors, seed, progress)
    catalogue = _catalogue(images, held, RULES[_SET])
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
        windows, find, EDGES, count=PLANTED, border=RULES[_SET].border, seed=seed,
        progress=progress,
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


def _catalogue(
    images: Sequence[LabeledImage], held: HeldOut, rule: CircleRule
) -> list[tuple[float, int]]:
    """Return the recall of the catalogue's craters, and their number, in each bin."""
    from circles import measure as measuring
    from craters.maps.catalogues import recall_by_diameter

    detections, catalogue, matching = measuring.matched(
        images,
        [each[kept] for each, kept in zip(held.found, held.is_called, strict=True)],
        [each[kept] for each, kept in zip(held.probability, held.is_called, strict=True)],
        rule,
    )
    shares = recall_by_diameter(matching, detections, catalogue, np.array(EDGES), 0.0)
    return [(each.share, each.n) for each in shares]


def _result(rows: Rows) -> Row:
    contenders, findings = [], []
    for place, (low, high) in enumerate(itertools.pairwise(EDGES)):
        by_seed = {seed: row["bins"][place] for (_, seed), row in rows.items()}
        label = f"{low:g} to {high:g} px"
        contenders.append(harness.contender(label, by_seed, tuple(_TITLES), False))
        findings += [f"seed {seed}: {_sentence(each)}" for seed, each in by_seed.items()]
    worst = max(abs(each["difference"]) for row in rows.values() for each in row["bins"])
    findings.append(f"Largest difference of a bin: {worst:.3f} (target: 0.10, aim 0.05).")
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Images of `themis_tiles`, each searched by the detector that was trained without its "
            "region, at the threshold for a precision of 0.8. The recall of the catalogue is that "
            "of `circles`: the distance of the centres is at most half the crater's diameter, the "
            "ratio of the diameters 0.5 to 2, and craters count 24 px from the edge at least.",
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
