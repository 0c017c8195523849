"""Write an audit as text, JSON, tables and contact sheets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files
from craters.data import UNLABELED, class_counts
from craters.evaluation import figures
from craters.quality.cleaning import LeftOut
from craters.quality.findings import Findings
from craters.quality.flaws import FLAWS
from craters.quality.shift import Shift, in_words

SHOWN = 10  # rows of the printed tables
_SHEET = 36  # patches on a contact sheet
_PAIRS = 24  # pairs on a contact sheet
_LABEL_LINE = "  {:<16} {:<6} {:<17} {}"
_GAP = 3  # pixels between the two patches of a pair


def summary(findings: Findings, left_out: list[LeftOut] | None = None) -> dict[str, Any]:
    """Return the results of an audit as JSON-serializable values."""
    labeled = findings.sets["labeled"]
    content: dict[str, Any] = {
        "arrays": {
            name: class_counts(patches.labels) for name, patches in findings.sets.items()
        },
        "flawed": {
            name: {flaw: _count(findings, name, flaw) for flaw in FLAWS if flaw}
            for name in findings.sets
        },
        "copies": [
            {"of": first, "in": second, "equal": equal, "near": near}
            for first, second, equal, near in findings.copy_counts()
        ],
        "near_pairs": len(findings.copies.pairs),
        "conflicts": [
            {"without_crater": str(findings.ids[a]), "with_crater": str(findings.ids[b]),
             "correlation": round(value, 4)}
            for a, b, value in findings.conflicts
        ],
        "labels": None,
        "shifts": [_shift(shift) for shift in findings.shifts],
        "notes": [
            *findings.notes,
            *(note for patches in findings.sets.values() for note in patches.notes),
        ],
    }  # fmt: skip
    if findings.labels is not None:
        audit = findings.labels
        content["labels"] = {
            "suspected": int(audit.suspected.sum()),
            "estimated_errors": round(audit.estimate, 1),
            "thresholds": audit.thresholds,
            "joint": audit.joint,
            "accuracy_out_of_fold": float(((audit.probability >= 0.5) == labeled.labels).mean()),
            "ranked": [
                {"id": str(labeled.ids[row]), "row": int(row), "label": int(labeled.labels[row]),
                 "probability": round(float(audit.probability[row]), 4),
                 "suspected": bool(audit.suspected[row])}
                for row in audit.order[: max(int(audit.suspected.sum()), SHOWN)]
            ],
        }  # fmt: skip
    if left_out is not None:
        content["left_out"] = {
            name: sum(item.array == name for item in left_out) for name in findings.sets
        }
    return content


def _count(findings: Findings, name: str, flaw: str) -> int:
    inside = findings.array == list(findings.sets).index(name)
    return int((findings.flaws[inside] == flaw).sum())


def _shift(shift: Shift) -> dict[str, Any]:
    content = dataclasses.asdict(shift)
    del content["typical"]
    return content | {"is_shown": shift.is_shown}


def lines(findings: Findings, left_out: list[LeftOut] | None = None) -> list[str]:
    """Format the findings for the terminal."""
    sizes = ", ".join(f"{len(patches):,} {name}" for name, patches in findings.sets.items())
    text_lines = [f"Audit of {findings.source}: {sizes} patches.", ""]
    text_lines += [*_label_lines(findings), "", *_copy_lines(findings), "", *_flaw_lines(findings)]
    if findings.shifts:
        text_lines += ["", "Shift between the arrays:"]
        text_lines += [f"  {text}" for shift in findings.shifts for text in in_words(shift)]
    if findings.notes:
        text_lines += ["", *(f"Note: {note}" for note in findings.notes)]
    if left_out is not None:
        text_lines += ["", _left_out_line(findings, left_out)]
    return text_lines


def _label_lines(findings: Findings) -> list[str]:
    audit, labeled = findings.labels, findings.sets["labeled"]
    if audit is None:
        return ["Labels: not checked, as no network was trained (--repeats 0)."]
    text_lines = [
        f"Labels: {int(audit.suspected.sum())} of {len(labeled):,} are suspected "
        f"(about {audit.estimate:.0f} expected to be wrong); the least supported:",
        _LABEL_LINE.format("patch", "label", "probability of 1", "suspected"),
    ]
    return text_lines + [
        _LABEL_LINE.format(
            labeled.ids[row],
            labeled.labels[row],
            f"{audit.probability[row]:.3f}",
            "yes" if audit.suspected[row] else "no",
        )
        for row in audit.order[:SHOWN]
    ]


def _copy_lines(findings: Findings) -> list[str]:
    counts = findings.copy_counts()
    if not counts:
        return ["Copies: none, neither equal nor near."]
    text_lines = ["Copies (near: the pixels correlate by more than 0.95 where they overlap):"]
    for first, second, equal, near in counts:
        others = "another patch of the same array" if first == second else f"a patch of {second}"
        text_lines.append(
            f"  {first}: {equal:,} equal to {others}, {near:,} more a near copy "
            f"({(equal + near) / len(findings.sets[first]):.1%} of {first})"
        )
    if findings.conflicts:
        n = int(findings.in_conflict.sum())
        text_lines.append(f"  {n} patches have a copy with the other label, for example:")
        text_lines += [
            f"    {findings.ids[a]} without crater, {findings.ids[b]} with crater "
            f"({'equal' if value == 1 else f'correlation {value:.3f}'})"
            for a, b, value in findings.conflicts[: SHOWN // 2]
        ]
    else:
        text_lines.append("  No copy has another label than its original.")
    return text_lines


def _flaw_lines(findings: Findings) -> list[str]:
    text_lines = []
    for name in findings.sets:
        counts = {flaw: _count(findings, name, flaw) for flaw in FLAWS if flaw}
        parts = [f"{count:,} {flaw}" for flaw, count in counts.items() if count]
        if parts:
            text_lines.append(f"  {name}: {', '.join(parts)}")
    if not text_lines:
        return ["Flawed patches: none is constant, faint, saturated or has a gap."]
    return ["Flawed patches:", *text_lines]


def _left_out_line(findings: Findings, left_out: list[LeftOut]) -> str:
    parts = []
    for name, patches in findings.sets.items():
        kept = len(patches) - sum(item.array == name for item in left_out)
        parts.append(f"{name} {kept:,} of {len(patches):,}")
    return f"Cleaned copies keep: {', '.join(parts)} patches."


def write_all(findings: Findings, folder: Path, left_out: list[LeftOut] | None) -> list[Path]:
    """Write the tables and sheets of an audit.

    Returns
    -------
    list of Path
        audit.json, audit.md, labels.csv, copies.csv, flawed.csv and the contact sheets; empty ones
        are not written.
    """
    tables = {"labels": _label_rows, "copies": _copy_rows, "flawed": _flaw_rows}
    sheets = {
        "labels": _label_sheet, "copies": _copy_sheet, "conflicts": _conflict_sheet,
        "flawed": _flaw_sheet, "shift": _shift_sheet,
    }  # fmt: skip
    written = []
    for name, make_rows in tables.items():
        header, *rows = make_rows(findings)
        if rows:
            files.write_text(folder / f"{name}.csv", files.to_csv([header, *rows]))
            written.append(folder / f"{name}.csv")
    pictures = []
    for name, draw in sheets.items():
        (folder / f"{name}.png").unlink(missing_ok=True)
        figure = draw(findings)
        if figure is not None:
            figures.save_figure(folder / f"{name}.png", figure)
            pictures.append(folder / f"{name}.png")
    text = "\n".join(lines(findings, left_out))
    shown = "".join(f"\n![{path.stem}]({path.name})\n" for path in pictures)
    files.write_text(folder / "audit.md", f"# Audit\n\n```text\n{text}\n```\n{shown}")
    files.write_json(folder / "audit.json", summary(findings, left_out))
    return [*written, *pictures, folder / "audit.md", folder / "audit.json"]


def _label_rows(findings: Findings) -> Iterator[list[Any]]:
    yield ["rank", "id", "row", "label", "probability", "confidence", "suspected"]
    audit, labeled = findings.labels, findings.sets["labeled"]
    if audit is not None:
        for rank, row in enumerate(audit.order, 1):
            yield [rank, labeled.ids[row], int(row), int(labeled.labels[row]),
                   f"{audit.probability[row]:.6f}", f"{audit.confidence[row]:.6f}",
                   int(audit.suspected[row])]  # fmt: skip


def _copy_rows(findings: Findings) -> Iterator[list[Any]]:
    yield ["kind", "first", "second", "first_label", "second_label", "correlation", "down", "right"]
    copies = findings.copies
    repeated = np.flatnonzero(copies.rows[copies.content] != np.arange(len(copies.content)))
    for row in repeated:
        first = copies.rows[copies.content[row]]
        yield ["equal", findings.ids[first], findings.ids[row], _label(findings, first),
               _label(findings, row), 1, 0, 0]  # fmt: skip
    for pair, value, shift in zip(copies.pairs, copies.correlation, copies.shift, strict=True):
        first, second = copies.rows[pair]
        yield ["near", findings.ids[first], findings.ids[second], _label(findings, first),
               _label(findings, second), f"{value:.5f}", int(shift[0]), int(shift[1])]  # fmt: skip


def _label(findings: Findings, row: int | np.integer) -> str:
    return "" if findings.given[row] == UNLABELED else str(findings.given[row])


def _flaw_rows(findings: Findings) -> Iterator[list[Any]]:
    yield ["id", "flaw", "meaning"]
    for row in np.flatnonzero(findings.flaws != ""):
        yield [findings.ids[row], findings.flaws[row], FLAWS[findings.flaws[row]]]


def stretch(image: np.ndarray) -> np.ndarray:
    """Stretch a patch's contrast to 0..255 between its 1st and 99th percentile."""
    low, high = np.percentile(image, (1, 99))
    spread = (image.astype(np.float64) - low) * (255 / max(float(high - low), 1.0))
    return np.clip(np.rint(spread), 0, 255).astype(np.uint8)


