"""The main job: stages, run folder, report, and the scikit-learn estimator.

Interface: `run_job`, `CraterClassifier`, `assess`.
It does not depend on the command line, maps or the review page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.pipeline import info
from craters.pipeline.assess import assess

if TYPE_CHECKING:
    from craters.pipeline import report
    from craters.pipeline.estimator import CraterClassifier
    from craters.pipeline.job import ONE_SIDED
    from craters.pipeline.report import layer_table
    from craters.pipeline.run import RunOutcome, run_job
    from craters.pipeline.stages import kept_network
    from craters.pipeline.summary import summarize

__all__ = [
    "ONE_SIDED",
    "CraterClassifier",
    "RunOutcome",
    "assess",
    "info",
    "kept_network",
    "layer_table",
    "report",
    "run_job",
    "summarize",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["report"],
    submod_attrs={
        "estimator": ["CraterClassifier"],
        "report": ["layer_table"],
        "run": ["RunOutcome", "run_job"],
        "job": ["ONE_SIDED"],
        "stages": ["kept_network"],
        "summary": ["summarize"],
    },
)
