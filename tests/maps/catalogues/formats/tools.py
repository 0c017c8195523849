"""Files of labeling tools, written by hand as these tools write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

Box = tuple[str, float, float, float, float]  # class, left, top, right, bottom


def write_picture(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path)
    return path


def voc_text(image: str, boxes: list[Box], size: tuple[int, int] | None = (100, 80)) -> str:
    """As LabelImg writes it."""
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><bndbox>"
        f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object>"
        for name, left, top, right, bottom in boxes
    )
    width, height = size or (0, 0)
    return (
        f"<annotation>\n\t<folder>images</folder><filename>{image}</filename>"
        f"<source><database>Unknown</database></source><size><width>{width}</width>"
        f"<height>{height}</height><depth>1</depth></size>{objects}</annotation>\n"
    )


def coco_content(boxes: list[Box], image: str = "a.png", size: tuple[int, int] = (100, 80)) -> dict:
    names = sorted({box[0] for box in boxes})
    return {
        "info": {},
        "images": [{"id": 7, "file_name": image, "width": size[0], "height": size[1]}],
        "categories": [{"id": 3 + row, "name": name} for row, name in enumerate(names)],
        "annotations": [
            {
                "id": row,
                "image_id": 7,
                "category_id": 3 + names.index(name),
                "bbox": [left, top, right - left, bottom - top],
                "area": 1,
                "iscrowd": 0,
            }
            for row, (name, left, top, right, bottom) in enumerate(boxes)
        ],
    }


def yolo_lines(boxes: list[Box], names: list[str], size: tuple[int, int] = (100, 80)) -> str:
    width, height = size
    return "".join(
        f"{names.index(name)} {(left + right) / 2 / width!r} {(top + bottom) / 2 / height!r} "
        f"{(right - left) / width!r} {(bottom - top) / height!r}\n"
        for name, left, top, right, bottom in boxes
    )


def via_regions(boxes: list[Box]) -> list[dict]:
    return [
        {
            "shape_attributes": {
                "name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top
            },
            "region_attributes": {"type": name, "note": ""},
        }
        for name, left, top, right, bottom in boxes
    ]  # fmt: skip


def via_content(regions: list[dict], image: str = "a.png") -> dict:
    return {
        "_via_settings": {},
        "_via_img_metadata": {
            f"{image}123": {"filename": image, "size": 123, "regions": regions},
            "b.png9": {"filename": "b.png", "size": 9, "regions": []},
        },
    }


def via_csv(regions: list[dict], image: str = "a.png") -> str:
    import csv
    import io

    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(
        ["filename", "file_size", "file_attributes", "region_count", "region_id",
         "region_shape_attributes", "region_attributes"]
    )  # fmt: skip
    for number, region in enumerate(regions):
        shape, attributes = region["shape_attributes"], region["region_attributes"]
        rows.writerow(
            [image, 123, "{}", len(regions), number, json.dumps(shape), json.dumps(attributes)]
        )
    rows.writerow(["b.png", 9, "{}", 0, 0, "{}", "{}"])
    return text.getvalue()


def write_all(folder: Path, boxes: list[Box]) -> dict[str, Path]:
    """Write the same boxes of one image in every format."""
    names = sorted({box[0] for box in boxes})
    voc, yolo = folder / "voc", folder / "yolo"
    voc.mkdir(parents=True)
    (voc / "a.xml").write_text(voc_text("a.png", boxes))
    write_picture(yolo / "images" / "a.png")
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text(yolo_lines(boxes, names))
    (yolo / "data.yaml").write_text(f"nc: {len(names)}\nnames: {names}\n")
    texts = {
        "coco.json": json.dumps(coco_content(boxes)),
        "via.json": json.dumps(via_content(via_regions(boxes))),
        "via.csv": via_csv(via_regions(boxes)),
        "tf.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        + "".join(f"a.png,100,80,{box[0]},{','.join(map(str, box[1:]))}\n" for box in boxes),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {"voc": voc, "yolo": yolo} | {name: folder / name for name in texts}
