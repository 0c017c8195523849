"""What the algorithms read from layers, and the layers that they add to the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingUtils,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt import sip

from craters_qgis.arguments import pixel_window

WITHOUT_PLACE = (
    "{}: a part of an image without coordinates would lose its place in the image. Leave the "
    "extent empty, or save the part as a file of its own first: Export > Save As."
)


def given_crs(layer: QgsRasterLayer) -> str:
    """Return the CRS that the user gave a layer, as WKT; empty if it is that of the file."""
    crs = layer.crs()
    if not crs.isValid() or crs == layer.dataProvider().crs():
        return ""
    return str(crs.toWkt(QgsCoordinateReferenceSystem.WKT_PREFERRED))


def image_path(layer: QgsRasterLayer, extent: QgsRectangle, folder: Path) -> str:
    """Return the path of a raster layer's image, or of a part of it.

    Parameters
    ----------
    layer : QgsRasterLayer
    extent : QgsRectangle
        In the CRS of the layer; empty: the whole image. The part has all pixels that it touches.
    folder : Path
        To write the part into, as a virtual raster that reads the image itself.
    """
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            f"{layer.name()}: is not read from a file ({layer.providerType()}). Save it as a file "
            "first: Export > Save As."
        )
    source = layer.source()
    if extent.isEmpty() and Path(source).exists():
        return str(source)
    gdal.UseExceptions()
    dataset = gdal.Open(source)
    window = None
    if not extent.isEmpty():
        transform = dataset.GetGeoTransform(can_return_null=True)
        if transform is None:
            raise QgsProcessingException(WITHOUT_PLACE.format(layer.name()))
        corners = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
        size = dataset.RasterXSize, dataset.RasterYSize
        window = pixel_window(gdal.InvGeoTransform(transform), size, corners)
        if window is None:
            raise QgsProcessingException(f"{layer.name()}: the extent is outside the image.")
    folder.mkdir(parents=True)
    path = folder / f"{Path(source).stem or 'image'}.vrt"
    gdal.Translate(str(path), dataset, format="VRT", srcWin=window)
    return str(path)


def scan_folder(layer: QgsVectorLayer) -> Path:
    """Return the folder of the scan that a layer belongs to."""
    path = Path(_decoded(layer).get("path") or "")
    if not (path.parent / "summary.json").is_file() or path.stem != "detections":
        raise QgsProcessingException(
            f"{layer.name()}: is no layer of a scan. Choose the circles that 'Find craters' made, "
            "or detections.gpkg of a scan."
        )
    _refuse_filter(layer)
    return path.parent


def catalogue_path(layer: QgsVectorLayer, context: QgsProcessingContext) -> str:
    """Return the path of a file with the craters of a layer; those in memory are written to one."""
    path = _decoded(layer).get("path") or ""
    if layer.providerType() == "delimitedtext":
        _refuse_filter(layer)
        return str(path)
    is_alone = layer.providerType() == "ogr" and layer.dataProvider().subLayerCount() == 1
    if is_alone and not layer.subsetString() and Path(path).is_file():
        return str(path)
    target = QgsProcessingUtils.generateTempFilename("catalogue.gpkg")
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    result = QgsVectorFileWriter.writeAsVectorFormatV2(
        layer, target, context.transformContext(), options
    )
    if result[0] != QgsVectorFileWriter.NoError:
        raise QgsProcessingException(f"{layer.name()}: cannot be written as a file. {result[1]}")
    return str(target)


def _decoded(layer: QgsVectorLayer) -> dict[str, Any]:
    """Return the parts of a layer's source, such as path and layerName."""
    registry = QgsProviderRegistry.instance()
    return dict(registry.decodeUri(layer.providerType(), layer.source()))


def _refuse_filter(layer: QgsVectorLayer) -> None:
    if layer.subsetString():
        raise QgsProcessingException(
            f"{layer.name()}: has a filter, but its whole file is used. Remove the filter."
        )


class _DefaultStyle(QgsProcessingLayerPostProcessorInterface):  # type: ignore[misc]
    """Give a layer the style that the command stored in its file.

    QGIS deletes each object with the context, so every layer needs one of its own, but does not
    keep the Python part of it alive until then.
    """

    alive: ClassVar[list[_DefaultStyle]] = []

    def __init__(self) -> None:
        super().__init__()
        self.alive[:] = [each for each in self.alive if not sip.isdeleted(each)] + [self]

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: ARG002
        layer.loadDefaultStyle()
        layer.triggerRepaint()


def add_to_map(source: str, name: str, output: str, context: QgsProcessingContext) -> str:
    """Let QGIS add a layer to the open project, if any, at the end; return the layer's source."""
    if context.project() is not None:
        details = QgsProcessingContext.LayerDetails(name, context.project(), output)
        details.setPostProcessor(_DefaultStyle())
        context.addLayerToLoadOnCompletion(source, details)
    return source
