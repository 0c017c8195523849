"""Plan a scan before its first block: settings, model, images, estimated cost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import time
from typing import Any

import numpy as np

from craters.core import Fingerprint, files, library_versions
from craters.data import PixelRecord
from craters.errors import GeoError
from craters.maps.geo import (
    Image,
    PixelReference,
    Reader,
    Undeclared,
    describe_image,
    find_images,
    image_notes,
    skipped_files,
)
from craters.maps.scan.appearance import Inspection
from craters.maps.scan.detections import MergeRule, merge_rule
from craters.maps.scan.grid import Blocks, Grid, plan_blocks
from craters.maps.scan.predict import Engine, choose_side, choose_stride, scan_block
from craters.maps.scan.workers import LOCAL
from craters.models import Classifier, find_model
from craters.settings import ScanConfig

_BASE, _ENGINE = 220 << 20, 130 << 20  # bytes per process, and per worker for its predictor
_PER_PIXEL = 26  # bytes per pixel in progress, besides the stored value
_LIBRARIES = ("numpy", "onnxruntime", "rasterio", "pyproj")  # results depend on their versions


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a scan."""

    config: ScanConfig
    classifier: Classifier
    engine: Engine
    reference: PixelReference
    images: list[Image]
    grids: list[Grid]
    rule: MergeRule
    inspection: Inspection | None
    fingerprint: Fingerprint

    @property
    def notes(self) -> list[str]:
        """What a user should know about the images before a scan."""
        systems = {image.planet.wkt: image.planet for image in self.images}
        first, *others = systems.values()
        notes = image_notes(self.images)
        if any(not planet.equals(first) for planet in others):
            radii = ", ".join(sorted({f"{planet.radius:.0f}" for planet in systems.values()}))
            notes.append(
                f"The images are on several spheres or ellipsoids of {first.body_label} (radii: "
                f"{radii} m); tables and layers are in the system of {self.images[0].name}"
            )
        return notes

    @property
    def on_cluster(self) -> bool:
        """Whether an existing Dask cluster processes the blocks."""
        return self.config.dask not in ("", LOCAL)

    def blocks(self, number: int) -> Blocks:
        """Divide an image into blocks so that all workers stay within the memory limit."""
        image, config = self.images[number], self.config
        workers = 1 if self.on_cluster else config.workers
        processes = 1 + workers if config.dask == LOCAL else 1
        free = config.memory * 1e6 - processes * _BASE - workers * _ENGINE
        return plan_blocks(
            self.grids[number],
            memory=int(free / workers),
            pixel_bytes=_pixel_bytes(image),
            in_strips=image.in_strips,
        )


def plan_scan(config: ScanConfig) -> Plan:
    """Read the model and inspect every image.

    Raises
    ------
    CratersError
        If settings, model or images cannot be used.
    """
    _check_extras(config)
    classifier = Classifier.load(config.model, threads=config.threads)
    description = classifier.description
    side = choose_side(description, config.window)
    stride = choose_stride(classifier, config.stride, side)
    inspection = Inspection.plan(classifier, side, config.max_gap, config.sun_azimuth)
    engine = Engine(
        model=os.path.abspath(find_model(config.model)),  # noqa: PTH100
        sha256=classifier.sha256,
        stride=stride,
        side=side,
        threads=_threads_each(config),
        device=config.device,
        precision=config.precision,
    )
    reference = pixel_reference(description.pixels)
    images = [
        describe_image(path, name, config.read, description.resolution, reference)
        for path, name in find_images(list(config.images))
    ]
    _refuse_mixed(images)
    threshold = config.decision_threshold
    threshold = description.decision_threshold if threshold is None else threshold
    rule = merge_rule(side, stride, threshold, config.merge)
    grids = [
        Grid(height=image.height, width=image.width, side=side, stride=stride) for image in images
    ]
    fingerprint = _fingerprint(config, classifier, engine, images, rule)
    return Plan(
        config=config,
        classifier=classifier,
        engine=engine,
        reference=reference,
        images=images,
        grids=grids,
        rule=rule,
        inspection=inspection,
        fingerprint=fingerprint,
    )


def pixel_reference(pixels: PixelRecord | None) -> PixelReference:
    """Return how images are scaled for a model, by the record of its training pixels.

    Statistics that the record lacks are those of THEMIS patches. Without a record, so is all else.
    """
    default = PixelReference()
    if pixels is None:
        return default
    ends = (pixels.percentiles[0], pixels.percentiles[-1]) if pixels.percentiles else None
    low, high = pixels.stretch or ends or (default.low, default.high)
    if low == high:
        low, high = default.low, default.high
    mean = default.mean if pixels.mean is None else pixels.mean
    return PixelReference(
        dtype=pixels.dtype,
        range=(float(pixels.range[0]), float(pixels.range[1])),
        given=pixels.given,
        low=low,
        high=high,
        mean=mean,
        spread=default.spread if pixels.spread is None else pixels.spread,
        fill=round(mean) if pixels.fill is None else pixels.fill,
    )


