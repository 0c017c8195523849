"""Folders that version 0.1.0 wrote before the package was divided into packages still open."""

from __future__ import annotations

import csv
import importlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import craters
from craters.cli.main import app
from craters.labels import LabelStore
from craters.models import Classifier
from craters.review import open_target
from tests.conftest import REPOSITORY

pytest.importorskip("rasterio", reason="rasterio is not installed")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack the folders, and work beside them as they were written."""
    with zipfile.ZipFile(REPOSITORY / "tests" / "golden" / "before_packages.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> str:
    result = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_is_whole_and_is_checked_again(old: Path) -> None:
    assert json.loads(call("info", "RUN", "--json"))["changed"] == []
    before = json.loads((old / "RUN" / "checks.json").read_text())
    after = json.loads(call("check", "RUN", "--data", "DATA", "--json"))["checks"]
    assert [(check["id"], check["state"]) for check in after] == [
        *((check["id"], check["state"]) for check in before),
        ("C15", "passed"),  # came later
        ("C16", "passed"),
    ]


def test_a_model_predicts_what_it_predicted(old: Path) -> None:
    call("predict", "RUN", "DATA/Xtest1.npy", "--out", "again.csv", "--quiet")
    before, after = read(old / "predictions.csv"), read(old / "again.csv")
    assert [row["label"] for row in after] == [row["label"] for row in before]
    columns = [name for name in before[0] if name.startswith("p")]
    for name in columns:
        np.testing.assert_allclose(
            [float(row[name]) for row in after], [float(row[name]) for row in before], atol=1e-4
        )
    assert Classifier.load(old / "RUN" / "model").description.side == 28


def test_a_scan_opens_and_comes_out_the_same(old: Path) -> None:
    assert len(open_target(old / "SCAN")) > 0
    call("scan", "image.tif", "--model", "RUN", "--out", "AGAIN", "--no-crs", "--stride", "12",
         "--quiet")  # fmt: skip
    before, after = read(old / "SCAN" / "detections.csv"), read(old / "AGAIN" / "detections.csv")
    assert [list(row) for row in after] == [list(row) for row in before]  # columns
    for name in ("x", "y", "p_crater"):
        np.testing.assert_allclose(
            [float(row[name]) for row in after], [float(row[name]) for row in before], atol=1e-4
        )


def test_a_scan_is_matched_with_a_catalogue(old: Path) -> None:
    rows = [f"{row['col']},{row['row']},12" for row in read(old / "SCAN" / "detections.csv")]
    (old / "craters.csv").write_text("\n".join(["x,y,diameter_px", *rows, ""]))
    call("match", "SCAN", "--catalogue", "craters.csv", "--out", "MATCH")
    found = [row["state"].partition(":")[0] for row in read(old / "MATCH" / "detections.csv")]
    assert sorted(found) == ["hit"] * 5 + ["ignored"] * 3  # craters at the border


def test_a_label_store_opens_and_goes_on(old: Path) -> None:
    with LabelStore(old / "LABELS.sqlite", must_exist=True) as store:
        assert len(list(store.entries())) == 3
    call("labels", "export", "LABELS.sqlite", "--out", "EXPORTED")
    assert np.load(old / "EXPORTED" / "Ytrain1.npy").tolist() == [1, 0, 1]
    (old / "more.csv").write_text("id,answer\nXtrain1:5,1\n")
    found = call("labels", "import", "LABELS.sqlite", "more.csv", "--target", "DATA",
                 "--reviewer", "Bo", "--json")  # fmt: skip
    assert json.loads(found)["added"] == 1


EARLIER = "is of an earlier version of craters"
WINDOWS = "its detections are windows without a diameter"
REFUSED = {
    "run --data DATA --out RUN --method supervised --network original --resume": (6, EARLIER),
    "scan image.tif --model RUN --out SCAN --no-crs --stride 12 --resume": (6, EARLIER),
    "sfd SCAN --out OUT": (3, WINDOWS),
    "completeness SCAN --out OUT": (3, WINDOWS),
    "export SCAN --format coco --out OUT": (3, WINDOWS),
}


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: words.partition(" ")[0])
def test_what_needs_a_new_folder_says_so(words: str, old: Path) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    found = CliRunner().invoke(app, words.split())
    code, message = REFUSED[words]
    assert (found.exit_code, message in found.output) == (code, True), found.output
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_a_run_is_measured_exported_and_reviewed(old: Path) -> None:
    measured = json.loads(call("evaluate", "RUN", "--data", "DATA", "--json"))
    assert measured["metrics"]["n"] == 10
    call("export", "RUN", "--out", "model.onnx")
    assert len(open_target(old / "RUN")) == 60  # labeled and unlabeled patches


def table(heading: str) -> list[tuple[str, str]]:
    """Return the two columns of a table of the page."""
    text = (REPOSITORY / "docs" / "upgrading.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (.*`.*) \| (.*) \|$", section, re.MULTILINE)


def test_modules_are_gone_and_lie_where_the_page_says() -> None:
    rows = table("Python")
    assert len(rows) > 5
    for before, now in rows:
        for name in re.findall(r"`(craters\.[a-z_]+)`", before):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)
        for name in re.findall(r"`(craters\.[a-z_]+)`", now):
            importlib.import_module(name)


def test_names_of_the_package_are_as_before() -> None:
    names = ("Classifier CratersError DataError PatchSet RunConfig __version__ make_patch_set "
             "make_patches make_scene normalize plot_image_48x48 read_patches run_job "
             "write_dataset")  # fmt: skip
    assert set(names.split()) <= set(craters.__all__)


def test_options_are_gone_and_called_as_the_page_says() -> None:
    rows = dict(table("Commands"))
    renamed = {"scan --threshold", "import --threshold", "match --window-m"}
    assert renamed <= set(re.findall(r"`([a-z]+ --[a-z-]+)`", " ".join(rows)))
    for line in renamed:
        command, option = line.split()
        assert not re.search(rf"{option}\b(?!-)", call(command, "--help"))
    for command, option in (("scan", "--arithmetic"), ("scan", "--decision-threshold"),
                            ("import", "--decision-threshold"), ("match", "--window")):  # fmt: skip
        assert option in call(command, "--help")
