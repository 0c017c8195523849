"""Settings of a scan and of reading images."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, declared, group, setting


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

    `out` is required. Settings of windows are for models of patches, `precision` is for circles.

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
    model: str = setting(
        "circles",
        help="circles, pretrained, a model folder, or a run folder that contains one.",
        meaning="`circles`, and models trained by `craters run --network circles`, find craters "
        "with their diameters; `pretrained`, and other models trained by `craters run`, predict "
        "windows.",
    )
    out: Path = setting(Path(), help="Folder to create; must not exist.", must_be_given=True)
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
        help="Minimum probability of a detection.",
        meaning="Minimum probability of a detection; of a window to be a candidate.",
        unset="from --precision, or the model's",
    )
    precision: float | None = setting(
        None,
        help="Expected share of craters among the detections, for circles.",
        meaning="Expected share of craters among the detections, from which the threshold follows, "
        "for `circles`; excludes --decision-threshold.",
        unset="0.8",
        above=0,
        most=1,
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
        help="Degrees clockwise from map north where the light comes from.",
        meaning="Direction that the light comes from, clockwise from map north (the upper edge of "
        "an image without coordinates), for `circles` and models that turn patches to their light, "
        "such as `pretrained`.",
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
    arithmetic: Literal["float32", "bfloat16"] = setting(
        "bfloat16",
        help="Numbers that torch computes with: bfloat16 or float32.",
        meaning="Numbers that torch computes with, if device is not cpu.",
    )
    windows: bool = setting(True, help="Write the outlines of all candidate windows.")
    parquet: bool = setting(False, help="Also write detections.parquet (GeoParquet).")

    def __post_init__(self) -> None:
        if isinstance(self.precision, str):
            raise ConfigError(
                f"precision is {self.precision!r}, expected a number",
                "The numbers that torch computes with are `arithmetic`, --arithmetic.",
            )
        check_settings(self)
        object.__setattr__(self, "model", os.fspath(self.model))
        if self.out.name in ("", ".", ".."):
            raise ConfigError(f"--out {self.out}: expected the name of a new folder")
        if self.precision is not None and self.decision_threshold is not None:
            raise ConfigError(
                "--precision and --decision-threshold exclude each other",
                "Either the precision or the threshold follows from the other.",
            )

    def refuse_changed(self, names: tuple[str, ...], reason: str) -> None:
        """Refuse settings that have no meaning for a model, if they are not as by default.

        Raises
        ------
        ConfigError
        """
        for each in declared(type(self)):
            if each.name in names and getattr(self, each.name) != each.default:
                raise ConfigError(f"{each.flag} {reason}", f"Leave out {each.flag}.")
