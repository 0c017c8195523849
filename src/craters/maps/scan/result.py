"""Write the result folder of a scan from the logits of all windows."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import Progress, files
from craters.maps.geo import Layer, map_files, skipped_files
from craters.maps.scan import output, report
from craters.maps.scan.appearance import Appearance, light_sentence, unknown_light
from craters.maps.scan.output import Scanned, ScanOutcome
from craters.maps.scan.plan import WindowJob, WindowPlan
from craters.maps.scan.store import BlockIndex
from craters.models import measured_quality


def write_all(
    plan: WindowPlan, folder: Path, jobs: list[WindowJob], index: BlockIndex, progress: Progress
) -> ScanOutcome:
    """Write all files of the result; summary.json comes last and marks the folder complete."""
    folder.mkdir()
    scanned = [
        Scanned(
            image=job.image,
            grid=job.blocks.grid,
            store=job.store,
            done=index.done(job.number),
            failed=index.failed(job.number),
            classifier=plan.classifier,
            planet=plan.images[0].planet,
        )
        for job in jobs
    ]
    rows, tables, histogram = [], [], np.zeros(output.BINS, np.int64)
    footprints: list[Layer] = []
    quick_looks: list[report.QuickLook] = []
    for item in scanned:
        row, table, counts, outline = _write_image(plan, item, folder, single=len(jobs) == 1)
        small = report.read_quick_look(item.image)
        row["brightness"] = report.brightness(small)
        if len(quick_looks) < report.QUICK_LOOKS:
            quick_looks.append((item.image, table, small))
        rows.append(row)
        tables.append(table)
        footprints.append(outline)
        histogram += counts.histogram
    failed = output.failed_rows({item.image.name: item.failed for item in scanned})
    seen = {
        job.image.name: appearance
        for job in jobs
        if (appearance := index.appearances().get(job.number)) is not None
    }
    summary = _summary(plan, rows, failed, histogram, seen)
    for text in summary["warnings"]:
        progress.warn(text)
    _write_tables(plan, folder, scanned, tables, footprints, summary)
    page = report.html_report(summary, quick_looks, len(jobs), histogram, _facts(plan, seen))
    files.write_text(folder / "report.html", page)
    output.write_summary(folder, summary, failed)
    return ScanOutcome(plan.config.out, summary, failed)


def _write_image(
    plan: WindowPlan, item: Scanned, folder: Path, *, single: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray], output.Counts, Layer]:
    """Write the map of one image; return its statistics, detections and footprint."""
    image = item.image
    home = folder if single else folder / image.name
    path = home / "probability.tif"
    counts = output.write_probability(item, path, plan.config.dtype, plan.rule.decision_threshold)
    table = output.catalogue(item, plan.rule)
    outline, area = output.footprint(item)
    row = {
        "name": image.name,
        "path": image.path,
        "band": image.band,
        "map": path.relative_to(folder).as_posix(),
        "native": image.native,
        "height": image.height,
        "width": image.width,
        "resampled": image.resampled,
        "resolution": image.resolution,
        "scale": image.scale,
        "scale_rule": image.scale_rule,
        "windows": counts.windows,
        "windows_with_value": counts.valued,
        "candidates": counts.candidates,
        "called_by_model": counts.called,
        "detections": len(table["row"]),
        "mean_probability": counts.total / counts.valued if counts.valued else None,
        "area_km2": None if area is None else area / 1e6,
        "failed_blocks": len(item.failed),
    }
    if not image.planet.equals(item.planet):
        row["crs"] = image.planet.wkt
    return row, table, counts, outline


def _facts(plan: WindowPlan, seen: dict[str, Appearance]) -> dict[str, str]:
    """Return model, windows and coordinates as text, for the report."""
    planet = plan.images[0].planet
    return {
        "model": f"{plan.config.model} ({plan.classifier.sha256[:16]})",
        "network": plan.classifier.description.network,
        **_pretrained_facts(plan, seen),
        "window, stride": f"{plan.engine.side} px, {plan.engine.stride} px",
        "decision_threshold": f"{plan.rule.decision_threshold:g}",
        "coordinate system": planet.crs.name if planet.is_known else "none: pixels",
        "scaling of the first image": f"{plan.images[0].scale_rule}",
        "craters": __version__,
    }


def _warnings(
    plan: WindowPlan,
    rows: list[dict[str, Any]],
    failed: list[dict[str, Any]],
    seen: dict[str, Appearance],
) -> list[str]:
    """Return what makes the results doubtful, and which blocks are missing."""
    description = plan.classifier.description
    warnings = [f"{note}." for note in plan.notes] + skipped_files(plan.config.images)
    for image, row in zip(plan.images, rows, strict=True):
        called = row["called_by_model"] / max(row["windows_with_value"], 1)
        warnings += report.smaller_than_window(image, plan.engine.side)
        warnings += report.without_value(row)
        if description.looks is not None:
            warnings += report.unlike_patches(image, seen.get(image.name, Appearance()).doubts)
        else:
            warnings += report.unlike_training(
                image, row["brightness"], description, plan.reference, called
            )
    warnings += unknown_light(seen)
    if failed:
        warnings.append(f"{len(failed)} {output.FAILED}")
    return warnings


def _summary(
    plan: WindowPlan,
    rows: list[dict[str, Any]],
    failed: list[dict[str, Any]],
    histogram: np.ndarray,
    seen: dict[str, Appearance],
) -> dict[str, Any]:
    description = plan.classifier.description
    sums = {
        name: sum(row[name] for row in rows)
        for name in ("windows", "windows_with_value", "candidates", "called_by_model", "detections")
    }
    rates = report.measured_rates(description)
    expected = report.expected_precision(sums["called_by_model"], sums["windows_with_value"], rates)
    expected["recall"] = None if rates is None else rates.recall
    expected["false_alarms"] = None if rates is None else rates.false_alarm_rate
    expected["other_threshold"] = plan.rule.decision_threshold != description.decision_threshold
    areas = [row["area_km2"] for row in rows]
    return {
        "craters": __version__,
        **plan.fingerprint.record(),
        "model": str(plan.config.model),
        "model_sha256": plan.classifier.sha256,
        "network": description.network,
        "window": plan.engine.side,
        "stride": plan.engine.stride,
        "decision_threshold": plan.rule.decision_threshold,
        "merge_px": plan.rule.distance * plan.engine.stride,
        "max_gap": plan.config.max_gap,
        "gap_px": plan.config.read.gap,
        "dtype": plan.config.dtype,
        "dtype_error": map_files.storage_error(plan.config.dtype),
        "arithmetic": plan.engine.arithmetic,
        **_light_of(seen),
        "edges": "windows reach over the lower and right edges by less than a stride",
        "crs": plan.images[0].planet.wkt or None,
        "body": plan.config.read.body or plan.images[0].planet.body_label,
        "pixels": plan.reference.record(plan.images, plan.config.read.scale),
        **sums,
        "area_km2": None if None in areas else sum(areas),
        "failed_blocks": len(failed),
        "expected": expected,
        "histogram": histogram,
        "warnings": _warnings(plan, rows, failed, seen),
        "images": rows,
    }


def _light_of(seen: dict[str, Appearance]) -> dict[str, Any]:
    """Return the light of each image as plain values; nothing if the model need not know it."""
    rows = [
        {"image": name} | dataclasses.asdict(appearance.light)
        for name, appearance in seen.items()
        if appearance.light is not None
    ]
    for row in rows:
        del row["is_own"]  # each image has its own
    return {"light": rows} if rows else {}


def _pretrained_facts(plan: WindowPlan, seen: dict[str, Appearance]) -> dict[str, str]:
    """Return settings and facts of models that turn patches, or that ship with craters."""
    description, sentence = plan.classifier.description, light_sentence(seen)
    facts = {"direction of light": sentence} if sentence else {}
    if description.pretraining is not None:
        facts["measured on real patches"] = measured_quality(description, plan.engine.side)
    return facts


def _write_tables(
    plan: WindowPlan,
    folder: Path,
    scanned: list[Scanned],
    tables: list[dict[str, np.ndarray]],
    footprints: list[Layer],
    summary: dict[str, Any],
) -> None:
    """Write the catalogue as GeoPackage and CSV, with QGIS styles."""
    config, planet = plan.config, plan.images[0].planet
    table = output.join(tables)
    points = Layer(
        name="detections",
        kind="Point",
        shapes=shapely.points(table["x"], table["y"]),
        columns=table,
    )
    windows = itertools.chain.from_iterable(
        output.window_parts(item, plan.rule.decision_threshold) for item in scanned
    )
    layers = {
        "detections": iter([points]),
        "windows": windows,
        "footprint": iter(footprints),
        "run": iter([output.run_layer(summary)]),
    }
    if not config.windows:
        del layers["windows"]
    styles = {name: qml for name, qml in output.STYLES.items() if name in layers}
    map_files.write_layers(folder / "detections.gpkg", list(layers.values()), planet, styles)
    files.write_text(folder / "detections.csv", output.to_csv(table))
    if config.parquet:
        map_files.write_points(folder / "detections.parquet", points.shapes, table, planet)
    for name, qml in styles.items():
        files.write_text(folder / f"{name}.qml", qml)
