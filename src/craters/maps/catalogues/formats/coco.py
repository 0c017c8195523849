"""Read boxes of COCO: one JSON file with images, annotations and categories."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.formats.annotations import (
    BOX,
    OTHER,
    Shape,
    catalogue_of_shapes,
    to_number,
)

_LISTS = ("images", "annotations", "categories")


def is_coco(content: Any) -> bool:
    """Return whether a JSON document is of COCO."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def read_coco(path: Path, content: dict[str, Any], crater_class: str = "") -> Catalogue:
    """Read the boxes of a JSON document.

    Raises
    ------
    ConfigError, DataError
    """
    images, annotations, categories = (_dicts(content, name, path) for name in _LISTS)
    image_of = _by_id(images, "images", path)
    category_of = _by_id(categories, "categories", path)
    shapes = []
    for number, item in enumerate(annotations, start=1):
        where = f"annotation {number} of {path.name}"
        image = _look_up(image_of, item.get("image_id"), "image", f"{path}: annotation {number}")
        category = {}
        if item.get("category_id") is not None:
            category = _look_up(
                category_of, item["category_id"], "category", f"{path}: annotation {number}"
            )
        box = item.get("bbox")
        has_box = isinstance(box, list) and len(box) == 4
        name = str(category.get("name", "")).strip()
        shapes.append(
            Shape(
                image=str(image.get("file_name", "")),
                labels=(name,) if name else (),
                kind=BOX if has_box else OTHER,
                values=tuple(map(to_number, box)) if has_box else (math.nan,) * 4,  # type: ignore[arg-type]
                size=(to_number(image.get("width")), to_number(image.get("height"))),
                where=where,
            )
        )
    return catalogue_of_shapes(shapes, crater_class, source=path, title="COCO", paths=[path])


def _dicts(content: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    values = content.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{path}: {name!r} of COCO is no list of objects", "Export it again.")
    return values


def _by_id(rows: list[dict[str, Any]], name: str, path: Path) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        key = row.get("id")
        if not isinstance(key, int | str) or key in found:
            raise DataError(
                f"{path}: {name!r} of COCO has the id {key!r} twice or none", "Export it again."
            )
        found[key] = row
    return found


def _look_up(rows: dict[Any, dict[str, Any]], key: Any, what: str, where: str) -> dict[str, Any]:
    if not isinstance(key, int | str) or key not in rows:
        raise DataError(
            f"{where} is of the {what} {key!r}, which is not listed", "Export it again."
        )
    return rows[key]
