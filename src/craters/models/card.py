"""Describe a model in words: MODEL_CARD.md, and the facts that `craters info` shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from craters.models.description import ModelDescription, is_number, measured_sets, sides_text


def model_card(description: ModelDescription, license_id: str = "unknown") -> str:
    """Return the model card in Markdown, with Hugging Face metadata.

    Parameters
    ----------
    description : ModelDescription
    license_id : str
        License of the model: its identifier at Hugging Face.
    """
    is_trained = description.pretraining is None
    figures = (name.rpartition(" / ")[2] for name, _ in _figures(description))
    names = [name for name in dict.fromkeys(figures) if name not in ("patches", "side")]
    head = {
        "license": license_id,
        "library_name": "craters",
        "pipeline_tag": "image-classification",
        "metrics": names,
        "tags": ["planetary-science", "impact-craters", "image-classification", "onnx"],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    return _CARD_TEXT.format(
        head="\n".join(lines),
        network=description.network,
        sides=sides_text(description.side_range),
        class_name=description.class_names[1],
        facts=markdown_table(("", ""), facts(description)),
        **(_card_of_trained(description) if is_trained else _card_of_pretrained(description)),
    )


def _card_of_trained(description: ModelDescription) -> dict[str, str]:
    """Return the parts of the card of a model that was trained on a user's arrays."""
    hashes = [(name, f"`{sha256}`") for name, sha256 in sorted(description.data.items())]
    data = markdown_table(("Array", "SHA-256"), hashes) if hashes else "Unknown."
    figures = _figures(description)
    return {
        "use": _USE_OF_TRAINED,
        "limits": _LIMITS_OF_TRAINED,
        "data": f"Made from these arrays:\n\n{data}",
        "figures": markdown_table(("Figure", "Value"), figures) if figures else "None.",
        "command": "craters predict MODEL patches.npy",
    }


def _card_of_pretrained(description: ModelDescription) -> dict[str, str]:
    """Return the parts of the card of a model that ships with craters."""
    pretraining = description.pretraining or {}
    measured = measured_sets(description)
    columns = list(dict.fromkeys(key for figures in measured.values() for key in figures))
    rows = [
        (name, *(f"{figures[key]:g}" if key in figures else "" for key in columns))
        for name, figures in measured.items()
    ]
    return {
        "use": _USE_OF_PRETRAINED,
        "limits": "\n".join(f"- {text}" for text in [_LIMIT, *pretraining["limits"]]),
        "data": _DATA_OF_PRETRAINED,
        "figures": markdown_table(("Real images", *map(_words, columns)), rows),
        "command": "craters predict patches.npy",
    }


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    cells = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in rows]
    first = f"| {' | '.join(head)} |" if any(head) else "| | |"
    return "\n".join(
        [first, f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in cells)]
    )


def facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return the facts of a model as pairs of name and text."""
    names = description.class_names
    stride = description.stride
    sizes = description.conformal and [len(description.conformal[name]) for name in names]
    pixels = [("training pixels", description.pixels.text)] if description.pixels else []
    light = [("light", description.light.text)] if description.light else []
    return [
        ("network", description.network),
        ("patches", f"{sides_text(description.side_range)} px, 8-bit gray, {description.scaling}"),
        *pixels,
        ("resolution", _resolution(description)),
        *light,
        ("classes", f"0 = {names[0]}, 1 = {names[1]}"),
        ("decision threshold", f"{description.decision_threshold:g}"),
        ("temperature", f"{description.temperature:g}"),
        ("prediction sets", f"calibrated on {sizes[0]} + {sizes[1]} patches" if sizes else "none"),
        ("averaged over", ", ".join(description.symmetry)),
        ("larger images", f"in one pass, every {stride} px" if stride else "window by window"),
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(description.versions.items())) or "-"),
        *_pretraining_facts(description),
        *_start_facts(description),
    ]


def _resolution(description: ModelDescription) -> str:
    if description.pretraining:
        return "any: craters are recognised by their size in pixels"
    return f"{description.resolution:g} m/px" if description.resolution else "unknown"


def _start_facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return the weights that training started from."""
    if description.start is None:
        return []
    return [("started from", "{name} {version}, SHA-256 {sha256}".format(**description.start))]


def _pretraining_facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return how a model that ships with craters was trained and selected."""
    facts = description.pretraining
    if facts is None:
        return []
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    return [
        (
            "trained on",
            f"{facts['patches']:,} synthetic patches (look {facts['look']!r}, generator "
            f"{facts['generator']}, seed {facts['seed']})",
        ),
        ("label rule", facts["label_rule"]),
        ("training", settings),
        ("hardware", facts["hardware"]),
        ("selected by", facts["selection"]),
    ]


def measured_facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return the quality of a model that ships with craters, and its limits, as `facts` does."""
    if description.pretraining is None:
        return []
    rows = [
        (name, ", ".join(f"{_words(key)} {value:g}" for key, value in figures.items()))
        for name, figures in measured_sets(description).items()
    ]
    return [
        *(("measured", f"{name}: {text}") for name, text in rows),
        *(("limit", text) for text in description.pretraining["limits"]),
    ]


def _words(key: str) -> str:
    """Return the name of a figure in words: macro F1."""
    return key.replace("_", " ").replace("f1", "F1")


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
            isinstance(value, list)
            and len(value) == 2
            and all(is_number(each, -1e9) for each in value)
        ):
            figures.append((name, f"{value[0]:.6g} to {value[1]:.6g}"))
    return figures


_CARD_TEXT = """\
---
{head}
---

# Patch classifier: {class_name}?

A small convolutional network ("{network}") that says of a grayscale patch of {sides} pixels
whether it is "{class_name}".

## Intended use

{use}

## Limits

{limits}

## What it is

{facts}

## Data

{data}

## Results

{figures}

## How to use it

    {command}
"""

_USE_OF_TRAINED = """\
Sorting patches of planetary images, and scanning images for candidates that a person then looks
at, in imagery like that of the training patches: the same kind of sensor, resolution and light."""

_LIMITS_OF_TRAINED = """\
It measures no diameters, dates no surfaces and finds no crater's outline. Elsewhere (another
instrument, resolution, body or illumination) its figures below do not hold; label a few hundred
patches of the new imagery and measure again. A probability is only as good as its calibration."""

_LIMIT = "It measures no diameters, dates no surfaces and finds no crater's outline."

_USE_OF_PRETRAINED = """\
Sorting patches of planetary images before anything is labeled, and as the start of training.
Its predictions are a beginning: label some patches of the imagery at hand, and measure."""

_DATA_OF_PRETRAINED = """\
Trained on synthetic patches of procedural planets alone, which `craters` makes from a seed; its
weights hold no one's data. Real images only selected among candidates, as said above."""
