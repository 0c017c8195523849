"""Write the run folder of a training on a user's own images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import (
    Fingerprint,
    describe_hardware,
    files,
    hardware_line,
    package_versions,
)
from craters.detection.circle_training.checks import check_training
from craters.detection.circle_training.report import html_report
from craters.detection.circle_training.result import (
    START,
    TRAINED,
    CircleTraining,
    summarize,
)
from craters.maps.catalogues import COUNTED, FALSE, HIT
from craters.models import CircleDescription, read_weights, restore_circle_net, write_circle_model
from craters.quality import Check, checks

MANIFEST, METRICS, CHECKS = "manifest.json", "metrics.json", checks.NAME

_STATES = {HIT: "hit", FALSE: "false"}


def write_all(
    training: CircleTraining, weights: Path, folder: Path, fingerprint: Fingerprint
) -> tuple[dict[str, Any], list[Check]]:
    """Write all files of the run folder, the manifest last; return metrics and checks.

    Parameters
    ----------
    training : CircleTraining
    weights : Path
        Model folder with the weights of the detector that is kept.
    folder : Path
        To create.
    fingerprint : Fingerprint
    """
    folder.mkdir()
    files.write_json(folder / "config.json", dataclasses.asdict(training.config))
    metrics = summarize(training)
    files.write_json(folder / METRICS, metrics)
    made = check_training(training)
    files.write_json(folder / CHECKS, checks.as_json(made))
    for name, rows in (
        ("images.csv", _image_rows(training)),
        ("craters.csv", _crater_rows(training)),
        ("detections.csv", _detection_rows(training)),
    ):
        files.write_text(folder / name, files.to_csv(rows))
    network = restore_circle_net(read_weights(weights))
    write_circle_model(folder / "model", network, _description(training, metrics))
    facts = {
        "catalogue": f"{training.config.catalogue.name}, SHA-256 "
        f"{training.read.catalogue.sha256()}",
        "training from": training.config.start,
        "steps": str(training.how.steps),
        "share of synthetic scenes": f"{training.how.rehearsed:g}",
        "share of the way to the trained weights": f"{training.how.share:g}",
        "seed": str(training.config.seed),
        "craters": __version__,
        "versions": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "hardware": hardware_line(training.config.device),
    }
    files.write_text(folder / "report.html", html_report(training, metrics, made, facts))
    outputs = {
        path.relative_to(folder).as_posix(): files.sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        **fingerprint.record(),
        "craters": __version__,
        "versions": package_versions(),
        "hardware": describe_hardware(training.config.device),
        "outputs": outputs,
    }
    files.write_json(folder / MANIFEST, manifest)
    return metrics, made


def _description(training: CircleTraining, metrics: dict[str, Any]) -> CircleDescription:
    """Return what model.json says of the detector that is kept."""
    limit, kept = metrics["limit"], metrics["figures"][training.kept]
    what = f"{metrics['images']} images with the catalogue {training.config.catalogue.name}"
    if training.kept == START:
        what += f", which calibrated the weights of {training.config.start}"
    names = ("craters", "recall", "precision", "f1", "average_precision", "diameter_ratio",
             "diameter_scatter", "within_error")  # fmt: skip
    shown = {name: round(kept[name], 4) for name in names if kept[name] is not None}
    return dataclasses.replace(
        training.description,
        training={
            "images": what,
            "start": training.config.start,
            "steps": training.how.steps if training.kept == TRAINED else 0,
            "share of synthetic scenes": training.how.rehearsed,
            "share of the way to the trained weights": training.how.share,
            "seed": training.config.seed,
            "smallest diameter of the catalogue": f"{limit['smallest']:.4g} {metrics['unit']} "
            f"({limit['origin']})",
        },
        metrics={f"images held out, by {metrics['group_rule']}": shown},
        limits=[
            "Measured on images like those that it was trained on; on others, measure before you "
            "rely on it.",
            "Craters larger than a quarter of the image are not found.",
            "The direction of light must be known, or recognizable in the image or in the others "
            "of the scan.",
        ],
        versions=package_versions(),
    )


def _image_rows(training: CircleTraining) -> list[list[Any]]:
    """Return images.csv: each part of an image, its fold, light and shift, and what was found."""
    lights = {image.name: light for image, light
              in zip(training.read.images, training.read.lights, strict=True)}  # fmt: skip
    counts = training.validation.figures[TRAINED].counts
    before = training.validation.figures[START].counts
    rows: list[list[Any]] = [
        ["image", "part", "group", "fold", "light_azimuth", "light_known", "shift_right_px",
         "shift_down_px", "craters", "found", "false", "found_before", "false_before"]
    ]  # fmt: skip
    for row, (part, image) in enumerate(zip(training.read.parts, training.truth, strict=True)):
        light = lights[part.image.name]
        rows.append(
            [part.image.name, image.name, image.group, int(training.validation.folds[row]) + 1,
             light.azimuth, int(light.is_used), *training.shifts[row].round(2).tolist(),
             int(counts[row, 2]), *counts[row, :2].tolist(), *before[row, :2].tolist()]
        )  # fmt: skip
    return rows


def _crater_rows(training: CircleTraining) -> list[list[Any]]:
    """Return craters.csv: the craters of the catalogue where the images show them."""
    matching = training.validation.figures[training.kept].matched.matching
    states = np.full(sum(len(image.craters) for image in training.truth), "ignored", "U8")
    counted = matching.target_state == COUNTED
    found = matching.target_detection >= 0
    states[matching.target_crater[counted & found]] = "found"
    states[matching.target_crater[counted & ~found]] = "missed"
    rows: list[list[Any]] = [
        ["image", "x_px", "y_px", "diameter_px", "counted", "catalogue_row", "state"]
    ]
    first = 0
    for part, image in zip(training.read.parts, training.truth, strict=True):
        craters = part.to_image(image.craters)
        numbers = training.read.catalogue.file_rows(part.entries).tolist()
        for place, (crater, number) in enumerate(zip(craters, numbers, strict=True)):
            rows.append([part.image.name, *_circle(crater), int(crater["counted"]), number,
                         states[first + place]])  # fmt: skip
        first += len(craters)
    return rows


def _detection_rows(training: CircleTraining) -> list[list[Any]]:
    """Return detections.csv: the detections in the images held out, and which are craters."""
    judged, figures = training.validation.judged, training.validation.figures
    circles, probability = judged[training.kept].called
    states = figures[training.kept].matched.matching.detection_state
    rows: list[list[Any]] = [
        ["image", "x_px", "y_px", "diameter_px", "diameter_error_px", "probability", "state"]
    ]
    first = 0
    for part, own, p in zip(training.read.parts, circles, probability, strict=True):
        for place, circle in enumerate(part.to_image(own)):
            state = _STATES.get(int(states[first + place]), "ignored")
            rows.append([part.image.name, *_circle(circle), round(float(circle["error"]), 3),
                         round(float(p[place]), 5), state])  # fmt: skip
        first += len(own)
    return rows


def _circle(circle: Any) -> list[float]:
    """Return x and y from the corner of the image, and the diameter."""
    values = circle["col"] + 0.5, circle["row"] + 0.5, circle["diameter"]
    return [round(float(value), 3) for value in values]