def _sheet(images: list[np.ndarray], captions: list[str], title: str, columns: int = 6) -> Any:
    figure = figures.contact_sheet(np.array(images), captions, columns)
    width, height = figure.get_size_inches()
    if images[0].shape[1] > images[0].shape[0]:  # pairs need less height
        height *= 0.62
    figure.set_size_inches(1.25 * width if columns < 6 else width, height + 0.3)
    figure.suptitle(title, fontsize=10)
    return figure


def _label_sheet(findings: Findings) -> Any:
    audit, labeled = findings.labels, findings.sets["labeled"]
    if audit is None:
        return None
    rows = audit.order[:_SHEET]
    captions = [
        f"{labeled.ids[row]}\nlabel {labeled.labels[row]}, p = {audit.probability[row]:.2f}"
        for row in rows
    ]
    title = 'Labels of lowest confidence (p: of "with crater"); contrast stretched'
    return _sheet([stretch(np.asarray(labeled.images[row])) for row in rows], captions, title)


def _copy_sheet(findings: Findings) -> Any:
    """Show pairs of near copies by increasing correlation."""
    copies = findings.copies
    if not len(copies.pairs):
        return None
    order = np.argsort(copies.correlation, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _PAIRS).astype(int))]
    pairs = [
        (int(copies.rows[a]), int(copies.rows[b]), float(copies.correlation[k]))
        for k, (a, b) in zip(chosen, copies.pairs[chosen], strict=True)
    ]
    title = f"{len(pairs)} of {len(order):,} pairs of near copies, the least alike first"
    return _pair_sheet(findings, pairs, title)


