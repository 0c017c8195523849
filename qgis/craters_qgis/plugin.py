"""The plugin: the provider, a button of the toolbar, and the menu Raster > Craters."""

from __future__ import annotations

from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import Qgis, QgsApplication, QgsRasterLayer
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QFileDialog

from craters_qgis.algorithms import ICON, SETTING, environment_setting
from craters_qgis.command import CommandError, find_command
from craters_qgis.provider import CratersProvider

_MENU = "Craters"


class CratersPlugin:
    """What QGIS loads.

    Parameters
    ----------
    iface : QgisInterface or None
        None without a window, as in `qgis_process`.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.provider: CratersProvider | None = None
        self.actions: list[QAction] = []
        self.dialog: Any = None

    def initProcessing(self) -> None:
        """Register the algorithms; `qgis_process` calls this alone."""
        self.provider = CratersProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Register the algorithms, and add the button and the menu."""
        self.initProcessing()
        window = self.iface.mainWindow()
        find = QAction(QIcon(ICON), "Find craters…", window)
        find.setObjectName("craters_find")
        find.triggered.connect(self.open_find)
        environment = QAction("Environment…", window)
        environment.triggered.connect(self.choose_environment)
        self.actions = [find, environment]
        self.iface.addToolBarIcon(find)
        for action in self.actions:
            self.iface.addPluginToRasterMenu(_MENU, action)

    def unload(self) -> None:
        """Remove what was added."""
        for action in self.actions:
            self.iface.removePluginRasterMenu(_MENU, action)
            self.iface.removeToolBarIcon(action)
        self.actions = []
        QgsApplication.processingRegistry().removeProvider(self.provider)

    def open_find(self) -> None:
        """Open the dialog of 'Find craters' for the active layer."""
        import processing

        layer = self.iface.activeLayer()
        values = {"INPUT": layer.id()} if isinstance(layer, QgsRasterLayer) else {}
        self.dialog = processing.createAlgorithmDialog("craters:find", values)
        self.dialog.show()

    def choose_environment(self) -> None:
        """Ask for the folder of the environment, and keep it if it holds the command."""
        folder = QFileDialog.getExistingDirectory(
            self.iface.mainWindow(),
            "Folder of the Python environment that craters is installed in",
            environment_setting(),
        )
        if not folder:
            return
        try:
            command = find_command(folder)
        except CommandError as error:
            self.iface.messageBar().pushMessage(_MENU, str(error), Qgis.Warning)
            return
        ProcessingConfig.setSettingValue(SETTING, folder)
        self.iface.messageBar().pushMessage(_MENU, f"Using {command}.", Qgis.Success)
