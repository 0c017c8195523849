"""Prepare in a thread what results need besides the blocks, while these are searched."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from craters.maps.geo import Image
from craters.maps.scan.report import read_quick_look

_AHEAD = 16  # images whose quick looks are kept in memory
_LIBRARIES = ("scipy.spatial", "pyogrio.raw", "jinja2")  # that are first used for the results


class Preparation:
    """Import libraries and read the quick looks of the first images in a thread.

    A context manager: on exit it cancels what has not started.

    Parameters
    ----------
    images : sequence of Image
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._pool.map(importlib.import_module, _LIBRARIES)  # if one fails, its user says so
        self._looks = {
            image.name: self._pool.submit(read_quick_look, image) for image in images[:_AHEAD]
        }

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def quick_look(self, image: Image) -> tuple[np.ndarray, np.ndarray] | None:
        """Return an image downsampled: see `read_quick_look`."""
        ahead = self._looks.get(image.name)
        return read_quick_look(image) if ahead is None else ahead.result()
