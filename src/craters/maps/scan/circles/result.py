"""Write the result folder of a scan for circles from the candidates of all blocks."""

from __future__ import annotations

import dataclasses
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
from craters.maps.geo import Image, Layer, map_files, skipped_files
from craters.maps.scan import output
from craters.maps.scan.appearance import Appearance, share_light, unknown_light
from craters.maps.scan.circles import report, table
from craters.maps.scan.circles.plan import CirclePlan
from craters.maps.scan.circles.search import CircleJob
from craters.maps.scan.output import ScanOutcome
from craters.maps.scan.report import brightness, read_quick_look, unlike_patches
from craters.maps.scan.store import BlockIndex
from craters.models import size_strata

_ROWS = 1 << 17  # of a table in memory at once


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The circles of one image, and what was searched.

    Parameters
    ----------
    job : CircleJob
    circles : ndarray, `CIRCLE_DTYPE`
        All candidates; in a `Catalogue` by falling probability.
    failed : dict of str
        Reason of failure by block.
    appearance : Appearance
    footprint : Layer
    area : float or None
        Square metres.
    """

    job: CircleJob
    circles: np.ndarray
    failed: dict[int, str]
    appearance: Appearance
    footprint: Layer
    area: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """The circles of all images with their probabilities, and the threshold of detections.

    Parameters
    ----------
    plan : CirclePlan
    found : list of Found
    scene : SceneProbability
        Of the candidates of all images, one after the other.
    point : OperatingPoint
    """

    plan: CirclePlan
    found: list[Found]
    scene: SceneProbability
    point: OperatingPoint

    def probability(self) -> list[np.ndarray]:
        """Return the probabilities of the candidates of each image."""
        return _split(self.scene.probability, self.found)

    def tables(self, *, detected: bool) -> Iterator[tuple[Image, dict[str, np.ndarray]]]:
        """Yield the detections, or all others, as tables of limited size: at least one an image."""
        planet = self.plan.images[0].planet
        for each, p in zip(self.found, self.probability(), strict=True):
            rows = np.flatnonzero((p >= self.point.threshold) == detected)
            for start in range(0, max(len(rows), 1), _ROWS):
                part = rows[start : start + _ROWS]
                yield (
                    each.job.image,
                    table.circle_table(
                        each.job.image, each.circles[part], p[part], planet, self.plan.model_sha256
                    ),
                )


def _split(values: np.ndarray, found: list[Found]) -> list[np.ndarray]:
    """Divide values of the candidates of all images by image."""
    return np.split(values, np.cumsum([len(each.circles) for each in found])[:-1])


def write_circles(
    plan: CirclePlan, folder: StrPath, jobs: list[CircleJob], index: BlockIndex, progress: Progress
) -> ScanOutcome:
    """Write all files of the result; summary.json comes last and marks the folder complete."""
    folder = Path(folder)
    folder.mkdir()
    catalogue = _judge(plan, _collect(plan, jobs, index))
    summary = _summary(catalogue)
    for text in summary["warnings"]:
        progress.warn(text)
    _write_tables(catalogue, folder, summary)
    shown = [
        report.Shown.of(each.job.image, each.circles, p)
        for each, p in zip(catalogue.found, catalogue.probability(), strict=True)
    ]
    files.write_text(folder / "report.html", report.html_report(summary, shown, _facts(plan)))
    failed = output.failed_rows({each.job.image.name: each.failed for each in catalogue.found})
    output.write_summary(folder, summary, failed)
    return ScanOutcome(plan.config.out, summary, failed)


def _collect(plan: CirclePlan, jobs: list[CircleJob], index: BlockIndex) -> list[Found]:
    """Merge the candidates of each image."""
    seen = share_light(index.appearances(), plan.inspection)
    found = []
    for job in jobs:
        shape = job.image.height, job.image.width
        outline, area = table.circle_footprint(job.image, job.store, plan.images[0].planet)
        found.append(
            Found(
                job=job,
                circles=plan.detector.finish(job.store.circles(), shape),
                failed=index.failed(job.number),
                appearance=seen.get(job.number, Appearance(plan.inspection.light)),
                footprint=outline,
                area=area,
            )
        )
    return found


def _judge(plan: CirclePlan, found: list[Found]) -> Catalogue:
    """Calibrate all candidates as one scene, order them, and choose the threshold.

    Images unlike those that the model was made for do not affect the threshold, unless all are.
    """
    calibration = plan.detector.description.calibration
    circles = np.concatenate([each.circles for each in found])
    logits = circles["logit"]
    if calibration.candidates:
        scene = scene_probability(
            logits,
            slope=calibration.slope,
            offset=calibration.offset,
            share=calibration.share,
            strata=size_strata(circles),
        )
    else:  # nothing is known of the share that the network's own probability stands for
        probability = sigmoid(logits)
        share = float(probability.mean()) if len(logits) else 0.0
        scene = SceneProbability(probability, share, (0.0, 1.0))
    parts = _split(scene.probability, found)
    orders = [np.argsort(-part, kind="stable") for part in parts]
    found = [
        dataclasses.replace(each, circles=each.circles[order])
        for each, order in zip(found, orders, strict=True)
    ]
    parts = [part[order] for part, order in zip(parts, orders, strict=True)]
    scene = dataclasses.replace(scene, probability=np.concatenate(parts))
    is_like = [not each.appearance.doubts for each in found]
    point = operating_point(
        np.concatenate(
            [part for part, like in zip(parts, is_like, strict=True) if like or not any(is_like)]
        ),
        plan.precision,
        threshold=plan.config.decision_threshold,
        scatter=calibration.scatter,
    )
    return Catalogue(plan=plan, found=found, scene=scene, point=point)


def _why_unknown(catalogue: Catalogue) -> str:
    """Return why no precision is claimed; empty if it is."""
    found = catalogue.found
    if all(each.appearance.doubts for each in found):
        where = "the image differs" if len(found) == 1 else "all images differ"
        return f"{where} from those that the model was made for"
    if not catalogue.plan.detector.description.calibration.candidates:
        return "the model's probabilities are not calibrated"
    return "there are no detections" if catalogue.point.precision is None else ""


def _summary(catalogue: Catalogue) -> dict[str, Any]:
    plan, found, point = catalogue.plan, catalogue.found, catalogue.point
    planet = plan.images[0].planet
    probability = catalogue.scene.probability
    areas = [each.area for each in found]
    unit = "km" if planet.is_known else "px"
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
        "candidates": len(probability),
        "area_km2": None if None in areas else sum(areas) / 1e6,  # type: ignore[arg-type]
        "failed_blocks": sum(len(each.failed) for each in found),
        "expected": _expected(catalogue),
        "diameter_unit": unit,
        "diameters": report.count_diameters(
            np.concatenate([_diameters(each) for each in found]), probability, point.threshold
        ),
        "warnings": _warnings(plan, found),
        "images": [
            _image_row(each, p, point.threshold)
            for each, p in zip(found, catalogue.probability(), strict=True)
        ],
    }


def _expected(catalogue: Catalogue) -> dict[str, Any]:
    """Return the expected precision and number of craters, with intervals."""
    scene, point, why = catalogue.scene, catalogue.point, _why_unknown(catalogue)
    count = len(scene.probability)
    return {
        "precision": None if why else point.precision,
        "precision_interval": None if why else point.interval,
        "why_unknown": why,
        "unlike_images": sum(bool(each.appearance.doubts) for each in catalogue.found),
        "craters": scene.share * count,
        "craters_interval": [end * count for end in scene.interval],
        "share": scene.share,
    }


def _diameters(found: Found) -> np.ndarray:
    """Return the diameters of an image's circles in kilometres; in pixels without a body."""
    image, circles = found.job.image, found.circles
    if not image.planet.is_known:
        return np.asarray(circles["diameter"])
    metres = table.metres_per_pixel(image, circles["row"], circles["col"])
    return np.asarray(circles["diameter"] * metres / 1000)


