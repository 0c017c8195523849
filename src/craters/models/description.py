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
from craters.data import CLASS_NAMES, LookRange, PixelRecord
from craters.errors import DataError, ModelError
from craters.models.light import LightFrame

SCALING = "divide by 255"
SYMMETRY_NONE = ("identity",)
NAME = "model.json"
DAMAGED = "Copy the folder again from its source."

# The parts of `pretraining` with their types; `looks` is read as a `LookRange`.
PRETRAINING: dict[str, type] = {
    "generator": str,  # version of the synthetic planets
    "look": str,  # preset of the synthetic planets
    "patches": int,
    "label_rule": str,
    "settings": dict,
    "seed": int,
    "hardware": str,
    "selection": str,  # what real images selected the model, and how
    "limits": list,
    "looks": dict,
}
# Its `metrics` hold figures by the name of a set of real images: `macro_f1` and others, and
# `patches` and `side`, their number and size.
_OPTIONAL = {"pixels", "sides", "light", "pretraining", "start"}  # absent in older folders


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
        Height and width of a patch in pixels; for a model of several sides, a usual one.
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
    sides : tuple of int, or None
        Least and largest side of a patch, for a model that takes every side between them. None:
        `side` alone; then the JSON lacks the key.
    light : LightFrame or None
        The light that the network expects: patches are turned to it by their direction of light.
        None: patches are predicted as they are; then the JSON lacks the key.
    pretraining : dict or None
        How a model that ships with craters was trained and selected: see `PRETRAINING`. None:
        it is no such model; then the JSON lacks the key.
    start : dict of str, or None
        `name`, `version` and `sha256` of the pretrained weights that training started from. None:
        random weights; then the JSON lacks the key.

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
    sides: tuple[int, int] | None = None
    light: LightFrame | None = None
    pretraining: dict[str, Any] | None = None
    start: dict[str, str] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name in ("pixels", "light"):  # check themselves
                continue
            if field.name in _OPTIONAL and getattr(self, field.name) is None:
                continue
            value = _plain(getattr(self, field.name), field.name)
            is_good, expected = _CHECKS[field.name]
            if not is_good(value):
                raise ModelError(f"{field.name} is {reprlib.repr(value)}, expected {expected}")
            if field.name in ("class_names", "symmetry", "sides"):
                value = tuple(value)
            object.__setattr__(self, field.name, value)
        if self.conformal is not None and set(self.conformal) != set(self.class_names):
            raise ModelError(f"conformal is of {sorted(self.conformal)}, expected the class names")
        if not self.side_range[0] <= self.side <= self.side_range[1]:
            raise ModelError(f"side is {self.side}, expected one of the sides {self.sides}")
        if self.pretraining is not None:
            self.looks  # noqa: B018 - raises for a wrong record

    @property
    def side_range(self) -> tuple[int, int]:
        """Least and largest side of a patch in pixels."""
        return self.sides or (self.side, self.side)

    @property
    def looks(self) -> LookRange | None:
        """The looks of the training patches of a model that ships with craters."""
        return None if self.pretraining is None else LookRange.from_dict(self.pretraining["looks"])

    def to_json(self) -> str:
        """Return the description as indented JSON with sorted keys."""
        values = dataclasses.asdict(self)
        for name in _OPTIONAL:
            if values[name] is None:
                del values[name]
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
        values = read_json_object(text, source)
        if values.get("network") == "circles":
            raise ModelError(
                f"{source}: is of a circle detector, which takes images and no patches",
                "Find craters in images with it: craters scan.",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        absent = names - set(values) - _OPTIONAL
        for word, keys in (("unknown", set(values) - names), ("missing", absent)):
            if keys:
                raise ModelError(f"{source}: {word} key {min(keys)!r}", "Is it of another version?")
        try:
            if "pixels" in values:
                values["pixels"] = PixelRecord.from_dict(values["pixels"], "pixels")
            if "light" in values:
                values["light"] = LightFrame.from_dict(values["light"])
            return cls(**values)
        except (ModelError, DataError) as error:
            raise ModelError(f"{source}: {error.message}") from error


def read_json_object(text: str, source: str) -> dict[str, Any]:
    """Parse the text of a model.json, called `source` in messages.

    Raises
    ------
    ModelError
        If it is no JSON object, or repeats a key.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: is not the JSON of a model ({error})", DAMAGED) from error
    if not isinstance(values, dict):
        raise ModelError(f"{source}: holds no JSON object", DAMAGED)
    return values


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


def is_number(value: Any, low: float, high: float = math.inf) -> bool:
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
        and all(is_number(item, -1, 1) and item >= 0 for item in value)
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
    "resolution": (lambda value: value is None or is_number(value, 0, 1e9), "m/px, or null"),
    "class_names": (lambda value: _is_texts(value) and len(set(value)) == 2, "two names"),
    "decision_threshold": (lambda value: is_number(value, -1, 1) and value >= 0, "0 to 1"),
    "temperature": (lambda value: is_number(value, 0, 1e9), "a number above 0"),
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
    "sides": (
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and all(_is_whole(item, 8) for item in value)
            and value[0] <= value[1]
        ),
        "least and largest number of pixels",
    ),
    "start": (
        lambda value: (
            isinstance(value, dict)
            and set(value) == {"name", "version", "sha256"}
            and _is_texts(list(value.values()))
            and re.fullmatch("[0-9a-f]{64}", value["sha256"])
        ),
        "name, version and SHA-256",
    ),
    "pretraining": (
        lambda value: (
            isinstance(value, dict)
            and set(value) == set(PRETRAINING)
            and all(isinstance(value[name], kind) for name, kind in PRETRAINING.items())
            and _is_texts(value["limits"])
        ),
        f"the keys {', '.join(PRETRAINING)}",
    ),
}


def sides_text(sides: tuple[int, int]) -> str:
    """Return a range of sides in words: 48 x 48, or 24 x 24 to 96 x 96."""
    least, largest = sides
    return f"{least} x {least}" + (f" to {largest} x {largest}" if largest > least else "")


def size_hint(sides: tuple[int, int]) -> str:
    """Return what to do with patches that have none of these sides."""
    if sides[0] == sides[1]:
        return "The model was trained on patches of this size; crop or resample them."
    return "Crop or resample them: the model recognises craters by their size in pixels."


def measured_sets(description: ModelDescription) -> dict[str, dict[str, float]]:
    """Return the figures of each set of real images that a shipped model was measured on."""
    return {
        name: figures
        for name, figures in description.metrics.items()
        if isinstance(figures, dict) and all(is_number(each, -1) for each in figures.values())
    }
