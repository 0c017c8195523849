"""Plan a scan before its first block: settings, model, images, estimated cost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import Fingerprint
from craters.maps.geo import Image, Reader
from craters.maps.scan.appearance import Inspection
from craters.maps.scan.base_plan import (
    RESULT_BYTES,
    BasePlan,
    check_extras,
    make_fingerprint,
    pixel_reference,
    read_images,
    threads_each,
)
from craters.maps.scan.circles import CirclePlan, plan_circles
from craters.maps.scan.detections import MergeRule, merge_rule
from craters.maps.scan.grid import Block, Blocks, Grid, plan_blocks
from craters.maps.scan.predict import Engine, WindowTask, choose_side, choose_stride, scan_block
from craters.maps.scan.store import BlockIndex, Store
from craters.models import Classifier, find_model, is_circle_model, measured_quality
from craters.settings import ScanConfig

_PER_PIXEL = 26  # bytes per pixel in progress, besides the stored value
# Measured on disk: bytes of a map and its copy, per byte of a value; of layers, per window.
_MAP = 1.6
_DETECTIONS, _CANDIDATES = 0.5, 15.0
_LIBRARIES = ("numpy", "onnxruntime", "rasterio", "pyproj")  # results depend on their versions


@dataclasses.dataclass(frozen=True)
class WindowJob:
    """The windows of one image, see `Job`: its blocks, and the store of its logits."""

    number: int
    image: Image
    blocks: Blocks
    store: Store
    max_gap: float
    inspection = 64  # windows: the sample of an image whose light is clear

    @property
    def stages(self) -> tuple[Blocks]:
        """All blocks, in one stage."""
        return (self.blocks,)

    def needs(self, block: Block) -> set[int]:  # noqa: ARG002
        """Return the empty set: no block needs the result of another."""
        return set()

    def task(self, block: Block, azimuth: float | None) -> WindowTask:
        """Return what predicts a block in a worker."""
        return WindowTask(grid=self.blocks.grid, block=block, max_gap=self.max_gap, azimuth=azimuth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowPlan(BasePlan):
    """The plan of a scan with a model of patches."""

    engine: Engine
    classifier: Classifier
    grids: list[Grid]
    rule: MergeRule

    @property
    def remarks(self) -> list[str]:
        """What a user should know about the model before a scan."""
        description = self.classifier.description
        if description.pretraining is not None:
            quality = measured_quality(description, self.engine.side)
            return [
                "The model was trained without real labels; on real patches like these: "
                f"{quality}. It finds craters by their size in windows of {self.engine.side} px "
                "(--window)."
            ]
        remarks = []
        if description.stride is None:
            remarks.append(
                f"This model of the network {description.network!r} predicts each window "
                "separately, which is slow. Models of 'dense' and 'original' that this version "
                "trains scan in one pass."
            )
        if description.resolution is None and self.config.read.resolution is None:
            remarks.append("The model does not record its resolution: images are not resampled.")
        return remarks

    @property
    def _windows(self) -> int:
        return sum(grid.rows * grid.columns for grid in self.grids)

    @property
    def result_bytes(self) -> int:
        """About the most bytes that maps and layers need on disk, while they are written."""
        per_window = _MAP * np.dtype(self.config.dtype).itemsize + _DETECTIONS
        if self.config.windows:
            per_window += _CANDIDATES
        return RESULT_BYTES + int(per_window * self._windows)

    def blocks(self, number: int) -> Blocks:
        """Divide an image into blocks so that all workers stay within the memory limit."""
        image = self.images[number]
        return plan_blocks(
            self.grids[number],
            memory=self.block_bytes(),
            pixel_bytes=_pixel_bytes(image),
            in_strips=image.in_strips,
        )

    def jobs(self, work: Path, index: BlockIndex) -> list[WindowJob]:
        """Open the store of each image, in the blocks that the scan began with."""
        jobs = []
        for number, image in enumerate(self.images):
            planned = self.blocks(number)
            layout = index.layout(number, planned.tile_rows, planned.tile_columns)
            blocks = Blocks(self.grids[number], *layout)
            jobs.append(
                WindowJob(
                    number=number,
                    image=image,
                    blocks=blocks,
                    store=Store(work / f"logits-{number}.f32", blocks),
                    max_gap=self.config.max_gap,
                )
            )
        return jobs

    def estimate(self) -> list[str]:
        """Describe windows, time, memory and disk."""
        lines, pixels = [self.model_line], 0
        for number, (image, grid) in enumerate(zip(self.images, self.grids, strict=True)):
            pixels += image.height * image.width
            if number < 10:
                lines.append(
                    f"{image.name}: {image.width} x {image.height} px"
                    + (" after resampling" if image.resampled else "")
                    + f", {grid.columns} x {grid.rows} windows in {len(self.blocks(number))} blocks"
                )
        if len(self.images) > 10:
            lines.append(f"... and {len(self.images) - 10} more images")
        return [
            *lines,
            f"{self._windows:,} windows of {self.engine.side} px every "
            f"{self.engine.stride} px, {pixels / 1e6:,.1f} Mpx",
            self.time_line(_measure_speed(self) * self._windows),
            f"memory: up to {self.config.memory:,.0f} MB (--memory)",
            self.disk_line(4 * self._windows),
            *self.image_notes(),
        ]


def plan_scan(config: ScanConfig) -> WindowPlan | CirclePlan:
    """Read the model and inspect every image.

    Raises
    ------
    CratersError
        If settings, model or images cannot be used.
    """
    return plan_circles(config) if is_circle_model(config.model) else plan_windows(config)


def plan_windows(config: ScanConfig) -> WindowPlan:
    """Plan a scan with a model of patches; see `plan_scan`."""
    config.refuse_changed(("precision",), "has no meaning for a model of patches")
    check_extras(config)
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
        threads=threads_each(config),
        device=config.device,
        precision=config.arithmetic,
    )
    reference = pixel_reference(description.pixels)
    images = read_images(config, reference, description.resolution)
    threshold = config.decision_threshold
    threshold = description.decision_threshold if threshold is None else threshold
    rule = merge_rule(side, stride, threshold, config.merge)
    return WindowPlan(
        config=config,
        classifier=classifier,
        model_sha256=classifier.sha256,
        engine=engine,
        reference=reference,
        images=images,
        grids=[
            Grid(height=image.height, width=image.width, side=side, stride=stride)
            for image in images
        ],
        rule=rule,
        inspection=inspection,
        fingerprint=_fingerprint(config, classifier, engine, images, rule),
    )


def estimate(plan: WindowPlan | CirclePlan) -> list[str]:
    """Estimate the cost of a scan: blocks, time, memory, disk."""
    return plan.estimate()


def _pixel_bytes(image: Image) -> int:
    """Return the memory that a pixel in progress needs."""
    stored = np.dtype(image.dtype).itemsize
    colors = 0 if image.band else 3 * stored + 16  # red, green and blue, and their sum
    means = 40 if image.undeclared.has_special else 0  # sums over the neighbours of such pixels
    return _PER_PIXEL + 2 * stored + colors + means


def _fingerprint(
    config: ScanConfig,
    model: Classifier,
    engine: Engine,
    images: list[Image],
    rule: MergeRule,
) -> Fingerprint:
    further = {}  # of models without these, existing scans were hashed without them
    if model.description.light is not None:
        further["sun_azimuth"] = config.sun_azimuth
    if model.description.sides is not None:
        further["window"] = engine.side
    return make_fingerprint(
        {
            "stride": engine.stride,
            "max_gap": config.max_gap,
            **dataclasses.asdict(rule),
            "dtype": config.dtype,
            "arithmetic": engine.arithmetic,
            "windows": config.windows,
            "parquet": config.parquet,
            **further,
        },
        {"model": model.sha256},
        images,
        _LIBRARIES if config.device == "cpu" else (*_LIBRARIES, "torch"),
    )


def _measure_speed(plan: WindowPlan) -> float:
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
