"""Inspect the installation: package versions, processor, GPU, missing packages."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from craters._version import __version__
from craters.errors import ConfigError, MissingExtraError

_PACKAGES = ("torch", "numpy", "scikit-learn", "scipy", "matplotlib", "h5py", "safetensors")
_FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
# A requirement, such as: dask[distributed]>=2025.1; extra == 'dask'
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,-]+)\])?")
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")
_PURPOSES = {
    "core": "predicting, reading and making arrays",
    "train": "training, measuring, reports, Keras files",
    "geo": "scanning images, matching catalogues, sampling patches",
    "review": "the review page",
    "dask": "scanning by many processes or machines",
    "parquet": "catalogues as GeoParquet",
}
# The core or extra that installs each module; they are imported only where they are used.
_PART_OF = {
    "PIL": "core",
    "onnxruntime": "core",
    "safetensors": "core",
    "threadpoolctl": "core",
    "torch": "train",
    "sklearn": "train",
    "scipy": "train",
    "matplotlib": "train",
    "joblib": "train",
    "h5py": "train",
    "onnx": "train",
    "onnxscript": "train",
    "jinja2": "train",
    "starlette": "review",
    "uvicorn": "review",
    "rasterio": "geo",
    "pyproj": "geo",
    "pyogrio": "geo",
    "shapely": "geo",
    "distributed": "dask",
    "arro3": "parquet",
}


@dataclasses.dataclass(frozen=True)
class Part:
    """The core dependencies, or those of one optional extra.

    Parameters
    ----------
    name : str
        The extra's name, or "core".
    purpose : str
        Purpose of the packages.
    versions : dict of str
        Versions of the installed packages.
    missing : tuple of str
        Packages that are not installed.
    """

    name: str
    purpose: str
    versions: dict[str, str]
    missing: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """The pip command for missing packages; empty if none is missing."""
        return install_command(self.name) if self.missing else ""


@dataclasses.dataclass(frozen=True)
class Examination:
    """The result of `examine`.

    Parameters
    ----------
    machine : dict
        Interpreter, system, processor and its features, usable CPUs, memory in GiB.
    gpu : str
        GPUs usable by torch, or why there are none.
    parts : tuple of Part
    """

    machine: dict[str, Any]
    gpu: str
    parts: tuple[Part, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all core packages are installed; extras may be missing."""
        return not self.parts[0].missing

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        machine = self.machine
        text_lines = [
            f"craters {machine['craters']}, Python {machine['python']}, {machine['system']}",
            f"processor: {machine['processor']}; {machine['usable_cpus']} usable CPUs, "
            f"{machine['memory_gib'] or 'unknown'} GiB; "
            f"{' '.join(machine['features']) or 'features unknown'}",
            f"GPU: {self.gpu}",
        ]
        for part in self.parts:
            versions = ", ".join(f"{name} {number}" for name, number in part.versions.items())
            state = "ok" if not part.missing else f"missing {', '.join(part.missing)}"
            text_lines.append(f"{part.name} ({part.purpose}): {state}")
            if versions:
                text_lines.append(f"    {versions}")
            if part.missing:
                text_lines.append(f"    Get it by: {part.remedy}")
        return text_lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        parts = {
            part.name: dataclasses.asdict(part) | {"remedy": part.remedy} for part in self.parts
        }
        return {"machine": self.machine, "gpu": self.gpu, "parts": parts, "whole": self.is_whole}


def examine() -> Examination:
    """Inspect this installation and machine; nothing is changed or sent anywhere.

    Examples
    --------
    >>> examine().is_whole
    True
    """
    machine = {
        "craters": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "processor": _processor(),
        "features": _features(),
        "usable_cpus": _usable_cpus(),
        "memory_gib": _memory_gib(),
    }
    return Examination(
        machine=machine, gpu=_gpu(), parts=tuple(_inspect(name) for name in _PURPOSES)
    )


def _inspect(part: str) -> Part:
    required = _required("craters", "" if part == "core" else part)
    versions = _installed(required)
    missing = tuple(name for name in required if name not in versions)
    return Part(name=part, purpose=_PURPOSES[part], versions=versions, missing=missing)


