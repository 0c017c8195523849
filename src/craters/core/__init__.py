"""Files, processes, the environment and progress: what every other package stands on.

Interface: `files`, `run_tasks`, `Progress`, `environment`, HTML templates.
It knows nothing of patches, networks or maps.
"""

from craters.core import environment, files
from craters.core.environment import describe_hardware, package_versions, usable_threads
from craters.core.html import page_templates, report_style
from craters.core.parallel import Send, Task, plan_workers, run_tasks, torch_threads
from craters.core.progress import NullProgress, Progress

__all__ = [
    "NullProgress",
    "Progress",
    "Send",
    "Task",
    "describe_hardware",
    "environment",
    "files",
    "package_versions",
    "page_templates",
    "plan_workers",
    "report_style",
    "run_tasks",
    "torch_threads",
    "usable_threads",
]
