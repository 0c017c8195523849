"""The checks of a run: each fires where its fault is planted, and is silent where there is none."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.core import files
from craters.errors import DataError
from craters.models import folder
from craters.pipeline import run_job, stages
from craters.pipeline.result import JobResult
from craters.quality import Check, check_rules, checks, test_set_uses
from craters.quality.check_records import read_run_record
from craters.quality.checks import run_checks
from craters.synthetic import write_dataset
from craters.training import RunConfig, trainer
from craters.training.recipes import TrainConfig, modern_recipe
from tests.conftest import REPOSITORY, simple_patches, write_job

SEVERE = ["C01", "C03", "C05", "C09", "C10", "C13", "C16"]
Edit = Callable[[Any], None]


def config_for(data: Path, out: Path, **changes) -> RunConfig:
    plain = RunConfig(
        data, out, initial_epochs=8, final_epochs=2, threads=1, batch_size=8, initial_lr=0.006,
        final_lr=0.003, pseudo_threshold=0.53, method="supervised", network="original",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_job(tmp_path_factory.mktemp("checks") / "DATA", groups=True)
    np.save(folder / "Ytest1.npy", simple_patches(30, 3)[1])
    np.save(folder / "groups_test.npy", np.array([f"other_{row // 3}" for row in range(30)]))
    return folder


@pytest.fixture(scope="module")
def clean(data: Path) -> Path:
    """A supervised run with nothing wrong."""
    outcome = run_job(config_for(data, data.parent / "clean"))
    assert [check.id for check in outcome.checks if check.state != "passed"] == []
    return outcome.folder


@pytest.fixture(scope="module")
def original(data: Path) -> Path:
    """The original method under the original protocol, whose figures flatter by nature."""
    config = config_for(data, data.parent / "original", method="original", protocol="original")
    return run_job(dataclasses.replace(config, initial_epochs=10, final_epochs=4)).folder


def edit_json(path: Path, edit: Edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    files.write_json(path, content)


def edit_origins(path: Path, edit: Edit) -> None:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    edit(rows)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def by_id(made: list[Check]) -> dict[str, Check]:
    return {check.id: check for check in made}


def plant(
    run: Path, root: Path, *, metrics: Edit | None = None, config: Edit | None = None,
    origins: Edit | None = None, arrays: Callable[[Path], None] | None = None,
) -> dict[str, Check]:  # fmt: skip
    """Copy a run, change what its files or its arrays hold, and check the copy."""
    folder = root / "planted"
    shutil.copytree(run, folder)
    data = Path(json.loads((run / "config.json").read_text())["data"])
    if metrics:
        edit_json(folder / "metrics.json", metrics)
    if config:
        edit_json(folder / "config.json", config)
    if origins:
        edit_origins(folder / "origins.csv", origins)
    if arrays:
        shutil.copytree(data, root / "DATA")
        data = root / "DATA"
        arrays(data)
        found = {path.name: files.sha256_of(path) for path in data.iterdir()}
        edit_json(folder / "manifest.json", lambda content: content.update(inputs=found))
    return by_id(run_checks(folder, data_folder=data))


def parts_of(run: Path) -> dict[str, list[int]]:
    """Rows of Xtrain1 by the part in which the first phase had them."""
    with (run / "origins.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        part: [int(row["id"].partition(":")[2]) for row in rows if row["initial_part"] == part]
        for part in ("train", "validation")
    }


# NullProgress


def test_a_clean_run_fires_nothing_and_keeps_its_checks(clean: Path, data: Path) -> None:
    made = run_checks(clean)
    assert [check.id for check in made] == [f"C{number:02}" for number in range(1, 17)]
    assert {check.state for check in made} == {"passed"}
    stored = json.loads((clean / "checks.json").read_text())
    now = checks.as_json(made)
    for one, other in zip(stored, now, strict=True):
        assert one == other or one["id"] == "C13"  # at its end, no file could have changed
    manifest = json.loads((clean / "manifest.json").read_text())
    assert "checks.json" in manifest["outputs"]
    assert test_set_uses.NAME not in manifest["outputs"]
    (entry,) = test_set_uses.read_log(clean)
    assert (entry.by, entry.which, entry.n) == ("craters run", "test", 30)
    assert entry.images == files.sha256_of(data / "Xtest1.npy")
    assert checks.lines(made) == ["Checks: none of 16 fired."]
    page = html.unescape((clean / "report.html").read_text())
    assert all(check["sentence"] in page for check in stored)


@pytest.mark.slow
def test_nothing_fires_on_clean_runs_of_five_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(n: int, side: int, **more) -> TrainConfig:
        return dataclasses.replace(modern_recipe(n, side, **more), epochs=15)

    monkeypatch.setattr(trainer, "modern_recipe", short)
    for seed in range(5):
        data = tmp_path / f"DATA-{seed}"
        write_dataset(data, seed=seed, n_labeled=400, n_unlabeled=100, n_test=300)
        config = RunConfig(data, tmp_path / f"RUN-{seed}", method="supervised", seed=seed)
        made = run_job(config).checks
        assert [check.sentence for check in made if check.state != "passed"] == []


# Leaks


def assert_only(made: dict[str, Check], *fired: str, unknown: tuple[str, ...] = ()) -> None:
    """Compare what fired; C13 does where files were changed for the test."""
    states = {name: check.state for name, check in made.items()}
    assert {name for name, state in states.items() if state == "fired"} - {"C13"} == set(fired)
    assert {name for name, state in states.items() if state == "not checked"} == set(unknown)


def test_equal_patches_in_training_and_test(clean: Path, tmp_path: Path) -> None:
    def arrays(folder: Path) -> None:
        test, train = np.load(folder / "Xtest1.npy"), np.load(folder / "Xtrain1.npy")
        test[[2, 5, 7]] = train[[0, 1, 1]]
        test[9] = 0  # constant patches are copies of nothing
        train[3] = 0
        np.save(folder / "Xtest1.npy", test)
        np.save(folder / "Xtrain1.npy", train)

    made = plant(clean, tmp_path, arrays=arrays)
    assert_only(made, "C01")
    assert made["C01"].sentence == "3 of 30 test patches equal a labeled patch."
    assert made["C01"].severity == "severe"


def test_equal_patches_in_training_and_validation(clean: Path, tmp_path: Path) -> None:
    parts = parts_of(clean)

    def arrays(folder: Path) -> None:
        train = np.load(folder / "Xtrain1.npy")
        train[parts["validation"][:2]] = train[parts["train"][0]]
        np.save(folder / "Xtrain1.npy", train)

    made = plant(clean, tmp_path, arrays=arrays)
    assert_only(made, "C01")
    assert made["C01"].sentence == "2 of 24 validation patches equal a training patch."


def test_nearly_equal_patches(clean: Path, tmp_path: Path) -> None:
    parts = parts_of(clean)

    def arrays(folder: Path) -> None:
        train, test = np.load(folder / "Xtrain1.npy"), np.load(folder / "Xtest1.npy")
        noise = np.random.default_rng(0).normal(5, 1, train[0].shape)
        train[parts["validation"][3]] = np.clip(train[parts["train"][4]] * 0.9 + noise, 0, 255)
        moved = np.roll(train[parts["train"][6]].reshape(48, 48), 1, axis=1)
        test[4] = moved.reshape(-1)
        np.save(folder / "Xtrain1.npy", train)
        np.save(folder / "Xtest1.npy", test)

    made = plant(clean, tmp_path, arrays=arrays)
    assert_only(made, "C02")
    assert made["C02"].sentence == (
        "1 of 24 validation patches are nearly equal to a training patch; 1 of 30 test patches "
        "are nearly equal to a labeled patch."
    )


def test_unlabeled_copies_count_where_unlabeled_patches_are_learned_from(
    clean: Path, original: Path, tmp_path: Path
) -> None:
    row = parts_of(original)["validation"][0]

    def arrays(folder: Path) -> None:
        pool, test = np.load(folder / "Xtrain1_extra.npy"), np.load(folder / "Xtest1.npy")
        pool[0], pool[1] = test[3], np.load(folder / "Xtrain1.npy")[row]
        np.save(folder / "Xtrain1_extra.npy", pool)

    assert_only(plant(clean, tmp_path / "clean", arrays=arrays))
    sentence = plant(original, tmp_path / "original", arrays=arrays)["C01"].sentence
    assert "1 of 30 test patches equal an unlabeled patch" in sentence
    assert "validation patches equal an unlabeled patch" in sentence


def test_source_images_on_both_sides(clean: Path, original: Path, tmp_path: Path) -> None:
    def arrays(folder: Path) -> None:
        groups = np.load(folder / "groups_test.npy").astype("U20")
        groups[:3] = "image_0"
        np.save(folder / "groups_test.npy", groups)

    made = plant(clean, tmp_path, arrays=arrays)
    assert_only(made, "C09")
    assert made["C09"].sentence == "1 of the 10 source images of test are labeled, too."
    made = by_id(run_checks(original))
    assert made["C09"].state == "fired"
    assert re.match(r"(\d+) of the \d+ source images of validation \(final stage\) have",
                    made["C09"].sentence)  # fmt: skip


def test_source_images_are_counted_as_by_hand(clean: Path, tmp_path: Path) -> None:
    parts = parts_of(clean)
    groups = np.array([f"image_{row // 4}" for row in range(120)])
    moved = parts["validation"][0]

    def origins(rows: list[dict[str, str]]) -> None:
        for row in rows:
            if row["id"] == f"Xtrain1:{moved}":
                row["initial_part"] = row["final_part"] = "train"

    made = plant(clean, tmp_path, origins=origins)
    judged = set(groups[parts["validation"][1:]])
    assert groups[moved] in judged
    assert made["C09"].sentence == (
        f"1 of the {len(judged)} source images of validation have patches in training, too."
    )


def test_folds_are_judged_one_by_one(clean: Path, tmp_path: Path) -> None:
    """Where each label is held out once, no part is called "train"."""

    def origins(rows: list[dict[str, str]]) -> None:
        for row in rows:
            group = int(row["id"].partition(":")[2]) // 4
            row["initial_part"] = row["final_part"] = f"fold {group % 3}"

    made = plant(clean, tmp_path / "whole", origins=origins)
    assert_only(made)
    assert "No equal copies between held-out and training" in made["C01"].sentence

    def split(rows: list[dict[str, str]]) -> None:
        origins(rows)
        rows[0]["initial_part"] = rows[0]["final_part"] = "fold 2"

    made = plant(clean, tmp_path / "split", origins=split)
    assert made["C09"].sentence == (
        "1 of the 30 source images of held-out have patches in training, too."
    )


@pytest.mark.parametrize(("units", "state"), [("whole regions", "passed"),
                                              ("single patches", "fired")])  # fmt: skip
def test_folds_that_are_not_on_record(clean: Path, tmp_path: Path, units: str, state: str) -> None:
    def origins(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["initial_part"] = row["final_part"] = "held out once"

    rule = f"5 folds of {units}, each held out once"
    made = plant(
        clean,
        tmp_path,
        origins=origins,
        metrics=lambda content: content.update(validation_rule={"initial": rule, "final": rule}),
    )
    assert made["C09"].state == state
    assert f"abels were held out once: {rule}" in made["C09"].sentence
    assert "between test and labeled, nor between folds (those are not on record" in (
        made["C01"].sentence
    )
    assert made["C05"].sentence == "All 120 labels of held-out were given by people."


# Chance


def test_no_better_than_the_commoner_class(clean: Path, tmp_path: Path) -> None:
    def metrics(content: dict[str, Any]) -> None:
        content["test"] |= {"accuracy": 0.6, "confusion_matrix": [[3, 9], [3, 15]]}

    made = plant(clean, tmp_path / "plain", metrics=metrics)
    assert_only(made, "C03")
    assert made["C03"].sentence == (
        "Accuracy on the test set is 0.6000, that of the commoner class alone 0.6000 (n = 30)."
    )

    def aimed(content: dict[str, Any]) -> None:  # accuracy is given away for recall
        metrics(content)
        content["threshold_chosen_for"] = "recall>=0.95"

    made = plant(clean, tmp_path / "aimed", metrics=aimed)
    assert made["C03"].state == "passed"
    assert "macro F1 on the test set" in made["C03"].sentence
    assert "commoner class alone 0.3750" in made["C03"].sentence  # 0.6 / 1.6


def test_collapsed_networks(clean: Path, tmp_path: Path) -> None:
    def metrics(content: dict[str, Any]) -> None:
        content["phases"]["supervised"]["confusion_matrix"] = [[0, 10], [0, 14]]

    made = plant(clean, tmp_path / "sided", metrics=metrics)
    assert made["C10"].state == "fired"
    assert made["C10"].sentence.startswith("100.0% of the 24 validation patches are called")
    folder = tmp_path / "flat"
    shutil.copytree(clean, folder)
    random = np.random.default_rng(0)
    np.save(folder / "probabilities.npy", random.uniform(0.5, 0.58, 30).astype(np.float32))
    made = by_id(run_checks(folder))
    assert_only(made, "C10")
    assert re.search(r"lie between 0\.5\d\d and 0\.5\d\d", made["C10"].sentence)


def test_intervals_that_hold_chance(clean: Path, tmp_path: Path) -> None:
    def metrics(content: dict[str, Any]) -> None:
        content["test"]["intervals"] |= {"roc_auc": [0.49, 0.8], "accuracy": [0.55, 0.9]}

    made = plant(clean, tmp_path / "held", metrics=metrics)
    assert_only(made, "C12")
    assert made["C12"].sentence == (
        "The interval of ROC AUC on the test set, 0.4900 to 0.8000, does not lie above chance, "
        "0.5000; the interval of accuracy on the test set, 0.5500 to 0.9000, does not lie above "
        "chance, 0.6000."
    )

    def without(content: dict[str, Any]) -> None:
        for row in (content["test"], content["phases"]["supervised"]):
            row |= {"intervals": {}, "no_interval": "no interval: too few"}

    made = plant(clean, tmp_path / "none", metrics=without)
    assert_only(made, unknown=("C12",))
    assert made["C12"].sentence == (
        "validation: no interval: too few; the test set: no interval: too few"
    )


# Unlabeled patches

VERDICT = {
    "outcome": "helped", "method": "self-training", "reference": "supervised",
    "measure": "macro_f1", "difference": 0.012, "low": 0.004, "high": 0.02, "level": 0.95,
    "n_labels": 120, "n_seeds": 1, "n_folds": 5, "sentence": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fired"),
    [
        ({}, set()),
        ({"outcome": "no difference can be shown", "low": -0.01}, {"C04"}),
        ({"outcome": "did not help", "difference": -0.03, "low": -0.05, "high": -0.01}, {"C04"}),
        ({"n_folds": 3}, set()),  # as every run has it
        ({"low": -0.001}, {"C08"}),
        ({"n_groups": 51}, set()),
        ({"n_groups": 5}, {"C08"}),
        ({"fell_back": True}, {"C08"}),
        ({"outcome": "no difference can be shown", "low": -0.01, "n_groups": 5}, {"C04"}),
        ({"outcome": "no difference can be shown", "low": -0.01, "n_folds": 3}, {"C04"}),
    ],
)
def test_a_verdict_is_judged(
    clean: Path, tmp_path: Path, changes: dict[str, Any], fired: set[str]
) -> None:
    verdict = VERDICT | changes
    made = plant(
        clean,
        tmp_path,
        metrics=lambda content: content.update(verdict=verdict),
        config=lambda content: content.update(method="self-training"),
    )
    assert_only(made, *fired)
    assert f"{verdict['difference']:+.4f} macro_f1 (95 % interval" in made["C04"].sentence


def test_what_auto_tried_in_vain_is_no_claim(clean: Path, tmp_path: Path) -> None:
    def metrics(content: dict[str, Any]) -> None:
        content["verdict"] = VERDICT | {"outcome": "did not help", "n_folds": 3}
        content["auto"] = {"method": "supervised", "reason": ""}

    made = plant(
        clean, tmp_path, metrics=metrics, config=lambda content: content.update(method="auto")
    )
    assert_only(made)
    assert made["C04"].sentence == "The final network learned from human labels alone."


def test_phases_of_one_training_are_compared_with_care(original: Path, tmp_path: Path) -> None:
    def better(content: dict[str, Any]) -> None:
        content["verdict"] = None
        content["phases"]["initial"]["macro_f1"] = 0.8
        content["phases"]["final_clean"]["macro_f1"] = 0.85
        content["phases"]["final"]["macro_f1"] = 0.7  # of other patches: not what is compared

    def worse(content: dict[str, Any]) -> None:
        better(content)
        content["phases"]["final_clean"]["macro_f1"] = 0.75

    made = plant(original, tmp_path / "better", metrics=better)
    assert made["C04"].state == "passed"
    assert made["C08"].state == "fired"
    assert "0.7000 (final), 0.8500 (final_clean), 0.8000 (initial)" in made["C08"].sentence
    made = plant(original, tmp_path / "worse", metrics=worse)
    assert made["C04"].state == "fired"
    assert "24 validation patches is 0.8000 from human labels alone and 0.7500 with pseudo-labels" \
        " (-0.0500)" in made["C04"].sentence  # fmt: skip


def test_the_original_protocol_judges_itself(original: Path, data: Path) -> None:
    metrics = json.loads((original / "metrics.json").read_text())
    made = by_id(run_checks(original))
    row = metrics["phases"]["final"]
    assert row["n_validation_pseudo"] > 0
    assert made["C05"].state == "fired"
    assert made["C05"].sentence == (
        f"{row['n_validation_pseudo']} of the {row['n']} labels of validation (final stage) are "
        "the model's own."
    )
    balance = metrics["class_balance"]["training after pseudo-labels"]
    assert made["C06"].state == "fired"
    assert f"to {balance['crater_share']:.1%}." in made["C06"].sentence


def test_a_single_pseudo_label_in_validation_is_found(clean: Path, tmp_path: Path) -> None:
    row = parts_of(clean)["validation"][5]

    def origins(rows: list[dict[str, str]]) -> None:
        rows[row]["origin"] = "pseudo"

    made = plant(clean, tmp_path, origins=origins)
    assert_only(made, "C05")
    assert made["C05"].sentence == "1 of the 24 labels of validation are the model's own."


def test_a_shift_of_the_prior(clean: Path, tmp_path: Path) -> None:
    def add(number: int) -> Edit:
        def origins(rows: list[dict[str, str]]) -> None:
            rows += [
                dict(rows[0], id=f"Xtrain1_extra:{place}", label="0", origin="pseudo", round="1",
                     initial_part="", final_part="train")
                for place in range(number)
            ]  # fmt: skip

        return origins

    def config(content: dict[str, Any]) -> None:
        content["method"] = "self-training"

    def metrics(content: dict[str, Any]) -> None:
        content["verdict"] = VERDICT
        content["class_share"] = {"share": 0.2, "low": 0.1, "high": 0.3}

    few, many = (
        plant(clean, tmp_path / str(n), origins=add(n), config=config, metrics=metrics)
        for n in (8, 12)
    )

    def in_no_part(rows: list[dict[str, str]]) -> None:  # they serve the network that is kept
        add(20)(rows)
        for row in rows[120:]:
            row["final_part"] = ""

    kept = plant(clean, tmp_path / "kept", origins=in_no_part, config=config, metrics=metrics)
    assert "from 60.0% to 51.4%" in kept["C06"].sentence  # 72 of 120, then of 140
    parts = parts_of(clean)
    craters = int(np.load(Path(json.loads((clean / "config.json").read_text())["data"])
                          / "Ytrain1.npy")[parts["train"]].sum())  # fmt: skip
    assert_only(few)
    assert_only(many, "C06")
    assert many["C06"].sentence == (
        f"12 pseudo-labels move the share of craters among the training labels from "
        f"{craters / 96:.1%} to {craters / 108:.1%}; that of the unlabeled patches is estimated "
        "as 20.0% (10.0% to 30.0%)."
    )


# What was chosen by what


def test_fitted_and_reported_on_the_same_patches(clean: Path, tmp_path: Path) -> None:
    def fitted(content: dict[str, Any]) -> None:
        content["calibration"] = {"temperature": 0.5}
        content["threshold_chosen_for"] = "macro_f1"
        content["decision_threshold"] = 0.375

    def alone(content: dict[str, Any]) -> None:
        fitted(content)
        content["test"] = None

    made = plant(clean, tmp_path / "both", metrics=fitted)
    assert_only(made)
    assert made["C07"].sentence.endswith("fitted on validation; the test set, too, is reported.")
    made = plant(clean, tmp_path / "elsewhere", metrics=alone)
    assert_only(made)  # the ledger holds an evaluation
    folder = tmp_path / "elsewhere" / "planted"
    (folder / test_set_uses.NAME).unlink()
    made = by_id(run_checks(folder))
    assert_only(made, "C07")
    assert made["C07"].sentence == (
        "The temperature 0.500 and the decision threshold 0.375 (for macro_f1) were fitted on "
        "validation, and all figures are of the same 24 patches."
    )


@pytest.mark.parametrize(
    ("temperature", "fired", "words"),
    [(0.05, {"C16"}, "0.050, the smallest"), (20.0, {"C16"}, "20.000, the largest"),
     (1.7, set(), "1.700, within"), (19.9, set(), "19.900, within")],
)  # fmt: skip
def test_a_temperature_at_a_limit(
    clean: Path, tmp_path: Path, temperature: float, fired: set[str], words: str
) -> None:
    made = plant(
        clean,
        tmp_path,
        metrics=lambda content: content.update(calibration={"temperature": temperature}),
    )
    assert_only(made, *fired)
    assert made["C16"].sentence.startswith(f"The fitted temperature is {words}")


def copy_of(run: Path, root: Path) -> Path:
    return Path(shutil.copytree(run, root / "RUN"))


def test_a_test_set_evaluated_twice(clean: Path, data: Path, tmp_path: Path) -> None:
    run = copy_of(clean, tmp_path)
    command = ["evaluate", str(run), "--data", str(data)]
    other = tmp_path / "OTHER"
    shutil.copytree(data, other)
    np.save(other / "Xtest1.npy", np.load(data / "Xtest1.npy")[::-1])
    np.save(other / "Ytest1.npy", np.load(data / "Ytest1.npy")[::-1])
    np.save(other / "groups_test.npy", np.load(data / "groups_test.npy")[::-1])
    assert CliRunner().invoke(app, [*command[:3], str(other)]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--set", "train"]).exit_code == 0
    assert len(test_set_uses.read_log(run)) == 2  # what it was trained on is no test set
    assert_only(by_id(run_checks(run)))
    assert CliRunner().invoke(app, ["evaluate", str(run / "model"), *command[2:]]).exit_code == 0
    made = by_id(run_checks(run))
    assert_only(made, "C11")
    assert made["C13"].state == "passed"  # the ledger may grow
    assert made["C11"].sentence == (
        "One labeled set of 30 patches was evaluated 2 times (craters evaluate: 1, craters run: "
        "1), with one model."
    )


@pytest.mark.slow
def test_looks_are_inherited_from_the_run_that_is_replaced(
    clean: Path, data: Path, tmp_path: Path
) -> None:
    run = copy_of(clean, tmp_path)
    config = config_for(data, run, initial_epochs=2)
    for _ in range(2):  # the same run made again looks at nothing new
        other = by_id(run_job(config, force=True).checks)
        assert other["C11"].state == "fired"
        assert "evaluated 2 times (craters run: 2), with 2 models" in other["C11"].sentence
    assert len(test_set_uses.read_log(run)) == 2
    assert len(test_set_uses.read_log(run.with_name("RUN.1"))) == 1


@pytest.mark.slow
def test_evaluations_during_the_run_that_replaces_another_are_inherited(
    clean: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, train = copy_of(clean, tmp_path), stages.run_stages

    def evaluated_meanwhile(*given: Any, **options: Any) -> JobResult:
        assert test_set_uses.note_evaluation(run, data, "test", 30) is None
        return train(*given, **options)

    monkeypatch.setattr(stages, "run_stages", evaluated_meanwhile)
    run_job(config_for(data, run, initial_epochs=2), force=True)
    commands = [entry.by for entry in test_set_uses.read_log(run)]
    assert commands == ["craters run", "craters evaluate", "craters run"]


def test_a_ledger_that_cannot_be_written_is_reported(
    clean: Path, data: Path, tmp_path: Path
) -> None:
    run = copy_of(clean, tmp_path)
    assert test_set_uses.note_evaluation(run, data, "test", 30) is None
    (run / test_set_uses.NAME).write_text('{"time": 1}\n')
    with pytest.raises(DataError, match="line 1 is no evaluation. Was it changed by hand"):
        run_checks(run)
    result = CliRunner().invoke(app, ["evaluate", str(run), "--data", str(data)])
    assert result.exit_code == 0
    assert (
        "Warning: this evaluation could not be added to the run's test-set usage log"
        in result.stderr
    )
    moved = shutil.copytree(clean / "model", tmp_path / "model")
    assert test_set_uses.note_evaluation(moved, data, "test", 30) is None  # lies in no run
    assert not (tmp_path / test_set_uses.NAME).exists()


def test_evaluations_at_once_are_all_noted(
    clean: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = copy_of(clean, tmp_path), test_set_uses.read_log

    def slow(folder: Path) -> list[test_set_uses.Evaluation]:
        entries = read(folder)
        time.sleep(0.02)  # in which another evaluation would read the same entries
        return entries

    monkeypatch.setattr(test_set_uses, "read_log", slow)
    before = len(read(run))
    with ThreadPoolExecutor(6) as pool:
        missed = list(
            pool.map(lambda _: test_set_uses.note_evaluation(run, data, "test", 30), range(6))
        )
    assert missed == [None] * 6
    assert len(read(run)) == before + 6
    assert not list(run.glob(".*"))


def test_changed_files(clean: Path, tmp_path: Path) -> None:
    run = copy_of(clean, tmp_path)
    (run / "history.csv").unlink()
    edit_json(run / "metrics.json", lambda content: content["test"].update(accuracy=0.999))
    made = by_id(run_checks(run))
    assert made["C13"].state == "fired"
    assert made["C13"].sentence == (
        "2 files are missing or changed since the run: history.csv, metrics.json."
    )


@pytest.mark.parametrize(("factor", "fires"), [(1, False), (1 / 255, True)])
def test_arrays_of_different_pixel_ranges(
    clean: Path, tmp_path: Path, factor: float, fires: bool
) -> None:
    def arrays(folder: Path) -> None:
        np.save(folder / "Xtest1.npy", np.load(folder / "Xtest1.npy") * factor)

    made = plant(clean, tmp_path, arrays=arrays)
    assert_only(made, *(["C14"] if fires else []))
    assert made["C14"].severity == "warning"
    assert made["C14"].sentence == (
        "The arrays were read as of different pixel ranges: labeled as 0..255, extra as 0..255, "
        "test as 0..1."
        if fires
        else "All arrays were read as 0..255."
    )


def test_patches_that_chose_the_pretrained_model_are_counted(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = by_id(run_checks(clean))
    assert made["C15"].state == "passed"
    record = read_run_record(clean)
    record.metrics["start"] = {"name": "pretrained"}
    assert record.data is not None
    np.save(tmp_path / "known.npy", folder.short_hashes(record.data.train.images[:3]))
    monkeypatch.setattr(folder, "CHOSEN_ON", tmp_path / "known.npy")
    finding = check_rules.chosen_on(record)
    assert finding.state == "fired"
    n = len(record.data.train)
    assert f"3 of {n} labeled patches chose the pretrained model" in finding.sentence
    record.metrics["start"] = {"name": "random"}
    assert check_rules.chosen_on(record).state == "passed"


# What could not be checked


def test_without_the_arrays_the_rest_is_checked(clean: Path, data: Path, tmp_path: Path) -> None:
    made = by_id(run_checks(clean, data_folder=tmp_path / "gone"))
    assert_only(made, unknown=("C01", "C02", "C09", "C14"))
    assert "gone is not there; name it by --data" in made["C01"].sentence
    changed = tmp_path / "DATA"
    shutil.copytree(data, changed)
    np.save(changed / "Xtrain1.npy", np.load(changed / "Xtrain1.npy")[::-1])
    made = by_id(run_checks(clean, data_folder=changed))
    assert_only(made, unknown=("C01", "C02", "C09", "C14"))
    assert made["C02"].sentence.endswith("is not the file that the run was made from")
    (changed / "Ytrain1.npy").unlink()
    made = by_id(run_checks(clean, data_folder=changed))
    assert (
        "Ytrain1.npy is no longer in" in made["C09"].sentence or "Xtrain1" in made["C09"].sentence
    )


def test_unknown_source_images_and_old_files(clean: Path, tmp_path: Path) -> None:
    made = plant(clean, tmp_path, arrays=lambda folder: (folder / "groups_train.npy").unlink())
    assert_only(made, unknown=("C09",))
    assert "source images are unknown" in made["C09"].sentence
    folder = tmp_path / "planted"
    (folder / test_set_uses.NAME).unlink()
    edit_json(folder / "metrics.json", lambda content: content["phases"]["supervised"].pop("n"))
    made = by_id(run_checks(folder, data_folder=tmp_path / "DATA"))
    assert made["C11"].sentence == "the run folder has no evaluations.jsonl"
    assert made["C03"].sentence == "the run folder's files hold no 'n'"
    assert checks.headline(list(made.values())).endswith("; 4 could not be checked.")


def test_what_is_no_run_is_refused(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no metrics.json, expected a finished run folder"):
        run_checks(tmp_path)
    run = copy_of(clean, tmp_path)
    (run / "config.json").write_text("{")
    with pytest.raises(DataError, match="config.json: cannot be read"):
        run_checks(run)


# The command, the report, the docs


def test_the_command_prints_what_the_function_finds(original: Path) -> None:
    made = run_checks(original)
    result = CliRunner().invoke(app, ["check", str(original)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == checks.lines(made, everything=True)
    result = CliRunner().invoke(app, ["check", str(original), "--json"])
    assert json.loads(result.stdout) == {"run": str(original), "checks": checks.as_json(made)}


def test_strict_ends_with_a_code_of_its_own(clean: Path, original: Path, data: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(original), "--strict"])
    assert result.exit_code == 7
    severe = [check.id for check in run_checks(original) if check.is_severe]
    assert {"C05", "C09"} <= set(severe)
    assert f"craters: error: --strict: severe checks fired: {', '.join(severe)}." in result.stderr
    assert "C05  severe" in result.stdout
    assert CliRunner().invoke(app, ["check", str(clean), "--strict"]).exit_code == 0
    command = ["run", "--data", str(data), "--out", str(original), "--resume", "--json",
               "--method", "original", "--network", "original", "--protocol", "original",
               "--initial-epochs", "10", "--final-epochs", "4", "--threads", "1",
               "--batch-size", "8", "--initial-lr", "0.006", "--final-lr", "0.003",
               "--pseudo-threshold", "0.53"]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["checks"] == checks.as_json(run_checks(original))
    assert CliRunner().invoke(app, [*command, "--strict"]).exit_code == 7


def test_lines_leave_out_what_passed(original: Path) -> None:
    made = run_checks(original)
    shown = checks.lines(made)
    fired = [check for check in made if check.state == "fired"]
    assert [line.split()[0] for line in shown[1:]] == [check.id for check in fired]
    severe = sum(check.severity == "severe" for check in fired)
    rest = len(fired) - severe
    assert shown[0] == f"Checks: {len(fired)} of 16 fired ({severe} severe, {rest} warnings)."


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.rstrip("\n")


def test_the_section_of_the_report_holds_every_check() -> None:
    made = [
        Check("C01", "copies", "severe", "fired", "2 < 3 & more."),
        Check("C02", "near", "warning", "passed", "None."),
        Check("C03", "chance", "note", "not checked", "why"),
    ]
    page = checks.to_html(made)
    assert "2 &lt; 3 &amp; more." in page
    reader = Cells()
    reader.feed(page)
    assert reader.cells == ["C01", "severe", "copies", "2 < 3 & more.", "C02", "passed", "near",
                            "None.", "C03", "not checked", "chance", "why"]  # fmt: skip
    assert "1 of 3 fired (1 severe); 1 could not be checked." in page


def test_every_check_has_its_section_in_the_docs() -> None:
    text = (REPOSITORY / "docs" / "checks.md").read_text()
    sections = dict(re.findall(r"^## (C\d\d) (.+?)$", text, re.MULTILINE))
    bodies = re.split(r"^## C\d\d .+$", text, flags=re.MULTILINE)[1:]
    assert len(bodies) == len(checks.RULES)
    for rule, body in zip(checks.RULES, bodies, strict=True):
        assert sections[rule.id].lower() == rule.title
        assert f"({rule.severity})" in body.splitlines()[1] + body.splitlines()[2]
        for word in ("**How it is detected.**", "**Why it matters.**", "**What to do.**"):
            assert body.count(word) == 1, (rule.id, word)
    assert [rule.id for rule in checks.RULES if rule.severity == "severe"] == SEVERE