def _conflict_sheet(findings: Findings) -> Any:
    if not findings.conflicts:
        return None
    shown = findings.conflicts[:_PAIRS]
    title = "Copies with different labels: left without crater, right with crater"
    return _pair_sheet(findings, shown, title)


def _pair_sheet(findings: Findings, pairs: list[tuple[int, int, float]], title: str) -> Any:
    images, captions = [], []
    for first, second, value in pairs:
        left, right = findings.image(first), findings.image(second)
        gap = np.full((len(left), _GAP), 255, np.uint8)
        images.append(np.concatenate([stretch(left), gap, stretch(right)], axis=1))
        captions.append(f"{findings.ids[first]} | {findings.ids[second]}\ncorrelation {value:.3f}")
    return _sheet(images, captions, f"{title}; contrast stretched", columns=4)


def _flaw_sheet(findings: Findings) -> Any:
    rows = np.flatnonzero(findings.flaws != "")[:_SHEET]
    if not len(rows):
        return None
    captions = [f"{findings.ids[row]}\n{findings.flaws[row]}" for row in rows]
    return _sheet([findings.image(row) for row in rows], captions, "Flawed patches, as they are")


def _shift_sheet(findings: Findings) -> Any:
    shown = [shift for shift in findings.shifts if shift.is_shown]
    if not shown:
        return None
    images, captions = [], []
    for shift in shown:
        for name, rows in zip((shift.first, shift.second), shift.typical, strict=True):
            images += [np.asarray(findings.sets[name].images[row]) for row in rows]
            other = shift.second if name == shift.first else shift.first
            captions += [f"{name},\nnot {other}" if k == 0 else "\n" for k in range(len(rows))]
    title = "Patches that a classifier finds most typical of an array, compared with another array"
    return _sheet(images, captions, title, columns=12)
