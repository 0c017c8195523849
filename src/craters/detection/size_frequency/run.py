"""Write the size-frequency distribution of a scan: figure, tables and summary."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.core import Progress, Steps, StrPath, files
from craters.detection.size_frequency import clusters, distribution, figure
from craters.detection.size_frequency.clusters import Clusters
from craters.detection.size_frequency.distribution import Counts
from craters.detection.size_frequency.recall import TRUSTED, RecallTable, read_recall
from craters.errors import DataError
from craters.evaluation import save_figure
from craters.maps.scan import CountedScan, read_counted

_NORMAL = 1.96
_COSTS = {"intervals": 4.0, "random fields": 95.0, "clusters": 1.0}  # of 20,000 craters
_TAKEN = ("detection_id", "lon", "lat", "diameter_km", "diameter_error_km", "p_crater")


def write_size_frequency(
    scan: StrPath,
    out: StrPath,
    *,
    completeness: StrPath | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the size-frequency distribution of the craters of a scan into a new folder.

    Parameters
    ----------
    scan : path-like
        Folder of a finished scan for circles, of images with coordinates.
    out : path-like
        Folder to create: sfd.csv, sfd.png, craters.csv and summary.json.
    completeness : path-like, optional
        Table of the recall by diameter, or the folder that `craters completeness` wrote.
    seed : int
        Of random fields and intervals.
    progress : Progress, optional
        Receives the finished share of the work.

    Returns
    -------
    dict
        Content of summary.json.

    Raises
    ------
    ExistsError
        If `out` exists.
    DataError, GeoError
        If the scan has no craters or no coordinates, or the table is damaged.
    """
    out = Path(out)
    files.refuse_existing(out)
    recall = None if completeness is None else read_recall(_table_in(completeness))
    counted = read_counted(scan)
    diameters = counted.craters["diameter_km"]
    if not len(diameters):
        raise DataError(f"{counted.scan.path}: has no detections inside the scanned area")
    steps = Steps(progress, _COSTS)
    edges = distribution.bin_edges(diameters)
    raw = distribution.raw_counts(diameters, edges)
    corrected = _correct(counted, edges, recall, seed)
    steps.finish("intervals")
    fields = clusters.make_random_fields(
        diameters, counted.footprints, seed, steps.within("random fields")
    )
    places = np.column_stack([counted.craters["lon"], counted.craters["lat"]])
    found = clusters.find_clusters(places, diameters, fields)
    steps.finish("clusters")
    summary = _summary(counted, recall, corrected, edges, found) | {
        "completeness": None if completeness is None else str(completeness),
        "seed": seed,
    }
    with files.new_folder(out) as work:
        files.write_text(work / "sfd.csv", _table(counted, edges, raw, corrected, found))
        files.write_text(work / "craters.csv", _craters(counted, found))
        drawn = figure.draw(
            edges, raw, corrected, counted.area,
            trusted_from=summary["trusted_from_km"],
            label=f"corrected for {summary['corrected_for']}",
        )  # fmt: skip
        save_figure(work / "sfd.png", drawn)
        files.write_json(work / "summary.json", summary)
    return summary


def _table_in(path: StrPath) -> Path:
    """Return the table of completeness: itself, or in the folder."""
    path = Path(path)
    return path / "completeness.csv" if path.is_dir() else path


def _correct(
    counted: CountedScan, edges: np.ndarray, recall: RecallTable | None, seed: int
) -> Counts | None:
    """Correct counts; None if the probabilities of the scan are not calibrated for its images."""
    if counted.scan.summary["expected"]["why_unknown"]:
        return None
    return distribution.corrected_counts(
        counted.craters["diameter_km"],
        counted.craters["p_crater"],
        edges,
        error=calibration_error(counted.scan.summary),
        recall=recall,
        seed=seed,
    )


def calibration_error(summary: dict[str, Any]) -> float:
    """Return the standard deviation of the calibration of a scan, in logits.

    It covers how far calibrations of scenes differ, and the share of craters among the candidates.

    Parameters
    ----------
    summary : dict
        Content of the scan's summary.json.

    Raises
    ------
    DataError
        If an earlier version wrote it.
    """
    expected = summary["expected"]
    if "scatter" not in expected:
        raise DataError(
            "the scan does not state the scatter of its calibration: an earlier version of "
            "craters wrote it",
            "Scan again.",
        )
    ends = np.array(expected["craters_interval"]) / max(summary["candidates"], 1)
    low, high = np.clip(ends, 1e-4, 1 - 1e-4)
    share = float(np.log(high / (1 - high)) - np.log(low / (1 - low))) / (2 * _NORMAL)
    return float(np.hypot(expected["scatter"], share))


