"""Time one pass of a network over a tile, and the same windows cut out, for `scan`.

    python scan_dense.py MODEL OUT.json

One thread. The windows are a sample, in the batches that a scan of such a network uses; the pass
is over a tile as a scan cuts it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from craters.models import Classifier

SIDE, TILE, SAMPLE = 48, 768, 1024


def main(model: str, out: str) -> None:
    """Measure both in turn, and check that they say the same."""
    classifier = Classifier.load(Path(model), threads=1)
    stride = classifier.description.stride
    pixels = np.random.default_rng(0).integers(0, 256, (TILE, TILE), np.uint8)
    views = np.lib.stride_tricks.sliding_window_view(pixels, (SIDE, SIDE))[::stride, ::stride]
    rows = np.arange(0, views.shape[0] * views.shape[1], views.shape[0] * views.shape[1] // SAMPLE)
    some = np.unravel_index(rows[:SAMPLE], views.shape[:2])
    windows, maps = [], []
    for _ in range(3):  # the first of a shape is slow; the least counts
        clock = time.process_time()
        cut = classifier.logits(views[some])
        windows.append(time.process_time() - clock)
        clock = time.process_time()
        whole = classifier.logit_maps(pixels[None])[0]
        maps.append(time.process_time() - clock)
    apart = np.abs(whole[some] - cut).max()
    if apart > 1e-4:
        raise SystemExit(f"the pass and the windows differ by {apart:g}")
    count = views.shape[0] * views.shape[1]
    found = {"windows": count, "window_s": min(windows) / SAMPLE * count, "pass_s": min(maps)}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:3])
