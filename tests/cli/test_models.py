from __future__ import annotations

import json
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.core import environment
from craters.data import normalize
from craters.errors import DataError
from craters.models import Classifier
from craters.pipeline import info
from tests.conftest import REPOSITORY, full_disk
from tests.maps.tools import SIDE, network, write_classifier

keras = pytest.importorskip("keras", reason="keras is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]


def craters(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("models") / "model")


def test_out_by_export_and_in_by_import_is_the_same_model(model: Path, tmp_path: Path) -> None:
    assert network().side == SIDE
    images = np.random.default_rng(0).integers(0, 256, (30, SIDE, SIDE)).astype(np.uint8)
    expected = Classifier.load(model).predict_proba(images)
    exported = craters("export", model, "--out", tmp_path / "m.keras")
    assert exported.exit_code == 0
    assert "(N, 20, 20, 1) to the probability of 'with crater'" in exported.stdout
    opened = keras.models.load_model(tmp_path / "m.keras", compile=False)
    theirs = opened.predict(normalize(images)[..., None], verbose=0)[:, 0]
    assert np.abs(theirs - expected).max() < 1e-5
    found = craters("import", tmp_path / "m.keras", "--out", tmp_path / "AGAIN")
    assert found.exit_code == 0
    assert "Images are scanned in one pass, every 6 px." in found.stdout
    again = Classifier.load(tmp_path / "AGAIN").predict_proba(images)
    assert np.abs(again - expected).max() < 1e-5
    shown = craters("info", tmp_path / "AGAIN")
    assert "network:            keras" in shown.stdout


def test_what_cannot_be_is_one_line_with_its_code(model: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "m.pt").write_bytes(b"\x80\x04.")
    for words, code in (
        (["import", tmp_path / "m.pt", "--out", tmp_path / "A"], 5),
        (["import", tmp_path / "none.h5", "--out", tmp_path / "A"], 5),
        (["import", tmp_path / "m.pt", "--out", tmp_path], 6),
        (["export", model, "--out", tmp_path / "m.pt2"], 2),
        (["export", model, "--out", tmp_path / "m.pt", "--format", "h5"], 6),
        (["export", tmp_path / "none", "--out", tmp_path / "x.onnx"], 5),
        (["info", tmp_path / "none"], 5),
    ):
        result = craters(*words)
        assert result.exit_code == code, result.output
        assert result.stderr.startswith("craters: error: ")
        assert result.stderr.count("\n") == 1


def test_a_full_disk_leaves_no_half_model(model: Path, tmp_path: Path) -> None:
    assert craters("export", model, "--out", tmp_path / "m.keras").exit_code == 0
    for words, out in (
        (["import", tmp_path / "m.keras"], tmp_path / "AGAIN"),
        (["export", model, "--format", "onnx"], tmp_path / "m.onnx"),
    ):
        with full_disk():
            result = craters(*words, "--out", out)
        assert result.exit_code == 1
        assert result.stderr == (
            f"craters: error: {out}: no space is left on the disk. Free some space, then repeat "
            "the command.\n"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]


# --- info --------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(model: Path, tmp_path: Path) -> Path:
    """A folder with what `craters info` reads of a run; test_run.py makes a whole one."""
    import shutil

    from craters.core import files

    folder = tmp_path / "RUN"
    shutil.copytree(model, folder / "model")
    config = {"method": "supervised", "network": "original", "seed": 3, "data": "DATA"}
    phases = {"supervised": {"n": 60, "accuracy": 0.9, "macro_f1": 0.89, "roc_auc": 0.95}}
    files.write_json(folder / "config.json", config)
    files.write_json(folder / "metrics.json", {"phases": phases})
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    outputs = {str(path.relative_to(folder)): files.sha256_of(path) for path in paths}
    files.write_json(folder / "manifest.json", {"craters": "0.1.0", "outputs": outputs})
    return folder


def test_info_of_a_run_says_settings_figures_and_that_it_is_whole(run_folder: Path) -> None:
    lines = craters("info", run_folder).stdout.splitlines()
    assert lines[:4] == [
        "a run of craters 0.1.0: method supervised, network original, seed 3",
        "data: DATA",
        "validation, supervised: n 60, accuracy 0.9, macro F1 0.89, ROC AUC 0.95",
        "files: 7, all unchanged",
    ]
    assert "network:            original" in lines
    found = json.loads(craters("info", run_folder, "--json").stdout)
    assert found["metrics"]["phases"]["supervised"]["n"] == 60
    assert found["changed"] == []


def test_info_of_a_run_names_files_that_were_changed(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "metrics.json").write_text("{}")
    (run_folder / "config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    (run_folder / "config.json").symlink_to(tmp_path / "config.json")
    found = info.read_run(run_folder)
    assert found.changed == ("config.json", "metrics.json")
    assert "2 changed or missing: config.json, metrics.json" in found.lines()[-2 - 1]
    (run_folder / "metrics.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON"):
        info.read_run(run_folder)


def test_a_manifest_cannot_make_info_read_elsewhere(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    manifest = json.loads((run_folder / "manifest.json").read_text())
    manifest["outputs"] |= {"../secret": "0" * 64, "/etc/hostname": "0" * 64}
    (run_folder / "manifest.json").write_text(json.dumps(manifest))
    assert info.read_run(run_folder).changed == ("../secret", "/etc/hostname")


# --- doctor ------------------------------------------------------------------------------------


def test_the_doctor_knows_every_package_of_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    conditional = [f"{item}; extra == '{name}'" for name in extras for item in extras[name]]
    required = {
        "craters": [*project["dependencies"], *conditional],
        "dask": ["click>=8", 'distributed<2,>=1; extra == "distributed"', "x; extra == 'array'"],
    }
    monkeypatch.setattr(environment, "requires", required.__getitem__)
    found = {part.name: {*part.versions, *part.missing} for part in environment.examine().parts}
    parts = {"core": project["dependencies"], **extras}
    assert set(found) == set(parts) - {"dev", "docs"}
    for name, listed in found.items():
        packages = {item.split(">")[0].split("[")[0] for item in parts[name]}
        assert listed == packages | ({"distributed"} if name == "dask" else set())


def test_the_doctor_says_what_is_there() -> None:
    import torch

    found = environment.examine()
    assert found.is_whole
    assert found.parts[1].versions["torch"] == torch.__version__
    assert found.machine["usable_cpus"] >= 1
    described = craters("doctor")
    assert described.exit_code == 0
    assert f"torch {torch.__version__}" in described.stdout
    assert json.loads(craters("doctor", "--json").stdout)["whole"] is True


def test_the_doctor_says_what_is_missing_and_how_to_get_it(monkeypatch) -> None:
    installed, gone = environment.version, {"rasterio"}

    def version(name: str) -> str:
        if name in gone:
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(environment, "version", version)
    found = craters("doctor")
    assert found.exit_code == 0
    assert (
        "geo (scanning images, matching catalogues, sampling patches): missing rasterio"
        in found.stdout
    )
    assert "Get it by: pip install -c constraints.txt -e '.[geo]'" in found.stdout
    gone.add("safetensors")
    found = craters("doctor")
    assert found.exit_code == 1
    assert "missing safetensors" in found.stdout
