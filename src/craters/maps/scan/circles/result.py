"""Write the result folder of a scan for circles from the candidates of all blocks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import Progress, StrPath, files
from craters.evaluation import (
    OperatingPoint,
    SceneProbability,
    operating_point,
    scene_probability,
    sigmoid,
)
from craters.maps.geo import Layer, map_files, skipped_files
from craters.maps.scan import output
from craters.maps.scan.appearance import Appearance, share_light, unknown_light
from craters.maps.scan.circles import report, table
from craters.maps.scan.circles.plan import CirclePlan
from craters.maps.scan.circles.search import CircleJob
from craters.maps.scan.output import ScanOutcome
from craters.maps.scan.report import brightness, read_quick_look, unlike_patches
from craters.maps.scan.store import BlockIndex


@dataclasses.dataclass(frozen=True)
class Found:
    """The circles of one image, and what was searched.

    Parameters
    ----------
    job : CircleJob
    failed : dict of str
        Reason of failure by block.
    appearance : Appearance
    table : dict of ndarray
        All candidates, by falling probability.
    footprint : Layer
    area : float or None
        Square metres.
    """

    job: CircleJob
    failed: dict[int, str]
    appearance: Appearance
    table: dict[str, np.ndarray]
    footprint: Layer
    area: float | None


def write_circles(
    plan: CirclePlan, folder: StrPath, jobs: list[CircleJob], index: BlockIndex, progress: Progress
) -> ScanOutcome:
    """Write all files of the result; summary.json comes last and marks the folder complete."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    seen = share_light(index.appearances(), plan.inspection)
    planet = plan.images[0].planet
    found, logits = [], []
    for job in jobs:
        shape = job.image.height, job.image.width
        circles = plan.detector.finish(job.store.circles(), shape)
        logits.append(circles["logit"])
        outline, area = table.circle_footprint(job.image, job.store, planet)
        found.append(
            Found(
                job=job,
                failed=index.failed(job.number),
                appearance=seen.get(job.number, Appearance(plan.inspection.light)),
                table=table.circle_table(job.image, circles, planet, plan.model_sha256),
                footprint=outline,
                area=area,
            )
        )
    scene, point = _judge(plan, found, logits)
    summary = _summary(plan, found, scene, point)
    for text in summary["warnings"]:
        progress.warn(text)
    _write_tables(plan, folder, found, point.threshold, summary)
    tables = [(each.job.image, each.table) for each in found]
    files.write_text(folder / "report.html", report.html_report(summary, tables, _facts(plan)))
    failed = output.failed_rows({each.job.image.name: each.failed for each in found})
    output.write_summary(folder, summary, failed)
    return ScanOutcome(plan.config.out, summary, failed)


def _judge(
    plan: CirclePlan, found: list[Found], logits: list[np.ndarray]
) -> tuple[SceneProbability, OperatingPoint]:
    """Calibrate all candidates as one scene, set `p_crater`, and choose the threshold.

    Images unlike those that the model was made for have no say in the threshold, unless all are.
    """
    calibration = plan.detector.description.calibration
    pooled = np.concatenate(logits)
    if calibration.candidates:
        scene = scene_probability(
            pooled,
            slope=calibration.slope,
            offset=calibration.offset,
            share=calibration.share,
        )
    else:  # nothing is known of the share that the network's own probability stands for
        probability = sigmoid(pooled)
        share = float(probability.mean()) if len(pooled) else 0.0
        scene = SceneProbability(probability, share, (0.0, 1.0))
    ends = np.cumsum([len(part) for part in logits])[:-1]
    for each, part in zip(found, np.split(scene.probability, ends), strict=True):
        each.table["p_crater"] = part
    like = [each for each in found if not each.appearance.doubts] or found
    point = operating_point(
        np.concatenate([each.table["p_crater"] for each in like]),
        plan.precision,
        threshold=plan.config.decision_threshold,
    )
    return scene, point


def _why_unknown(plan: CirclePlan, found: list[Found], point: OperatingPoint) -> str:
    """Return why no precision is claimed; empty if it is."""
    if all(each.appearance.doubts for each in found):
        where = "the image differs" if len(found) == 1 else "all images differ"
        return f"{where} from those that the model was made for"
    if not plan.detector.description.calibration.candidates:
        return "the model's probabilities are not calibrated"
    return "there are no detections" if point.precision is None else ""


