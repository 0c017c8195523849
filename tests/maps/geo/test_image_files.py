from __future__ import annotations

from pathlib import Path

import pytest

from craters.errors import DataError
from craters.maps.geo import find_images, image_name, skipped_files


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    return [folder / name for name in names]


def names_of(paths: list[Path]) -> list[str]:
    return [name for _, name in find_images(paths)]


def test_no_two_images_have_one_name(tmp_path: Path) -> None:
    one, two, three = touch(tmp_path, "a/img.tif", "b/img-2.tif", "b/img.tif")
    assert names_of([one, two, three]) == ["img", "img-2", "img-3"]
    assert names_of([one, three, two]) == ["img", "img-3", "img-2"]  # a later stem is kept free
    assert names_of([one, three]) == ["img", "img-2"]
    many = touch(tmp_path, *(f"m{k}/img.tif" for k in range(4)), "m4/img-3.tif", "m5/img-3.tif")
    assert names_of(many) == ["img", "img-2", "img-4", "img-5", "img-3", "img-3-2"]


def test_pictures_of_every_suffix_are_taken_from_a_folder(tmp_path: Path) -> None:
    names = ("a.jpeg", "b.BMP", "c.pgm", "d.gif", "e.jpg", "f.PNG", "g.tif", "h.j2k", "i.webp")
    touch(tmp_path, *names)
    assert [Path(path).name for path, _ in find_images([tmp_path])] == list(names)
    assert names_of([tmp_path]) == list("abcdefghi")
    assert skipped_files([tmp_path]) == []
    assert image_name("a.jpeg") == "a"


def test_images_that_are_left_out_of_a_folder_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.fits", "c.FITS", "d.qub", "e.lbl", "e.dat", "notes.txt", "a.tfw")
    assert names_of([tmp_path]) == ["a", "e"]  # e.dat holds the pixels of e.lbl
    assert skipped_files([tmp_path, tmp_path / "a.tif"]) == [
        f"{tmp_path}: 3 file(s) that look like images were skipped (2 .fits, 1 .qub)."
    ]


def test_a_browse_picture_does_not_replace_the_image_that_it_shows(tmp_path: Path) -> None:
    touch(tmp_path, "a.img", "a.lbl", "a.jpg", "b.xml", "b.jpeg", "c.tif", "c.img", "c.lbl")
    taken = [Path(path).name for path, _ in find_images([tmp_path])]
    assert taken == ["a.lbl", "b.jpeg", "c.tif"]
    assert skipped_files([tmp_path]) == [
        f"{tmp_path}: 1 file(s) that look like images were skipped (1 .jpg)."
    ]


def test_an_image_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = touch(tmp_path, "a/img.tif", "a/other.tif")
    with pytest.raises(DataError, match="img.tif: given twice. Name each image once"):
        find_images([image, other, image])
    with pytest.raises(DataError, match="img.tif: given twice"):
        find_images([image.parent, image])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a/img.tif: given twice, also as .*img.tif"):
        find_images([image, Path("a/img.tif")])
    link = tmp_path / "link.tif"
    link.symlink_to(image)
    with pytest.raises(DataError, match="link.tif: given twice"):
        find_images([image, link])
    part = Path("NETCDF:a.nc:albedo")
    with pytest.raises(DataError, match="NETCDF:a.nc:albedo: given twice"):
        find_images([part, part])
    assert names_of([part, Path("NETCDF:a.nc:height")]) == ["NETCDF:a", "NETCDF:a-2"]