def _summary(
    counted: CountedScan,
    recall: RecallTable | None,
    corrected: Counts | None,
    edges: np.ndarray,
    found: Clusters,
) -> dict[str, Any]:
    diameters, scan = counted.craters["diameter_km"], counted.scan.summary
    trusted_from = None if recall is None else recall.trusted_from
    from_bin = None
    if trusted_from is not None:
        whole = np.flatnonzero(edges[:-1] >= trusted_from * (1 - 1e-6))
        from_bin = int(whole[0]) if len(whole) else None
    start = (0 if recall is None else from_bin) if corrected is not None else None
    return {
        "craters": __version__,
        "scan": str(counted.scan.path),
        "body": scan["body"],
        "radius_km": counted.sphere.radius / 1000,
        "area_km2": counted.area,
        "detections": len(diameters),
        "left_out": counted.left_out,
        "smallest_km": float(diameters.min()),
        "largest_km": float(diameters.max()),
        "not_corrected": scan["expected"]["why_unknown"],
        "corrected_for": "precision" if recall is None else "precision and completeness",
        "trusted_recall": TRUSTED,
        "trusted_from_km": trusted_from,
        "total": None if start is None or corrected is None else _total(corrected, edges, start),
        "in_clusters": int(found.in_cluster.sum()),
        "clusters": [dataclasses.asdict(each) for each in found.clusters],
        "cluster_p_value": found.p_value,
        "size_classes": [dataclasses.asdict(each) for each in found.classes],
        "random_fields": clusters.FIELDS,
    }


def _total(corrected: Counts, edges: np.ndarray, start: int) -> dict[str, float]:
    total = corrected.cumulative
    return {
        "from_km": float(edges[start]),
        "craters": float(total.value[start]),
        "low": float(total.low[start]),
        "high": float(total.high[start]),
    }


def _table(
    counted: CountedScan, edges: np.ndarray, raw: Counts, corrected: Counts | None, found: Clusters
) -> str:
    """Return sfd.csv: a row of raw and one of corrected counts for each bin."""
    diameters = counted.craters["diameter_km"][found.in_cluster]
    clustered = distribution.raw_counts(diameters, edges).inside.value
    rows: list[list[Any]] = [[
        "counts", "diameter_low_km", "diameter_high_km", "in_clusters",
        "craters", "low", "high", "per_km2_km", "per_km2_km_low", "per_km2_km_high",
        "cumulative", "cumulative_low", "cumulative_high",
        "cumulative_per_km2", "cumulative_per_km2_low", "cumulative_per_km2_high",
    ]]  # fmt: skip
    for name, counts in (("raw", raw), ("corrected", corrected)):
        if counts is None:
            continue
        shown = [
            counts.inside, counts.inside.per(counted.area * np.diff(edges)),
            counts.cumulative, counts.cumulative.per(counted.area),
        ]  # fmt: skip
        columns = [part for each in shown for part in (each.value, each.low, each.high)]
        for row, (low, high) in enumerate(itertools.pairwise(edges)):
            values = (_number(column[row]) for column in columns)
            rows.append([name, f"{low:.6g}", f"{high:.6g}", int(clustered[row]), *values])
    return files.to_csv(rows)


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _craters(counted: CountedScan, found: Clusters) -> str:
    """Return craters.csv: the craters that count, and the number of their cluster."""
    columns = [counted.craters[name].tolist() for name in _TAKEN]
    flags = [
        [int(number >= 0), number + 1 if number >= 0 else ""] for number in found.number.tolist()
    ]
    rows = ([*row, *flag] for *row, flag in zip(*columns, flags, strict=True))
    return files.to_csv([[*_TAKEN, "in_cluster", "cluster"], *rows])


def describe_size_frequency(summary: dict[str, Any]) -> list[str]:
    """Describe a size-frequency distribution in sentences.

    Parameters
    ----------
    summary : dict
        As from `write_size_frequency`.
    """
    left_out = summary["left_out"]
    sentences = [
        f"{summary['detections']:,} detections of {summary['smallest_km']:.3g} to "
        f"{summary['largest_km']:.3g} km on {summary['area_km2']:,.6g} km2 of {summary['body']}"
        + (f"; {left_out:,} outside the area or counted already." if left_out else "."),
    ]
    total = summary["total"]
    if summary["not_corrected"]:
        sentences.append(f"Counts are not corrected: {summary['not_corrected']}.")
    elif total is not None:
        sentences.append(
            f"Corrected for {summary['corrected_for']}: {total['craters']:,.0f} craters of at "
            f"least {total['from_km']:.3g} km (95 % interval {total['low']:,.0f} to "
            f"{total['high']:,.0f})."
        )
    return [*sentences, _trust_sentence(summary), _cluster_sentence(summary)]


def _trust_sentence(summary: dict[str, Any]) -> str:
    if summary["completeness"] is None:
        return (
            "The completeness is not known, so that craters that were not detected are not made "
            "up for, and no smallest diameter can be stated: give --completeness."
        )
    if summary["trusted_from_km"] is None:
        return f"No diameter has a recall of {TRUSTED:g} or more: the counts cannot be trusted."
    return (
        f"Diameters from {summary['trusted_from_km']:.3g} km on have a recall of {TRUSTED:g} or "
        "more; counts of smaller ones cannot be trusted."
    )


def _cluster_sentence(summary: dict[str, Any]) -> str:
    if not summary["clusters"]:
        return (
            "No clusters were found: neighbours are as close as in random fields "
            f"(p = {summary['cluster_p_value']:.2g})."
        )
    count, first = len(summary["clusters"]), summary["clusters"][0]
    return (
        f"{summary['in_clusters']:,} craters are in {count} cluster{'s' if count > 1 else ''} "
        f"(p = {summary['cluster_p_value']:.2g}), and may be secondaries; the largest has "
        f"{first['craters']} craters of {first['low']:.3g} to {first['high']:.3g} km within "
        f"{first['radius_km']:.3g} km of lon {first['lon']:.3f}, lat {first['lat']:.3f}."
    )
