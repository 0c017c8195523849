"""Compare methods, networks, label budgets and seeds on held-out folds.

Interface: `compare`, `plan`, `CompareConfig`.
It trains with the main job's code, unchanged.
"""

from craters.compare.run import compare, plan
from craters.settings import CompareConfig

__all__ = [
    "CompareConfig",
    "compare",
    "plan",
]
