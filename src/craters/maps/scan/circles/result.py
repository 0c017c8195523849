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
from craters.maps.scan.circles.preparation import Preparation
from craters.maps.scan.circles.search import CircleJob
from craters.maps.scan.circles.store import CircleFile
from craters.maps.scan.output import ScanOutcome
from craters.maps.scan.report import brightness, unlike_patches
from craters.maps.scan.store import BlockIndex
from craters.models import size_strata

_ROWS = 1 << 18  # of a table in memory at once; GeoPackages index further parts row by row
_RIMS = 1 << 13  # of rims, which have many corners
_WIDEST = 0.5  # interval of a precision that is claimed


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image, and what was searched.

    Parameters
    ----------
    job : CircleJob
    candidates, detections : int
    circles : ndarray, `CIRCLE_DTYPE`
        The detections and the candidates near the threshold, by falling probability.
    probability : ndarray
    failed : dict of str
        Reason of failure by block.
    appearance : Appearance
    footprint : Layer
    area : float or None
        Square metres.
    """

    job: CircleJob
    candidates: int
    detections: int
    circles: np.ndarray
    probability: np.ndarray
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
    circles : CircleFile
        All candidates.
    scene : SceneProbability
        Of the candidates in the order of the file.
    point : OperatingPoint
    found : list of Found
    """

    plan: CirclePlan
    circles: CircleFile
    scene: SceneProbability
    point: OperatingPoint
    found: list[Found]

    def candidates(self) -> Iterator[tuple[Image, np.ndarray, np.ndarray]]:
        """Yield all candidates from top to bottom, some at a time: circles and probabilities."""
        for number, image in enumerate(self.plan.images):
            for place, circles in self.circles.read(number, _ROWS):
                yield image, circles, self.scene.probability[place]

    def detected(self, rows: int = _ROWS) -> Iterator[tuple[Image, dict[str, np.ndarray]]]:
        """Yield the detections by falling probability as tables: at least one an image."""
        for each in self.found:
            for start in range(0, max(each.detections, 1), rows):
                part = slice(start, min(start + rows, each.detections))
                yield self._table(each.job.image, each.circles[part], each.probability[part])

    def others(self) -> Iterator[tuple[Image, dict[str, np.ndarray]]]:
        """Yield the other candidates from top to bottom as tables: at least one an image."""
        for image, circles, p in self.candidates():
            is_other = p < self.point.threshold
            yield self._table(image, circles[is_other], p[is_other])

    def _table(
        self, image: Image, circles: np.ndarray, p: np.ndarray
    ) -> tuple[Image, dict[str, np.ndarray]]:
        planet, model = self.plan.images[0].planet, self.plan.model_sha256
        return image, table.circle_table(image, circles, p, planet, model)


def write_circles(
    plan: CirclePlan,
    folder: StrPath,
    jobs: list[CircleJob],
    index: BlockIndex,
    preparation: Preparation,
    progress: Progress,
) -> ScanOutcome:
    """Write all files of the result; summary.json comes last and marks the folder complete."""
    folder = Path(folder)
    folder.mkdir()
    catalogue = _catalogue(plan, jobs, index, folder.with_name("merged.circles"))
    summary = _summary(catalogue, preparation)
    for text in summary["warnings"]:
        progress.warn(text)
    _write_tables(catalogue, folder, summary)
    shown = [
        report.Shown.of(each.job.image, each.circles, each.probability) for each in catalogue.found
    ]
    page = report.html_report(summary, shown, _facts(plan), preparation)
    files.write_text(folder / "report.html", page)
    failed = output.failed_rows({each.job.image.name: each.failed for each in catalogue.found})
    output.write_summary(folder, summary, failed)
    catalogue.circles.path.unlink()
    return ScanOutcome(plan.config.out, summary, failed)


def _catalogue(plan: CirclePlan, jobs: list[CircleJob], index: BlockIndex, path: Path) -> Catalogue:
    """Merge the candidates of each image, calibrate them, and choose the threshold."""
    merged = CircleFile(path)
    for job in jobs:
        shape = job.image.height, job.image.width
        merged.append(plan.detector.finish_parts(job.store.circles(), shape))
    appearances = share_light(index.appearances(), plan.inspection)
    seen = [appearances.get(job.number, Appearance(plan.inspection.light)) for job in jobs]
    scene, point = _judge(plan, merged, [not each.doubts for each in seen])
    catalogue = Catalogue(plan=plan, circles=merged, scene=scene, point=point, found=[])
    for job, appearance in zip(jobs, seen, strict=True):
        catalogue.found.append(_find(catalogue, job, index.failed(job.number), appearance))
    return catalogue


def _find(
    catalogue: Catalogue, job: CircleJob, failed: dict[int, str], appearance: Appearance
) -> Found:
    """Collect what was found in an image."""
    threshold, parts, values = catalogue.point.threshold, [], []
    for place, circles in catalogue.circles.read(job.number, _ROWS):
        p = catalogue.scene.probability[place]
        is_shown = (p >= threshold) | report.is_near(p, threshold)
        parts.append(circles[is_shown])
        values.append(p[is_shown])
    probability = np.concatenate(values)
    order = np.argsort(-probability, kind="stable")
    outline, area = table.circle_footprint(job.image, job.store, catalogue.plan.images[0].planet)
    return Found(
        job=job,
        candidates=catalogue.circles.counts[job.number],
        detections=int((probability >= threshold).sum()),
        circles=np.concatenate(parts)[order],
        probability=probability[order],
        failed=failed,
        appearance=appearance,
        footprint=outline,
        area=area,
    )


