"""Settings of how a data set in files is read."""

from __future__ import annotations

import dataclasses
import re

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataForm:
    """How class folders, tables and archives are read; arrays of the original layout need none.

    The page [Your own data](own-data.md) describes what is read.

    Raises
    ------
    ConfigError
        If a setting is outside its limits, or the pattern is no regular expression.
    """

    positive: str | None = setting(
        None,
        help="Class or label that means 'with crater', if its name does not say so.",
        meaning="The class folder, or the label in a table or an archive, that means 'with "
        "crater'; the other one means 'without crater'. Needed where neither name is known. For "
        "one-hot labels: the column, 0 or 1.",
        in_environment=False,
    )
    side: int = setting(
        0,
        help="Height and width of patches that pictures are resized to; 0: their median.",
        meaning="Height and width that pictures are resized to, without stretching: of one that is "
        "not square the middle is kept. 0: the median of the shorter sides. Arrays are not "
        "resized.",
        unit="pixels",
        least=0,
        most=512,
        in_environment=False,
    )
    group_by: str | None = setting(
        None,
        help="Regular expression that finds the source image in a file name, such as 'ESP_\\d+'.",
        meaning="Regular expression that finds the source image of a patch in the name of its "
        "file; of several parts in parentheses the first counts. Patches of one source image stay "
        "together in every split.",
        in_environment=False,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ConfigError(
                f"group_by is {self.group_by!r}, which is no regular expression ({error})"
            ) from error

    @property
    def form(self) -> DataForm:
        """These settings alone."""
        return DataForm(positive=self.positive, side=self.side, group_by=self.group_by)
