"""The zip of the plugin: what it holds, and equal bytes for equal files."""

from __future__ import annotations

import configparser
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import craters
from tests.conftest import REPOSITORY

PLUGIN = REPOSITORY / "qgis" / "craters_qgis"


def build(folder: Path) -> Path:
    script = REPOSITORY / "qgis" / "build_zip.py"
    found = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=True
    )
    target = folder / f"craters_qgis-{craters.__version__}.zip"
    assert found.stdout == f"Written: {target}\n"
    return target


def test_the_zip_holds_the_plugin_with_metadata_icon_and_licence(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    modules = {f"craters_qgis/{path.name}" for path in PLUGIN.glob("*.py")}
    others = {"icon.svg", "metadata.txt", "LICENSE"}
    assert contents.keys() == modules | {f"craters_qgis/{name}" for name in others}
    assert len(modules) == 7
    assert contents["craters_qgis/LICENSE"] == (REPOSITORY / "LICENSE").read_bytes()
    metadata = configparser.ConfigParser()
    metadata.read_file(io.StringIO(contents["craters_qgis/metadata.txt"].decode()))
    general = metadata["general"]
    assert general["version"] == craters.__version__
    assert general["qgisMinimumVersion"] == "3.22"
    assert general["hasProcessingProvider"] == "yes"
    assert f"craters_qgis/{general['icon']}" in contents
    assert ElementTree.fromstring(contents["craters_qgis/icon.svg"]).tag.endswith("svg")
    for key in ("name", "description", "about", "author", "license", "tags"):
        assert general[key], key


def test_two_builds_give_equal_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_the_modules_are_python_3_8() -> None:
    """The oldest Python that QGIS 3.22 comes with."""
    import ast

    for path in PLUGIN.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
