"""The environments of their own that other software is measured in."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

from craters.core import Progress
from harness.base import FOLDER, BenchError

_TENSORFLOW, _PYCDA = FOLDER / ".venv-tf", FOLDER / ".venv-pycda"


def tensorflow_python(progress: Progress) -> Path:
    """Return the interpreter of the TensorFlow environment; make it where it is missing."""
    return _environment(_TENSORFLOW, "tf-requirements.txt", progress)


def pycda_python(progress: Progress) -> Path:
    """Return the interpreter of the environment of PyCDA; make it where it is missing."""
    return _environment(_PYCDA, "pycda-requirements.txt", progress)


def _environment(folder: Path, requirements: str, progress: Progress) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        progress.say(f"installing {requirements} into {folder.name} ...")
        venv.create(folder, with_pip=True)
        _install(python, requirements)
    return python


def scikit_python(progress: Progress) -> Path:
    """Return the same interpreter, with scikit-learn and scikit-image in its environment."""
    python = tensorflow_python(progress)
    looked = [python, "-c", "import skimage, sklearn"]
    if subprocess.run(looked, check=False, stderr=subprocess.DEVNULL).returncode:
        progress.say("installing scikit-learn and scikit-image into benchmarks/.venv-tf ...")
        _install(python, "sklearn-requirements.txt")
    return python


def _install(python: Path, requirements: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "-r", FOLDER / requirements]
    if subprocess.run(command, check=False).returncode:
        raise BenchError(f"the packages of {requirements} could not be installed")


def tensorflow_versions(python: Path) -> dict[str, str]:
    """Ask the TensorFlow environment for its versions."""
    code = (
        "import json, platform; from importlib.metadata import version as v; print(json.dumps({"
        "'tensorflow': v('tensorflow-cpu'), 'keras': v('keras'), 'numpy with Keras': v('numpy'), "
        "'python with Keras': platform.python_version()}))"
    )
    return json.loads(subprocess.check_output([python, "-c", code], text=True))
