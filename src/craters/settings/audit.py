"""Settings of an audit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.data import DataForm
from craters.settings.declaration import check_settings, setting

MOST_SHIFT = 4


@dataclasses.dataclass(frozen=True)
class AuditConfig(DataForm):
    """Settings of `craters audit`: `data`, `out`; others by keyword.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits, or two contradict each other.
    """

    data: Path = setting(
        help="Data set: arrays (Xtrain1, Ytrain1, ...), class folders, a table, or an archive.",
        meaning="Data set, as for [craters run](own-data.md).",
    )
    out: Path | None = setting(
        None,
        help="New folder for tables and contact sheets.",
        meaning="Folder to create, for tables and contact sheets; also stores finished trainings.",
    )
    _: dataclasses.KW_ONLY
    fix: Path | None = setting(
        None,
        help="New folder for cleaned copies.",
        meaning="Folder to create, for cleaned copies of the arrays.",
    )
    fix_labels: Literal["keep", "drop"] = setting(
        "keep",
        help="In cleaned copies, keep or drop patches with suspected label errors.",
        meaning="Whether cleaned copies keep or drop patches with suspected label errors.",
    )
    repeats: int = setting(
        1,
        help="Cross-validation rounds, averaged; 0: do not check labels.",
        meaning="Rounds of cross-validation, whose out-of-fold probabilities are averaged; 0: "
        "labels are not checked.",
        least=0,
        most=20,
    )
    folds: int = setting(5, help="Folds of each round.", least=2)
    shift: int = setting(
        1,
        help="Greatest shift of near copies in pixels, 0 to 4.",
        meaning="Greatest shift in pixels between near copies that are found.",
        least=0,
        most=MOST_SHIFT,
    )
    seed: int = setting(0, help="Random seed.", least=0)
    threads: int = setting(
        0,
        help="Parallel trainings; 0: all usable CPUs.",
        meaning="Parallel trainings; 0: all CPUs that the process may use. Does not affect "
        "results.",
        least=0,
    )

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if self.fix_labels == "drop" and self.repeats == 0:
            raise ConfigError(
                "--fix-labels drop requires label checks, but --repeats is 0", "Give --repeats 1."
            )
        if self.fix is not None and self.fix == self.out:
            raise ConfigError(f"--fix and --out are both {self.fix}", "Give two different folders.")
