"""Write the detections of a scan as boxes for labeling tools: Pascal VOC, YOLO and COCO.

A box is the square around a circle, clipped to its image, in pixels of the image file from its
upper left corner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from craters._version import __version__
from craters.core import files
from craters.errors import DataError, GeoError
from craters.maps.geo import is_north_up
from craters.maps.scan.export.scan_folder import ScanFolder

CLASS = "crater"

_DIGITS = 3  # of pixels: those of the catalogue need no more


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImage:
    """The boxes on one image.

    Parameters
    ----------
    file : str
        File name of the image.
    height, width : int
        Of the image file.
    boxes : ndarray, shape (N, 4)
        Left, top, right and bottom in pixels.
    is_cut : ndarray of bool, shape (N,)
        Whether the circle reaches beyond the image.
    probability : ndarray, shape (N,)
    """

    file: str
    height: int
    width: int
    boxes: np.ndarray
    is_cut: np.ndarray
    probability: np.ndarray


def boxed_images(scan: ScanFolder) -> list[BoxedImage]:
    """Return the boxes of each image of a scan, also of those without any.

    Raises
    ------
    DataError
        If two images have the same file name without suffix.
    GeoError
        If an image is not stored north up, so that pixels of the scan are not those of the file.
    """
    seen: dict[str, str] = {}
    images = []
    for row in scan.summary["images"]:
        path = Path(row["path"])
        if path.stem in seen:
            raise DataError(
                f"{scan.path}: {seen[path.stem]} and {path} have the same name, by which labeling "
                "tools find the boxes of an image",
                "Rename one of them, and scan again.",
            )
        seen[path.stem] = str(path)
        if scan.summary.get("crs") and path.is_file() and not is_north_up(path):
            raise GeoError(
                f"{path}: its rows do not run from north to south, as those of the scan do",
                "Warp it to a north-up grid with gdalwarp, and scan that.",
            )
        images.append(_boxed_image(scan, row, path))
    return images


def _boxed_image(scan: ScanFolder, row: dict[str, Any], path: Path) -> BoxedImage:
    """Return the boxes of an image, after any resampling in pixels of its file."""
    height, width = row["native"]
    down, across = height / row["height"], width / row["width"]
    mine = scan.table["source"] == row["name"]
    x, y = (scan.table["col"][mine] + 0.5) * across, (scan.table["row"][mine] + 0.5) * down
    half = scan.table["diameter_px"][mine] / 2
    whole = np.column_stack(
        [x - half * across, y - half * down, x + half * across, y + half * down]
    )
    boxes = np.clip(whole, 0, [width, height] * 2).round(_DIGITS)
    return BoxedImage(
        file=path.name,
        height=height,
        width=width,
        boxes=boxes,
        is_cut=(np.abs(boxes - whole) > 10.0**-_DIGITS).any(axis=1),
        probability=scan.table["p_crater"][mine],
    )


def write_voc(scan: ScanFolder, folder: Path) -> str:
    """Write an XML file for each image."""
    images = boxed_images(scan)
    for image in images:
        files.write_text(folder / f"{Path(image.file).stem}.xml", "".join(_voc_lines(image)))
    return _count(images)


def _voc_lines(image: BoxedImage) -> Iterator[str]:
    yield (
        f"<annotation>\n  <filename>{escape(image.file)}</filename>\n  <source><database>craters "
        f"{__version__}</database></source>\n  <size><width>{image.width}</width><height>"
        f"{image.height}</height><depth>1</depth></size>\n  <segmented>0</segmented>\n"
    )
    for box, is_cut in zip(image.boxes.tolist(), image.is_cut.tolist(), strict=True):
        corners = "".join(
            f"<{name}>{value:.10g}</{name}>"
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        yield (
            f"  <object><name>{CLASS}</name><pose>Unspecified</pose><truncated>{int(is_cut)}"
            f"</truncated><difficult>0</difficult><bndbox>{corners}</bndbox></object>\n"
        )
    yield "</annotation>\n"


def write_yolo(scan: ScanFolder, folder: Path) -> str:
    """Write a text file for each image, and classes.txt."""
    images = boxed_images(scan)
    for image in images:
        left, top, right, bottom = (image.boxes / ([image.width, image.height] * 2)).T
        rows = np.column_stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
        lines = (f"0 {' '.join(f'{value:.9f}' for value in row)}\n" for row in rows.tolist())
        files.write_text(folder / f"{Path(image.file).stem}.txt", "".join(lines))
    files.write_text(folder / "classes.txt", f"{CLASS}\n")
    return _count(images)


def write_coco(scan: ScanFolder, folder: Path) -> str:
    """Write annotations.json, with the probabilities as `score`."""
    images = boxed_images(scan)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for box, p in zip(image.boxes.tolist(), image.probability.tolist(), strict=True):
            width, height = round(box[2] - box[0], _DIGITS), round(box[3] - box[1], _DIGITS)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1,
                "bbox": [box[0], box[1], width, height], "area": round(width * height, _DIGITS),
                "segmentation": [], "iscrowd": 0, "score": p,
            })  # fmt: skip
    content = {
        "info": {"description": "Craters found by a scan", "version": f"craters {__version__}"},
        "licenses": [],
        "categories": [{"id": 1, "name": CLASS}],
        "images": [
            {"id": number, "file_name": image.file, "height": image.height, "width": image.width}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
    }
    files.write_json(folder / "annotations.json", content)
    return _count(images)


def _count(images: list[BoxedImage]) -> str:
    return f"{sum(len(image.boxes) for image in images)} boxes in {len(images)} image(s)"
