"""Data quality: the audit of arrays before a run, and the checks after it.

Interface: `run_audit`, `run_checks`, `evaluation_doubts`, `test_set_uses`.
It modifies no run and no data; cleaning writes a copy. The checks do not need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.quality import checks, test_set_uses
from craters.quality.checks import Check, run_checks
from craters.quality.usefulness import evaluation_doubts
from craters.settings import AuditConfig

if TYPE_CHECKING:
    from craters.quality.audit import run_audit

__all__ = [
    "AuditConfig",
    "Check",
    "checks",
    "evaluation_doubts",
    "run_audit",
    "run_checks",
    "test_set_uses",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["run_audit"],
    },
)
