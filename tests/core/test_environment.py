"""Which package each module needs, and what is said where it is missing."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from craters.core import environment
from craters.errors import ConfigError, MissingExtraError

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "distributed": "dask",
    "arro3": "arro3-core",
    "lazy_loader": "lazy-loader",
    "google": "protobuf",
}


def declared() -> dict[str, set[str]]:
    """The packages that pyproject.toml names, by part."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {
        part: {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
        for part, lines in parts.items()
    }


def imported() -> set[str]:
    """The packages that the source imports anywhere, by the name of their distribution."""
    names = set()
    for file in (ROOT / "src" / "craters").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).partition(".")[0])
    names -= {*sys.stdlib_module_names, "craters"}
    return {DISTRIBUTIONS.get(name, name) for name in names}


def test_every_imported_package_is_declared_and_pinned() -> None:
    parts = declared()
    users = set.union(*(parts[name] for name in parts if name not in ("dev", "docs")))
    assert imported() <= users
    pins = {
        line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split()
    }
    assert users <= pins


def test_the_part_of_each_module_is_the_one_that_declares_it() -> None:
    parts = declared()
    for module, part in environment._PART_OF.items():
        assert DISTRIBUTIONS.get(module, module).lower() in parts[part], module


def test_a_picture_on_the_core_install_does_not_lead_to_torch() -> None:
    assert str(environment.missing_extra("PIL")) == (
        "PIL is not installed. In a clone of craters: pip install -c constraints.txt -e ."
    )
    assert environment.missing_extra("a_module_of_the_user") is None


def test_what_an_option_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.require("json", "--any").loads("1") == 1
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="--device cuda needs torch, which is not inst"):
        environment.check_device("cuda")
    environment.check_device("cpu")
    with pytest.raises(ModuleNotFoundError):
        environment.require("no_such_module", "--any")


def test_a_gpu_is_used_if_torch_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    for device in ("cpu", "torch", "cuda", "cuda:1"):
        environment.check_device(device)
    with pytest.raises(ConfigError, match=r"--device cuda:2: torch .* finds 2 GPU\(s\)"):
        environment.check_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # its driver is too old
    with pytest.raises(ConfigError, match="--device cuda:1"):
        environment.check_device("cuda:1")
    assert environment.describe_hardware("cuda:1")["gpu"] == "GPU of cuda:1"
    assert environment.hardware_line("cuda") == f"{environment.hardware_line()}, GPU of cuda"
    assert environment.training_threads(8, "cpu") == 8
    assert environment.training_threads(8, "cuda:1") == 1


def test_systems_without_affinity_and_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert environment.usable_threads() == os.cpu_count()
    assert environment.describe_hardware()["memory_gib"] is None
    assert "usable CPUs, unknown GiB;" in "\n".join(environment.examine().lines())
