"""What the plans of all scans share: images in one coordinate system, workers, fingerprint."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

from craters.core import Fingerprint, check_device, files, library_versions, usable_threads
from craters.data import PixelRecord
from craters.errors import GeoError
from craters.maps.geo import (
    Image,
    PixelReference,
    Undeclared,
    describe_image,
    find_images,
    image_notes,
    skipped_files,
)
from craters.maps.scan.appearance import Inspection
from craters.maps.scan.workers import LOCAL
from craters.settings import ScanConfig

RESULT_BYTES = 2 << 20  # of the report, and of empty layers
BASE_BYTES, ENGINE_BYTES = 220 << 20, 130 << 20  # per process, and per worker for its predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class BasePlan(abc.ABC):
    """The plan of a scan, whatever the model.

    Parameters
    ----------
    config : ScanConfig
    engine : callable
        Makes the predictor of a worker; picklable.
    model_sha256 : str
    reference : PixelReference
        How images are scaled to 8 bits.
    images : list of Image
    inspection : Inspection or None
    fingerprint : Fingerprint
    """

    config: ScanConfig
    engine: Callable[[], Any]
    model_sha256: str
    reference: PixelReference
    images: list[Image]
    inspection: Inspection | None
    fingerprint: Fingerprint

    @property
    def stretch_taken_out(self) -> float:
        """Largest stretch of the map that the scan corrects; 1: none."""
        return 1.0

    @property
    def notes(self) -> list[str]:
        """What a user should know about the images before a scan."""
        systems = {image.planet.wkt: image.planet for image in self.images}
        first, *others = systems.values()
        notes = image_notes(self.images, least_stretch=self.stretch_taken_out)
        if any(not planet.equals(first) for planet in others):
            radii = ", ".join(sorted({f"{planet.radius:.0f}" for planet in systems.values()}))
            notes.append(
                f"The images are on several spheres or ellipsoids of {first.body_label} (radii: "
                f"{radii} m); tables and layers are in the system of {self.images[0].name}"
            )
        return notes

    @property
    def model_line(self) -> str:
        """The model in words: name, and the hash that identifies it."""
        return f"Model: {self.config.model} ({self.model_sha256[:16]})"

    @property
    def on_cluster(self) -> bool:
        """Whether an existing Dask cluster processes the blocks."""
        return self.config.dask not in ("", LOCAL)

    @property
    def engine_bytes(self) -> int:
        """Memory of the predictor of a worker, besides that for a block."""
        return ENGINE_BYTES

    def block_bytes(self) -> int:
        """Return the memory for one block, so that all workers stay within the limit."""
        config = self.config
        workers = 1 if self.on_cluster else config.workers
        processes = 1 + workers if config.dask == LOCAL else 1
        free = config.memory * 1e6 - processes * BASE_BYTES - workers * self.engine_bytes
        return int(free / workers)

    def image_notes(self) -> list[str]:
        """Return notes on the images and on files that are not scanned, for an estimate."""
        notes = [*skipped_files(self.config.images), *self.notes]
        return [f"note: {note}" for note in notes]

    @property
    @abc.abstractmethod
    def result_bytes(self) -> int:
        """About the most bytes that results need on disk, while they are written."""

    def disk_line(self, stored: int) -> str:
        """Describe the need on disk of a scan that stores so many bytes besides its results."""
        need = (stored + self.result_bytes) / 1e6
        return f"disk: about {need:,.1f} MB during the scan, in the folder of --out"

    def time_line(self, seconds: float) -> str:
        """Describe the time of a scan from the seconds that one worker needs."""
        workers = min(self.config.workers, usable_threads())
        return (
            f"time: about {_span(seconds / workers)} with {self.config.workers} worker(s), if no "
            "pixel is missing"
        )


def read_images(
    config: ScanConfig, reference: PixelReference, resolution: float | None
) -> list[Image]:
    """Inspect the files of all images.

    Raises
    ------
    GeoError
        If they do not share one coordinate system.
    """
    images = [
        describe_image(path, name, config.read, resolution, reference)
        for path, name in find_images(list(config.images))
    ]
    _refuse_mixed(images)
    return images


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


def _hashed_content(image: Image) -> str:
    """Return an image's properties as JSON, under the keys that existing scans were hashed with."""
    content = dataclasses.asdict(image) | {"path": ""}
    del content["notes"]
    if image.undeclared == Undeclared():
        del content["undeclared"]
    content["mark"] = content.pop("fingerprint")
    del content["fill"]  # follows from the model
    return files.to_json(content)


def make_fingerprint(
    settings: dict[str, Any],
    models: dict[str, str],
    images: list[Image],
    libraries: tuple[str, ...],
) -> Fingerprint:
    """Return what the results of a scan depend on.

    Parameters
    ----------
    settings : dict
    models : dict of str
        SHA-256 by role.
    images : list of Image
    libraries : tuple of str
    """
    described = {f"image {image.name}": _hashed_content(image) for image in images}
    return Fingerprint(
        settings=settings,
        inputs=models
        | {name: hashlib.sha256(text.encode()).hexdigest() for name, text in described.items()},
        versions=library_versions(*libraries),
    )


def threads_each(config: ScanConfig) -> int:
    """Divide the CPUs among the predictors."""
    if config.dask not in ("", LOCAL):
        return max(1, config.threads)
    return max(1, usable_threads(config.threads) // config.workers)


def check_extras(config: ScanConfig) -> None:
    """Raise an error if a required package or device is not available."""
    if config.dask:
        from craters.maps.scan.dask_workers import require_dask

        require_dask()
    if config.dask in ("", LOCAL):
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


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
