"""What is handed out: archives that install by themselves, a quick start, a workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import craters
from tests.conftest import REPOSITORY

HEAVY = {"torch", "scipy", "sklearn", "matplotlib", "rasterio", "pyproj", "pyogrio", "shapely",
         "starlette", "dask", "onnxruntime", "h5py", "pandas", "rich"}  # fmt: skip


def test_help_and_import_are_light() -> None:
    code = (
        "import sys, craters\n"
        "from craters.cli.main import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "except SystemExit:\n"
        "    print(sorted(sys.modules), file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Find impact craters" in found.stdout
    loaded = {name.strip("' ").partition(".")[0] for name in found.stderr.strip("[]\n").split(",")}
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"numpy"})


def test_the_workflow_runs_what_ci_runs_on_every_python() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    test = workflow["jobs"]["test"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = [
        item.rpartition(" ")[2] for item in project["classifiers"] if "Python :: 3." in item
    ]
    assert test["strategy"]["matrix"]["python"] == declared == ["3.11", "3.12", "3.13"]
    assert test["steps"][-1] == {"run": ".ci/run"}
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text())


@pytest.mark.parametrize("name", ["ci", "nightly", "release"])
def test_workflows_pin_their_actions_and_may_only_read(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        for step in job["steps"]:
            assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"])


def test_a_tag_is_checked_and_becomes_a_release() -> None:
    found = workflow("release")
    assert found[True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    commands = [step.get("run", "") for step in found["jobs"]["archives"]["steps"]]
    checked = [
        commands.index(each) for each in (".ci/run", "make release-check", "make qgis-plugin")
    ]
    assert checked == sorted(checked)
    kept, fetched = found["jobs"]["archives"]["steps"][-1], found["jobs"]["release"]["steps"][0]
    assert kept["with"]["path"].split() == ["dist/", "notes.md"]
    assert fetched["with"] == {"name": kept["with"]["name"]}  # into the working folder
    release = found["jobs"]["release"]
    assert release["needs"] == "archives"
    assert release["permissions"] == {"contents": "write"}
    assert release["steps"][-1]["run"] == (
        'gh release create "$GITHUB_REF_NAME" dist/* --repo "$GITHUB_REPOSITORY" --verify-tag '
        "--notes-file notes.md"
    )
    compared = next(command for command in commands if "_version.py" in command)
    for tag, code in ((f"v{craters.__version__}", 0), ("v0.0.0", 1)):
        environment = os.environ | {"GITHUB_REF_NAME": tag}
        made = subprocess.run(["bash", "-c", compared], cwd=REPOSITORY, env=environment)
        assert made.returncode == code


def test_the_notes_of_a_release_are_its_section_of_the_changelog(tmp_path: Path) -> None:
    commands = [step.get("run", "") for step in workflow("release")["jobs"]["archives"]["steps"]]
    (made,) = [command for command in commands if "release-notes" in command]
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    sections = re.split(r"^## (\S+).*$", text, flags=re.MULTILINE)
    notes = dict(zip(sections[1::2], sections[2::2], strict=True))
    shutil.copytree(REPOSITORY / ".ci", tmp_path / ".ci")
    shutil.copy(REPOSITORY / "CHANGELOG.md", tmp_path)
    for version in (craters.__version__, "0.1.0"):
        environment = os.environ | {"GITHUB_REF_NAME": f"v{version}"}
        subprocess.run(["bash", "-c", made], cwd=tmp_path, env=environment, check=True)
        assert (tmp_path / "notes.md").read_text().strip() == notes[version].strip()
    environment = os.environ | {"GITHUB_REF_NAME": "v1"}
    assert subprocess.run(["bash", "-c", made], cwd=tmp_path, env=environment).returncode == 1


def test_slow_tests_run_nightly() -> None:
    found = workflow("nightly")
    assert found[True]["schedule"] == [{"cron": "17 3 * * *"}]
    job = found["jobs"]["slow"]
    assert job["strategy"]["matrix"]["target"] == ["test-slow", "release-check"]
    assert job["steps"][-1] == {"run": "make ${{ matrix.target }}"}


def test_the_release_check_covers_every_extra() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"dev", "docs"}
    script = (REPOSITORY / ".ci" / "release-check").read_text()
    (listed,) = re.findall(r"\$\{EXTRAS:-([a-z ]+)\}", script)
    assert set(listed.split()) == {"core", *extras}
    assert all(f"use_{extra}() {{" in script for extra in listed.split())
    made = subprocess.run([REPOSITORY / ".ci" / "release-check"], capture_output=True, text=True)
    assert (made.returncode, "give a wheel or an sdist" in made.stdout) == (2, True)
    assert ".ci/release-check dist/*" in (REPOSITORY / "Makefile").read_text()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An sdist, and the wheel that is built from it."""
    pytest.importorskip("build", reason="build is not installed")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return {path.name.rpartition(".")[2]: path for path in folder.iterdir()}


