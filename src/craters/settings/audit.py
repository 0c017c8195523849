"""The settings of an audit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, setting

MOST_SHIFT = 4


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit: `data`, and keywords for all others.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        When a setting is off its limits, or two do not go together.
    """

    data: Path = setting(
        help="Folder of Xtrain1, Ytrain1; others may be absent.",
        meaning="Folder of Xtrain1 and Ytrain1; Xtrain1_extra, Xtest1, Ytest1 and groups may be "
        "absent.",
    )
    out: Path | None = setting(
        None,
        help="New folder for tables and contact sheets.",
        meaning="Folder to make, for tables and sheets; finished trainings are kept there.",
    )
    _: dataclasses.KW_ONLY
    fix: Path | None = setting(
        None,
        help="New folder for cleaned copies.",
        meaning="Folder to make, for cleaned copies of the arrays.",
    )
    fix_labels: Literal["keep", "drop"] = setting(
        "keep",
        help="In cleaned copies, keep or drop suspected labels.",
        meaning="Whether cleaned copies keep labels that are suspected.",
    )
    repeats: int = setting(
        1,
        help="Rounds of trainings, averaged; 0: leave the labels alone.",
        meaning="Rounds of out-of-fold trainings, averaged; 0 leaves the labels alone.",
        least=0,
        most=20,
    )
    folds: int = setting(5, help="Trainings of a round.", least=2)
    shift: int = setting(
        1,
        help="Pixels by which near copies may be moved, 0 to 4.",
        meaning="Near copies are found when moved by up to so many pixels.",
        least=0,
        most=MOST_SHIFT,
    )
    seed: int = setting(0, help="Everything random derives from it.", least=0)
    threads: int = setting(
        0,
        help="Trainings at once; 0: all usable CPUs.",
        meaning="Trainings at once; 0 stands for the processors that the process may use. They "
        "change no result.",
        least=0,
    )

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if self.fix_labels == "drop" and self.repeats == 0:
            raise ConfigError(
                "--fix-labels drop needs networks, and --repeats is 0", "Give --repeats 1."
            )
        if self.fix is not None and self.fix == self.out:
            raise ConfigError(f"--fix and --out are both {self.fix}", "Name two folders.")
