"""Review circles: accept, reject, correct and draw them on images, and measure the catalogue.

Interface: `CircleSession`, `CirclePages`, `open_circles`, `CircleCandidates`, `upcoming`.
It does not depend on windows, and trains by starting commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.review.circles.queue import CircleCandidates, CircleQuery, upcoming

if TYPE_CHECKING:
    from craters.review.circles.exchange import import_circles
    from craters.review.circles.pages import CirclePages
    from craters.review.circles.scan import CircleScan, open_circles
    from craters.review.circles.session import CircleSession
    from craters.review.circles.training import write_training_data

__all__ = [
    "CircleCandidates",
    "CirclePages",
    "CircleQuery",
    "CircleScan",
    "CircleSession",
    "import_circles",
    "open_circles",
    "upcoming",
    "write_training_data",
]

# Imported on first use: they need the libraries of maps.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exchange": ["import_circles"],
        "pages": ["CirclePages"],
        "scan": ["CircleScan", "open_circles"],
        "session": ["CircleSession"],
        "training": ["write_training_data"],
    },
)
