from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from typer.testing import CliRunner

from craters.cli.main import app
from craters.labels import (
    Circle,
    CircleLabels,
    CircleTally,
    LabelStore,
    reviewed_craters,
)
from craters.review.circles.session import ReceivedCircle
from tests.review.circles.scans import open_session, some_circles, write_circle_scan


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def review(folder: Path, crs: str | None) -> Path:
    """Answer some circles, also one that the edge cuts, and draw two; return the store."""
    scan = write_circle_scan(folder / "SCAN", some_circles(), **({} if crs else {"crs": None}))
    session = open_session(scan, folder / "l.sqlite")
    for row in range(12):
        place, circle = session.place(row), session.source.circle(row)
        moved = Circle(circle.x + 0.25, circle.y - 0.5, circle.diameter + 1)
        session.add("Ann", [ReceivedCircle(place.id, "crater", circle=moved)], f"k{row}")
    for row, word in ((12, "not"), (13, "unsure")):
        session.add("Ann", [ReceivedCircle(session.place(row).id, word)], f"k{row}")
    for number, circle in enumerate((Circle(256.0, 256.5, 90.0), Circle(4.0, 200.0, 30.0))):
        session.add("Bo", [ReceivedCircle("", "crater", image="B", circle=circle)], f"d{number}")
    session.add("Bo", [ReceivedCircle(session.place(20).id, "not")], "x")
    session.undo("Bo", "u")
    session.close()
    return folder / "l.sqlite"


def craters_of(store: Path) -> list[tuple[str, float, float, float]]:
    with LabelStore(store) as labels:
        found = reviewed_craters(CircleLabels(labels))
    return sorted(
        (each.place.image, each.circle.x, each.circle.y, each.circle.diameter) for each in found
    )


@pytest.mark.parametrize("crs", ["body", None])
@pytest.mark.parametrize("file_format", ["csv", "gpkg", "voc", "coco"])
def test_craters_come_back_from_every_format(
    tmp_path: Path, crs: str | None, file_format: str
) -> None:
    if crs is None and file_format == "gpkg":
        pytest.skip("a GIS layer without coordinates is no catalogue")
    store = review(tmp_path, crs)
    out, scan = tmp_path / "OUT", tmp_path / "SCAN"
    said = run("labels", "export", store, "--out", out, "--target", scan, "--format", file_format)
    assert said.startswith(f"{out}: 14 ")
    words = ("labels", "export", store, "--out", tmp_path / "J", "--target", scan)
    assert json.loads(run(*words, "--format", file_format, "--json"))["circles"] == 14
    again = tmp_path / "again.sqlite"
    words = ("labels", "import", again, out, "--target", scan, "--reviewer", "Cy")
    assert run(*words).startswith("14 answers added to a new store")
    assert run(*words).startswith("0 answers added")
    before, after = craters_of(store), craters_of(again)
    assert [row[0] for row in after] == [row[0] for row in before]
    whole = [n for n, row in enumerate(before) if row[1:] != (4.0, 200.0, 30.0)]
    # A box that the edge cuts is rounded to the same circle; all others are equal to 1/100 px.
    assert np.array([after[n][1:] for n in whole]) == pytest.approx(
        np.array([before[n][1:] for n in whole]), abs=0.01
    )
    (cut,) = set(range(len(before))) - set(whole)
    assert after[cut][1:] == pytest.approx(before[cut][1:], abs=0.01)


def test_all_answers_come_back_from_their_table(tmp_path: Path) -> None:
    store, out = review(tmp_path, "body"), tmp_path / "OUT"
    assert "14 craters, 18 entries" in run("labels", "export", store, "--out", out)
    again = tmp_path / "again.sqlite"
    table, scan = out / "circle_answers.csv", tmp_path / "SCAN"
    words = ("labels", "import", again, table, "--target", scan)
    assert run(*words).startswith("16 answers added to a new store")
    assert run(*words).startswith("0 answers added")
    with LabelStore(store) as first, LabelStore(again) as second:
        ours, theirs = (CircleTally.of(CircleLabels(each)) for each in (first, second))
        assert ours.answered() == theirs.answered()
        for name in ours.answered():
            for who in ours.votes(name):
                one, other = ours.own(name, who), theirs.own(name, who)
                assert one is not None
                assert other is not None
                assert (one.answer, one.circle, one.at) == (other.answer, other.circle, other.at)
    assert craters_of(again) == craters_of(store)


def test_what_cannot_be_exported_or_imported_says_why(tmp_path: Path) -> None:
    store, scan = review(tmp_path, "body"), tmp_path / "SCAN"
    for words, message in (
        (("export", store, "--out", tmp_path / "O", "--format", "gpkg"), "--target"),
        (("export", store, "--out", tmp_path / "O", "--target", scan, "--format", "x"), "expected"),
        (("import", store, tmp_path / "far.csv", "--target", scan, "--reviewer", "Cy"),
         "none of its 1 craters"),
        (("import", tmp_path / "new.sqlite", tmp_path / "far.csv", "--target", scan), "reviewer"),
    ):  # fmt: skip
        (tmp_path / "far.csv").write_text("lon,lat,diameter_km\n-100,40,3\n")
        result = CliRunner().invoke(app, ["labels", *map(str, words)])
        assert result.exit_code in (2, 3)
        assert message in result.output
    assert not (tmp_path / "O").exists()
    assert not (tmp_path / "new.sqlite").exists()
