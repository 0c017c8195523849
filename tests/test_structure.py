"""The structure of the code: packages and their interfaces, sizes, printing, one version, links."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import craters
from craters.cli.main import app
from craters.pipeline import run_job
from craters.training import trainer
from tests.conftest import REPOSITORY, write_job

SOURCE = REPOSITORY / "src" / "craters"
MODULES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LAYERS = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
PACKAGES = [name for name in LAYERS if (REPOSITORY / "src" / name.replace(".", "/")).is_dir()]


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """Name the package whose interface a module belongs to; itself for one of none."""
    return next((name for name in PACKAGES if f"{module}.".startswith(f"{name}.")), module)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(folder / "src"), "PATH": ""},
    )  # fmt: skip


def test_a_wrong_import_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "src" / "craters")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    before = lint_imports(tmp_path)
    assert before.returncode == 0, before.stdout
    planted = tmp_path / "src" / "craters" / "data" / "splits.py"
    planted.write_text(planted.read_text() + "\nfrom craters.training import fit\n")
    after = lint_imports(tmp_path)
    assert after.returncode == 1
    assert "craters.data.splits -> craters.training" in after.stdout
    assert "A package imports only from those below it BROKEN" in after.stdout


def test_every_package_has_its_layer() -> None:
    found = {dotted(path) for path in MODULES if path.name == "__init__.py"}
    without_layer = {
        "craters",
        "craters.maps",
        "craters.maps.catalogues.formats",
        "craters.maps.catalogues.matching",
        "craters.detection.circle_training",
        "craters.detection.size_frequency",
        "craters.maps.scan.circles",
        "craters.maps.scan.export",
        "craters.models.circles",
        "craters.models.keras",
        "craters.models.onnx",
        "craters.review.circles",
    }
    assert found - without_layer == set(PACKAGES)
    assert set(LAYERS) - set(PACKAGES) == {"craters.errors", "craters._version"}


def test_the_package_is_small_enough_to_be_overseen() -> None:
    shown = [path for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(shown) <= 22
    for folder in {path.parent for path in MODULES}:
        assert len(list(folder.glob("*.py"))) - 1 <= 15, folder  # without __init__


@pytest.mark.parametrize(
    "name",
    [
        *PACKAGES,
        "craters.maps.catalogues.formats",
        "craters.maps.catalogues.matching",
        "craters.detection.circle_training",
        "craters.detection.size_frequency",
        "craters.maps.scan.circles",
        "craters.maps.scan.export",
        "craters.models.circles",
        "craters.models.keras",
        "craters.models.onnx",
        "craters.review.circles",
    ],
)
def test_a_package_names_its_interface(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__ == sorted(package.__all__, key=_as_ruff_sorts)
    for public in package.__all__:
        assert getattr(package, public) is not None
        assert not public.startswith("_")
    lines = [line for line in (package.__doc__ or "").splitlines() if line.strip()]
    assert len(lines) == 3, "what it is for, its interface, what it does not do"
    assert lines[1].startswith("Interface: ")
    for public in re.findall(r"`([A-Za-z_]+)`", lines[1]):
        assert public in package.__all__, public


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Order constants before classes before the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_other_packages_are_used_by_their_interface(path: Path) -> None:
    me = package_of(dotted(path))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("craters.") for alias in node.names)
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("craters"):
            continue
        assert node.level == 0
        module = str(node.module)
        if module in ("craters.errors", "craters._version") or package_of(module) == me:
            continue
        if path.parent == SOURCE and path.name != "__main__.py":
            continue  # the package itself lends names of its packages
        assert module in PACKAGES, f"{module} is a part of {package_of(module)}"
        public = importlib.import_module(module).__all__
        for alias in node.names:
            assert alias.name in public, f"{module} does not offer {alias.name}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_functions_are_short_and_only_commands_print(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node) or ""
            size = (node.end_lineno or 0) - node.lineno - doc.count("\n")
            assert size <= 80, f"{node.name} has {size} lines"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
        if isinstance(node, ast.Call) and path.parent.name != "cli":
            assert ast.unparse(node.func) != "print"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_functions_take_few_arguments_by_position(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = len(node.args.posonlyargs) + len(node.args.args)
            assert count <= 8, f"{node.name} takes {count}"


def test_dataclasses_are_not_filled_by_position() -> None:
    """Up to three values, such as images, labels and ids, may be; and the rows of a table."""
    trees = {path: ast.parse(path.read_text()) for path in MODULES}
    names = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    }
    for path, tree in trees.items():
        if path.relative_to(SOURCE).parts[0] in ("evaluation", "models"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) > 3:
                name = ast.unparse(node.func).rpartition(".")[2]
                assert name not in names - {"Rule"}, f"{path.name}:{node.lineno} {name}"


def test_a_setting_passes_few_functions_on_its_way_to_training(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to the training loop; parsing and processes are the same for all."""
    seen: list[list[str]] = []

    def look(*arguments: object, **named: object) -> object:
        names, frame = [], sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(SOURCE) and path.name not in ("options.py", "parallel.py"):
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        seen.append(names[::-1])
        return fit(*arguments, **named)

    fit = trainer.fit
    monkeypatch.setattr(trainer, "fit", look)
    words = ["--network", "original", "--method", "supervised", "--initial-epochs", "1"]
    places = ["--data", str(job_folder), "--out", str(job_folder.parent / "RUN")]
    result = CliRunner().invoke(app, ["run", *places, *words, "--threads", "1", "-q"])
    assert result.exit_code == 0, result.output
    assert seen == [["run_command", "run_job", "run_stages", "_supervised", "train", "_fit"]]


