"""Read shapes of the VGG Image Annotator (VIA 1 and 2): JSON or CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.formats.annotations import (
    BOX,
    CIRCLE,
    ELLIPSE,
    OTHER,
    POLYGON,
    Shape,
    catalogue_of_shapes,
    circle_of_ellipse,
    circle_of_polygon,
    to_number,
)
from craters.maps.catalogues.tables import Table

_PROJECT = "_via_img_metadata"
_SHAPE, _REGION = "region_shape_attributes", "region_attributes"
_TITLE = "VIA"


def is_via(content: Any) -> bool:
    """Return whether a JSON document is of VIA."""
    if not isinstance(content, dict):
        return False
    files = content.get(_PROJECT, content)
    return bool(content) and isinstance(files, dict) and (
        _PROJECT in content
        or all(isinstance(file, dict) and {"filename", "regions"} <= file.keys()
               for file in files.values())
    )  # fmt: skip


def is_via_table(table: Table) -> bool:
    """Return whether a CSV table is of VIA."""
    return {_SHAPE, _REGION} <= table.columns.keys()


def read_via(path: Path, content: dict[str, Any], crater_class: str = "") -> Catalogue:
    """Read the shapes of a JSON document.

    Raises
    ------
    ConfigError, DataError
    """
    shapes: list[Shape] = []
    for file in content.get(_PROJECT, content).values():
        image = str(file.get("filename", "")) if isinstance(file, dict) else ""
        for number, region in enumerate(_regions(file, path), start=1):
            shape, attributes = region.get("shape_attributes"), region.get(_REGION)
            where = f"region {number} of {image} in {path.name}"
            shapes.append(_shape(shape, attributes, image, where))
    return catalogue_of_shapes(shapes, crater_class, source=path, title=_TITLE, paths=[path])


def read_via_table(table: Table, crater_class: str = "") -> Catalogue:
    """Read the shapes of a CSV table.

    Raises
    ------
    ConfigError, DataError
    """
    path = Path(table.source)
    names = next((table.columns[name] for name in ("filename", "#filename")
                  if name in table.columns), [])  # fmt: skip
    if not names:
        raise DataError(f"{path}: VIA without a column 'filename'", "Export it again.")
    shapes = []
    texts = zip(names, table.columns[_SHAPE], table.columns[_REGION], strict=True)
    for row, (image, shape_text, region_text) in enumerate(texts):
        where = f"row {table.number(row)} of {path.name}"
        shape, region = (_parse(text, where, path) for text in (shape_text, region_text))
        if shape:  # an image without regions has one row without a shape
            shapes.append(_shape(shape, region, image.strip(), where))
    return catalogue_of_shapes(shapes, crater_class, source=path, title=_TITLE, paths=[path])


def _regions(file: Any, path: Path) -> Iterator[dict[str, Any]]:
    regions = file.get("regions", []) if isinstance(file, dict) else None
    if isinstance(regions, dict):  # VIA 1
        regions = list(regions.values())
    if not isinstance(regions, list) or not all(isinstance(each, dict) for each in regions):
        raise DataError(f"{path}: 'regions' of VIA is no list of objects", "Export it again.")
    yield from regions


def _parse(text: str, where: str, path: Path) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {where} is damaged JSON ({error})", "Export it again.") from error


def _shape(shape: Any, attributes: Any, image: str, where: str) -> Shape:
    kind, values = _circle_or_box(shape if isinstance(shape, dict) else {})
    return Shape(image=image, labels=_labels(attributes), kind=kind, values=values, where=where)


def _circle_or_box(shape: dict[str, Any]) -> tuple[str, tuple[float, ...]]:
    """Return kind and values as `Shape` has them."""
    name = shape.get("name")
    if name == "rect":
        return BOX, tuple(to_number(shape.get(key)) for key in ("x", "y", "width", "height"))
    if name == "circle":
        x, y, radius = (to_number(shape.get(key)) for key in ("cx", "cy", "r"))
        return CIRCLE, (x, y, 2 * radius)
    if name == "ellipse":
        axes = shape.get("rx"), shape.get("ry")
        return ELLIPSE, circle_of_ellipse(shape.get("cx"), shape.get("cy"), axes)
    x_list, y_list = shape.get("all_points_x"), shape.get("all_points_y")
    if name == "polygon" and isinstance(x_list, list) and isinstance(y_list, list):
        return POLYGON, circle_of_polygon(x_list, y_list)
    return OTHER, (math.nan,) * 3


def _labels(attributes: Any) -> tuple[str, ...]:
    """Return the values of all attributes of a region, and the boxes that are ticked."""
    labels: list[str] = []
    for value in attributes.values() if isinstance(attributes, dict) else ():
        if isinstance(value, dict):  # check boxes
            labels += [str(name).strip() for name, ticked in value.items() if ticked]
        elif isinstance(value, str | int | float) and str(value).strip():
            labels.append(str(value).strip())
    return tuple(labels)