def _image_row(found: Found, p: np.ndarray, threshold: float) -> dict[str, Any]:
    """Return the results of one image."""
    image = found.job.image
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


def _write_tables(catalogue: Catalogue, folder: Path, summary: dict[str, Any]) -> None:
    """Write the catalogue as GeoPackage and CSV, with QGIS styles."""
    planet = catalogue.plan.images[0].planet
    tables = list(catalogue.tables(detected=True))
    detections = output.join([part for _, part in tables])
    rims = (
        Layer(name="rims", kind="Polygon", shapes=table.map_rims(image, part, planet), columns=part)
        for image, part in tables
    )
    layers: list[Iterator[Layer]] = [
        iter([_points("detections", detections)]),
        rims,
        (_points("candidates", part) for _, part in catalogue.tables(detected=False)),
        (each.footprint for each in catalogue.found),
        iter([output.run_layer(summary)]),
    ]
    map_files.write_layers(folder / "detections.gpkg", layers, planet, table.STYLES)
    files.write_text(folder / "detections.csv", output.to_csv(detections))
    if catalogue.plan.config.parquet:
        shapes = _points("detections", detections).shapes
        map_files.write_points(folder / "detections.parquet", shapes, detections, planet)
    for name, qml in table.STYLES.items():
        files.write_text(folder / f"{name}.qml", qml)


def _points(name: str, columns: dict[str, np.ndarray]) -> Layer:
    shapes = shapely.points(columns["x"], columns["y"])
    return Layer(name=name, kind="Point", shapes=shapes, columns=columns)