def _judge(
    plan: CirclePlan, merged: CircleFile, is_like: list[bool]
) -> tuple[SceneProbability, OperatingPoint]:
    """Calibrate all candidates as one scene, and choose the threshold.

    Images unlike those that the model was made for do not affect the threshold, unless all are.
    """
    calibration = plan.detector.description.calibration
    total = sum(merged.counts)
    logits, strata, counts = np.empty(total), np.empty(total, np.int8), np.empty(total, bool)
    for number, like in enumerate(is_like):
        for place, circles in merged.read(number, _ROWS):
            logits[place], strata[place] = circles["logit"], size_strata(circles)
            counts[place] = like or not any(is_like)
    if calibration.candidates:
        scene = scene_probability(
            logits,
            slope=calibration.slope,
            offset=calibration.offset,
            share=calibration.share,
            strata=strata,
        )
    else:  # nothing is known of the share that the network's own probability stands for
        probability = sigmoid(logits)
        share = float(probability.mean()) if total else 0.0
        scene = SceneProbability(probability, share, (0.0, 1.0))
    del logits
    point = operating_point(
        scene.probability if counts.all() else scene.probability[counts],
        plan.precision,
        threshold=plan.config.decision_threshold,
        scatter=calibration.scatter,
        shift=scene.shift if calibration.candidates else (0.0, 0.0),
    )
    return scene, point


def _why_unknown(catalogue: Catalogue) -> str:
    """Return why no precision is claimed; empty if it is."""
    found = catalogue.found
    if all(each.appearance.doubts for each in found):
        where = "the image differs" if len(found) == 1 else "all images differ"
        return f"{where} from those that the model was made for"
    if not catalogue.plan.detector.description.calibration.candidates:
        return "the model's probabilities are not calibrated"
    if catalogue.point.interval is None:
        return "there are no detections"
    low, high = catalogue.point.interval
    if high - low > _WIDEST:
        return (
            "too few candidates show how common craters are among them, so that the precision "
            f"may be {100 * low:.0f} to {100 * high:.0f} %"
        )
    return ""


def _summary(catalogue: Catalogue, preparation: Preparation) -> dict[str, Any]:
    plan, found, point = catalogue.plan, catalogue.found, catalogue.point
    planet = plan.images[0].planet
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
        "detections": sum(each.detections for each in found),
        "candidates": sum(each.candidates for each in found),
        "area_km2": None if None in areas else sum(areas) / 1e6,  # type: ignore[arg-type]
        "failed_blocks": sum(len(each.failed) for each in found),
        "expected": _expected(catalogue),
        "diameter_unit": unit,
        "diameters": report.count_diameters(
            ((_diameters(image, circles), p) for image, circles, p in catalogue.candidates()),
            point.threshold,
        ),
        "warnings": _warnings(plan, found),
        "images": [_image_row(each, preparation) for each in found],
    }


def _expected(catalogue: Catalogue) -> dict[str, Any]:
    """Return the expected precision and number of craters, with intervals."""
    scene, point, why = catalogue.scene, catalogue.point, _why_unknown(catalogue)
    count = len(scene.probability)
    return {
        "precision": None if why else point.precision,
        "precision_interval": None if why else point.interval,
        "scatter": catalogue.plan.detector.description.calibration.scatter,
        "why_unknown": why,
        "unlike_images": sum(bool(each.appearance.doubts) for each in catalogue.found),
        "craters": scene.share * count,
        "craters_interval": [end * count for end in scene.interval],
        "share": scene.share,
    }


def _diameters(image: Image, circles: np.ndarray) -> np.ndarray:
    """Return the diameters of circles in kilometres; in pixels without a body."""
    if not image.planet.is_known:
        return np.asarray(circles["diameter"])
    metres = table.metres_per_pixel(image, circles["row"], circles["col"])
    return np.asarray(circles["diameter"] * metres / 1000)


def _image_row(found: Found, preparation: Preparation) -> dict[str, Any]:
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
        "candidates": found.candidates,
        "detections": found.detections,
        "doubts": found.appearance.doubts,
        "area_km2": None if found.area is None else found.area / 1e6,
        "blocks": sum(map(len, found.job.stages)),
        "failed_blocks": len(found.failed),
        "brightness": brightness(preparation.quick_look(image)),
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
    rims = (
        Layer(name="rims", kind="Polygon", shapes=table.map_rims(image, part, planet), columns=part)
        for image, part in catalogue.detected(_RIMS)
    )
    layers: list[Iterator[Layer]] = [
        (_points("detections", part) for _, part in catalogue.detected()),
        rims,
        (_points("candidates", part) for _, part in catalogue.others()),
        (each.footprint for each in catalogue.found),
        iter([output.run_layer(summary)]),
    ]
    map_files.write_layers(folder / "detections.gpkg", layers, planet, table.STYLES)
    parts = (part for _, part in catalogue.detected())
    files.write_parts(folder / "detections.csv", output.csv_parts(parts))
    if catalogue.plan.config.parquet:
        detections = output.join([part for _, part in catalogue.detected()])
        shapes = _points("detections", detections).shapes
        map_files.write_points(folder / "detections.parquet", shapes, detections, planet)
    for name, qml in table.STYLES.items():
        files.write_text(folder / f"{name}.qml", qml)


def _points(name: str, columns: dict[str, np.ndarray]) -> Layer:
    shapes = shapely.points(columns["x"], columns["y"])
    return Layer(name=name, kind="Point", shapes=shapes, columns=columns)
