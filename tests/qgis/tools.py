"""QGIS with a fresh profile and the plugin, for tests and for the pictures of docs/qgis.md."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's QGIS is a library of this one


@dataclass
class Qgis:
    """A fresh profile of QGIS with the plugin, and the command that it is to find."""

    folder: Path
    command: Path

    @property
    def plugins(self) -> Path:
        return self.folder / "profile" / "profiles" / "default" / "python" / "plugins"

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the variables for QGIS: no screen, and nothing of ours on the path."""
        return {
            "HOME": str(self.folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
            "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(self.folder),
            "QGIS_CUSTOM_CONFIG_PATH": str(self.folder / "profile"), **changes,
        }  # fmt: skip

    def process(self, *words: str, named: Path | str | None = None) -> str:
        """Run `qgis_process`; return all that it prints."""
        configure(self.plugins.parents[1], self.command if named is None else named)
        found = subprocess.run(
            [program(), *words], cwd=self.folder, env=self.environment(), text=True, timeout=900,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return found.stdout

    def run(self, algorithm: str, **parameters: object) -> str:
        words = [f"{name}={value}" for name, value in parameters.items()]
        return self.process("run", f"craters:{algorithm}", "--", *words)

    def pyqgis(self, **request: object) -> dict[str, Any]:
        """Run algorithms and open layers with PyQGIS; `in_qgis.py` says how."""
        asked, report = self.folder / "request.json", self.folder / "answer.json"
        report.unlink(missing_ok=True)
        given = {"plugins": str(self.plugins), "environment": str(self.command), **request}
        asked.write_text(json.dumps(given))
        found = subprocess.run(
            [SYSTEM_PYTHON, str(HERE / "in_qgis.py"), str(asked), str(report)], cwd=self.folder,
            env=self.environment(), capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert report.is_file(), found.stderr
        return json.loads(report.read_text())

    def window(self, **wanted: object) -> dict[str, Any]:
        """Use the plugin in the window of QGIS; `qgis/try_window.py` says how."""
        configure(self.plugins.parents[1], self.command)
        asked, report = self.folder / "wanted.json", self.folder / "window.json"
        report.unlink(missing_ok=True)
        asked.write_text(json.dumps({"report": str(report), **wanted}))
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24"]
        script = REPOSITORY / "qgis" / "try_window.py"
        found = subprocess.run(
            [*screen, "qgis", "--nologo", "--code", str(script)], cwd=self.folder, text=True,
            env=self.environment(CRATERS_TEST=str(asked), QT_QPA_PLATFORM="xcb"), timeout=600,
            capture_output=True,
        )  # fmt: skip
        assert report.is_file(), found.stderr
        return json.loads(report.read_text())

    def craters(self, *words: str | Path) -> None:
        """Run the command line, to compare with."""
        found = subprocess.run(
            [self.command, *words], cwd=self.folder, capture_output=True, text=True, timeout=900
        )
        assert found.returncode == 0, found.stderr


def program() -> str:
    """Name the program; the one without a suffix passes an option that it does not know."""
    return next((each for each in ("qgis_process.bin", "qgis_process") if shutil.which(each)), "")


def configure(profile: Path, environment: Path | str) -> None:
    """Switch the plugin on, and name the environment, as the dialogs of QGIS do."""
    settings = profile / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(
        "[PythonPlugins]\ncraters_qgis=true\n\n"
        f"[Processing]\nConfiguration\\CRATERS_ENVIRONMENT={environment}\n"
    )


def without_qgis() -> str:
    """Say why QGIS cannot be run; empty if it can."""
    if not program():
        return "QGIS is missing: apt-get install qgis python3-qgis qgis-providers"
    words = [SYSTEM_PYTHON, "-c", "import qgis.core, processing"]
    path = {"PYTHONPATH": "/usr/share/qgis/python/plugins", "PATH": "/usr/bin:/bin"}
    found = subprocess.run(words, cwd="/", env=path, capture_output=True, text=True)
    return f"PyQGIS is missing: {found.stderr[-200:]}" if found.returncode else ""


def make_qgis(folder: Path) -> Qgis:
    """Build the zip, unpack it into a fresh profile, and make an environment of this source."""
    command = folder / "env" / "bin" / "craters"
    command.parent.mkdir(parents=True)
    variables = f'OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH="{REPOSITORY / "src"}"'
    command.write_text(f'#!/bin/sh\n{variables} exec "{sys.executable}" -m craters "$@"\n')
    command.chmod(0o755)
    made = Qgis(folder, command)
    build = [sys.executable, str(REPOSITORY / "qgis" / "build_zip.py"), str(folder / "dist")]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = (folder / "dist").iterdir()
    made.plugins.mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(made.plugins)
    return made
