"""Describe a circle detector in words: MODEL_CARD.md, and the facts that `craters info` shows."""

from __future__ import annotations

import json
from typing import Any

from craters.models.card import markdown_table
from craters.models.circles.description import CircleDescription


def circle_facts(description: CircleDescription) -> list[tuple[str, str]]:
    """Return the facts of a circle detector as pairs of name and text."""
    calibration = description.calibration
    trained = [(name, _text(value)) for name, value in description.training.items()]
    return [
        ("network", description.network),
        ("finds", "craters with centre and diameter, in images of any size and resolution"),
        ("diameters", "from 6.5 px (measured from 8 px) to a quarter of the image"),
        ("light", description.light.text.replace("patches", "images")),
        (
            "probability",
            f"calibrated on {calibration.candidates:,} candidates"
            if calibration.candidates
            else "not calibrated",
        ),
        *trained,
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(description.versions.items())) or "-"),
    ]


def circle_measured(description: CircleDescription) -> list[tuple[str, str]]:
    """Return the figures of a circle detector on real images, and its limits, as pairs."""
    return [
        *(("measured", f"{name}: {_text(each)}") for name, each in description.metrics.items()),
        *(("limit", text) for text in description.limits),
    ]


def circle_card(description: CircleDescription, license_id: str) -> str:
    """Return the model card in Markdown, with Hugging Face metadata."""
    head = {
        "license": license_id,
        "library_name": "craters",
        "pipeline_tag": "object-detection",
        "tags": ["planetary-science", "impact-craters", "object-detection", "onnx"],
    }
    columns = list(dict.fromkeys(key for each in description.metrics.values() for key in each))
    rows = [
        (name, *(_text(figures.get(key, "")) for key in columns))
        for name, figures in description.metrics.items()
    ]
    figures = markdown_table(("Real images", *map(_words, columns)), rows) if rows else "None."
    return _CARD.format(
        head="\n".join(f"{name}: {json.dumps(value)}" for name, value in head.items()),
        limits="\n".join(f"- {text}" for text in description.limits) or "Unknown.",
        facts=markdown_table(("", ""), circle_facts(description)),
        figures=figures,
    )


def _text(value: Any) -> str:
    """Return a plain value as text; objects as their names and values."""
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {_text(each)}" for key, each in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(key: str) -> str:
    return key.replace("_", " ")


_CARD = """\
---
{head}
---

# Circle detector

A small convolutional network that finds impact craters in grayscale images of planetary surfaces,
with centre and diameter, the error of the diameter and a probability.

## Intended use

Catalogues of craters as candidates for people to check, and counts at a stated precision. Measure
on some images of your own before you rely on it.

## Limits

{limits}

## What it is

{facts}

## Results

{figures}

## How to use it

    craters scan IMAGE --out SCAN
"""
