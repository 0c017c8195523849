"""Map an array by `craters`, for `scan`: the other side of keras_scan.py.

    python craters_scan.py MODEL IMAGE.npy OUT.npy

One thread, the network's own stride. Prints the seconds between the model being loaded and the map
being complete, without georeference and files, which Keras's side does not have either.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from craters.maps.scan.grid import Blocks, Grid
from craters.maps.scan.predict import make_predictor
from craters.models import Classifier


def main(model: str, image: str, out: str) -> None:
    """Map tile by tile, as a scan does."""
    classifier = Classifier.load(Path(model), threads=1)
    pixels = np.load(image)
    stride = classifier.description.stride or 1
    grid = Grid(*pixels.shape, classifier.description.side, stride)
    predict = make_predictor(classifier, stride)
    found = np.empty((grid.rows, grid.columns), np.float32)
    clock = time.perf_counter()
    for block in Blocks(grid, 1, 1):
        top, left = block.row * stride, block.column * stride
        tile = pixels[top : top + grid.pixels(block.rows), left : left + grid.pixels(block.columns)]
        logits = predict(tile, np.ones((block.rows, block.columns), bool))
        found[block.row : block.row + block.rows, block.column : block.column + block.columns] = (
            classifier.probability(logits)
        )
    print(time.perf_counter() - clock)
    np.save(Path(out), found)


if __name__ == "__main__":
    main(*sys.argv[1:4])
