"""Runs whose methods learn from the unlabeled patches: folders, verdicts, origins, resuming."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from craters.core import NullProgress
from craters.data import UNLABELED, read_job_data
from craters.errors import DataError
from craters.evaluation import Scored, measure
from craters.models import Classifier, Network, network_weights
from craters.pipeline import RunOutcome, kept_network, report, run_job, stages, summarize
from craters.pipeline.stages import run_stages
from craters.semi_supervised import StartChoice, cross_fit, verdict
from craters.training import RunConfig, load_start, predict_logits
from craters.training.checkpoint import load_state
from tests.conftest import write_job

SIDE = 16  # too small for the pretrained model: training starts from random weights
LARGER = 28


def write_data(folder: Path, side: int = SIDE) -> Path:
    """Write small patches whose source images are known."""
    write_job(folder, side=side, n=120, groups=True)
    np.save(folder / "groups_extra.npy", np.array([f"other_{row // 4}" for row in range(60)]))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "DATA")


def config_for(data: Path, method: str, **changes) -> RunConfig:
    plain = RunConfig(
        data, data.parent / "RUN", method=method, network="compact", epochs=3, threads=1
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def fixmatch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunOutcome]:
    """A data folder, and a run of the method fixmatch on it."""
    data = write_data(tmp_path_factory.mktemp("fixmatch") / "DATA")
    return data, run_job(config_for(data, "fixmatch"))


class Warnings(NullProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def weights_of(network: Network) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in network_weights(network).items()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_fixmatch_run_is_measured_on_every_label_and_says_whether_it_helped(
    fixmatch: tuple[Path, RunOutcome],
) -> None:
    data, outcome = fixmatch
    result = run_stages(read_job_data(data), config_for(data, "fixmatch"))
    assert [stage.name for stage in result.stages] == ["supervised", "fixmatch"]
    assert all(stage.is_cross_fitted for stage in result.stages)
    assert len(result.final.validation) == 120
    assert result.network is not result.final.network
    stated = outcome.metrics["verdict"]
    labels = result.final.validation.labels
    scored = [
        measure(Scored(labels=labels, probability=stages.sigmoid(stage.scored.logits))).macro_f1
        for stage in result.stages
    ]
    assert stated["reference_value"] == pytest.approx(scored[0])
    assert stated["value"] == pytest.approx(scored[1])
    assert stated["difference"] == pytest.approx(scored[1] - scored[0])
    assert stated["low"] <= stated["difference"] <= stated["high"]
    assert (stated["n_labels"], stated["n_folds"], stated["n_seeds"]) == (120, 3, 1)
    share = outcome.metrics["class_share"]
    assert share["low"] <= share["share"] <= share["high"]
    assert share["n_pool"] > 0
    assert outcome.metrics["pseudo_labels"] is None
    assert outcome.metrics["validation_rule"]["final"].startswith("3 folds of whole source images")
    page = (outcome.folder / "report.html").read_text()
    assert stated["sentence"] in page
    assert share["sentence"] in page
    assert "lowest validation loss" not in page
    assert outcome.metrics["kept_weights"] in page
    assert "pool.png" in {path.name for path in (outcome.folder / "figures").iterdir()}
    model = Classifier.load(outcome.folder / "model")
    images = np.load(data / "Xtest1.npy").reshape(-1, SIDE, SIDE)
    probability = np.load(outcome.folder / "probabilities.npy")
    assert np.abs(model.predict_proba(images) - probability).max() < 1e-5
    assert np.allclose(probability, result.test_probability)
    saved = load_file(outcome.folder / "model" / "model.safetensors")
    assert {name: array.tobytes() for name, array in saved.items()} == weights_of(result.network)


def test_self_training_records_the_origin_of_every_label(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craters.semi_supervised.pseudo_labels.CONFIDENCE", 0.6)
    result = run_stages(read_job_data(data), config_for(data, "self-training", epochs=6))
    metrics = summarize(result)
    pseudo = metrics["pseudo_labels"]
    assert [row["number"] for row in pseudo["rounds"]] == [1, 2]
    assert pseudo["added_with_crater"] == pseudo["rounds"][-1]["with_crater"] > 0
    rows = list(csv.DictReader(report.origins_csv(result).splitlines()))
    human = [row for row in rows if row["origin"] == "human"]
    given = [row for row in rows if row["origin"] == "pseudo"]
    truth = np.load(data / "Ytrain1.npy")
    assert [int(row["label"]) for row in human] == truth.tolist()
    assert {row["final_part"] for row in human} == {"held out once"}
    assert {row["final_part"] for row in given} == {""}
    assert len(given) == pseudo["added_with_crater"] + pseudo["added_without_crater"]
    for row in given:
        probability = float(row["probability"])
        assert (row["label"] == "1") == (probability > 0.5)
        assert max(probability, 1 - probability) >= 0.6 - 1e-6
    shares = metrics["class_balance"]
    assert shares["pseudo-labels of round 2"]["with_crater"] == pseudo["added_with_crater"]
    (drawn,) = report.write_figures(result, data, {"borderline": "borderline.png"}).values()
    assert drawn.is_file()


def test_pseudo_labels_of_both_classes_keep_the_class_shares_and_leave_validation_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craters.semi_supervised.pseudo_labels.CONFIDENCE", 0.6)
    config = config_for(data, "pseudo-label", epochs=25)
    train = read_job_data(data).train
    # Half of the pool must teach nothing of validation: copies, and patches of its places.
    validation = stages.draw_split(read_job_data(data), config).validation
    pool = np.load(data / "Xtrain1_extra.npy")
    pool[:15] = train.images[validation[:15]].reshape(15, -1)
    np.save(data / "Xtrain1_extra.npy", pool)
    groups = np.load(data / "groups_extra.npy").astype(object)
    groups[15:30] = train.groups[validation[:15]]
    np.save(data / "groups_extra.npy", groups.astype(str))
    leaky = {f"Xtrain1_extra:{row}" for row in range(30)}

    result = run_stages(read_job_data(data), config)
    pseudo = summarize(result)["pseudo_labels"]
    assert (pseudo["confidence"], pseudo["threshold"]) == (0.6, None)
    kept = result.labeled
    human, given = (kept.origin == origin for origin in ("human", "pseudo"))
    assert np.array_equal(kept.labels[human], train.labels)
    assert given.sum() == pseudo["added_with_crater"] + pseudo["added_without_crater"] > 10
    share = pseudo["added_with_crater"] / given.sum()
    assert share == pytest.approx(train.labels.mean(), abs=1 / given.sum())
    sure = np.where(kept.labels[given] == 1, kept.probability[given], 1 - kept.probability[given])
    assert sure.min() >= 0.6
    assert [stage.name for stage in result.stages] == ["initial", "final"]
    first, last = result.stages
    assert np.array_equal(first.validation.ids, last.validation.ids)
    assert set(last.validation.origin) == {"human"}
    assert leaky & set(kept.ids)
    assert set(last.train.origin) == {"human", "pseudo"}
    assert not leaky & set(last.train.ids)
    assert not set(last.validation.ids) & set(last.train.ids)
    stated = summarize(result)["verdict"]
    assert (stated["method"], stated["reference"]) == ("pseudo-label", "the first stage")
    assert stated["difference"] == pytest.approx(last.metrics.macro_f1 - first.metrics.macro_f1)


def test_a_network_that_is_sure_of_nothing_is_kept_as_it_is(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craters.semi_supervised.pseudo_labels.CONFIDENCE", 1.0)
    warned, sets = Warnings(), read_job_data(data)
    result = run_stages(sets, config_for(data, "pseudo-label"), progress=warned)
    assert stages.NOTHING_SURE in warned.texts
    assert result.n_pseudo == 0
    plain = kept_network(sets.train, sets.pool, config_for(data, "supervised"))
    ours, theirs = (predict_logits(one, sets.test.images) for one in (result.network, plain))
    assert np.array_equal(ours, theirs)
    nobody = sets.pool.take(np.arange(0))
    alone = kept_network(sets.train, nobody, config_for(data, "pseudo-label"))
    assert np.array_equal(predict_logits(alone, sets.test.images), theirs)


def test_once_every_patch_is_labeled_there_is_no_pool_and_a_run_all_the_same(data: Path) -> None:
    warned = Warnings()
    np.save(data / "Xtrain1_extra.npy", np.load(data / "Xtrain1_extra.npy")[:0])
    np.save(data / "groups_extra.npy", np.load(data / "groups_extra.npy")[:0])
    outcome = run_job(config_for(data, "pseudo-label"), progress=warned)
    assert stages.NO_POOL in warned.texts
    assert stages.NOTHING_SURE not in warned.texts
    assert outcome.metrics["class_balance"]["extra"]["n"] == 0
    assert outcome.metrics["pseudo_labels"]["added_with_crater"] == 0
    origins = {row["origin"] for row in rows_of(outcome.folder / "origins.csv")}
    assert origins == {"human"}
    config = config_for(data, "auto", epochs=1, out=data.parent / "AUTO")
    assert run_stages(read_job_data(data), config).learned.method == "supervised"


@pytest.mark.parametrize(("least_chance", "method"), [(1.1, "supervised"), (0.0, "fixmatch")])
def test_auto_keeps_the_network_of_the_method_that_it_takes(
    data: Path, monkeypatch: pytest.MonkeyPatch, least_chance: float, method: str
) -> None:
    monkeypatch.setattr(verdict, "SURE_ENOUGH", least_chance)
    monkeypatch.setattr(verdict, "LIKELY", 0)
    job = read_job_data(data)
    result = run_stages(job, config_for(data, "auto", epochs=2, start="random"))
    metrics = summarize(result)
    assert metrics["auto"]["method"] == method
    (name,) = metrics["tried"]
    assert name in verdict.candidates(120, pretrained=False)
    drawn = ("confusion_matrix", "precision_recall", "roc", "reliability", "learning_curve")
    pictures = dict.fromkeys(drawn, data / "Ytrain1.npy")  # only the text is looked at
    page = report.html_report(result, metrics | {"checks_html": ""}, pictures, {})
    assert f"Method auto chose <b>{method}</b>. {name} gained" in page
    plain = run_stages(job, config_for(data, method, epochs=2, start="random")).network
    assert weights_of(result.network) == weights_of(plain)


@pytest.mark.parametrize(
    ("method", "side"),
    [
        ("fixmatch", SIDE), ("pseudo-label", SIDE), ("self-training", SIDE),
        ("distillation", SIDE), ("supervised", LARGER), ("fixmatch", LARGER),
        ("distillation", LARGER),
    ],
)  # fmt: skip
def test_a_comparison_trains_the_network_that_a_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, side: int
) -> None:
    data = write_data(tmp_path / "DATA", side)
    job = read_job_data(data)
    hidden = dataclasses.replace(job.pool, labels=np.full(60, UNLABELED, np.int8))
    monkeypatch.setattr("craters.semi_supervised.pseudo_labels.CONFIDENCE", 0.6)
    config = config_for(data, method, epochs=25 if method == "pseudo-label" else 2)
    alone = kept_network(job.train, hidden, config)
    whole = run_stages(job, config)
    if method in ("pseudo-label", "self-training"):
        assert whole.n_pseudo > 0
    images = job.test.images
    assert np.array_equal(predict_logits(alone, images), predict_logits(whole.network, images))


def test_auto_from_the_pretrained_model_is_supervised_and_says_how_far_it_moves(
    tmp_path: Path,
) -> None:
    data = write_data(tmp_path / "DATA", LARGER)
    job, notes = read_job_data(data), Warnings()
    result = run_stages(job, config_for(data, "auto", epochs=2), progress=notes)
    metrics = summarize(result)
    assert metrics["method"] == "supervised"
    choice = metrics["start"]["choice"]
    assert metrics["start"]["name"] == "pretrained"
    assert choice["share"] in (0.0, 0.4, 0.8)
    assert choice["n_labels"] == len(job.train)
    assert choice["sentence"] in notes.lines
    assert any(line.startswith("Method auto: supervised; from the pre") for line in notes.lines)
    (stage,) = result.stages
    assert stage.is_cross_fitted
    assert set(stage.validation.ids) == set(job.train.ids)
    plain = run_stages(job, config_for(data, "supervised", epochs=2))
    assert weights_of(result.network) == weights_of(plain.network)
    assert np.array_equal(plain.final.scored.logits, stage.scored.logits)


def test_a_pretrained_model_that_is_kept_is_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "DATA", LARGER)
    kept = StartChoice(share=0.0, gain=-0.2, error=0.1, n_labels=120)
    monkeypatch.setattr(cross_fit, "choose_share", lambda *_: kept)
    config = config_for(data, "supervised", epochs=1, symmetry="up-down")
    result = run_stages(read_job_data(data), config)
    metrics = summarize(result)
    assert metrics["start"]["choice"]["sentence"].startswith("The pretrained model is kept as it")
    assert metrics["refit_remark"].startswith("The final network is the pretrained model as it is")
    weights = network_weights(result.network)
    for name, expected in load_start().weights.items():
        assert np.array_equal(weights[name], expected.numpy())


def test_another_network_is_measured_on_the_first_fold(data: Path) -> None:
    result = run_stages(read_job_data(data), config_for(data, "distillation", members=2, epochs=1))
    assert [stage.name for stage in result.stages] == ["supervised", "measured"]
    assert len(result.final.network.members) == len(result.network.members) == 2
    assert not set(result.final.train.ids) & set(result.final.validation.ids)
    assert result.final_split_rule.startswith("the first of 3 folds")
    assert len(result.final.validation) < 60


class StopBefore(NullProgress):
    def __init__(self, training: str) -> None:
        self.training = training

    def network(self, name: str, _network: Network) -> None:
        if name == self.training:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_end(
    fixmatch: tuple[Path, RunOutcome], tmp_path: Path
) -> None:
    data, whole = fixmatch
    config = config_for(data, "fixmatch", out=tmp_path / "RUN")
    with pytest.raises(KeyboardInterrupt):
        run_job(config, progress=StopBefore("refit"))
    unfinished = tmp_path / ".RUN.unfinished"
    left = sorted(path.stem for path in unfinished.glob("*.safetensors"))
    assert left == sorted(
        f"{method}-fold{n}" for method in ("supervised", "fixmatch") for n in (1, 2, 3)
    )
    assert load_state(unfinished / "fixmatch-fold1.safetensors").finished
    again = run_job(config, resume=True)
    for name in ("probabilities.npy", "metrics.json", "origins.csv"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_too_few_labels_are_refused_before_anything_is_written(data: Path) -> None:
    labels = np.zeros(120, np.int32)
    labels[:2] = 1
    np.save(data / "Ytrain1.npy", labels)
    with pytest.raises(DataError, match="uses the pretrained model"):
        run_job(config_for(data, "auto"))
    assert not list(data.parent.glob(".RUN*"))
