"""`craters scan` with a network that does nothing, for `scan`: time for reading and writing.

    python scan_noop.py IMAGE MODEL OUT

Everything else is as in the command: pixels are read, gaps found, maps and layers written. The
"logits" spread as those of a network do, so that there are as many candidates to write.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from craters.maps.scan import ScanConfig, predict, scan_images


class Nothing:
    """Answers every tile with the same numbers."""

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Give a logit of -3 to each window, and of 1 to one in a thousand."""
        found = np.full(wanted.shape, -3.0, np.float32)
        found.ravel()[::1000] = 1.0
        return found


def main(image: str, model: str, out: str) -> None:
    """Scan with one worker of one thread."""
    predict.make_predictor = lambda *_: Nothing()
    config = ScanConfig(
        (Path(image),), Path(model), Path(out), workers=1, threads=1,
        windows=False,
    )  # fmt: skip
    scan_images(config)


if __name__ == "__main__":
    main(*sys.argv[1:4])
