"""Review page: label patches in the browser, served on this machine only.

Interface: `serve`, `open_target`.
Retraining runs `craters run` in a separate process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.review.source import job_of, random_rows
from craters.review.target import open_target

if TYPE_CHECKING:
    from craters.review.server import serve

__all__ = [
    "job_of",
    "open_target",
    "random_rows",
    "serve",
]

# Imported on first use: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "server": ["serve"],
    },
)
