"""Audit stored arrays without trainings, for `audit`: a process whose memory is measured.

    python audit_many.py FOLDER OUT.npz

writes which patches are copies, and the seconds that the audit took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from craters.core import usable_threads
from craters.quality import AuditConfig, run_audit


def main(folder: Path, out: Path) -> None:
    """Audit by all CPUs that may be used."""
    clock = time.perf_counter()
    found = run_audit(AuditConfig(folder, repeats=0, threads=usable_threads()))
    seconds = time.perf_counter() - clock
    copies = found.findings.copies
    np.savez(out, repeated=copies.is_repeated, near=copies.is_near, seconds=seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
