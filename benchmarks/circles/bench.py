"""Circles on real images: recall, precision and diameters, with no real label and trained."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import harness
from circles import images as real
from circles import measure, ship
from craters.core import Progress, files
from craters.detection import LabeledImage
from craters.evaluation import operating_point, scene_probability
from craters.models import CIRCLE_DTYPE, Calibration, CircleDetector, size_strata
from harness import Bench, BenchError, Keys, Row, Rows
from pretrained import sets

NAME = "circles"
TITLE = "Circles on real images"
RESULT_VERSION = 1
STRETCHED = "tiles, stretched twice"
SYNTHETIC, TRAINED, PYCDA = "no real label", "trained on THEMIS", "PyCDA 0.1.16"

_TITLES = {
    "recall_at_rate": ["recall at 0.5 false an image", 3],
    "recall_at_precision": ["recall at precision 0.8", 3],
    "average_precision": ["average precision", 3],
    "best_f1": ["best F1", 3],
    "precision": ["precision, default threshold", 3],
    "expected_precision": ["expected precision there", 3],
    "recall": ["recall there", 3],
    "f1": ["F1 there", 3],
    "false_per_megapixel": ["false detections a megapixel there", 1],
    "diameter_ratio": ["median ratio of diameters", 3],
    "diameter_scatter": ["scatter of the ratio", 3],
    "within_error": ["true diameters within one stated error", 3],
    "distance_px": ["distance of centres, px", 2],
}
_TABLES = {
    "What is found": ("recall_at_rate", "recall_at_precision", "average_precision", "best_f1"),
    "At the default threshold": (
        "precision", "expected_precision", "recall", "f1", "false_per_megapixel",
    ),
    "Diameters and centres of hits there": (
        "diameter_ratio", "diameter_scatter", "within_error", "distance_px",
    ),
}  # fmt: skip


def run(bench: Bench, progress: Progress) -> Row | None:
    """Search the sets whose rows are missing; a quick call reports the stored result."""
    if not bench.full:
        return harness.tell_stored(NAME, progress)

    def find(key: str, _: int) -> Row:
        contender, _, name = key.partition(": ")
        data = bench.data.parent
        if contender == PYCDA:
            row = search_by_pycda(name, data, progress)
        else:
            row = search(contender, name, data)
        progress.say(f"{key}: F1 {row['f1']:.3f}, n = {row['craters']}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), find))


def keys(bench: Bench) -> Keys:
    """Return what the row of each model and set depends on."""
    models = {
        SYNTHETIC: [ship.SYNTHETIC],
        TRAINED: [ship.SHIPPED, *(ship.fold_model(fold) for fold in range(real.FOLDS))],
        PYCDA: [],
    }
    for folder in [*models[SYNTHETIC], *models[TRAINED]]:
        if not folder.is_dir():
            raise BenchError(f"{folder}: missing; `make circles` trains it")
    return {
        (f"{contender}: {name}", 0): harness.row_key(
            bench,
            f"{contender}: {name}",
            0,
            {
                "set": sets.fingerprint(_source(name), bench.data.parent),
                "rule": dataclasses.astuple(real.RULES[_source(name)]),
                "models": [files.sha256_of(folder / "SHA256SUMS")[:16] for folder in folders],
            },
            RESULT_VERSION,
        )
        for contender, folders in models.items()
        for name in (*real.RULES, *([STRETCHED] if contender == TRAINED else []))
        if sets.folder_of(_source(name), bench.data.parent).is_dir()
    }


def _source(name: str) -> str:
    """Return the set that images are of."""
    return "tiles" if name == STRETCHED else name


def search(contender: str, name: str, data: Path) -> Row:
    """Search the images of a set by a detector that saw none of their craters, and measure it."""
    images, rule = real.load_images(_source(name), data), real.RULES[_source(name)]
    if contender == SYNTHETIC:
        detector = ship.load(ship.SYNTHETIC)
        found = [ship.detect(detector, image) for image in images]
        probability = at_scene(found, ship.load(ship.SHIPPED).description.calibration)
        return figures(images, found, probability, rule)
    if not name.startswith("tiles"):
        detector = ship.load(ship.SHIPPED)
        found = [ship.detect(detector, image) for image in images]
        return figures(images, found, at_scene(found, detector.description.calibration), rule)
    return _folds(images, rule, is_stretched=name == STRETCHED)


def search_by_pycda(name: str, data: Path, progress: Progress) -> Row:
    """Search the images of a set by PyCDA, and measure it at its own threshold of 0.5."""
    images = real.load_images(name, data)
    python, peer = harness.pycda_python(progress), Path(__file__).parent / "peers/pycda_detect.py"
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "images.npz", Path(folder) / "circles.npz"
        np.savez(given, **{image.name: image.pixels for image in images})
        subprocess.run([python, peer, given, found], check=True, stdout=subprocess.DEVNULL)
        with np.load(found) as stored:
            tables = [stored[image.name] for image in images]
    circles = [np.zeros(len(table), CIRCLE_DTYPE) for table in tables]
    for one, table in zip(circles, tables, strict=True):
        for place, column in enumerate(("row", "col", "diameter")):
            one[column] = table[:, place]
    kept = [one["diameter"] > 0 for one in circles]
    circles = [one[keep] for one, keep in zip(circles, kept, strict=True)]
    probability = [table[keep, 3] for table, keep in zip(tables, kept, strict=True)]
    called = [each >= 0.5 for each in probability]
    row = figures(images, circles, probability, real.RULES[name], called=called)
    return row | {"within_error": None, "expected_precision": None}  # it states neither


def _folds(
    images: Sequence[LabeledImage], rule: real.CircleRule, *, is_stretched: bool = False
) -> Row:
    """Measure the images of each fold by the detector and calibration of the other folds."""
    folds = real.fold_of(images)
    truth = ship.prepared(images, ship.load(ship.SYNTHETIC))
    calibrated_on = raw = ship.out_of_fold(images, folds)
    if is_stretched:
        raw = ship.out_of_fold(images, folds, find=detect_stretched)
    found: list[np.ndarray] = [np.empty(0)] * len(images)
    probability = list(found)
    is_called = list(found)
    for fold in range(real.FOLDS):
        rows, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        description = ship.calibrated(
            [truth[row] for row in others], [calibrated_on[row] for row in others], rule
        )
        scene = [raw[row].copy() for row in rows]
        for circles in scene:
            circles["error"] *= description.error_scale
        values = at_scene(scene, description.calibration)
        threshold = operating_point(np.concatenate(values)).threshold
        for row, circles, value in zip(rows, scene, values, strict=True):
            found[row], probability[row], is_called[row] = circles, value, value >= threshold
    row = figures(images, found, probability, rule, called=is_called)
    moved = [
        dataclasses.replace(image, craters=each.craters[each.craters["counted"]])
        for image, each in zip(images, truth, strict=True)
    ]
    shifted = figures(moved, found, probability, rule, called=is_called)
    row["registered"] = {name: shifted[name] for name in _TITLES}
    return row


def detect_stretched(detector: CircleDetector, image: LabeledImage) -> np.ndarray:
    """Find the circles of an image whose columns are repeated, as plate carree at latitude 60."""
    wide, missing = (np.repeat(array, 2, axis=1) for array in (image.pixels, image.missing))
    pixel = np.array([[0.0, -1.0], [0.5, 0.0]])  # a row covers twice the ground of a column
    circles = detector.detect(wide, missing=missing, azimuth=image.azimuth, pixel=pixel)
    circles["col"] = (circles["col"] + 0.5) / 2 - 0.5
    for name in ("diameter", "error"):
        circles[name] /= np.sqrt(2)
    return circles


def at_scene(found: Sequence[np.ndarray], calibration: Calibration) -> list[np.ndarray]:
    """Return the probability of the circles of images that are one scene."""
    circles = np.concatenate(found)
    scene = scene_probability(
        circles["logit"],
        slope=calibration.slope,
        offset=calibration.offset,
        share=calibration.share,
        strata=size_strata(circles),
    )
    return np.split(scene.probability, np.cumsum([len(each) for each in found])[:-1])


def figures(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    probability: Sequence[np.ndarray],
    rule: real.CircleRule,
    *,
    called: Sequence[np.ndarray] | None = None,
) -> Row:
    """Measure circles at every threshold and at the default one.

    Parameters
    ----------
    images, found, probability, rule
        As for `measure.figures`.
    called : sequence of ndarray of bool, optional
        Which circles of each image are detections; by default those of the operating point of all
        images together.
    """
    if called is None:
        threshold = operating_point(np.concatenate(probability)).threshold
        called = [each >= threshold for each in probability]
    return measure.figures(images, found, probability, rule, called)


def _result(rows: Rows) -> Row:
    contenders = [
        harness.contender(
            key,
            {0: row},
            tuple(name for name in _TITLES if row.get(name) is not None),
            key.startswith(PYCDA),
        )
        for (key, _), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Circles are matched one to one with the craters of a catalogue: the distance of the "
            "centres is at most half the crater's diameter, and the ratio of the diameters 0.5 to "
            "2. Craters of the THEMIS tiles count from 10 to 48 px (1 to 4.8 km), 24 px from the "
            "edge at least; those of other sets from 12 px. `ctx_mars` lists craters incompletely, "
            "and its boxes and those of `nac_moon` are wider than the rims.",
            "No real label: trained on synthetic scenes alone. Trained on THEMIS: also on images "
            "of `themis_tiles`, for `tiles` on those of the other regions, four folds; no other "
            "set was ever trained on. The default threshold expects a precision of 0.8; its "
            "calibration is of THEMIS images of other regions.",
            "Tiles that are stretched twice: every column is repeated, as in plate carree at "
            "latitude 60, and searched in conformal pixels.",
            "PyCDA is a public package (TensorFlow 2.15), with its shipped models and its own "
            "threshold of 0.5; it was trained on images of `hrsc`.",
        ],
        settings={"folds": real.FOLDS},
        titles=_TITLES,
        tables=_TABLES,
        contenders=contenders,
        findings=_findings(rows),
        sets={
            key: {name: row[name] for name in ("images", "craters", "by_diameter")}
            for (key, _), row in rows.items()
        },
    )


def _findings(rows: Rows) -> list[str]:
    """Return recall and precision by diameter, and the figures after registration, in words."""
    lines = []
    for (key, _), row in rows.items():
        bins = "; ".join(
            f"from {each['from']:g} px {_share(each['recall'])} of {each['craters']} craters, "
            f"precision {_share(each['precision'])}"
            for each in row["by_diameter"]
            if each["craters"] or each["detections"]
        )
        lines.append(f"{key}, at the default threshold: {bins}")
        if (moved := row.get("registered")) is not None:
            lines.append(
                f"{key}, the shift of the catalogue in each region taken out: recall at 0.5 false "
                f"an image {moved['recall_at_rate']:.3f}, median distance of centres "
                f"{moved['distance_px']:.2f} px"
            )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