def _summary(
    plan: CirclePlan, found: list[Found], scene: SceneProbability, point: OperatingPoint
) -> dict[str, Any]:
    planet = plan.images[0].planet
    probability, why = scene.probability, _why_unknown(plan, found, point)
    count, areas = len(probability), [each.area for each in found]
    rows = [_image_row(each, point.threshold) for each in found]
    unit = "km" if planet.is_known else "px"
    diameters = np.concatenate([each.table[f"diameter_{unit}"] for each in found])
    return {
        "craters": __version__,
        **plan.fingerprint.record(),
        "model": str(plan.config.model),
        "model_sha256": plan.model_sha256,
        "network": plan.detector.description.network,
        "decision_threshold": point.threshold if np.isfinite(point.threshold) else None,
        "target_precision": None if plan.config.decision_threshold is not None else plan.precision,
        "max_gap": plan.config.max_gap,
        "gap_px": plan.config.read.gap,
        "light": [
            {"image": each.job.image.name} | dataclasses.asdict(each.appearance.light)
            for each in found
            if each.appearance.light is not None
        ],
        "crs": planet.wkt or None,
        "body": plan.config.read.body or planet.body_label,
        "pixels": plan.reference.record(plan.images, plan.config.read.scale),
        "detections": int((probability >= point.threshold).sum()),
        "candidates": count,
        "area_km2": None if None in areas else sum(areas) / 1e6,  # type: ignore[arg-type]
        "failed_blocks": sum(len(each.failed) for each in found),
        "expected": {
            "precision": None if why else point.precision,
            "precision_interval": None if why else point.interval,
            "why_unknown": why,
            "unlike_images": sum(bool(each.appearance.doubts) for each in found),
            "craters": scene.share * count,
            "craters_interval": [end * count for end in scene.interval],
            "share": scene.share,
        },
        "diameter_unit": unit,
        "diameters": report.count_diameters(diameters, probability, point.threshold),
        "warnings": _warnings(plan, found),
        "images": rows,
    }


def _image_row(found: Found, threshold: float) -> dict[str, Any]:
    """Return the results of one image."""
    image, p = found.job.image, found.table["p_crater"]
    return {
        "name": image.name,
        "path": image.path,
        "band": image.band,
        "native": image.native,
        "height": image.height,
        "width": image.width,
        "resampled": image.resampled,
        "resolution": image.resolution,
        "scale": image.scale,
        "scale_rule": image.scale_rule,
        "candidates": len(p),
        "detections": int((p >= threshold).sum()),
        "doubts": found.appearance.doubts,
        "area_km2": None if found.area is None else found.area / 1e6,
        "blocks": sum(map(len, found.job.stages)),
        "failed_blocks": len(found.failed),
        "brightness": brightness(read_quick_look(image)),
    }


def _warnings(plan: CirclePlan, found: list[Found]) -> list[str]:
    """Return what makes the results doubtful, and which blocks are missing."""
    warnings = [f"{note}." for note in plan.notes] + skipped_files(plan.config.images)
    for each in found:
        image = each.job.image
        warnings += unlike_patches(image, each.appearance.doubts)
        if not each.failed and not len(each.footprint.shapes):
            warnings.append(f"{image.name}: every pixel is missing; is nodata right?")
    warnings += unknown_light({each.job.image.name: each.appearance for each in found})
    if count := sum(len(each.failed) for each in found):
        warnings.append(f"{count} {output.FAILED}")
    return warnings


def _facts(plan: CirclePlan) -> dict[str, str]:
    """Return model and coordinates as text, for the report."""
    planet = plan.images[0].planet
    return {
        "model": plan.model_line.removeprefix("Model: "),
        "coordinate system": planet.crs.name if planet.is_known else "none: pixels",
        "scaling of the first image": plan.images[0].scale_rule,
        "craters": __version__,
    }


def _write_tables(
    plan: CirclePlan,
    folder: Path,
    found: list[Found],
    threshold: float,
    summary: dict[str, Any],
) -> None:
    """Write the catalogue as GeoPackage and CSV, with QGIS styles."""
    planet = plan.images[0].planet
    whole = output.join([each.table for each in found])
    is_detection = whole["p_crater"] >= threshold
    detections, others = table.select(whole, is_detection), table.select(whole, ~is_detection)

    def rims() -> Iterator[Layer]:
        for each in found:
            part = table.select(each.table, each.table["p_crater"] >= threshold)
            shapes = table.map_rims(each.job.image, part, planet)
            yield Layer(name="rims", kind="Polygon", shapes=shapes, columns=part)

    layers = [
        iter([_points("detections", detections)]),
        rims(),
        iter([_points("candidates", others)]),
        (each.footprint for each in found),
        iter([output.run_layer(summary)]),
    ]
    map_files.write_layers(folder / "detections.gpkg", layers, planet, table.STYLES)
    files.write_text(folder / "detections.csv", output.to_csv(detections))
    if plan.config.parquet:
        shapes = _points("detections", detections).shapes
        map_files.write_points(folder / "detections.parquet", shapes, detections, planet)
    for name, qml in table.STYLES.items():
        files.write_text(folder / f"{name}.qml", qml)


def _points(name: str, columns: dict[str, np.ndarray]) -> Layer:
    shapes = shapely.points(columns["x"], columns["y"])
    return Layer(name=name, kind="Point", shapes=shapes, columns=columns)
