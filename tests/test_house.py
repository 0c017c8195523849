"""The rules of the house: import order, public names, sizes, no printing, one version."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import craters

from .conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "craters"
# A module imports only from those before it.
ORDER = [
    "_version", "errors", "files", "patches", "terrain", "synth", "splits", "evaluate", "conformal",
    "model_description", "model_folder", "onnx_graph", "classifier", "predictions", "augment",
    "networks", "recipes", "train", "parallel", "checkpoint", "pseudo_label", "calibration",
    "intervals", "class_share", "settings", "job_data", "labels", "labels_tally", "labels_merge",
    "labels_exchange", "assess", "scores", "distill", "consistency", "fitting", "crossfit",
    "verdict", "semi_supervised", "job_result", "phases", "figures", "report_unlabeled", "interop",
    "keras_layers", "keras_files", "keras_network", "exchange", "run_info", "doctor", "kfold",
    "audit_copies", "ledger", "checks_evidence", "checks_rules", "checks", "estimator", "report",
    "run", "compare_settings", "compare_report", "compare_cells", "compare", "kfold_score",
    "kfold_report", "kfold_run", "audit_pixels", "audit_labels", "audit_shift", "audit_findings",
    "audit_fix", "audit_report", "audit", "image_files", "planet", "gaps", "masks", "raster",
    "geo_files", "geo_parquet", "detections", "scan_grid", "scan_store", "scan_torch",
    "scan_predict", "scan_work", "scan_dask", "scan_output", "scan_report", "scan_plan",
    "scan_result", "scan", "places", "vectors",
    "footprints", "catalogue", "match", "match_curves", "match_figure", "match_report", "match_run",
    "cut_rules", "cut_parts", "cut", "cut_write", "terminal", "cli_models", "cli_catalogue",
    "cli_checks", "cli_maps", "review_png", "review_source", "review_scan", "review_target",
    "review_model", "review_queue", "review_scores", "review_loop", "review_desk",
    "review_progress", "review_map", "review_pages", "review_guard", "review_app", "review_server",
    "cli_review", "cli", "__main__", "__init__",
]  # fmt: skip
MODULES = sorted(path.stem for path in SOURCE.glob("*.py"))


def imported(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("craters"):
            rest = (node.module or "").split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
    return found


def typing_only(tree: ast.Module) -> ast.Module:
    """Drop what only a type checker imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_data_flows_one_way(name: str) -> None:
    tree = typing_only(ast.parse((SOURCE / f"{name}.py").read_text()))
    later = imported(tree) - set(ORDER[: ORDER.index(name)])
    assert not later, f"{name} imports {later}, which come after it"


@pytest.mark.parametrize("name", MODULES)
def test_sizes_and_manners(name: str) -> None:
    text = (SOURCE / f"{name}.py").read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node) or ""
            size = (node.end_lineno or 0) - node.lineno - doc.count("\n")
            assert size <= 80, f"{node.name} has {size} lines"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) != "print", "printing belongs into cli.py"


def test_training_and_networks_know_nothing_of_torch_free_modules_and_back() -> None:
    for name in ("patches", "synth", "splits", "evaluate", "settings", "cli"):
        text = (SOURCE / f"{name}.py").read_text()
        assert not re.search(r"^(import|from) torch", text, re.MULTILINE), name


def test_public_names() -> None:
    assert craters.__all__ == [
        "Classifier", "CraterClassifier", "CratersError", "DataError", "PatchSet", "RunConfig",
        "__version__", "make_patch_set", "make_patches", "make_scene", "normalize",
        "plot_image_48x48",
        "read_patches", "run_job", "write_dataset",
    ]  # fmt: skip
    for name in craters.__all__:
        assert getattr(craters, name) is not None
    assert set(craters.__all__) <= set(dir(craters))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        craters.nonsense  # noqa: B018


def test_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    citation = (REPOSITORY / "CITATION.cff").read_text()
    assert f"\nversion: {craters.__version__}\n" in citation
    assert craters.__version__ in (REPOSITORY / "CHANGELOG.md").read_text()


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
