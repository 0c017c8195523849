"""Review page: label patches or circles in the browser, served on this machine only.

Interface: `serve`, `open_target`; `CircleSession`, `open_circles` for circles.
Retraining runs `craters run` or `craters train` in a separate process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.review.source import job_of, random_rows
from craters.review.target import is_circle_scan, open_target

if TYPE_CHECKING:
    from craters.review.circles import (
        CircleSession,
        import_circles,
        open_circles,
        write_training_data,
    )
    from craters.review.server import serve

__all__ = [
    "CircleSession",
    "import_circles",
    "is_circle_scan",
    "job_of",
    "open_circles",
    "open_target",
    "random_rows",
    "serve",
    "write_training_data",
]

# Imported on first use: they need libraries of extras.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "circles": ["CircleSession", "import_circles", "open_circles", "write_training_data"],
        "server": ["serve"],
    },
)