def _pixel_bytes(image: Image) -> int:
    """Return the memory that a pixel in progress needs."""
    stored = np.dtype(image.dtype).itemsize
    colors = 0 if image.band else 3 * stored + 16  # red, green and blue, and their sum
    means = 40 if image.undeclared.has_special else 0  # sums over the neighbours of such pixels
    return _PER_PIXEL + 2 * stored + colors + means


def _hashed_content(image: Image) -> str:
    """Return an image's properties as JSON, under the keys that existing scans were hashed with."""
    content = dataclasses.asdict(image) | {"path": ""}
    del content["notes"]
    if image.undeclared == Undeclared():
        del content["undeclared"]
    content["mark"] = content.pop("fingerprint")
    del content["fill"]  # follows from the model
    return files.to_json(content)


def _fingerprint(
    config: ScanConfig,
    model: Classifier,
    engine: Engine,
    images: list[Image],
    rule: MergeRule,
) -> Fingerprint:
    libraries = _LIBRARIES if config.device == "cpu" else (*_LIBRARIES, "torch")
    described = {f"image {image.name}": _hashed_content(image) for image in images}
    further = {}  # of models without these, existing scans were hashed without them
    if model.description.light is not None:
        further["sun_azimuth"] = config.sun_azimuth
    if model.description.sides is not None:
        further["window"] = engine.side
    return Fingerprint(
        settings={
            "stride": engine.stride,
            "max_gap": config.max_gap,
            **dataclasses.asdict(rule),
            "dtype": config.dtype,
            "arithmetic": engine.arithmetic,
            "windows": config.windows,
            "parquet": config.parquet,
            **further,
        },
        inputs={"model": model.sha256}
        | {name: hashlib.sha256(text.encode()).hexdigest() for name, text in described.items()},
        versions=library_versions(*libraries),
    )


def _threads_each(config: ScanConfig) -> int:
    """Divide the CPUs among the predictors."""
    if config.dask not in ("", LOCAL):
        return max(1, config.threads)
    return max(1, (config.threads or len(os.sched_getaffinity(0))) // config.workers)


def _check_extras(config: ScanConfig) -> None:
    """Raise an error if a required package or device is not available."""
    if config.dask:
        from craters.maps.scan.dask_workers import require_dask

        require_dask()
    if config.device != "cpu" and config.dask in ("", LOCAL):
        from craters.maps.scan.torch_network import check_device

        check_device(config.device)
    if config.parquet:
        from craters.maps.geo import require_parquet

        require_parquet()


def _refuse_mixed(images: list[Image]) -> None:
    """Raise GeoError if the images do not share one CRS, as one catalogue requires.

    One projection on several spheres or ellipsoids of a body is accepted: positions are converted.
    """
    first = images[0]
    for image in images[1:]:
        if image.planet.equals(first.planet) or image.planet.differs_in_shape(first.planet):
            continue
        raise GeoError(
            f"{image.path} and {first.path} have different coordinate systems",
            "Scan images of each system separately.",
        )


def estimate(plan: Plan) -> list[str]:
    """Estimate the cost of a scan: windows, time, memory, disk."""
    lines, windows, pixels = [], 0, 0
    for number, (image, grid) in enumerate(zip(plan.images, plan.grids, strict=True)):
        windows += grid.rows * grid.columns
        pixels += image.height * image.width
        if number < 10:
            lines.append(
                f"{image.name}: {image.width} x {image.height} px"
                + (" after resampling" if image.resampled else "")
                + f", {grid.columns} x {grid.rows} windows in {len(plan.blocks(number))} blocks"
            )
    if len(plan.images) > 10:
        lines.append(f"... and {len(plan.images) - 10} more images")
    seconds = _measure_speed(plan) * windows
    workers = min(plan.config.workers, len(os.sched_getaffinity(0)))
    lines += [
        f"{windows:,} windows of {plan.engine.side} px every "
        f"{plan.engine.stride} px, {pixels / 1e6:,.1f} Mpx",
        f"time: about {_span(seconds / workers)} with {plan.config.workers} worker(s), if no "
        "pixel is missing",
        f"memory: up to {plan.config.memory:,.0f} MB (--memory)",
        f"disk: up to {windows * 4 * 2.5 / 1e6:,.1f} MB during the scan, in the folder of --out",
        *(f"note: {note}" for note in skipped_files(plan.config.images)),
        *(f"note: {note}" for note in plan.notes),
    ]
    return lines


def _measure_speed(plan: Plan) -> float:
    """Scan one tile in the middle of the first image; return seconds per window."""
    grid = plan.grids[0]
    blocks = Blocks(grid, 1, 1)
    block = blocks[len(blocks) // 2]
    predictor: Any = plan.engine()
    frame = plan.classifier.description.light
    if frame is not None:  # as for the usual image, whose light is known
        predictor = functools.partial(predictor, azimuth=frame.azimuth)
    with contextlib.closing(Reader(plan.images[0])) as reader:
        if plan.classifier.description.stride:
            scan_block(reader, grid, block, predictor, 1.0)  # the first call of a shape is slow
        start = time.monotonic()
        scan_block(reader, grid, block, predictor, 1.0)
        return (time.monotonic() - start) / block.size


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
