"""The four Processing algorithms; each runs one `craters` command and shows its results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputHtml,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsRectangle,
    QgsSettings,
)
from qgis.PyQt.QtGui import QIcon

from craters_qgis import arguments
from craters_qgis.command import CommandError, find_command, progress_of, run_into, warning_of
from craters_qgis.layers import (
    WITHOUT_PLACE,
    add_to_map,
    catalogue_path,
    given_crs,
    image_path,
    scan_folder,
)

SETTING = "CRATERS_ENVIRONMENT"
ICON = str(Path(__file__).with_name("icon.svg"))

_BODY = "Body (default: by the coordinate system)"
_DIAMETERS = "Diameters in km, such as 1.5,4.5 (default: {})"
_COLUMNS = "Columns of the catalogue, if unusual: lon=LON_E,lat=LAT_N,diameter_km=D"


def environment_setting() -> str:
    """Return the environment of craters that the user named; empty if none."""
    return str(QgsSettings().value(f"Processing/Configuration/{SETTING}", "") or "")


class _Algorithm(QgsProcessingAlgorithm):  # type: ignore[misc]
    """A Processing algorithm that runs one `craters` command into the folder FOLDER."""

    NAME = TITLE = HELP = ""

    def name(self) -> str:
        return self.NAME

    def displayName(self) -> str:
        return self.TITLE

    def shortHelpString(self) -> str:
        return self.HELP

    def icon(self) -> QIcon:
        return QIcon(ICON)

    def createInstance(self) -> QgsProcessingAlgorithm:
        return type(self)()

    def canExecute(self) -> tuple[bool, str]:
        try:
            find_command(environment_setting())
        except CommandError as error:
            return False, str(error)
        return True, ""

    def add(self, parameter: QgsProcessingParameterDefinition, *, advanced: bool = False) -> None:
        """Add a parameter; an advanced one is folded away in the dialog."""
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)

    def add_layer(self, name: str, title: str, *, optional: bool = False) -> None:
        """Add the parameter of a vector layer or table."""
        kinds = [QgsProcessing.TypeVector]
        self.add(QgsProcessingParameterVectorLayer(name, title, kinds, optional=optional))

    def add_number(
        self, name: str, title: str, default: float, *limits: float, advanced: bool = False
    ) -> None:
        """Add the parameter of a number: an integer, if its default is one."""
        double, integer = QgsProcessingParameterNumber.Double, QgsProcessingParameterNumber.Integer
        kind = integer if isinstance(default, int) else double
        number = QgsProcessingParameterNumber(name, title, kind, default, False, *limits)
        self.add(number, advanced=advanced)

    def add_columns(self) -> None:
        """Add the parameter of the columns of a catalogue."""
        columns = QgsProcessingParameterString("COLUMNS", _COLUMNS, optional=True)
        self.add(columns, advanced=True)

    def add_folder(self, title: str) -> None:
        """Add the parameter of the folder that the command creates."""
        self.add(QgsProcessingParameterFolderDestination("FOLDER", title))

    def add_body(self) -> None:
        """Add the parameter of the body."""
        choices = list(arguments.BODIES)
        parameter = QgsProcessingParameterEnum("BODY", _BODY, choices, optional=True)
        parameter.setUsesStaticStrings(True)
        self.add(parameter)

    def run_command(self, words: list[str], folder: Path, feedback: QgsProcessingFeedback) -> None:
        """Run a command; show its output and progress, and raise its error."""

        def show(line: str) -> None:
            percent = progress_of(line)
            if percent is not None:
                feedback.setProgress(percent)
                feedback.setProgressText(line)  # with the time left
            elif warning_of(line):
                feedback.pushWarning(warning_of(line))
            else:
                feedback.pushInfo(line)

        try:
            words = [find_command(environment_setting()), *words]
            feedback.pushCommandInfo(" ".join(words))
            run_into(words, folder, is_canceled=feedback.isCanceled, show=show)
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error


class FindCraters(_Algorithm):
    """Find craters in a raster, as circles."""

    NAME, TITLE = "find", "Find craters"
    HELP = (
        "Finds craters in an image of any body, with diameters and probabilities, by the circle "
        "detector of craters. Adds the circles and the searched area to the map."
        "<h3>Precision</h3>Expected share of craters among the circles: higher gives fewer and "
        "surer circles."
        "<h3>Extent</h3>Part of the image to search; all pixels that it touches. Rows and columns "
        "of the table then count from the corner of this part."
        "<h3>Body</h3>Needed only if the image has no coordinate system, or one of the Earth."
        "<h3>Folder</h3>New or empty. Also gets a report, a table (CSV), and candidates of lower "
        "probability as a layer of detections.gpkg."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Image"))
        self.add(
            QgsProcessingParameterExtent(
                "EXTENT", "Extent (default: the whole image)", optional=True
            )
        )
        self.add_number("PRECISION", "Precision", 0.8, 0.01, 1.0)
        self.add_body()
        title = "Band (default: the only one, or gray)"
        band = QgsProcessingParameterBand("BAND", title, None, "INPUT", optional=True)
        self.add(band, advanced=True)
        in_pixels = QgsProcessingParameterBoolean(
            "PIXELS", "Work in pixels, if there is no coordinate system", False
        )
        self.add(in_pixels, advanced=True)
        self.add_folder("Folder of the scan")
        self.addOutput(QgsProcessingOutputVectorLayer("CIRCLES", "Circles"))
        self.addOutput(QgsProcessingOutputVectorLayer("FOOTPRINT", "Searched area"))
        self.addOutput(QgsProcessingOutputFile("TABLE", "Table"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        folder = Path(self.parameterAsString(parameters, "FOLDER", context))
        extent = self.parameterAsExtent(parameters, "EXTENT", context, layer.crs())
        in_pixels = self.parameterAsBool(parameters, "PIXELS", context)
        if in_pixels and not extent.isEmpty():
            raise QgsProcessingException(WITHOUT_PLACE.format(layer.name()))
        part = folder.with_name(f"{folder.name}_image")
        had_part = part.exists()
        try:
            words = arguments.scan_words(
                image_path(layer, extent, part),
                folder,
                precision=self.parameterAsDouble(parameters, "PRECISION", context),
                body=self.parameterAsEnumString(parameters, "BODY", context),
                band=self.parameterAsInt(parameters, "BAND", context),
                crs=given_crs(layer),
                in_pixels=in_pixels,
            )
            self.run_command(words, folder, feedback)
        except BaseException:
            if not had_part:
                shutil.rmtree(part, ignore_errors=True)
            raise
        layers = folder / "detections.gpkg"
        results = {
            output: add_to_map(f"{layers}|layername={name}", title, output, context)
            for output, name, title in (
                ("FOOTPRINT", "footprint", f"Searched area of {layer.name()}"),
                ("CIRCLES", "rims", f"Craters of {layer.name()}"),
            )
        }
        table, report = str(folder / "detections.csv"), str(folder / "report.html")
        return {"FOLDER": str(folder), "TABLE": table, "REPORT": report, **results}


class MatchCatalogue(_Algorithm):
    """Match the circles of a scan with a catalogue."""

    NAME, TITLE = "match", "Match with a catalogue"
    HELP = (
        "Compares the circles of a scan with a catalogue of craters, one to one: craters that were "
        "found, craters that were missed, and circles that are in no catalogue. Adds these three "
        "to the map; the report states recall, precision and diameters."
        "<h3>Catalogue</h3>Points with diameters or rims as polygons, in the coordinate system of "
        "the body; or a table (CSV) with longitude, latitude and diameter."
        "<h3>Diameters</h3>Least and greatest diameter that counts. Choose those to which the "
        "catalogue is complete."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002
        self.add_layer("SCAN", "Circles of a scan")
        self.add_layer("CATALOGUE", "Catalogue")
        self.add(QgsProcessingParameterString("DIAMETERS", _DIAMETERS.format("all"), optional=True))
        register = QgsProcessingParameterBoolean(
            "REGISTER", "Take out the shift between catalogue and image", False
        )
        self.add(register)
        self.add_columns()
        self.add_folder("Folder of the match")
        self.addOutput(QgsProcessingOutputVectorLayer("HITS", "Hits"))
        self.addOutput(QgsProcessingOutputVectorLayer("FALSE", "False detections"))
        self.addOutput(QgsProcessingOutputVectorLayer("MISSED", "Missed craters"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        folder = Path(self.parameterAsString(parameters, "FOLDER", context))
        catalogue = self.parameterAsVectorLayer(parameters, "CATALOGUE", context)
        words = arguments.match_words(
            scan_folder(self.parameterAsVectorLayer(parameters, "SCAN", context)),
            catalogue_path(catalogue, context),
            folder,
            diameters=self.parameterAsString(parameters, "DIAMETERS", context),
            columns=self.parameterAsString(parameters, "COLUMNS", context),
            register=self.parameterAsBool(parameters, "REGISTER", context),
        )
        self.run_command(words, folder, feedback)
        layers = folder / "match.gpkg"
        results = {"FOLDER": str(folder), "REPORT": str(folder / "report.html")}
        if not layers.is_file():
            feedback.pushWarning("Circles and catalogue are in pixels, so there are no layers.")
            return results
        for output, name, title in (
            ("HITS", "hits", "Hits"),
            ("FALSE", "false_detections", "False detections"),
            ("MISSED", "missed_craters", "Missed craters"),
        ):
            results[output] = add_to_map(f"{layers}|layername={name}", title, output, context)
        return results


class SamplePatches(_Algorithm):
    """Sample a training set from rasters and a catalogue."""

    NAME, TITLE = "patches", "Sample training patches"
    HELP = (
        "Samples small square patches with and without craters from images and a catalogue, in the "
        "files that the command 'craters run' trains from."
        "<h3>Catalogue</h3>As for 'Match with a catalogue'. None: unlabeled patches only."
        "<h3>Share of images held out</h3>As a test set. A single image must be divided into cells "
        "for it."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002
        self.add(QgsProcessingParameterMultipleLayers("INPUT", "Images", QgsProcessing.TypeRaster))
        self.add_layer("CATALOGUE", "Catalogue", optional=True)
        diameters = _DIAMETERS.format("10 pixels to a patch")
        self.add(QgsProcessingParameterString("DIAMETERS", diameters, optional=True))
        self.add_number("SIDE", "Side of a patch, pixels", 48, 8, 1024)
        self.add_number("UNLABELED", "Unlabeled patches", 1000, 0)
        self.add_body()
        title = "Share of images held out as a test set"
        self.add_number("TEST_SHARE", title, 0.0, 0.0, 0.99, advanced=True)
        title = "Side of the cells that images are divided into; 0: none"
        self.add_number("CELLS", title, 0, 0, advanced=True)
        self.add_number("SEED", "Random seed", 0, 0, advanced=True)
        self.add_columns()
        self.add_folder("Folder of the patches")
        self.addOutput(QgsProcessingOutputFile("TABLE", "Positions of the patches"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        folder = Path(self.parameterAsString(parameters, "FOLDER", context))
        images = self.parameterAsLayerList(parameters, "INPUT", context)
        catalogue = self.parameterAsVectorLayer(parameters, "CATALOGUE", context)
        systems = {given_crs(layer) for layer in images}
        if len(systems) > 1:
            raise QgsProcessingException(
                "Some images have another coordinate system than their files. Give all images the "
                "same one, or sample them one by one."
            )
        words = arguments.patches_words(
            [image_path(layer, QgsRectangle(), Path()) for layer in images],
            folder,
            catalogue=catalogue_path(catalogue, context) if catalogue else "",
            diameters=self.parameterAsString(parameters, "DIAMETERS", context),
            columns=self.parameterAsString(parameters, "COLUMNS", context),
            side=self.parameterAsInt(parameters, "SIDE", context),
            unlabeled=self.parameterAsInt(parameters, "UNLABELED", context),
            test_share=self.parameterAsDouble(parameters, "TEST_SHARE", context),
            cells=self.parameterAsInt(parameters, "CELLS", context),
            seed=self.parameterAsInt(parameters, "SEED", context),
            body=self.parameterAsEnumString(parameters, "BODY", context),
            crs=systems.pop(),
        )
        self.run_command(words, folder, feedback)
        return {"FOLDER": str(folder), "TABLE": str(folder / "positions.csv")}


class SizeFrequency(_Algorithm):
    """Count the craters of a scan by diameter."""

    NAME, TITLE = "sizefrequency", "Size-frequency table"
    HELP = (
        "Counts the craters of a scan by diameter, cumulative and differential, raw and corrected, "
        "with intervals, and looks for clusters. Adds the table to the project. It gives no ages."
        "<h3>Completeness</h3>completeness.csv of the command 'craters completeness', to make up "
        "for craters that were not found."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ARG002
        self.add_layer("SCAN", "Circles of a scan")
        completeness = QgsProcessingParameterFile(
            "COMPLETENESS",
            "Completeness (without it, only precision is corrected)",
            extension="csv",
            optional=True,
        )
        self.add(completeness)
        self.add_folder("Folder of the count")
        self.addOutput(QgsProcessingOutputVectorLayer("TABLE", "Size-frequency table"))
        self.addOutput(QgsProcessingOutputFile("FIGURE", "Figure"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        folder = Path(self.parameterAsString(parameters, "FOLDER", context))
        words = arguments.size_frequency_words(
            scan_folder(self.parameterAsVectorLayer(parameters, "SCAN", context)),
            folder,
            completeness=self.parameterAsString(parameters, "COMPLETENESS", context),
        )
        self.run_command(words, folder, feedback)
        numbers = f"{folder / 'sfd.csv'}|option:AUTODETECT_TYPE=YES"
        table = add_to_map(numbers, self.TITLE, "TABLE", context)
        return {"FOLDER": str(folder), "TABLE": table, "FIGURE": str(folder / "sfd.png")}
