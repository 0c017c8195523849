"""Plan a scan with the circle detector: settings, models, images, estimated cost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from pathlib import Path

from craters.core import StrPath
from craters.errors import ConfigError
from craters.maps.geo import PixelReference, Reader
from craters.maps.scan.appearance import Inspection
from craters.maps.scan.base_plan import (
    RESULT_BYTES,
    BasePlan,
    check_extras,
    make_fingerprint,
    read_images,
    threads_each,
)
from craters.maps.scan.circles.search import CircleEngine, CircleJob, CircleTask, unstretched
from craters.maps.scan.circles.store import CircleStore, number_blocks
from craters.maps.scan.store import BlockIndex
from craters.models import (
    MOST_STRETCH,
    CircleBlock,
    CircleDetector,
    Classifier,
    ConformalBlock,
    find_model,
    find_pretrained,
)
from craters.settings import ScanConfig

PRECISION = 0.8  # expected of the detections, by default

_OF_WINDOWS = ("window", "stride", "merge", "dtype", "device", "arithmetic")
_LIBRARIES = ("numpy", "scipy", "onnxruntime", "rasterio", "pyproj")  # results depend on these
_PER_PIXEL = 55  # bytes per pixel that is read for a block: the image, and the network's maps
_ENGINE_BYTES = 30 << 20  # of the detector, and of the classifier that estimates the light
_RESULT = 0.7  # bytes per pixel of candidates, twice, and of layers, where they are many
_SAMPLE = 1024  # px: side of the block whose time is measured
_LISTED = 10  # images in an estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class CirclePlan(BasePlan):
    """The plan of a scan with the circle detector."""

    engine: CircleEngine
    detector: CircleDetector
    inspection: Inspection

    @property
    def precision(self) -> float:
        """Expected precision that the threshold is chosen for, unless that is given."""
        return PRECISION if self.config.precision is None else self.config.precision

    @property
    def stretch_taken_out(self) -> float:
        """Stretch of the map that the search in conformal pixels takes out."""
        return MOST_STRETCH

    @property
    def remarks(self) -> list[str]:
        """What a user should know about the model before a scan."""
        return []

    @property
    def engine_bytes(self) -> int:
        """Memory of the models of a worker."""
        return _ENGINE_BYTES

    @property
    def result_bytes(self) -> int:
        """About the bytes that candidates, layers and tables need on disk."""
        pixels = sum(image.height * image.width for image in self.images)
        return RESULT_BYTES + int(_RESULT * pixels)

    def jobs(self, work: StrPath, index: BlockIndex) -> list[CircleJob]:
        """Open the store of each image."""
        work, jobs = Path(work), []
        for number, image in enumerate(self.images):
            store = CircleStore(work, number, (image.height, image.width), index)
            jobs.append(CircleJob(number=number, image=image, store=store))
        return jobs

    def check_memory(self) -> None:
        """Raise ConfigError if a block needs more memory than there is for it."""
        blocks = (
            unstretched(image, each.block)
            for image in self.images
            for each in number_blocks((image.height, image.width))[0]
        )
        need = _PER_PIXEL * max(map(_padded, blocks))
        if need > self.block_bytes():
            raise ConfigError(
                f"a block needs {need / 1e6:,.0f} MB, more than is left for it",
                "Give more --memory, or fewer --workers.",
            )

    def estimate(self) -> list[str]:
        """Describe blocks, time, memory and disk."""
        lines, blocks, padded, pixels = [self.model_line], 0, 0, 0
        for number, image in enumerate(self.images):
            stages = number_blocks((image.height, image.width))
            count = sum(map(len, stages))
            blocks, pixels = blocks + count, pixels + image.height * image.width
            padded += sum(
                _padded(unstretched(image, each.block)) for stage in stages for each in stage
            )
            if number < _LISTED:
                lines.append(
                    f"{image.name}: {image.width} x {image.height} px"
                    + (" after resampling" if image.resampled else "")
                    + f", {count} blocks in {len(stages)} stages"
                )
        if len(self.images) > _LISTED:
            lines.append(f"... and {len(self.images) - _LISTED} more images")
        return [
            *lines,
            f"{blocks:,} blocks, {pixels / 1e6:,.1f} Mpx",
            self.time_line(self._measure_speed() * padded),
            f"memory: up to {self.config.memory:,.0f} MB (--memory)",
            self.disk_line(pixels // 15),  # images of later stages
            *self.image_notes(),
        ]

    def _measure_speed(self) -> float:
        """Search a small block in the middle of the first image; return seconds per pixel."""
        image, predictor = self.images[0], self.engine()
        block = CircleBlock(
            stage=0,
            row=max(0, (image.height - _SAMPLE) // 2) // 32 * 32,
            col=max(0, (image.width - _SAMPLE) // 2) // 32 * 32,
            height=min(_SAMPLE, image.height),
            width=min(_SAMPLE, image.width),
            levels=2,
        )
        # As for the usual image, whose light is known.
        task = CircleTask(block, self.detector.description.light.azimuth)
        with contextlib.closing(Reader(image)) as reader:
            task(reader, predictor)  # the first call of a shape is slow
            start = time.monotonic()
            task(reader, predictor)
            return (time.monotonic() - start) / _padded(block)


def _padded(block: CircleBlock | ConformalBlock) -> int:
    """Return the number of pixels that are read for a block."""
    return block.window[2] * block.window[3]


def plan_circles(config: ScanConfig) -> CirclePlan:
    """Read the models and inspect the files of all images.

    The light is estimated by the classifier of patches that ships with craters.

    Raises
    ------
    CratersError
        If settings, models or images cannot be used.
    """
    config.refuse_changed(_OF_WINDOWS, "has no meaning for the circle detector")
    check_extras(config)
    if config.decision_threshold is not None and not 0 <= config.decision_threshold <= 1:
        raise ConfigError(f"decision_threshold is {config.decision_threshold:g}, expected 0 to 1")
    detector = CircleDetector.load(config.model, threads=config.threads)
    folder = find_pretrained()
    classifier = Classifier.load(folder, threads=config.threads)
    inspection = Inspection.plan(
        classifier, classifier.description.side, config.max_gap, config.sun_azimuth,
        shares_light=True,
    )  # fmt: skip
    assert inspection is not None  # the classifier turns patches to their light
    reference = PixelReference()
    images = read_images(config, reference, None)
    plan = CirclePlan(
        config=config,
        detector=detector,
        model_sha256=detector.sha256,
        engine=CircleEngine(
            model=os.path.abspath(find_model(config.model)),  # noqa: PTH100
            sha256=detector.sha256,
            classifier=str(folder),
            classifier_sha256=classifier.sha256,
            threads=threads_each(config),
        ),
        reference=reference,
        images=images,
        inspection=inspection,
        fingerprint=make_fingerprint(
            {
                "max_gap": config.max_gap,
                "sun_azimuth": config.sun_azimuth,
                "precision": config.precision,
                "decision_threshold": config.decision_threshold,
                "parquet": config.parquet,
            },
            {"model": detector.sha256, "classifier": classifier.sha256},
            images,
            _LIBRARIES,
        ),
    )
    plan.check_memory()
    return plan
