"""Settings of a scan and of reading images."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, group, setting


def parse_scale(text: str) -> tuple[float, float]:
    """Parse the stored values that become 0 and 255.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_scale("0,4095")
    (0.0, 4095.0)
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--scale {text}: expected LOW,HIGH, such as 0,4095") from error
    return low, high


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading images.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    gap: int = setting(
        8,
        help="Side in pixels of the smallest no-data region.",
        unit="pixels",
        least=1,
        most=256,
    )
    scale: tuple[float, float] | None = setting(
        None,
        help="LOW,HIGH: stored values that become 0 and 255.",
        unset="8-bit: as stored",
        expected="LOW,HIGH with LOW below HIGH",
        read=parse_scale,
    )
    resolution: float | None = setting(
        None,
        help="Resolution to scan at, m/px; 0: never resample.",
        meaning="Resolution to resample to; 0: never resample.",
        unset="the model's",
        unit="m/px",
        least=0,
        below=1e9,
    )
    band: int = setting(0, help="Band to scan; 0: the only one, or colors as gray.")
    crs: str = setting("", help="Coordinate system, such as IAU_2015:49910.")
    body: str = setting("", help="Body of the image: mars, moon, mercury, ...")
    no_crs: bool = setting(False, help="Work in pixels if there is no CRS.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.scale is not None:
            low, high = self.scale
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"scale is {self.scale}, expected LOW,HIGH with LOW below HIGH")


@dataclasses.dataclass(frozen=True)
class ScanConfig:
    """Settings of `craters scan`: `images`, `model`, `out`; others by keyword.

    The page [Settings](settings.md) describes every field.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    images: tuple[Path, ...] = setting(
        help="Images (GeoTIFF, VRT, ISIS3, PDS4, ...), or folders.", is_argument=True
    )
    # Text, not a path: `pretrained` and `./pretrained` differ.
    model: str = setting(help="Model folder, a run folder that contains one, or pretrained.")
    out: Path = setting(help="Folder to create; must not exist.")
    _: dataclasses.KW_ONLY
    window: int | None = setting(
        None,
        help="Side of a window, for a model that takes several.",
        meaning="Side of a window, for a model that takes a range of sides, such as `pretrained`: "
        "smaller windows place small craters more precisely, larger ones hold larger craters.",
        unset="the model's",
        unit="pixels",
    )
    stride: int | None = setting(
        None,
        help="Pixels between windows.",
        unset="the network's own, or half a window",
        unit="pixels",
    )
    decision_threshold: float | None = setting(
        None,
        help="Minimum probability of a candidate.",
        meaning="Minimum probability of a window to be a candidate.",
        unset="the model's",
        options=("--decision-threshold", "--threshold"),
    )
    merge: float | None = setting(
        None,
        help="Least distance of two detections, pixels.",
        meaning="Least distance of two detections.",
        unset="half a window",
        unit="pixels",
    )
    sun_azimuth: float | None = setting(
        None,
        help="Degrees clockwise from map north where the light comes from, for pretrained.",
        meaning="Direction that the light comes from, clockwise from map north (the upper edge of "
        "an image without coordinates), for a model that turns patches to their light, such as "
        "`pretrained`.",
        unset="estimated for each image",
        unit="degrees",
        least=0,
        most=360,
    )
    max_gap: float = setting(
        0.2,
        help="Largest share of no-data pixels in a window that is predicted.",
        least=0,
        most=1,
    )
    read: ReadOptions = group(ReadOptions)
    dtype: Literal["float32", "uint16", "uint8"] = setting(
        "float32",
        help="Data type of the map: float32, uint16 or uint8.",
        meaning="Data type of the maps.",
    )
    workers: int = setting(
        1,
        help="Blocks processed in parallel.",
        meaning="Blocks processed in parallel: by threads, or by processes if dask is 'local'.",
        least=1,
        most=256,
    )
    threads: int = setting(
        0,
        help="CPUs for all workers together; 0: all usable.",
        meaning="CPUs for all workers together; 0: all that the process may use. With the "
        "address of a cluster: CPUs for each of its threads, 0: one.",
    )
    memory: float = setting(
        1000.0,
        help="Memory limit in MB.",
        meaning="Memory limit of the whole scan; with the address of a cluster, of this process "
        "and of each thread of the cluster's workers.",
        unit="MB",
    )
    dask: str = setting(
        "",
        help="Address of a Dask scheduler, or local: --workers processes on this machine.",
        unset="threads of this process",
    )
    device: str = setting(
        "cpu",
        help="cpu: ONNX Runtime; cuda, cuda:1: torch on a GPU; torch: on the CPU.",
        meaning="Backend that evaluates the network. cpu: ONNX Runtime. cuda, cuda:1: torch on a "
        "GPU. torch: torch on the CPU.",
        pattern=r"cpu|torch|cuda(:\d+)?",
        expected="cpu, torch, cuda or cuda:NUMBER",
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "bfloat16",
        help="Precision of torch: bfloat16 or float32.",
        meaning="Precision of torch, if device is not cpu.",
    )
    windows: bool = setting(True, help="Write the outlines of all candidate windows.")
    parquet: bool = setting(False, help="Also write detections.parquet (GeoParquet).")

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "model", os.fspath(self.model))
        if self.out.name in ("", ".", ".."):
            raise ConfigError(f"--out {self.out}: expected the name of a new folder")
