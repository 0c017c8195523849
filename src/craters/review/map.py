"""Map view of a scan: its detections filtered by probability, and its image in squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from craters.errors import DataError
from craters.review.session import ReviewSession

if TYPE_CHECKING:
    from craters.review.scan_source import ImageReaders, ScanSource
SQUARE = 256  # pixels of a picture
SHRINKS = tuple(2**power for power in range(15))
MOST = 5000  # detections in one reply, the most probable first
_TABLE = 100  # rows of the table of detections


def detections(
    session: ReviewSession, reviewer: str, *, image: int, least: float, most: float
) -> dict[str, Any]:
    """Return the detections of an image in a range of probabilities, the most probable first.

    Raises
    ------
    DataError
        If the target is no scan, or has no such image.
    """
    source = scan_source(session)
    images = source.scan.images
    if image >= len(images):
        raise DataError(f"there is no image {image}, expected 0 to {len(images) - 1}")
    windows = source.windows
    inside = windows.detected & (windows.image == image)
    total = int(inside.sum())
    inside &= (windows.probability >= np.float32(least)) & (windows.probability <= np.float32(most))
    rows = np.flatnonzero(inside)
    rows = rows[np.argsort(-windows.probability[rows], kind="stable")][:MOST]
    with session.lock:
        session.tally.catch_up(session.store)
        shown = [_detection(session, reviewer, int(row), source) for row in rows]
    return {
        "images": [{"number": number, "name": item.name} for number, item in enumerate(images)],
        "image": image, "name": images[image].name, "height": images[image].height,
        "width": images[image].width, "side": source.side, "square": SQUARE,
        "deepest": deepest(images[image].height, images[image].width),
        "least": least, "most": most, "total": total, "inside": int(inside.sum()),
        "detections": shown, "table": _TABLE,
    }  # fmt: skip


def scan_source(session: ReviewSession) -> ScanSource:
    """Return the source of a scan; raise DataError for others."""
    from craters.review.scan_source import ScanSource

    if not isinstance(session.source, ScanSource):
        raise DataError(f"{session.source.target}: is not a scan and has no map")
    return session.source


def _detection(
    session: ReviewSession, reviewer: str, row: int, source: ScanSource
) -> dict[str, Any]:
    windows = source.windows
    probability = round(float(windows.probability[row]), 4)
    return session.item(row, reviewer, "map") | {"probability": probability}


def deepest(height: int, width: int) -> int:
    """Return the reduction factor at which an image fits into one square."""
    return next(
        (shrink for shrink in SHRINKS if shrink * SQUARE >= max(height, width)), SHRINKS[-1]
    )


def view(readers: ImageReaders, image: int, shrink: int, top: int, left: int) -> np.ndarray:
    """Return a square of an image, reduced by the factor `shrink`.

    Raises
    ------
    DataError
        If there is no such square.
    """
    if image >= len(readers.images) or shrink not in SHRINKS:
        raise DataError("there is no such image or reduction factor")
    size = readers.images[image]
    if top * SQUARE * shrink >= size.height or left * SQUARE * shrink >= size.width:
        raise DataError("there is no such square of the image")
    return readers.view(image, top * SQUARE * shrink, left * SQUARE * shrink, SQUARE, shrink)
