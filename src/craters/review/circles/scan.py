"""A scan for circles as a target of the review: its images, detections and candidates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath
from craters.errors import DataError
from craters.labels import FOUND, Circle, Place
from craters.maps.geo import PixelReference, describe_scanned, vectors
from craters.review.circles.queue import CircleCandidates
from craters.review.scan_source import ImageReaders

_FIELDS = ("row", "col", "diameter_px", "p_crater", "source")


class CircleScan:
    """A finished scan for circles.

    Parameters
    ----------
    target : Path
    summary : dict
        Content of summary.json.
    readers : ImageReaders
    candidates : CircleCandidates
        Detections and other candidates; positions from the image's upper left corner.
    """

    kind = "circles"

    def __init__(
        self,
        target: Path,
        summary: dict[str, Any],
        readers: ImageReaders,
        candidates: CircleCandidates,
    ) -> None:
        self.target, self.summary = target, summary
        self.readers, self.candidates = readers, candidates
        self.names = [image.name for image in readers.images]

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def model_sha256(self) -> str:
        """Identifies the detector."""
        return str(self.summary["model_sha256"])

    def number_of(self, image: str) -> int | None:
        """Return the number of an image, or None."""
        return self.names.index(image) if image in self.names else None

    def circle(self, row: int) -> Circle:
        """Return a candidate as it was found."""
        found = self.candidates
        return Circle(float(found.x[row]), float(found.y[row]), float(found.diameter[row]))

    def place(self, row: int) -> Place:
        """Return a candidate as a label store keeps it; named as in the scan's tables."""
        circle, image = self.circle(row), self.names[self.candidates.image[row]]
        return Place(
            id=f"{image}/{circle.y - 0.5:.1f}/{circle.x - 0.5:.1f}/{circle.diameter:.1f}",
            kind=FOUND,
            image=image,
            x=circle.x,
            y=circle.y,
            width=circle.diameter,
            height=circle.diameter,
            source=str(self.target),
        )

    def lonlat(self, image: int, x: float, y: float) -> tuple[float, float] | None:
        """Return longitude and latitude of a point; None without coordinates."""
        described = self.readers.images[image]
        if not described.planet.is_known:
            return None
        lon, lat = described.to_lonlat(np.array([y - 0.5]), np.array([x - 0.5]))
        return (float(lon[0]), float(lat[0])) if np.isfinite(lon[0] + lat[0]) else None


def open_circles(target: StrPath) -> CircleScan:
    """Open the folder of a scan for circles.

    Raises
    ------
    DataError
        If it is damaged, or the size of an image has changed since the scan.
    """
    target = Path(target)
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    fill = summary["pixels"]["fill"] if "pixels" in summary else PixelReference().fill
    images = [describe_scanned(row, summary, fill) for row in summary["images"]]
    threshold = summary["decision_threshold"]
    return CircleScan(
        target,
        summary,
        ImageReaders(images),
        _read_candidates(
            target / "detections.gpkg",
            [image.name for image in images],
            np.inf if threshold is None else float(threshold),
        ),
    )


def _read_candidates(path: Path, names: list[str], threshold: float) -> CircleCandidates:
    """Read the detections and the other candidates, the most probable first."""
    layers = [vectors.read_layer(path, name).fields for name in ("detections", "candidates")]
    for fields in layers:
        if not set(_FIELDS) <= set(fields):
            raise DataError(f"{path}: lacks columns, expected {', '.join(_FIELDS)}", "Scan again.")
    columns = {name: np.concatenate([fields[name] for fields in layers]) for name in _FIELDS}
    number = {name: place for place, name in enumerate(names)}
    strange = set(columns["source"].tolist()) - set(number)
    if strange:
        raise DataError(
            f"{path}: has circles of {min(strange)!r}, which is no image", "Scan again."
        )
    order = np.argsort(-columns["p_crater"].astype(float), kind="stable")
    image = np.array([number[name] for name in columns["source"]], np.int64)
    return CircleCandidates(
        image=image[order],
        x=columns["col"].astype(float)[order] + 0.5,
        y=columns["row"].astype(float)[order] + 0.5,
        diameter=columns["diameter_px"].astype(float)[order],
        probability=columns["p_crater"].astype(float)[order],
        threshold=threshold,
    )
