"""Settings of all commands, each declared once: meaning, default, unit, limits.

Interface: `RunConfig`, `JobSettings`, `TrainingSettings`, `resolve`, `declared`, `check_settings`.
It computes nothing and imports no numerical library: the command line is built from it.
"""

from craters.settings.audit import MOST_SHIFT, AuditConfig
from craters.settings.catalogues import MatchRequest, SamplingRequest, parse_diameters
from craters.settings.circle_training import CircleTrainingConfig
from craters.settings.compare import (
    LEAST_OF_CLASS,
    Budget,
    Cell,
    CompareConfig,
    HoldOut,
    Pool,
    budget_size,
)
from craters.settings.data import DataForm
from craters.settings.declaration import Declared, check_settings, declared, make_settings, setting
from craters.settings.pretrain import LookName, PretrainConfig
from craters.settings.run import (
    JobSettings,
    Method,
    NetworkName,
    RunConfig,
    StartName,
    SymmetryChoice,
    TrainingSettings,
    parse_objective,
)
from craters.settings.scan import ReadOptions, ScanConfig
from craters.settings.sources import ENV_PREFIX, resolve

__all__ = [
    "ENV_PREFIX",
    "LEAST_OF_CLASS",
    "MOST_SHIFT",
    "AuditConfig",
    "Budget",
    "Cell",
    "CircleTrainingConfig",
    "CompareConfig",
    "DataForm",
    "Declared",
    "HoldOut",
    "JobSettings",
    "LookName",
    "MatchRequest",
    "Method",
    "NetworkName",
    "Pool",
    "PretrainConfig",
    "ReadOptions",
    "RunConfig",
    "SamplingRequest",
    "ScanConfig",
    "StartName",
    "SymmetryChoice",
    "TrainingSettings",
    "budget_size",
    "check_settings",
    "declared",
    "make_settings",
    "parse_diameters",
    "parse_objective",
    "resolve",
    "setting",
]
