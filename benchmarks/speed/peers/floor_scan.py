"""Where the time of `craters scan` goes, for `floor`.

    python floor_scan.py IMAGE MODEL OUT FOUND.json

One worker of one thread, without the layer of windows. The file holds the seconds of each part, by
clocks around it. The network has random weights, so its answers are put aside for ones of which one
in a thousand calls a crater: there shall be as much to write as after a real scan.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from craters.maps.geo import Reader
from craters.maps.scan import predict, report, run, store
from craters.maps.scan.predict import Predictor


class Clock:
    """Adds up the seconds inside calls, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                passed = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + passed

        return timed


def compute(predictor: Predictor, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Predict a tile; give other numbers."""
    found = np.full_like(predictor(pixels, wanted), -3.0)
    found.ravel()[::1000] = 1.0
    return found


def main(image: Path, model: Path, out: Path, found: Path) -> None:
    """Scan, and write the seconds of each part."""
    clock = Clock()
    make = predict.make_predictor
    predict.make_predictor = lambda *given: clock.around(
        "compute", functools.partial(compute, make(*given))
    )
    run.plan_scan = clock.around("plan", run.plan_scan)
    run.write_all = clock.around("encode", run.write_all)
    report.read_quick_look = clock.around("look", report.read_quick_look)
    for holder, method, name in (
        (Reader, "read", "decode"),
        (store.Store, "write", "keep"),
        (store.BlockIndex, "note_done", "keep"),
    ):
        setattr(holder, method, clock.around(name, getattr(holder, method)))
    config = run.ScanConfig((image,), model, out, workers=1, threads=1, windows=False)
    run.scan_images(config)
    parts = clock.seconds
    parts["encode"] -= parts["look"]
    found.write_text(json.dumps(parts))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