@pytest.mark.slow
def test_the_archives_hold_what_they_should(archives: dict[str, Path]) -> None:
    assert archives["whl"].name == f"craters-{craters.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(archives["whl"]).namelist())
    source = REPOSITORY / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "craters").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert all(name.startswith(("craters/", "craters-")) for name in names)
    with tarfile.open(archives["gz"]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("README.md", "LICENSE", "constraints.txt", "mkdocs.yml", "tests/test_release.py",
                 "docs/quickstart.md", "cnn_classifier.py", "qgis/build_zip.py"):  # fmt: skip
        assert name in packed, name


@pytest.fixture(scope="module")
def core(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that holds the wheel and its core requirements alone."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, with_pip=True)
    command = [
        folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-c",
        REPOSITORY / "constraints.txt", archives["whl"],
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return folder / "bin"


def call(core: Path, *words: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [core / "craters", *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_the_core_alone_helps_predicts_and_says_what_is_missing(core: Path, tmp_path: Path) -> None:
    from craters.models import Classifier
    from tests.maps.tools import SIDE, write_classifier

    model = write_classifier(tmp_path / "MODEL")
    images = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    listed = subprocess.run(
        [core / "python", "-m", "pip", "list", "--format", "json"], capture_output=True, check=True
    )
    installed = {item["name"].lower() for item in json.loads(listed.stdout)}
    assert not installed & {"torch", "scipy", "scikit-learn", "rasterio", "h5py", "starlette"}

    assert f"craters {craters.__version__}" in call(core, "--version", folder=tmp_path).stdout
    assert "predict" in call(core, "--help", folder=tmp_path).stdout
    found = call(core, "predict", "MODEL", "x.npy", "--out", "y.csv", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    rows = (tmp_path / "y.csv").read_text().splitlines()[1:]
    ours = [float(row.split(",")[1]) for row in rows]
    assert np.abs(ours - Classifier.load(model).predict_proba(images)).max() < 1e-6
    assert call(core, "info", "MODEL", folder=tmp_path).returncode == 0
    assert call(core, "synth", "--out", "D", "--labeled", "10", "--unlabeled", "5", "--test", "5",
                folder=tmp_path).returncode == 0  # fmt: skip
    doctor = call(core, "doctor", folder=tmp_path)
    assert doctor.returncode == 0
    missing = re.search(r"^train \(.*\): missing (.*)$", doctor.stdout, re.MULTILINE)
    assert missing is not None
    assert "torch" in missing[1].split(", ")
    assert "Get it by: pip install -c constraints.txt -e '.[train]'" in doctor.stdout
    lacking = call(core, "run", "--data", "D", "--out", "R", folder=tmp_path)
    assert lacking.returncode == 2
    assert "pip install -c constraints.txt -e '.[train]'" in lacking.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_shell_completes_commands(core: Path, tmp_path: Path) -> None:
    script = (
        'eval "$(craters --show-completion bash)"\n'
        "COMP_WORDS=(craters do); COMP_CWORD=1; _craters_completion craters do craters\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    found = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={"PATH": f"{core}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "doctor" in found.stdout.split(), found
