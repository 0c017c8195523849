"""Model metadata: input, meaning of the output, provenance (model.json, MODEL_CARD.md)."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

from craters.core import files
from craters.data import CLASS_NAMES, PixelRecord
from craters.errors import DataError, ModelError

SCALING = "divide by 255"
SYMMETRY_NONE = ("identity",)
NAME = "model.json"
DAMAGED = "Copy the folder again from its source."


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """Input, meaning of the output and provenance of a model: model.json.

    Parameters
    ----------
    network : str
        Name of the architecture.
    network_settings : dict
        Settings of the architecture, as plain values.
    side : int
        Height and width of a patch in pixels.
    stride : int or None
        Distance in pixels between the windows that one pass over an image predicts, if the network
        is dense-exact; else None.
    scaling : {"divide by 255"}
        Scaling of 8-bit pixels.
    resolution : float or None
        Resolution of the training patches in m/px.
    class_names : tuple of str
        Names of class 0 and class 1; the logit is of class 1.
    decision_threshold : float
        Smallest probability at which a patch is of class 1; 0 to 1.
    temperature : float
        Divisor of the logits before the sigmoid; 1: unscaled.
    conformal : dict of list of float, or None
        Conformal calibration scores of each class, ascending: one minus the probability of that
        class, for its patches held out for calibration.
    data : dict of str
        SHA-256 of each array that the model was trained on.
    metrics : dict
        Metrics with their intervals; may be nested.
    versions : dict of str
        Versions of the packages and the interpreter.
    symmetry : tuple of str
        Transforms of a patch whose logits the graph averages.
    format_version : {1}
        Version of this format.
    pixels : PixelRecord or None
        How the pixels of the training patches were stored and scaled, and their statistics, as
        plain values in the JSON. None: unknown, as in older folders; then the JSON lacks the key.

    Raises
    ------
    ModelError
        If a value has the wrong type or is outside its limits; the message names it.

    Examples
    --------
    >>> description = ModelDescription("original", {}, 48, decision_threshold=0.4)
    >>> ModelDescription.from_json(description.to_json()) == description
    True
    """

    network: str
    network_settings: dict[str, Any]
    side: int
    stride: int | None = None
    scaling: str = SCALING
    resolution: float | None = None
    class_names: tuple[str, ...] = CLASS_NAMES
    decision_threshold: float = 0.5
    temperature: float = 1.0
    conformal: dict[str, list[float]] | None = None
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    symmetry: tuple[str, ...] = SYMMETRY_NONE
    format_version: int = 1
    pixels: PixelRecord | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name == "pixels":  # checks itself
                continue
            value = _plain(getattr(self, field.name), field.name)
            is_good, expected = _CHECKS[field.name]
            if not is_good(value):
                raise ModelError(f"{field.name} is {reprlib.repr(value)}, expected {expected}")
            if field.name in ("class_names", "symmetry"):
                value = tuple(value)
            object.__setattr__(self, field.name, value)
        if self.conformal is not None and set(self.conformal) != set(self.class_names):
            raise ModelError(f"conformal is of {sorted(self.conformal)}, expected the class names")

    def to_json(self) -> str:
        """Return the description as indented JSON with sorted keys."""
        values = dataclasses.asdict(self)
        if self.pixels is None:
            del values["pixels"]
        return files.to_json(values) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = NAME) -> ModelDescription:
        """Parse a description written by `to_json`.

        Parameters
        ----------
        text : str
        source : str
            Name of the text in messages.

        Raises
        ------
        ModelError
            If it is no JSON, or a key is missing, unknown, repeated or of the wrong type.
        """
        try:
            values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{source}: is not the JSON of a model ({error})", DAMAGED) from error
        if not isinstance(values, dict):
            raise ModelError(f"{source}: holds no JSON object", DAMAGED)
        names = {field.name for field in dataclasses.fields(cls)}
        absent = names - set(values) - {"pixels"}
        for word, keys in (("unknown", set(values) - names), ("missing", absent)):
            if keys:
                raise ModelError(f"{source}: {word} key {min(keys)!r}", "Is it of another version?")
        try:
            if "pixels" in values:
                values["pixels"] = PixelRecord.from_dict(values["pixels"], "pixels")
            return cls(**values)
        except (ModelError, DataError) as error:
            raise ModelError(f"{source}: {error.message}") from error


def _plain(value: Any, name: str) -> Any:
    """Convert a value to plain JSON types: no tuples, NumPy numbers or paths."""
    try:
        return json.loads(files.to_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{name} cannot be written as JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} twice")
    return values


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _is_number(value: Any, low: float, high: float = math.inf) -> bool:
    """Return whether a value is a finite number above `low` and at most `high`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low < value <= high


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 20


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_scores(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_number(item, -1, 1) and item >= 0 for item in value)
        and value == sorted(value)
    )


def _is_hashes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(item, str) and re.fullmatch("[0-9a-f]{64}", item) for item in value.values()
    )


_CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "network": (lambda value: isinstance(value, str) and value, "a name"),
    "network_settings": (lambda value: isinstance(value, dict), "an object"),
    "side": (lambda value: _is_whole(value, 8), "a whole number of pixels, 8 or more"),
    "stride": (lambda value: value is None or _is_whole(value, 1), "pixels, or null"),
    "scaling": (lambda value: value == SCALING, f"{SCALING!r}"),
    "resolution": (lambda value: value is None or _is_number(value, 0, 1e9), "m/px, or null"),
    "class_names": (lambda value: _is_texts(value) and len(set(value)) == 2, "two names"),
    "decision_threshold": (lambda value: _is_number(value, -1, 1) and value >= 0, "0 to 1"),
    "temperature": (lambda value: _is_number(value, 0, 1e9), "a number above 0"),
    "conformal": (
        lambda value: (
            value is None or (isinstance(value, dict) and all(map(_is_scores, value.values())))
        ),
        "rising numbers 0 to 1 for each class, or null",
    ),
    "data": (_is_hashes, "a SHA-256 for each name"),
    "metrics": (lambda value: isinstance(value, dict), "an object"),
    "versions": (
        lambda value: isinstance(value, dict) and _is_texts(list(value.values())),
        "texts by name",
    ),
    "symmetry": (lambda value: _is_texts(value) and len(value) > 0, "names of transforms"),
    "format_version": (lambda value: value == 1 and _is_whole(value, 1), "1"),
}


def model_card(description: ModelDescription, license_id: str = "unknown") -> str:
    """Return the model card in Markdown, with Hugging Face metadata.

    Parameters
    ----------
    description : ModelDescription
    license_id : str
        License of the model: its identifier at Hugging Face.
    """
    names = list(dict.fromkeys(name.rpartition(" / ")[2] for name, _ in _figures(description)))
    head = {
        "license": license_id,
        "library_name": "craters",
        "pipeline_tag": "image-classification",
        "metrics": names,
        "tags": ["planetary-science", "impact-craters", "image-classification", "onnx"],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    table = [f"| {_cell(name)} | {_cell(text)} |" for name, text in facts(description)]
    figures = [f"| {_cell(name)} | {_cell(text)} |" for name, text in _figures(description)]
    hashes = [
        f"| {_cell(name)} | `{sha256}` |" for name, sha256 in sorted(description.data.items())
    ]
    return _CARD_TEXT.format(
        head="\n".join(lines),
        network=description.network,
        side=description.side,
        class_name=description.class_names[1],
        facts="\n".join(table),
        figures="\n".join(["| Figure | Value |", "|---|---|", *figures]) if figures else "None.",
        hashes="\n".join(["| Array | SHA-256 |", "|---|---|", *hashes]) if hashes else "Unknown.",
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return the facts of a model as pairs of name and text."""
    names = description.class_names
    side, stride, resolution = description.side, description.stride, description.resolution
    sizes = description.conformal and [len(description.conformal[name]) for name in names]
    pixels = [("training pixels", description.pixels.text)] if description.pixels else []
    return [
        ("network", description.network),
        ("patches", f"{side} x {side} px, 8-bit gray, {description.scaling}"),
        *pixels,
        ("resolution", f"{resolution:g} m/px" if resolution else "unknown"),
        ("classes", f"0 = {names[0]}, 1 = {names[1]}"),
        ("decision threshold", f"{description.decision_threshold:g}"),
        ("temperature", f"{description.temperature:g}"),
        ("prediction sets", f"calibrated on {sizes[0]} + {sizes[1]} patches" if sizes else "none"),
        ("averaged over", ", ".join(description.symmetry)),
        ("larger images", f"in one pass, every {stride} px" if stride else "window by window"),
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(description.versions.items())) or "-"),
    ]


def _figures(description: ModelDescription) -> list[tuple[str, str]]:
    """Return the metrics with flat names; pairs of numbers are intervals."""
    figures: list[tuple[str, str]] = []
    waiting: list[tuple[str, Any]] = [("", description.metrics)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            inner = [(f"{name} / {key}" if name else key, value[key]) for key in value]
            waiting += reversed(inner)
        elif isinstance(value, (int, float)):
            figures.append((name, f"{value:.6g}"))
        elif (
            isinstance(value, list) and len(value) == 2 and all(_is_number(v, -1e9) for v in value)
        ):
            figures.append((name, f"{value[0]:.6g} to {value[1]:.6g}"))
    return figures


_CARD_TEXT = """\
---
{head}
---

# Patch classifier: {class_name}?

A small convolutional network ("{network}") that says of a grayscale patch of {side} x {side} pixels
whether it is "{class_name}".

## Intended use

Sorting patches of planetary images, and scanning images for candidates that a person then looks
at, in imagery like that of the training patches: the same kind of sensor, resolution and light.

## Limits

It measures no diameters, dates no surfaces and finds no crater's outline. Elsewhere (another
instrument, resolution, body or illumination) its figures below do not hold; label a few hundred
patches of the new imagery and measure again. A probability is only as good as its calibration.

## What it is

| | |
|---|---|
{facts}

## Data

Made from these arrays:

{hashes}

## Results

{figures}

## How to use it

    craters predict MODEL patches.npy
"""
