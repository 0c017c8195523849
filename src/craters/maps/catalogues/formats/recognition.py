"""Read a crater catalogue of any format, which is recognised by its content."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from craters.core import StrPath, files
from craters.errors import DataError
from craters.maps.catalogues import tables
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.columns import catalogue_of
from craters.maps.catalogues.formats import coco, craterstats, layers, via, voc, yolo

_HEAD = 4096  # bytes from which the format is recognised
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PARTS_OF_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg")
_SINGLE = (".csv", ".json", ".geojson", ".gpkg", ".fgb", ".shp", ".scc", ".diam")
_KINDS = (
    "a CSV table, boxes (Pascal VOC, YOLO, COCO, VIA), a GIS layer (shapefile, GeoPackage, "
    "GeoJSON, FlatGeobuf), or .scc of Craterstats"
)


def read_catalogue(path: StrPath, columns: str = "", crater_class: str = "") -> Catalogue:
    """Read a crater catalogue.

    Craters without a usable position or diameter, and annotations of other classes, are left out;
    `Catalogue.notes` says what was understood and counts them.

    Parameters
    ----------
    path : path-like
        CSV, with commas, semicolons or tabs between the columns; boxes of Pascal VOC (a file or a
        folder), YOLO (a folder beside its images), COCO (JSON) or VIA (JSON, CSV); a shapefile,
        GeoPackage, GeoJSON or FlatGeobuf of points or rims; .scc or .diam of Craterstats.
    columns : str
        Unusual column names, e.g. "lon=LON_E,lat=LAT_N,diameter_km=D". The quantities are the
        keys of `tables.SYNONYMS`.
    crater_class : str
        Classes that mean crater, separated by commas; empty: classes of a known name.

    Returns
    -------
    Catalogue
        In degrees or in pixels, as the file is.

    Raises
    ------
    ConfigError
        If `columns` or `crater_class` is invalid.
    DataError, GeoError
        If the format is unknown, or the content cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, columns, crater_class)
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected {_KINDS}", "Is the path right?")
    if path.suffix.lower() in _PARTS_OF_SHAPEFILE:
        raise DataError(f"{path}: is part of a shapefile", f"Name {path.stem}.shp.")
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    for magic, kind in layers.MAGIC.items():
        if head.startswith(magic):
            return layers.read_layer_catalogue(path, kind, columns, crater_class)
    start = _first_character(head)
    if start == "<":
        return voc.read_voc(path, [path], crater_class)
    if start in ("{", "["):
        return _read_json(path, columns, crater_class)
    if path.suffix.lower() == ".txt" and yolo.is_yolo(path):
        return yolo.read_yolo(path, [path], crater_class)
    return _read_text(path, columns, crater_class)


def _read_text(path: Path, columns: str, crater_class: str) -> Catalogue:
    """Read a count of Craterstats, or a CSV table."""
    text, _ = files.read_csv_text(path, may_be_latin_1=True)
    if craterstats.is_craterstats(text):
        return craterstats.read_craterstats(path, text, columns)
    table = tables.read_csv(path)
    if via.is_via_table(table):
        return via.read_via_table(table, crater_class)
    return catalogue_of(table, columns, crater_class)


def _read_json(path: Path, columns: str, crater_class: str) -> Catalogue:
    """Read GeoJSON, COCO or VIA."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged JSON ({error})", "Export it again.") from error
    if layers.is_geojson(content):
        return layers.read_layer_catalogue(path, layers.GEOJSON, columns, crater_class)
    if coco.is_coco(content):
        return coco.read_coco(path, content, crater_class)
    if via.is_via(content):
        return via.read_via(path, content, crater_class)
    raise DataError(f"{path}: is JSON, but neither GeoJSON nor COCO nor VIA", f"Give {_KINDS}.")


def _read_folder(folder: Path, columns: str, crater_class: str) -> Catalogue:
    """Read the annotations of a folder, one file for each image, or the only catalogue in it.

    Raises
    ------
    DataError
        If it holds none, or several.
    """
    documents = [
        file
        for file in _files(folder, ".xml", "Annotations")
        if not file.name.lower().endswith(".aux.xml")
    ]
    texts = _files(folder, ".txt", "labels")
    found: dict[str, list[Path]] = {
        "Pascal VOC": documents if any(map(_may_be_voc, documents)) else [],
        "YOLO": texts if any(map(yolo.is_yolo, texts)) else [],
    }
    found |= {file.name: [file] for suffix in _SINGLE for file in _files(folder, suffix)}
    kinds = {name: paths for name, paths in found.items() if paths}
    if len(kinds) != 1:
        what = f"holds several catalogues ({', '.join(kinds)})" if kinds else "holds no catalogue"
        raise DataError(f"{folder}: {what}", f"Name one: {_KINDS}.")
    name, paths = kinds.popitem()
    if name == "Pascal VOC":
        return voc.read_voc(folder, paths, crater_class)
    if name == "YOLO":
        return yolo.read_yolo(folder, paths, crater_class)
    return read_catalogue(paths[0], columns, crater_class)


def _files(folder: Path, suffix: str, subfolder: str = "") -> list[Path]:
    """Return the files of a suffix, in any case: of the folder, or else below a subfolder of it."""
    inside = [file for file in sorted(folder.iterdir()) if file.suffix.lower() == suffix]
    if not inside and subfolder:
        inside = [file for file in sorted(folder.glob(f"**/{subfolder}/**/*"))
                  if file.suffix.lower() == suffix]  # fmt: skip
    return [file for file in inside if file.is_file() and not file.name.startswith(".")]


def _may_be_voc(path: Path) -> bool:
    """Return whether an XML file may be an annotation; `read_voc` judges it."""
    content = path.read_bytes()
    return content.startswith(_UTF_16) or b"<annotation" in content or b"<!DOCTYPE" in content


def _first_character(head: bytes) -> str:
    """Return the first character of a text that is no blank."""
    codec = "utf-16" if head.startswith(_UTF_16) else "utf-8-sig"
    return head[: len(head) // 2 * 2].decode(codec, errors="replace").lstrip()[:1]
