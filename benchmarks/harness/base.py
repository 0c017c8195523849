"""Folders and options of the benchmarks, and their error."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
RESULTS = FOLDER / "results"
WORK = FOLDER / "work"
MODEL = ROOT / "src" / "craters" / "models" / "pretrained"  # that ships in the package

Row = dict[str, Any]


class BenchError(Exception):
    """Raised if a benchmark cannot be run; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Options of a call.

    Parameters
    ----------
    data : Path
        Folder of the themis48 arrays.
    full : bool
        Everything, or what is quick.
    seeds : int
        Paired seeds of comparisons.
    fresh : bool
        Measure again although a row is stored.
    same_start : bool
        Let contenders of `keras_parity` start from the same weights.
    """

    data: Path
    full: bool
    seeds: int
    fresh: bool = False
    same_start: bool = True
