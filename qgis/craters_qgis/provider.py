"""The Processing provider: its four algorithms, and the setting of the environment."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from craters_qgis.algorithms import (
    ICON,
    SETTING,
    FindCraters,
    MatchCatalogue,
    SamplePatches,
    SizeFrequency,
)

_SETTING_TITLE = "Folder of the environment of craters (if empty: the command craters on the path)"


class CratersProvider(QgsProcessingProvider):  # type: ignore[misc]
    """The algorithms of craters in the Processing toolbox."""

    def id(self) -> str:
        return "craters"

    def name(self) -> str:
        return "Craters"

    def icon(self) -> QIcon:
        return QIcon(ICON)

    def load(self) -> bool:
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        setting = Setting(self.name(), SETTING, _SETTING_TITLE, "", valuetype=Setting.FOLDER)
        ProcessingConfig.addSetting(setting)
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        for algorithm in (FindCraters, MatchCatalogue, SamplePatches, SizeFrequency):
            self.addAlgorithm(algorithm())