LIGHT = {
    "--help": ["--help"],
    "run --help": ["run", "--help"],
    "info": ["info", "RUN"],
    "predict": ["predict", "RUN", "DATA/Xtest1.npy"],
    "check": ["check", "RUN"],
    "evaluate": ["evaluate", "RUN", "--data", "DATA", "--set", "train"],
    "match": ["match", "found.csv", "--catalogue", "known.csv", "--out", "MATCH", "--body", "mars",
              "--footprint", "none", "--window", "5km", "--border", "0km"],
    "labels import": ["labels", "import", "L.sqlite", "answers.csv", "--target", "DATA"],
    "labels export": ["labels", "export", "L.sqlite", "--out", "LABELS"],
}  # fmt: skip
"""Commands that need no torch, neither directly nor by what they import."""


@pytest.fixture(scope="module")
def light_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run, its data, an answer, a catalogue and detections."""
    folder = tmp_path_factory.mktemp("light")
    data = write_job(folder / "DATA", side=28)
    run_job(
        craters.RunConfig(
            data, folder / "RUN", method="supervised", network="original", initial_epochs=1
        )
    )
    (folder / "answers.csv").write_text("id,answer,reviewer\nXtrain1:0,crater,Ann\n")
    (folder / "known.csv").write_text("lon,lat,diameter_km\n10,5,2\n11,5,3\n")
    (folder / "found.csv").write_text("lon,lat,p_crater\n10,5,0.9\n11.5,5,0.8\n")
    return folder


def test_light_commands_import_no_torch(light_folder: Path) -> None:
    """One after another in one process, so that the first that imports it is named."""
    code = (
        "import json, sys\nfrom craters.cli import main\n"
        "for name, words in json.loads(sys.argv[1]).items():\n"
        "    sys.argv = ['craters', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, (name, end.code)\n"
        "    assert 'torch' not in sys.modules, f'{name} imported torch'\n"
        "    if name in ('predict', 'info'):\n"
        "        heavy = {'scipy', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "        assert not heavy, (name, heavy)\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(LIGHT)],
        cwd=light_folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr


def test_public_names() -> None:
    assert craters.__all__ == [
        "Classifier", "CraterClassifier", "CratersError", "DataError", "PatchSet", "RunConfig",
        "__version__", "load_model", "make_patch_set", "make_patches", "make_scene", "normalize",
        "plot_image_48x48", "predict", "read_dataset", "read_patches",
        "run_job", "scan", "write_dataset",
    ]  # fmt: skip
    for name in craters.__all__:
        assert getattr(craters, name) is not None
    assert set(craters.__all__) <= set(dir(craters))
    with pytest.raises(AttributeError, match="No craters attribute nonsense"):
        craters.nonsense  # noqa: B018


def test_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == craters.__version__
    heading = f"\n## {craters.__version__} ({citation['date-released']:%Y-%m-%d})\n"
    assert heading in (REPOSITORY / "CHANGELOG.md").read_text()


def test_everything_is_pinned() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in pins)
    names = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in pins}
    assert "torch==2.13.0" in pins
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(item for extra in extras for item in extra)]
    for item in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", item)
        assert name is not None
        assert name[0].lower() in names, f"{item} is not pinned"


@pytest.mark.parametrize("path", [*sorted(REPOSITORY.glob("docs/*.md")), REPOSITORY / "README.md"],
                         ids=lambda path: path.name)  # fmt: skip
def test_links_in_the_docs_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
