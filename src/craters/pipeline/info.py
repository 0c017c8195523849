"""Summarize a run folder and verify its checksums, without torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from craters.core import StrPath, files
from craters.errors import DataError
from craters.models import PRETRAINED, CircleDetector, Classifier, is_circle_model

_MANIFEST, _METRICS, _CONFIG = "manifest.json", "metrics.json", "config.json"
_FIGURES = {"n": "n", "accuracy": "accuracy", "macro_f1": "macro F1", "roc_auc": "ROC AUC"}
_LARGEST = 1 << 26  # bytes of a JSON file


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """A finished run.

    Parameters
    ----------
    config : dict
        Settings of the run.
    metrics : dict
        As in metrics.json.
    manifest : dict
    changed : tuple of str
        Files that are missing or changed since they were written.
    model : str
        Description of its model; empty if there is none.
    """

    config: dict[str, Any]
    metrics: dict[str, Any]
    manifest: dict[str, Any]
    changed: tuple[str, ...]
    model: str

    def lines(self) -> list[str]:
        """Format the summary as text."""
        lines = self._circle_lines() if self.metrics.get("task") == "circles" else self._lines()
        count = len(self.manifest.get("outputs", {}))
        state = "all unchanged"
        if self.changed:
            state = f"{len(self.changed)} changed or missing: {', '.join(self.changed[:5])}"
        lines.append(f"files: {count}, {state}")
        return [*lines, *(["its model:", self.model] if self.model else [])]

    def _circle_lines(self) -> list[str]:
        """Describe a training of the circle detector."""
        metrics, catalogue = self.metrics, self.config.get("catalogue")
        return [
            f"a training of the circle detector by craters {self.manifest.get('craters')}, seed "
            f"{self.config.get('seed')}",
            f"data: {metrics.get('images')} images, catalogue {catalogue}",
            f"validation: {metrics.get('verdict_sentence')}",
        ]

    def _lines(self) -> list[str]:
        """Describe a run on patches."""
        config = self.config
        made = (
            "without labels, predicted by the pretrained model"
            if self.metrics.get("method") == PRETRAINED
            else f"method {config.get('method')}, network {config.get('network')}, seed "
            f"{config.get('seed')}"
        )
        lines = [
            f"a run of craters {self.manifest.get('craters', 'unknown')}: {made}",
            f"data: {config.get('data')}",
        ]
        for name, row in self.metrics.get("sets", {}).items():
            lines.append(f"{name}: {row['called_with_crater']} of {row['n']} called with crater")
        for name, figures in self.metrics.get("phases", {}).items():
            shown = [
                f"{word} {figures[key]:.4g}" for key, word in _FIGURES.items() if key in figures
            ]
            lines.append(f"validation, {name}: {', '.join(shown)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, for JSON."""
        return {
            "config": self.config,
            "metrics": self.metrics,
            "craters": self.manifest.get("craters"),
            "changed": self.changed,
        }


def is_run(folder: StrPath) -> bool:
    """Return whether a folder is a finished run."""
    folder = Path(folder)
    return (folder / _MANIFEST).is_file() and (folder / _CONFIG).is_file()


def read_run(folder: StrPath) -> RunInfo:
    """Read a run folder and compare its files with its manifest.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    RunInfo

    Raises
    ------
    DataError
        If it is not a finished run.
    ModelError
        If its model is rejected.
    """
    folder = Path(folder)
    config, metrics, manifest = (
        _read_json(folder / name) for name in (_CONFIG, _METRICS, _MANIFEST)
    )
    outputs = manifest.get("outputs", {})
    changed = [name for name in outputs if not _is_unchanged(folder, name, outputs[name])]
    model = folder / "model"
    load = CircleDetector.load if is_circle_model(model) else Classifier.load
    text = load(model).describe() if model.is_dir() else ""
    return RunInfo(
        config=config,
        metrics=metrics,
        manifest=manifest,
        changed=tuple(sorted(changed)),
        model=text,
    )


def _is_unchanged(folder: Path, name: str, sha256: object) -> bool:
    path = folder / name
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        return False
    return path.is_file() and files.sha256_of(path) == sha256


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file", "Is it a finished run?")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: has more than {_LARGEST >> 20} MiB")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no JSON object")
    return content
