"""Boxes and circles of labeling tools: equal circles from all formats; odd files are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from craters.errors import ConfigError, CratersError, DataError
from craters.maps.catalogues import read_catalogue
from tests.maps.catalogues.formats.tools import (
    coco_content,
    via_content,
    via_csv,
    via_regions,
    voc_text,
    write_all,
    write_picture,
    yolo_lines,
)

BOXES = [("crater", 10, 20, 30, 38), ("hill", 50, 50, 70, 70), ("crater", 60.5, 8, 72.5, 20)]
FORMATS = ["voc", "yolo", "coco.json", "via.json", "via.csv", "tf.csv"]


def circles(path: Path, **options: str) -> list[list[float]]:
    found = read_catalogue(path, **options)
    assert found.in_pixels
    return np.column_stack([found.places, found.diameters]).tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_a_box_is_a_circle_of_its_mean_side(tmp_path: Path, name: str) -> None:
    path = write_all(tmp_path, BOXES)[name]
    found = read_catalogue(path)
    assert found.in_pixels
    assert found.places == pytest.approx(np.array([[20, 29], [66.5, 14]]))
    assert found.diameters == pytest.approx([19, 12])
    assert found.sources is not None
    assert found.sources.tolist() == ["a", "a"]
    rows = {"tf.csv": [2, 4]}.get(name, [1, 3])
    assert found.file_rows(np.array([0, 1])).tolist() == rows
    text = " / ".join(found.notes)
    assert "class 'crater' (2); left out: class 'hill' (1)" in text
    assert "The diameters are the mean of width and height of the boxes" in text
    if name != "tf.csv":
        title = {"voc": "Pascal VOC", "yolo": "YOLO", "coco.json": "COCO"}.get(name, "VIA")
        start = f"The catalogue is {title}: 2 boxes in 1 image(s); craters: class 'crater'"
        assert found.notes[0].startswith(start)


@pytest.mark.parametrize("name", FORMATS)
def test_the_class_is_known_or_named_or_asked_for(tmp_path: Path, name: str) -> None:
    known = [("Impact crater", 10, 20, 30, 40), ("hill", 50, 50, 70, 70)]
    assert len(circles(write_all(tmp_path / "known", known)[name])) == 1
    boxes = [("old", 10, 20, 30, 40), ("new", 50, 50, 70, 70), ("hill", 1, 2, 9, 10)]
    path = write_all(tmp_path / "odd", boxes)[name]
    with pytest.raises(DataError, match=r"not clear which class means crater; it has class .*--cr"):
        read_catalogue(path)
    assert circles(path, crater_class="new") == [pytest.approx([60, 60, 20])]
    assert len(circles(path, crater_class="old, new")) == 2
    with pytest.raises(ConfigError, match=r"has no class 'crater'; it has class .*'hill' \(1\)"):
        read_catalogue(path, crater_class="crater")


@pytest.mark.parametrize(
    ("box", "circle"),
    [
        ((0, 20, 12, 40), (2, 30, 20)),  # the left edge cuts it: it touches x = 12
        ((88, 20, 100, 40), (98, 30, 20)),
        ((40, 0, 60, 12), (50, 2, 20)),
        ((40, 69, 60, 80), (50, 79, 20)),
        ((1, 20, 13, 40), (3, 30, 20)),  # counted from 1
        ((0, 20, 19, 40), (9.5, 30, 19.5)),  # nearly square
        ((3, 20, 15, 40), (9, 30, 16)),  # not at the edge
        ((0, 20, 20, 32), (10, 26, 16)),  # at the edge, but along the other axis
        ((0, 20, 100, 60), (50, 40, 70)),  # from edge to edge
    ],
)
def test_boxes_cut_by_the_edge_are_measured_by_their_longer_side(
    tmp_path: Path, box: tuple[int, int, int, int], circle: tuple[float, ...]
) -> None:
    (tmp_path / "a.xml").write_text(voc_text("a.png", [("crater", *box)]))
    found = read_catalogue(tmp_path / "a.xml")
    assert [*found.places[0], found.diameters[0]] == pytest.approx(circle)
    is_cut = any("measured by their longer side" in note for note in found.notes)
    assert is_cut == (circle[2] == 20)


def test_the_right_edge_is_unknown_without_the_size_of_the_image(tmp_path: Path) -> None:
    boxes = [("crater", 88, 20, 100, 40), ("crater", 0, 20, 12, 40)]
    (tmp_path / "a.xml").write_text(voc_text("a.png", boxes, size=None))
    assert circles(tmp_path / "a.xml") == [[94, 30, 16], [2, 30, 20]]


def test_shapes_of_via(tmp_path: Path) -> None:
    shapes = [
        {"name": "circle", "cx": 20, "cy": 30, "r": 6.5},
        {"name": "ellipse", "cx": 40, "cy": 30, "rx": 9, "ry": 4, "theta": 1},
        {"name": "polygon", "all_points_x": [10, 30, 30, 10], "all_points_y": [10, 10, 30, 30]},
        {"name": "point", "cx": 1, "cy": 2},
        {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [3, 4]},
    ]
    expected = [[20, 30, 13], [40, 30, 12], [20, 20, 2 * math.sqrt(400 / math.pi)]]
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    (tmp_path / "a.json").write_text(json.dumps(via_content(regions)))
    (tmp_path / "a.csv").write_text(via_csv(regions))
    first = {"x.png1": {"filename": "x.png", "size": 1, "regions": dict(enumerate(regions))}}
    (tmp_path / "via1.json").write_text(json.dumps(first))
    for name in ("a.json", "a.csv", "via1.json"):
        assert circles(tmp_path / name) == [pytest.approx(row) for row in expected]
    notes = read_catalogue(tmp_path / "a.json").notes
    assert "they have no class, and all are taken as craters" in notes[0]
    assert notes[1] == "2 points, lines or objects without a box are left out"
    assert notes[2].startswith("The diameters of ellipses and polygons")
    ticked = [{**region, "region_attributes": {"is": {"crater": row < 2}, "id": str(row)}}
              for row, region in enumerate(regions)]  # fmt: skip
    (tmp_path / "ticked.json").write_text(json.dumps(via_content(ticked)))
    assert circles(tmp_path / "ticked.json") == [pytest.approx(row) for row in expected[:2]]


@pytest.mark.parametrize(
    "names",
    [
        "names: [hill, crater]  # in order\n",
        "names:\n  - hill\n  - 'crater'\nnc: 2\n",
        "names:\n- hill\n- crater\n",
        'names:\n  0: hill\n  # a comment\n  1: "crater"\ntrain: images\n',
        "path: .\nnames: {0: hill, 1: crater}\n",
        "names: ['hill',\n  'crater']\n",
    ],
)
def test_names_of_yolo(tmp_path: Path, names: str) -> None:
    boxes = [("crater", 10, 20, 30, 40), ("hill", 50, 50, 60, 60)]
    (tmp_path / "a.txt").write_text(yolo_lines(boxes, ["hill", "crater"]) + "\n")
    (tmp_path / "empty.txt").write_text("")
    write_picture(tmp_path / "a.jpg")
    (tmp_path / "data.yaml").write_text(names)
    assert circles(tmp_path) == [pytest.approx([20, 30, 20])]
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"it has class '1' \(1\), class '0' \(1\).*--crater-class"):
        read_catalogue(tmp_path)
    assert circles(tmp_path, crater_class="1") == [pytest.approx([20, 30, 20])]
    (tmp_path / "classes.txt").write_text("hill\ncrater\n")
    found = read_catalogue(tmp_path)
    assert found.places == pytest.approx(np.array([[20, 30]]))
    assert not any("left out: " in note for note in found.notes[1:])
    (tmp_path / "readme.txt").write_text("Boxes of craters\n")
    assert "1 text file(s) that are no boxes of YOLO are left out: readme.txt" in (
        read_catalogue(tmp_path).notes
    )


def test_folders_of_several_images(tmp_path: Path) -> None:
    voc = tmp_path / "VOC" / "Annotations"
    voc.mkdir(parents=True)
    (voc / "b.xml").write_text(voc_text("C:\\images\\b.png", [("crater", 0, 0, 10, 10)]))
    (voc / "a.XML").write_text(voc_text("", [("crater", 4, 4, 8, 8)]))
    (voc / "c.xml").write_text(voc_text("c.v2.tif", []))
    (voc / "a.png.aux.xml").write_text("<PAMDataset/>")
    (voc / "other.xml").write_text("<label/>")
    found = read_catalogue(tmp_path / "VOC")
    assert found.sources is not None
    assert found.sources.tolist() == ["a", "b"]
    assert [path.name for path in found.paths] == ["a.XML", "b.xml", "c.xml"]
    assert "1 XML file(s) that are no annotations are left out: other.xml" in found.notes
    before = found.sha256()
    (voc / "b.xml").write_text(voc_text("b.png", [("crater", 0, 0, 10, 12)]))
    assert read_catalogue(tmp_path / "VOC").sha256() != before
    split = tmp_path / "yolo"
    for name in ("train", "val"):
        (split / name / "labels").mkdir(parents=True)
        write_picture(split / name / "images" / f"{name}.png")
        (split / name / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.1 0.125\n")
    (split / "data.yaml").write_text("names: [crater]\n")
    found = read_catalogue(split)
    assert found.sources is not None
    assert found.sources.tolist() == ["train", "val"]
    assert found.diameters.tolist() == [10, 10]


ONE = [("crater", 10, 20, 30, 40)]
BAD: dict[str, tuple[str, str]] = {
    "nan.xml": (voc_text("a", [("crater", "nan", 2, 3, 4)]), "a value is not a number: object 1"),
    "word.xml": (voc_text("a", [("crater", "x", 2, 3, 4)]), "a value is not a number"),
    "negative.xml": (voc_text("a", [("crater", 9, 2, 3, 4)]), "its size is not positive: .* -6, 2"),
    "flat.xml": (voc_text("a", [("crater", 3, 2, 3, 4)]), "its size is not positive"),
    "outside.xml": (voc_text("a", [("crater", 90, 2, 130, 42)]), "its centre is outside the image"),
    "before.xml": (voc_text("a", [("crater", -30, 2, 10, 42)]), "its centre is outside the image"),
    "empty.xml": (voc_text("a", []), "Pascal VOC without any shape"),
    "unnamed.xml": (voc_text("a", [("hill", 1, 2, 3, 4)]), "not clear which class .*'hill'"),
    "bomb.xml": (
        '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'
        "<annotation><filename>&b;</filename></annotation>",
        "declares a document type",
    ),
    "external.xml": (
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"
    ),
    "entity.xml": ("<annotation>&b;</annotation>", "is damaged XML"),
    "cut.xml": (voc_text("a", ONE)[:-20], "is damaged XML"),
    "other.xml": ("<kml/>", "no annotation of Pascal VOC"),
    "nobox.xml": ("<annotation><object><name>crater</name></object></annotation>",
                  "neither boxes nor circles"),
    "damaged.json": ('{"images": [', "is damaged JSON"),
    "deep.json": ("[" * 100_000, "is damaged JSON"),
    "other.json": ('{"a": 1}', "neither GeoJSON nor COCO nor VIA"),
    "list.json": ("[1, 2]", "neither GeoJSON nor COCO nor VIA"),
    "image.json": (
        json.dumps(coco_content(ONE) | {"images": []}), "annotation 1 is of the image 7, which is"
    ),
    "category.json": (
        json.dumps(coco_content(ONE) | {"categories": []}), "of the category 3, which is not listed"
    ),
    "twice.json": (
        json.dumps(coco_content(ONE) | {"images": [{"id": 7}, {"id": 7}]}), "has the id 7 twice"
    ),
    "form.json": (json.dumps(coco_content(ONE) | {"images": {}}), "'images' of COCO is no list"),
    "none.json": (json.dumps(coco_content([])), "COCO without any shape"),
    "numbers.json": (
        json.dumps(coco_content(ONE)).replace("[10, 20, 20, 20]", '[NaN, Infinity, [1], "1"]'),
        "a value is not a number: annotation 1",
    ),
    "via.json": (json.dumps(via_content(3)), "'regions' of VIA is no list"),  # type: ignore[arg-type]
    "empty_via.json": (json.dumps(via_content([])), "VIA without any shape"),
    "radius.json": (
        json.dumps(via_content([{"shape_attributes": {"name": "circle", "cx": 1, "cy": 2, "r": -3},
                                 "region_attributes": {}}])),
        "its size is not positive",
    ),
    "via.csv": (via_csv(via_regions(ONE)).replace('""rect""', '""rect'), "is damaged JSON"),
    "boulder.csv": (
        "image,x_px,y_px,diameter_px,class\na,1,2,3,boulder\na,4,5,6,\n",
        r"not clear which class .*class 'boulder' \(1\), no class \(1\)",
    ),
    "ids.csv": ("image,xmin,ymin,xmax,ymax,class\na,1,2,3,4,0\n", "not clear .*class '0' \\(1\\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_odd_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_catalogue(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1\n", "holds no catalogue"),
        ("crater 0.5 0.5 0.1 0.1\n", "holds no catalogue"),
        ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0.9\n", "line 2 has 6 values, expected 5"),
        ("0 0.5 0.5 0.1 0.1\nx\n", "line 2 has 1 values"),
        ("0 50 40 10 10\n", "line 1 has 50 40 10 10, expected shares"),
        ("7 0.5 0.5 0.1 0.1\n", r"of class 7, but only 1 class\(es\) have names"),
        ("0 0.5 0.5 nan 0.1\n", "a value is not a number: line 1"),
        ("0 0.5 0.5 -0.1 0.1\n", "its size is not positive: line 1"),
        ("0 1.5 0.5 0.1 0.1\n", "its centre is outside the image: line 1"),
    ],
)
def test_odd_lines_of_yolo(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "classes.txt").write_text("crater\n")
    write_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        read_catalogue(tmp_path)


def test_yolo_needs_the_size_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "classes.txt").write_text("crater\n")
    with pytest.raises(DataError, match=r"size in pixels is not known.*Put a\.png"):
        read_catalogue(tmp_path)
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "a.jpg", width=90)
    with pytest.raises(DataError, match=r"a\.jpg and a\.png beside it differ in size"):
        read_catalogue(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "data.yaml").write_text("names: {0: crater, 2: hill}\n")
    with pytest.raises(DataError, match=r"names of the classes cannot be read \('2: hill'\)"):
        read_catalogue(tmp_path)


def test_single_wrong_shapes_are_left_out_and_counted(tmp_path: Path) -> None:
    boxes = [*ONE, ("crater", 5, 5, 5, 9), ("crater", 1, 2, "nan", 4), ("crater", 5, 5, 15, 15)]
    (tmp_path / "a.xml").write_text(voc_text("a.png", boxes))
    found = read_catalogue(tmp_path / "a.xml")
    assert found.diameters.tolist() == [20, 10]
    assert found.file_rows(np.array([1])).tolist() == [4]
    assert found.notes[1:3] == (
        "1 of 4 craters are left out, as a value is not a number: "
        "object 3 of a.xml has 1, 2, nan, 2",
        "1 of 4 craters are left out, as its size is not positive: "
        "object 2 of a.xml has 5, 5, 0, 4",
    )


def test_folders_that_are_not_clear(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no catalogue.*Name one"):
        read_catalogue(tmp_path)
    (tmp_path / "a.csv").write_text("x_px,y_px,diameter_px\n1,2,3\n")
    assert circles(tmp_path) == [[1, 2, 3]]
    (tmp_path / "a.xml").write_text(voc_text("a", ONE))
    with pytest.raises(DataError, match=r"several catalogues \(Pascal VOC, a\.csv\)"):
        read_catalogue(tmp_path)
    (tmp_path / "a.csv").unlink()
    (tmp_path / "b.xml").write_text(voc_text("a", ONE))
    with pytest.raises(DataError, match=r"b\.xml: is of the image 'a', as a\.xml is"):
        read_catalogue(tmp_path)


def test_classes_in_tables_of_circles(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("lon,lat,diameter_km,class\n1,2,3,crater\n4,5,6,cone\n")
    found = read_catalogue(path)
    assert found.diameters.tolist() == [3000]
    assert found.notes == ("Rows that are craters: class 'crater' (1); left out: class 'cone' (1)",)
    assert read_catalogue(path, crater_class="cone").file_rows(np.array([0])).tolist() == [3]
    for head, values in (
        ("lon,lat,diameter_km,class", (1, 3)),
        ("x_px,y_px,diameter_px,class", (2, 4)),
        ("lon,lat,diameter_km,label", ("Gale", "Jezero")),
    ):
        path.write_text(f"{head}\n1,2,3,{values[0]}\n4,5,6,{values[1]}\n")
        found = read_catalogue(path)
        assert len(found) == 2
        assert "is known to mean crater: all rows are taken" in found.notes[0]
        assert len(read_catalogue(path, crater_class=str(values[0]))) == 1
    path.write_text("lon,lat,diameter_km,state\n1,2,3,crater\n4,5,6,cone\n")
    assert len(read_catalogue(path)) == 2
    assert len(read_catalogue(path, "class=state")) == 1
    path.write_text("lon,lat,diameter_km\n1,2,3\n")
    with pytest.raises(ConfigError, match="has no column of classes"):
        read_catalogue(path, crater_class="crater")


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    starts = (b"", b"<", b"{", b"SQLite format 3\0", b"fgb\3fgb\0", b"\0\0\x27\x0a", b"\xff\xfe<\0",
              b"crater = {diam, lon, lat\n")  # fmt: skip
    for number, start in enumerate(starts):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(start + random.bytes(500))
        with pytest.raises(CratersError):
            read_catalogue(path)
