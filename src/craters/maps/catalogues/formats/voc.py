"""Read boxes of Pascal VOC: one XML file for each image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.formats.annotations import (
    BOX,
    OTHER,
    Shape,
    catalogue_of_shapes,
    to_number,
)

_ROOT = "annotation"


def parse_xml(content: bytes, source: Path) -> Element:
    """Parse XML without a document type, so that no entity can be declared.

    Raises
    ------
    DataError
        If it is damaged, or declares a document type.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise DataError(
            f"{source}: declares a document type (DOCTYPE), which annotations do not need",
            "Delete that line, if you trust the file.",
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"{source}: is damaged XML ({error})", "Export it again.") from error
    return builder.close()


def is_voc(root: Element) -> bool:
    """Return whether an XML document is an annotation of Pascal VOC."""
    return root.tag == _ROOT


def read_voc(source: Path, paths: Iterable[Path], crater_class: str = "") -> Catalogue:
    """Read the boxes of XML files.

    Parameters
    ----------
    source : Path
        File or folder, for messages.
    paths : iterable of Path
    crater_class : str
        See `classes.choose`.

    Raises
    ------
    ConfigError, DataError
    """
    shapes: list[Shape] = []
    image_of: dict[str, Path] = {}
    others: list[Path] = []
    for path in paths:
        root = parse_xml(path.read_bytes(), path)
        if not is_voc(root):
            others.append(path)
            continue
        image = _text(root, "filename") or path.stem
        if image in image_of:
            raise DataError(
                f"{path}: is of the image {image!r}, as {image_of[image].name} is",
                "Correct the element filename in one of them.",
            )
        image_of[image] = path
        shapes += _shapes(root, image, path)
    if not image_of:
        raise DataError(
            f"{others[0]}: is XML, but no annotation of Pascal VOC (it has no root element "
            f"{_ROOT!r})",
            "Give the file or folder that the labeling tool exported.",
        )
    notes = [f"{len(others)} XML file(s) that are no annotations are left out: {others[0].name}"
             f"{', ...' if others[1:] else ''}"] if others else []  # fmt: skip
    return catalogue_of_shapes(
        shapes, crater_class, source=source, title="Pascal VOC", paths=list(image_of.values()),
        notes=notes,
    )  # fmt: skip


def _shapes(root: Element, image: str, path: Path) -> list[Shape]:
    """Return the objects of one file."""
    width, height = (_positive(_text(root, f"size/{name}")) for name in ("width", "height"))
    shapes = []
    for number, item in enumerate(root.findall("object"), start=1):
        name = _text(item, "name")
        corners = [
            to_number(_text(item, f"bndbox/{corner}"))
            for corner in ("xmin", "ymin", "xmax", "ymax")
        ]
        left, top, right, bottom = corners
        shapes.append(
            Shape(
                image=image,
                labels=(name,) if name else (),
                kind=OTHER if item.find("bndbox") is None else BOX,
                values=(left, top, right - left, bottom - top),
                size=(width, height),
                where=f"object {number} of {path.name}",
            )
        )
    return shapes


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _positive(text: str) -> float:
    """Return a size; NaN where it is missing, or 0 as some tools write."""
    size = to_number(text)
    return size if size > 0 else math.nan
