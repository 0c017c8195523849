"""Compare methods, networks, label budgets and seeds on held-out folds.

Interface: `compare`, `plan`, `read_options`.
It trains by the main job, and changes nothing in it.
"""

from craters.compare.run import compare, plan
from craters.compare.settings import read_options

__all__ = [
    "compare",
    "plan",
    "read_options",
]