def _required(distribution: str, extra: str) -> list[str]:
    """Return the packages required by an installed distribution, or by one of its extras."""
    names = []
    for requirement in requires(distribution) or []:
        match = _REQUIREMENT.match(requirement)
        condition = _EXTRA.search(requirement)
        if match is None or (condition[1] if condition else "") != extra:
            continue
        names.append(match["name"])
        for inner in filter(None, (match["extras"] or "").split(",")):
            with contextlib.suppress(PackageNotFoundError):
                names += _required(match["name"], inner)
    return names


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _cpu_info(*keys: str) -> str:
    """Return the first entry of /proc/cpuinfo with one of these keys; empty if there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in keys:
                return value.strip()
    return ""


def _processor() -> str:
    return _cpu_info("model name", "Model") or platform.processor() or platform.machine()


def _features() -> list[str]:
    supported = set(_cpu_info("flags", "Features").split())
    return [name for name in _FEATURES if name in supported]


def _gpu() -> str:
    """Describe the GPUs that torch can use."""
    driver = "" if shutil.which("nvidia-smi") is None else " (nvidia-smi exists)"
    try:
        import torch
    except ImportError:
        return f"unknown, as torch is not installed{driver}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return f"{', '.join(names)} (CUDA {torch.version.cuda})"
    return f"none that torch {torch.__version__} can use{driver}; none is needed"


def install_command(part: str) -> str:
    """Return the command that installs the core or an extra from a clone of the repository.

    Examples
    --------
    >>> install_command("geo")
    "pip install -c constraints.txt -e '.[geo]'"
    """
    return "pip install -c constraints.txt -e " + ("." if part == "core" else f"'.[{part}]'")


def missing_extra(module: str, needed_by: str = "") -> MissingExtraError | None:
    """Describe the absence of a module that the core or an extra installs.

    Parameters
    ----------
    module : str
        The module that cannot be imported, or a module within it.
    needed_by : str
        The option that needs it, if it is an option.

    Returns
    -------
    MissingExtraError or None
        None if no part of the package installs the module.

    Examples
    --------
    >>> print(missing_extra("rasterio.crs"))
    rasterio is not installed. In a clone of craters: pip install -c constraints.txt -e '.[geo]'
    """
    name = module.partition(".")[0]
    if name not in _PART_OF:
        return None
    what = f"{needed_by} needs {name}, which" if needed_by else name
    return MissingExtraError(
        f"{what} is not installed", f"In a clone of craters: {install_command(_PART_OF[name])}"
    )


def require(module: str, needed_by: str) -> Any:
    """Import a module that an extra installs.

    Parameters
    ----------
    module : str
        Such as "distributed".
    needed_by : str
        The option that needs it, for the message.

    Returns
    -------
    module

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = missing_extra(module, needed_by)
        if missing is None:
            raise
        raise missing from error


def check_device(device: str) -> None:
    """Raise an error if torch is needed for a device, but is not installed or does not find it.

    Parameters
    ----------
    device : str
        The setting `--device`: "cpu", "cuda", "cuda:1", ...; "cpu" is always available.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    ConfigError
        If torch does not find the GPU.
    """
    if device == "cpu":
        return
    torch = require("torch", f"--device {device}")
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count()
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= count):
        raise ConfigError(
            f"--device {device}: torch {torch.__version__} finds {count} GPU(s)",
            "Install a build of torch with CUDA, or omit --device.",
        )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    return {"python": platform.python_version()} | _installed(_PACKAGES)


def library_versions(*names: str) -> dict[str, str]:
    """Return the versions of craters and of installed packages, for a `Fingerprint`."""
    return {"craters": __version__} | _installed(names)


def _installed(names: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def describe_hardware(device: str = "cpu") -> dict[str, Any]:
    """Return processor, CPUs and memory of this machine, and the GPU if the device is one."""
    return {
        "processor": _processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "usable_cpus": _usable_cpus(),
        "memory_gib": _memory_gib(),
    } | ({} if device == "cpu" else {"gpu": _gpu_name(device)})


def hardware_line(device: str = "cpu") -> str:
    """Return processor, CPUs and, if the device is one, GPU of this machine as text."""
    hardware = describe_hardware(device)
    gpu = f", {hardware['gpu']}" if "gpu" in hardware else ""
    return f"{hardware['processor']}, {hardware['usable_cpus']} CPUs{gpu}"


def _gpu_name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name(device))


def usable_threads(threads: int = 0) -> int:
    """Return the number of threads: as set, or the CPUs available to this process."""
    return threads or _usable_cpus()


def training_threads(threads: int, device: str) -> int:
    """Return the threads for all trainings of a command together.

    One on a GPU: trainings run one after another in this process and do not compete for it.
    """
    return usable_threads(threads) if device == "cpu" else 1
