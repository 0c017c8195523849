"""`craters run --labels`: the consensus of a label store is what is trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from craters.data import read_job_data
from craters.errors import ExistsError
from craters.labels import CRATER, NOT, Answer, LabelStore, Patch, in_random_part
from craters.pipeline import report, run_job
from craters.pipeline.stages import run_stages
from craters.quality.checks import run_checks
from craters.training import RunConfig
from tests.conftest import write_job


def test_labels_of_a_store_are_trained_on_and_fingerprinted(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "DATA", side=28)
    data = read_job_data(folder)
    extra = next(
        row for row, name in enumerate(data.pool.ids)
        if not in_random_part(7, str(name), "extra")
    )  # fmt: skip
    turned = int(data.train.labels[0] == 0)

    def patch(found, row: int, part: str) -> Patch:
        return Patch(
            str(found.ids[row]), np.asarray(found.images[row]), str(found.source), part,
            given=int(found.labels[row]),
        )  # fmt: skip

    with LabelStore(tmp_path / "labels.sqlite", seed=7) as store:
        answers = [
            Answer(patch(data.train, 0, "labeled"), CRATER if turned else NOT),
            Answer(patch(data.pool, extra, "extra"), CRATER),
        ]
        store.add("Ann", answers)
    config = RunConfig(
        folder, tmp_path / "RUN", method="supervised", network="original", initial_epochs=2,
        final_epochs=1, threads=1, labels=tmp_path / "labels.sqlite",
    )  # fmt: skip
    outcome = run_job(config)
    lines = (outcome.folder / "origins.csv").read_text().splitlines()[1:]
    labels = {line.split(",")[0]: int(line.split(",")[1]) for line in lines}
    assert len(labels) == 121
    assert labels[str(data.train.ids[0])] == turned
    assert labels[str(data.pool.ids[extra])] == 1
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    with LabelStore(tmp_path / "labels.sqlite") as store:
        assert manifest["inputs"]["labels"] == store.fingerprint()
        assert run_job(config, resume=True).metrics["phases"] == outcome.metrics["phases"]
        store.add("Ann", [Answer(patch(data.train, 1, "labeled"), CRATER)])
    with pytest.raises(ExistsError, match="other settings, inputs"):
        run_job(config, resume=True)
    assert run_checks(outcome.folder)
    plain = run_stages(data, dataclasses.replace(config, labels=None))
    assert len(report.origins_csv(plain).splitlines()) == 121
