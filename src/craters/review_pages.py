"""What pages show beside their data: keys, and the learning curve as lines of a drawing."""

from __future__ import annotations

from typing import Any

WIDTH, HEIGHT = 640, 220  # of the curve
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 34


def key_lines(kind: str) -> list[tuple[str, str]]:
    """List the keys of the queue: what is pressed, and what it does."""
    around = [("S", "Show what is around the patch")] if kind == "scan" else []
    return [
        ("C", "Crater"), ("N", "Not a crater"), ("U", "Unsure"),
        ("Backspace", "Undo your last answer"), ("→", "Next, without an answer"),
        ("Z", "Larger, and back"), ("K", "More contrast, and back"), *around,
        ("P", "Show the model's probability and what is known"), ("?", "This help"),
    ]  # fmt: skip


def curve(models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Place the models of a review: labels across, macro F1 with its interval upwards.

    Returns
    -------
    dict or None
        Points, ticks and sizes in the drawing; None where no model is measured yet.
    """
    rows = [row for row in models if row["estimate"] and row["estimate"]["macro_f1"] is not None]
    if not rows:
        return None
    labels = [row["labels"] for row in rows]
    low = min(0.5, *(row["estimate"]["macro_f1_interval"][0] for row in rows), 0.5)
    low = max(0.0, int(low * 10) / 10)
    first, last = min(labels), max(labels)
    margin = max(1, round((last - first) * 0.08)) if last > first else max(1, round(last * 0.1))
    first, last = max(0, first - margin), last + margin

    def across(value: float) -> float:
        return round(_LEFT + (value - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 1)

    def up(value: float) -> float:
        return round(_TOP + (1 - value) / (1 - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    points = [
        {
            "x": across(row["labels"]),
            "y": up(row["estimate"]["macro_f1"]),
            "top": up(row["estimate"]["macro_f1_interval"][1]),
            "bottom": up(row["estimate"]["macro_f1_interval"][0]),
            "labels": row["labels"],
            "value": row["estimate"]["macro_f1"],
        }
        for row in rows
    ]
    steps = [round(0.1 * step, 1) for step in range(round(low * 10), 11)]
    return {
        "width": WIDTH, "height": HEIGHT, "points": points,
        "path": " ".join(f"{one['x']},{one['y']}" for one in points),
        "rows": [{"y": up(value), "text": f"{value:.1f}"} for value in steps],
        "columns": [
            {"x": across(value), "text": f"{value:,}"} for value in sorted(set(labels))
        ],
        "left": _LEFT, "right": WIDTH - _RIGHT, "bottom": HEIGHT - _BOTTOM,
    }  # fmt: skip
