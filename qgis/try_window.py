"""Use the plugin in the window of QGIS as a mapper does; run by `qgis --code`, with QGIS's Python.

Reads the file of JSON that the variable CRATERS_TEST names: `image` to open, `report` to write and,
if given, `dialog` and `window`, pictures to write, and `extent`, what the second shows. Clicks the
button, then Run, and reports the value of the dialog for the image, and the layers that are on the
map then.
"""

import json
import os
from pathlib import Path

from qgis.core import QgsProject, QgsRectangle, QgsRenderContext
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QAction, QDockWidget
from qgis.utils import iface, plugins

WANTED = json.loads(Path(os.environ["CRATERS_TEST"]).read_text())


def start():
    window = iface.mainWindow()
    window.resize(1240, 800)
    layer = iface.addRasterLayer(WANTED["image"], Path(WANTED["image"]).stem)
    iface.setActiveLayer(layer)
    QTimer.singleShot(1000, click)


def click():
    iface.mainWindow().findChild(QAction, "craters_find").trigger()
    dialog = plugins["craters_qgis"].dialog
    dialog.algorithmFinished.connect(lambda ok, results: QTimer.singleShot(3000, look))
    QTimer.singleShot(1000, run)


def run():
    dialog = plugins["craters_qgis"].dialog
    WANTED["input"] = dialog.createProcessingParameters()["INPUT"]
    if WANTED.get("dialog"):
        dialog.resize(760, 560)
        dialog.grab().save(WANTED["dialog"])
    dialog.runButton().click()


def look():
    plugins["craters_qgis"].dialog.close()
    if WANTED.get("window"):
        for dock in iface.mainWindow().findChildren(QDockWidget):
            dock.setVisible(dock.objectName() == "Layers")
        iface.mapCanvas().setExtent(QgsRectangle(*WANTED["extent"]))
        iface.mapCanvas().refresh()
    QTimer.singleShot(3000, report)


def report():
    if WANTED.get("window"):
        iface.messageBar().clearWidgets()
        iface.mainWindow().grab().save(WANTED["window"])
    layers = QgsProject.instance().layerTreeRoot().layerOrder()
    Path(WANTED["report"]).write_text(
        json.dumps(
            {
                "input": WANTED["input"],
                "image": QgsProject.instance().mapLayersByName(Path(WANTED["image"]).stem)[0].id(),
                "layers": [describe(layer) for layer in layers],
            }
        )
    )
    os._exit(0)  # without the question whether to save


def describe(layer):
    if not hasattr(layer, "featureCount"):
        return {"name": layer.name()}
    symbols = layer.renderer().symbols(QgsRenderContext())
    return {
        "name": layer.name(),
        "count": layer.featureCount(),
        "colors": [symbol.symbolLayers()[-1].strokeColor().name() for symbol in symbols],
    }


QTimer.singleShot(4000, start)
