"""Run algorithms of the plugin and open layers with PyQGIS: in_qgis.py REQUEST REPORT, as JSON.

The request names `plugins`, the folder that holds the plugin; `environment`, its setting; `runs`,
each with `algorithm`, `parameters` and, if it is to be canceled, `cancel_at`, a text in its
messages, and `crs`, which the user gives to the layer INPUT; and `layers`, sources to open. The
report has `runs`, each with the results or the error and the messages; `added`, the layers of the
project; and `layers`.
"""

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRenderContext,
    QgsSettings,
    QgsVectorLayer,
)


class Messages(QgsProcessingFeedback):
    """Keep messages, and cancel at a text."""

    def __init__(self, cancel_at):
        super().__init__(False)
        self.cancel_at, self.shown = cancel_at, []

    def hear(self, text):
        self.shown.append(text)
        if self.cancel_at and self.cancel_at in text:
            self.cancel()

    def pushInfo(self, info):  # noqa: N802
        self.hear(info)

    def pushWarning(self, warning):  # noqa: N802
        self.hear(f"Warning: {warning}")

    def reportError(self, error, fatalError=False):  # noqa: ARG002, N802
        self.hear(f"Error: {error}")


def run(wanted):
    import processing

    feedback = Messages(wanted.get("cancel_at", ""))
    found = {"shown": feedback.shown}
    if "crs" in wanted:
        path = wanted["parameters"]["INPUT"]
        layer = wanted["parameters"]["INPUT"] = QgsRasterLayer(path, Path(path).stem)
        layer.setCrs(QgsCoordinateReferenceSystem(wanted["crs"]))
    try:
        found["results"] = processing.runAndLoadResults(
            wanted["algorithm"], wanted["parameters"], feedback=feedback
        )
    except QgsProcessingException as error:
        found["error"] = str(error)
    return found


def describe(layer):
    found = {"name": layer.name(), "valid": layer.isValid(), "crs": layer.crs().toWkt()}
    if isinstance(layer, QgsVectorLayer):
        found["count"] = layer.featureCount()
        found["fields"] = {field.name(): field.typeName() for field in layer.fields()}
        found["colors"] = []
        if layer.renderer() is not None:
            symbols = layer.renderer().symbols(QgsRenderContext())
            found["colors"] = [each.symbolLayers()[-1].strokeColor().name() for each in symbols]
    return found


def open_layer(source):
    is_raster = source.endswith(".tif")
    return QgsRasterLayer(source, source) if is_raster else QgsVectorLayer(source, source, "ogr")


def main():
    request = json.loads(Path(sys.argv[1]).read_text())
    application = QgsApplication([], False)
    application.initQgis()
    sys.path += [f"{QgsApplication.pkgDataPath()}/python/plugins", request["plugins"]]
    QgsSettings().setValue(
        "Processing/Configuration/CRATERS_ENVIRONMENT", request.get("environment", "")
    )
    from processing.core.Processing import Processing

    Processing.initialize()
    from craters_qgis import classFactory

    plugin = classFactory(None)
    plugin.initProcessing()
    report = {
        "runs": [run(wanted) for wanted in request.get("runs", [])],
        "added": [describe(each) for each in QgsProject.instance().layerTreeRoot().layerOrder()],
        "layers": [describe(open_layer(source)) for source in request.get("layers", [])],
    }
    Path(sys.argv[2]).write_text(json.dumps(report))


main()
