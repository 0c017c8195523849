"""Runs of class folders, tables and archives equal those of the same arrays."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.data import arrays_of
from craters.pipeline import run_job
from craters.quality import checks, run_audit
from craters.review import open_target
from craters.settings import AuditConfig, DataForm
from craters.training import RunConfig
from tests.conftest import write_job

SIDE = 28
GROUP = r"image_\d+"


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled and an unlabeled array, in the order in which their files are read."""
    folder = write_job(tmp_path_factory.mktemp("own") / "DATA", side=SIDE, groups=True)
    labels = np.load(folder / "Ytrain1.npy")
    order = np.argsort(-labels, kind="stable")  # "crater" comes before "no crater"
    for stem in ("Xtrain1", "Ytrain1", "groups_train"):
        np.save(folder / f"{stem}.npy", np.load(folder / f"{stem}.npy")[order])
    for stem in ("Xtest1", "Ytest1", "groups_test", "groups_extra"):
        (folder / f"{stem}.npy").unlink(missing_ok=True)
    return folder


def write_pictures(folder: Path, names: list[str], images: np.ndarray) -> None:
    for name, image in zip(names, images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.reshape(SIDE, SIDE)).save(folder / name)


@pytest.fixture(scope="module")
def folders(arrays: Path) -> Path:
    folder = arrays.parent / "FOLDERS"
    labels, groups = (np.load(arrays / f"{stem}.npy") for stem in ("Ytrain1", "groups_train"))
    names = [
        f"{'crater' if label else 'no crater'}/{row:04d}_{group}.png"
        for row, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    write_pictures(folder, names, np.load(arrays / "Xtrain1.npy"))
    extra = np.load(arrays / "Xtrain1_extra.npy")
    write_pictures(folder, [f"unlabeled/{row:04d}_image_0.png" for row in range(len(extra))], extra)
    return folder


def config_for(data: Path, out: Path, **changes: object) -> RunConfig:
    return RunConfig(data, out, epochs=1, threads=1, method="supervised", **changes)


@pytest.fixture(scope="module")
def runs(arrays: Path, folders: Path) -> dict[str, Path]:
    root = arrays.parent
    first = run_job(config_for(arrays, root / "of arrays"))
    second = run_job(config_for(folders, root / "of folders", group_by=GROUP))
    return {"arrays": first.folder, "folders": second.folder}


def test_a_run_of_class_folders_equals_that_of_the_arrays(runs: dict[str, Path]) -> None:
    for name in ("metrics.json", "history.csv", "model/model.onnx"):
        first, second = ((folder / name).read_bytes() for folder in runs.values())
        assert first == second, name
    tables = [(folder / "origins.csv").read_text().splitlines() for folder in runs.values()]
    rows = [list(csv.DictReader(table)) for table in tables]
    assert [row["probability"] for row in rows[0]] == [row["probability"] for row in rows[1]]
    assert rows[0][0]["id"] == "Xtrain1:0"
    assert rows[1][0]["id"].startswith("crater/0000_image_")


def test_without_a_test_set_nothing_is_predicted(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        assert not (folder / "predictions.csv").exists()
        assert "There is no test set" in (folder / "report.html").read_text()


def test_the_arrays_of_a_run_are_found_again(runs: dict[str, Path], folders: Path) -> None:
    made = {check.id: check for check in checks.run_checks(runs["folders"])}
    assert made["C01"].state != "not checked"
    assert len(open_target(runs["folders"])) == len(open_target(folders))
    image = next((folders / "crater").iterdir())
    content = image.read_bytes()
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(image)
    made = {check.id: check for check in checks.run_checks(runs["folders"])}
    assert "is not the file that the run was made from" in made["C01"].sentence
    image.write_bytes(content)


def test_an_audit_names_the_data_set(folders: Path) -> None:
    audit = run_audit(AuditConfig(folders, repeats=0, group_by=GROUP))
    assert audit.lines[0].startswith(f"Audit of {folders}: 120 labeled, 60 extra")


def test_a_data_set_is_converted_once_and_again_after_a_change(folders: Path) -> None:
    form = DataForm(group_by=GROUP)
    first = arrays_of(folders, form)
    assert arrays_of(folders, form) == first
    assert arrays_of(folders) != first
    added = folders / "unlabeled" / "9999_image_9.png"
    Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)).save(added)
    second = arrays_of(folders, form)
    added.unlink()
    counts = [len(np.load(path / "Xtrain1_extra.npy")) for path in (first, second)]
    assert counts[1] == counts[0] + 1
