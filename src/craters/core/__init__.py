"""Shared infrastructure: files, processes, environment, progress, output folders.

Interface: `files`, `run_tasks`, `Progress`, `Workspace`, `environment`, HTML templates.
It does not depend on patches, networks or maps.
"""

from craters.core import environment, files
from craters.core.color import luminance
from craters.core.environment import (
    check_device,
    describe_hardware,
    hardware_line,
    library_versions,
    package_versions,
    training_threads,
    usable_threads,
)
from craters.core.files import StrPath
from craters.core.html import embed_png, page_templates, report_style
from craters.core.parallel import Send, Task, plan_workers, run_tasks, torch_threads
from craters.core.planned_work import PERCENT, PlannedWork, Steps
from craters.core.progress import NullProgress, Progress, TimeLeft
from craters.core.workspace import Fingerprint, Workspace

__all__ = [
    "PERCENT",
    "Fingerprint",
    "NullProgress",
    "PlannedWork",
    "Progress",
    "Send",
    "Steps",
    "StrPath",
    "Task",
    "TimeLeft",
    "Workspace",
    "check_device",
    "describe_hardware",
    "embed_png",
    "environment",
    "files",
    "hardware_line",
    "library_versions",
    "luminance",
    "package_versions",
    "page_templates",
    "plan_workers",
    "report_style",
    "run_tasks",
    "torch_threads",
    "training_threads",
    "usable_threads",
]
