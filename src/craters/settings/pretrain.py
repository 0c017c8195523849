"""Settings of a pretraining."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, setting
from craters.settings.run import DEVICE

LookName = Literal["mixed", "mars-thermal", "mars-visible", "moon"]


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Settings of `craters pretrain`: `out`; others by keyword.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    out: Path = setting(
        help="New model folder.", meaning="Model folder to create; a run resumes next to it."
    )
    _: dataclasses.KW_ONLY
    network: Literal["compact", "circles"] = setting(
        "compact",
        help="compact: the classifier of patches; circles: the detector.",
        meaning="Network to train: `compact`, the classifier of patches that ships as "
        "`pretrained`, or `circles`, the detector of craters with centre and diameter.",
    )
    look: LookName = setting(
        "mixed",
        help="Look of the synthetic planets: mixed, mars-thermal, mars-visible or moon.",
        meaning="Look of the synthetic planets; see [Synthetic planets](synthetic-mars.md).",
    )
    rounds: int | None = setting(
        None,
        help="Rounds of about 34,000 new patches, or 1,000 new scenes.",
        meaning="Rounds of training, each on about 34,000 new patches, or 1,000 new scenes for "
        "`circles`.",
        unset="28 for compact, 24 for circles",
        least=1,
    )
    scale: float = setting(
        1.0,
        help="Size of a round, relative to the usual one.",
        meaning="Size of a round and of its training, relative to the usual one; for trials.",
        above=0,
        most=10,
    )
    least_diameter: float = setting(
        9.0,
        help="Least diameter of a crater in pixels.",
        meaning="Label rule: least diameter of a crater that makes a patch one with crater.",
        unit="pixels",
        least=6,
        most=32,
    )
    disc_share: float = setting(
        0.5,
        help="Least share of a crater's disc inside the patch.",
        meaning="Label rule: least share of a crater's disc inside a patch with crater.",
        above=0,
        most=1,
    )
    seed: int = setting(0, help="Random seed.", least=0)
    threads: int = setting(
        0,
        help="Threads; 0: all usable CPUs.",
        meaning="Threads for training and for making patches, together; 0: all CPUs that the "
        "process may use.",
        least=0,
    )
    device: str = setting("cpu", **DEVICE)

    def __post_init__(self) -> None:
        check_settings(self, as_flags=True)
        if self.network == "circles" and (self.least_diameter, self.disc_share) != (9.0, 0.5):
            raise ConfigError(
                "--least-diameter and --disc-share are of the label rule of patches, and --network "
                "is circles",
                "Leave them out.",
            )
