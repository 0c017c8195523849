"""Every public function takes paths as text; what is missing is an error of this package."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import craters
from craters import compare, data, labels, models, pipeline, quality, review, settings
from craters.core import files
from craters.data import dataset
from craters.errors import ConfigError, CratersError
from craters.maps import catalogues, geo, scan
from craters.models import keras
from tests.maps.tools import SIDE, noise, write_classifier

UNTRAINED = SimpleNamespace(description=SimpleNamespace(pixels=None))
RESULTS = {
    "Catalogue",
    "CircleScan",
    "Conversion",
    "Found",
    "ScanFolder",
    "RunOutcome",
    "TrainedCircles",
}  # classes that functions return, with paths in them


def packages() -> Iterator[ModuleType]:
    yield craters
    for info in pkgutil.walk_packages(craters.__path__, "craters."):
        if info.ispkg and info.name != "craters.cli":
            yield importlib.import_module(info.name)


def public() -> dict[str, Any]:
    """The names of each package's `__all__`; of a module among them, its public names."""
    found: dict[str, Any] = {}
    for package in packages():
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            inner = vars(value).items() if inspect.ismodule(value) else [(name, value)]
            for word, each in inner:
                module = str(getattr(each, "__module__", ""))
                is_own = module == value.__name__ if inspect.ismodule(value) else True
                if is_own and module.startswith("craters.") and not word.startswith("_"):
                    found[f"{module.removeprefix('craters.')}.{word}"] = each
    return found


def takers() -> dict[str, tuple[Callable[..., Any], dict[str, str]]]:
    """Every public callable with a path among its parameters: the annotation of each."""
    callables: dict[str, Callable[..., Any]] = {}
    for name, value in public().items():
        if inspect.isclass(value):
            if value.__name__ not in RESULTS:
                callables[name] = value
            callables |= {
                f"{name}.{method}": getattr(value, method)
                for method, each in vars(value).items()
                if not method.startswith("_")
                and (isinstance(each, classmethod) or inspect.isfunction(each))
            }
        elif inspect.isfunction(value):
            callables[name] = value
    found = {}
    for name, call in callables.items():
        try:
            parameters = inspect.signature(call).parameters.values()
        except (TypeError, ValueError):
            continue
        kinds = {
            each.name: str(each.annotation)
            for each in parameters
            if re.search(r"\bPath\b|StrPath|PathLike", str(each.annotation))
            and not str(each.annotation).startswith(("dict", "Callable"))
        }
        if kinds:
            found[name] = call, kinds
    return found


def error_of(call: Callable[..., Any], **values: object) -> Exception | None:
    try:
        call(**values)
    except Exception as error:  # noqa: BLE001
        return error
    return None


TAKERS = takers()


def test_the_walk_finds_what_takes_paths() -> None:
    names = {name.rpartition(".")[2] for name in TAKERS}
    assert len(TAKERS) > 60
    assert names >= {
        "load", "read_patches", "read_catalogue", "find_images", "describe_image", "LabelStore",
        "import_model", "write_dataset", "plot_image_48x48", "RunConfig", "ScanConfig", "serve",
    }  # fmt: skip


@pytest.mark.parametrize("name", TAKERS)
def test_text_is_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, kinds = TAKERS[name]
    if dataclasses.is_dataclass(call):
        names = {
            each.name: "NAME"
            for each in dataclasses.fields(call)
            if each.type == "str" and each.default is dataclasses.MISSING
        }
        made = call(**names, **{word: str(tmp_path / word) for word in kinds})
        for word, kind in kinds.items():
            wanted = tmp_path / word
            assert getattr(made, word) == ((wanted,) if kind.startswith("tuple") else wanted)
        return
    assert all("StrPath" in kind or "PathLike" in kind for kind in kinds.values()), kinds
    parameters = inspect.signature(call).parameters
    required = {name: None for name, each in parameters.items() if each.default is each.empty}
    paths = {word: str(tmp_path / "none" / word) for word in kinds}
    few = {"n_labeled": 1, "n_unlabeled": 1, "n_test": 1} if "n_labeled" in parameters else {}
    problem = error_of(call, **(required | paths | few))
    is_of_text = isinstance(problem, AttributeError | TypeError) and "'str'" in str(problem)
    assert not is_of_text, problem  # others are of the parameters that are None here


