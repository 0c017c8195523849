"""Circles on real images: recall, precision and diameters, with no real label and trained."""

from __future__ import annotations

from pathlib import Path

import harness
from circles.plan import (
    FOLDS,
    NO_LABEL,
    PYCDA,
    RULES,
    SCENES,
    SHIPPED,
    STRETCHED,
    SYNTHETIC,
    TRAINED,
    source_of,
)
from craters.core import Progress, files
from craters.synthetic import GENERATOR_VERSION
from harness import Bench, BenchError, Keys, Row, Rows
from pretrained import sets

NAME = "circles"
TITLE = "Circles on real images"
RESULT_VERSION = 1

_TITLES = {
    "recall_at_rate": ["recall at 0.5 false an image", 3],
    "recall_at_precision": ["recall at precision 0.8", 3],
    "average_precision": ["average precision", 3],
    "best_f1": ["best F1", 3],
    "precision": ["precision, default threshold", 3],
    "expected_precision": ["expected precision there", 3],
    "recall": ["recall there", 3],
    "f1": ["F1 there", 3],
    "false_per_megapixel": ["false detections a megapixel there", 1],
    "diameter_ratio": ["median ratio of diameters", 3],
    "diameter_scatter": ["scatter of the ratio", 3],
    "within_error": ["true diameters within one stated error", 3],
    "distance_px": ["distance of centres, px", 2],
}
_TABLES = {
    "What is found": ("recall_at_rate", "recall_at_precision", "average_precision", "best_f1"),
    "At the default threshold": (
        "precision", "expected_precision", "recall", "f1", "false_per_megapixel",
    ),
    "Diameters and centres of hits there": (
        "diameter_ratio", "diameter_scatter", "within_error", "distance_px",
    ),
}  # fmt: skip


def run(bench: Bench, progress: Progress) -> Row:
    """Search the sets whose rows are missing."""
    from circles.search import search

    def find(key: str, _: int) -> Row:
        contender, _, name = key.partition(": ")
        if contender != PYCDA and not SYNTHETIC.is_dir():
            raise BenchError(f"{SYNTHETIC}: missing; `make circles` trains it")
        row = search(contender, name, bench.data.parent, progress)
        progress.say(f"{key}: F1 {row['f1']:.3f}, n = {row['craters']}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), find))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender and set depends on.

    The detectors without real labels and of the folds are made with the shipped one, which stands
    for them.
    """
    shipped = files.sha256_of(SHIPPED / "model.onnx")[:16]
    return {
        (f"{contender}: {name}", 0): harness.row_key(
            bench,
            f"{contender}: {name}",
            0,
            {
                "set": _fingerprint(source_of(name), bench.data.parent),
                "rule": str(RULES[source_of(name)]),
                **({} if contender == PYCDA else {"model": shipped}),
            },
            RESULT_VERSION,
        )
        for contender in (NO_LABEL, TRAINED, PYCDA)
        for name in (*RULES, *([STRETCHED] if contender == TRAINED else []))
        if (name == SCENES and contender != PYCDA)
        or sets.folder_of(source_of(name), bench.data.parent).is_dir()
    }


def _fingerprint(name: str, data: Path) -> str:
    """Return what tells the images of a set from others."""
    return f"generator {GENERATOR_VERSION}" if name == SCENES else sets.fingerprint(name, data)


def _result(rows: Rows) -> Row:
    contenders = [
        harness.contender(
            key,
            {0: row},
            tuple(name for name in _TITLES if row.get(name) is not None),
            key.startswith(PYCDA),
        )
        for (key, _), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Circles are matched one to one with the craters of a catalogue: the distance of the "
            "centres is at most half the crater's diameter, and the ratio of the diameters 0.5 to "
            "2. Craters of the THEMIS tiles count from 10 to 48 px (1 to 4.8 km), 24 px from the "
            "edge at least; those of other sets from 12 px. `ctx_mars` lists craters incompletely, "
            "and its boxes and those of `nac_moon` are wider than the rims.",
            "Synthetic scenes (12 to 64 px, 24 px from the edge) have an exact truth: they show "
            "the errors of centres and diameters without those of a catalogue. Only clearly "
            "visible craters count there, so that others that are found are false.",
            "No real label: trained on synthetic scenes alone. Trained on THEMIS: also on images "
            "of `themis_tiles`, for `tiles` on those of the other regions, four folds; no other "
            "set was ever trained on. The default threshold expects a precision of 0.8; its "
            "calibration is of THEMIS images of other regions, also for the detector without real "
            "labels.",
            "Tiles that are stretched twice: every column is repeated, as in plate carree at "
            "latitude 60, and searched in conformal pixels.",
            "PyCDA is a public package (TensorFlow 2.15), with its shipped models and its own "
            "threshold of 0.5; it was trained on images of `hrsc`.",
        ],
        settings={"folds": FOLDS},
        titles=_TITLES,
        tables=_TABLES,
        contenders=contenders,
        findings=_findings(rows),
        sets={
            key: {name: row[name] for name in ("images", "craters", "by_diameter")}
            for (key, _), row in rows.items()
        },
    )


def _findings(rows: Rows) -> list[str]:
    """Return recall and precision by diameter, and the figures after registration, in words."""
    lines = []
    for (key, _), row in rows.items():
        bins = "; ".join(
            f"from {each['from']:g} px {_share(each['recall'])} of {each['craters']} craters, "
            f"precision {_share(each['precision'])}"
            for each in row["by_diameter"]
            if each["craters"] or each["detections"]
        )
        lines.append(f"{key}, at the default threshold: {bins}")
        if (moved := row.get("registered")) is not None:
            lines.append(
                f"{key}, the shift of the catalogue in each region taken out: recall at 0.5 false "
                f"an image {moved['recall_at_rate']:.3f}, median distance of centres "
                f"{moved['distance_px']:.2f} px"
            )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