@pytest.mark.parametrize(
    "read",
    [
        craters.Classifier.load,
        craters.read_patches,
        data.find_array,
        data.read_array,
        data.read_job_data,
        lambda path: dataset.read_set(path, "test"),
        lambda path: models.read_inputs(path, 48),
        models.read_description,
        models.read_parts,
        models.read_weights,
        lambda path: models.export_model(path, f"{path}.onnx"),
        lambda path: models.import_model(f"{path}.onnx", f"{path}-model"),
        lambda path: models.import_model(f"{path}.h5", f"{path}-model"),
        keras.read_keras,
        lambda path: pipeline.assess(UNTRAINED, path),  # type: ignore[arg-type]
        pipeline.info.read_run,
        quality.run_checks,
        lambda path: labels.LabelStore(path, must_exist=True),
        lambda path: labels.read_answers(path, None),  # type: ignore[arg-type]
        review.open_target,
        review.serve,
        catalogues.read_catalogue,
        lambda path: catalogues.read_catalogue(f"{path}.gpkg"),
        geo.read_footprints,
        lambda path: geo.read_footprints(f"{path}.gpkg"),
        geo.find_images,
        lambda path: geo.find_images([path]),
        lambda path: geo.describe_image(path, "a", geo.ReadOptions()),
        geo.vectors.layer_names,
        geo.vectors.read_layer,
        lambda path: settings.resolve(settings.RunConfig, {}, {}, path),
        lambda path: craters.run_job(craters.RunConfig(path, f"{path}-out")),
        lambda path: scan.scan_images(scan.ScanConfig(path, path, f"{path}-out")),
        lambda path: compare.compare(compare.CompareConfig(path, f"{path}-out")),
        lambda path: quality.run_audit(quality.AuditConfig(path)),
        lambda path: catalogues.run_match(catalogues.MatchRequest(path, path, f"{path}-out")),
        lambda path: catalogues.sample_patches(catalogues.SamplingRequest(path, f"{path}-out")),
    ],
)  # fmt: skip
def test_a_missing_file_is_an_error_of_this_package(
    read: Callable[[str], object], tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    if read is data.find_array:
        assert data.find_array(missing, "Xtest1") == tmp_path / "missing" / "Xtest1.npy"
        return
    with pytest.raises(CratersError, match="missing"):
        read(missing)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_path_is_named() -> None:
    with pytest.raises(ConfigError, match="data is 5, expected a path"):
        craters.RunConfig(data=5, out="RUN")  # type: ignore[arg-type]
    config = scan.ScanConfig(["a.tif", Path("b.tif")], "RUN", "OUT")  # type: ignore[arg-type]
    assert config.images == (Path("a.tif"), Path("b.tif"))
    assert (config.model, config.out) == ("RUN", Path("OUT"))  # a model may be a name


def test_text_writes_what_a_path_writes(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "a.json"), {"n": 1})
    files.write_json(tmp_path / "b.json", {"n": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.sha256_of(os.fspath(tmp_path / "a.json")) == files.sha256_of(tmp_path / "b.json")


def test_a_classifier_takes_what_read_patches_takes(tmp_path: Path) -> None:
    classifier = craters.Classifier.load(str(write_classifier(tmp_path / "MODEL")))
    images = np.stack([noise(SIDE, SIDE, seed) for seed in range(5)])
    expected = classifier.predict_proba(images)
    path = tmp_path / "x.npy"
    np.save(path, images.reshape(5, -1).astype(np.uint16) * 257)
    for patches in (
        str(path),
        path,
        craters.read_patches(str(path)),
        np.load(path),
        images[..., None],
        images.astype(np.float32) / 255,
        images.tolist(),
    ):
        assert np.array_equal(classifier.predict_proba(patches), expected)
        assert np.array_equal(classifier.predict(patches), classifier.predict(images))
