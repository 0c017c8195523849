from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from craters.data import read_job_data
from craters.errors import DataError
from craters.evaluation import Scored, fit_temperature, measure
from craters.evaluation.calibration import choose_threshold
from craters.pipeline import job, report_unlabeled, stages
from craters.pipeline.stages import run_stages
from craters.training import Examples, RunConfig, build_network, derive_seed, fit
from craters.training.recipes import TrainConfig
from tests.conftest import Notes, simple_patches, write_job

SIDE = 28


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    return write_job(tmp_path / "DATA", side=SIDE)


def config_for(folder: Path, **changes) -> RunConfig:
    plain = RunConfig(
        folder, folder / "none", initial_epochs=10, final_epochs=4, initial_lr=0.006,
        final_lr=0.003, pseudo_threshold=0.53, batch_size=8, threads=1,
        method="original", network="original",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def clean_result(tmp_path_factory: pytest.TempPathFactory):
    folder = write_job(tmp_path_factory.mktemp("job") / "DATA", side=SIDE, groups=True)
    notes = Notes()
    return run_stages(read_job_data(folder), config_for(folder), progress=notes), notes


def test_validation_is_human_the_same_for_both_stages_and_keeps_groups(clean_result) -> None:
    result, _ = clean_result
    first, last = result.initial.validation, result.final.validation
    assert np.array_equal(first.ids, last.ids)
    assert set(last.origin) == {"human"}
    assert not set(last.ids) & set(result.final.train.ids)
    groups = dict(zip(result.data.train.ids, result.data.train.groups, strict=True))
    apart = {groups[name] for name in first.ids}
    assert not apart & {groups[name] for name in result.initial.train.ids}


def test_pseudo_labels_are_what_the_rule_says(clean_result) -> None:
    result, notes = clean_result
    rows = np.flatnonzero(result.pool_probability < 0.53)
    assert 0 < len(rows) < len(result.pool_probability)
    pseudo = result.final.train.origin == "pseudo"
    assert result.final.train.ids[pseudo].tolist() == [f"Xtrain1_extra:{row}" for row in rows]
    assert not result.final.train.labels[pseudo].any()
    assert np.array_equal(result.final.train.probability[pseudo], result.pool_probability[rows])
    assert result.n_pseudo == len(rows)
    human = result.final.train.ids[~pseudo]
    assert np.array_equal(human, result.initial.train.ids)
    assert any("move the share of craters in the training set" in text for text in notes.warned)


def test_metrics_are_those_of_the_probabilities(clean_result) -> None:
    result, _ = clean_result
    labels, probability = result.final.validation.labels, result.final.scored.probability
    called = probability >= 0.5
    assert result.final.metrics.accuracy == pytest.approx((called == labels).mean())
    assert np.array_equal(result.test_predicted, (result.test_probability >= 0.5).astype(int))
    assert result.test_scored is None


@pytest.fixture(scope="module")
def brief_result(tmp_path_factory: pytest.TempPathFactory):
    """A network that ranks well, and calls too few patches craters at 0.5."""
    folder = write_job(tmp_path_factory.mktemp("brief") / "DATA", side=SIDE, groups=True)
    return run_stages(read_job_data(folder), config_for(folder, initial_epochs=4, final_epochs=2))


@pytest.mark.parametrize("aim", ["macro_f1", "recall>=0.95", "precision>=0.9"])
def test_an_aim_chooses_the_threshold_on_validation_and_changes_no_network(
    brief_result, aim: str
) -> None:
    plain, notes = brief_result, Notes()
    config = dataclasses.replace(plain.config, aim=aim)
    result = run_stages(plain.data, config, progress=notes)
    labels = result.final.validation.labels
    assert np.array_equal(result.final.scored.logits, plain.final.scored.logits)
    chosen = choose_threshold(
        Scored(labels=labels, probability=plain.final.scored.probability), aim
    )
    assert result.decision_threshold == chosen != 0.5 == plain.decision_threshold
    assert result.final.metrics == measure(
        Scored(labels=labels, probability=plain.final.scored.probability, decision_threshold=chosen)
    )
    assert result.initial.metrics == plain.initial.metrics
    assert np.array_equal(result.test_predicted, result.test_probability >= chosen)
    assert f"Decision threshold {chosen:.4g}, chosen for {aim}." in notes.said


def test_a_given_threshold_holds_for_the_last_stage_and_predictions(brief_result) -> None:
    plain = brief_result
    result = run_stages(plain.data, dataclasses.replace(plain.config, threshold_final=0.6))
    assert result.decision_threshold == result.final.metrics.decision_threshold == 0.6
    assert result.initial.metrics.decision_threshold == 0.5
    assert np.array_equal(result.test_predicted, result.test_probability >= 0.6)


def test_without_pseudo_labels_the_last_stage_is_a_plain_retraining(job_folder: Path) -> None:
    config = config_for(
        job_folder, pseudo_threshold=0.0, initial_epochs=3, final_epochs=3, initial_lr=0.003
    )
    result = run_stages(read_job_data(job_folder), config)
    assert result.n_pseudo == 0
    assert np.array_equal(result.final.train.images, result.initial.train.images)
    assert np.array_equal(result.final.train.labels, result.initial.train.labels)
    settings = TrainConfig(3, 0.003, 8, derive_seed(0, stages.FINAL))
    parts = [
        Examples(part.images, part.labels)
        for part in (result.initial.train, result.initial.validation)
    ]
    with stages.torch_threads(1):
        network, state = fit(build_network("original", SIDE), *parts, settings)
    assert state.history == result.final.state.history
    for name, tensor in network.state_dict().items():
        assert np.array_equal(tensor.numpy(), result.final.network.state_dict()[name].numpy())


def test_the_original_protocol_splits_again_and_shows_the_clean_figures(job_folder: Path) -> None:
    notes = Notes()
    data = read_job_data(job_folder)
    result = run_stages(data, config_for(job_folder, protocol="original"), progress=notes)
    clean = run_stages(data, config_for(job_folder))
    assert result.final_clean is not None
    assert (result.final.validation.origin == "pseudo").any()
    assert set(result.final_clean.validation.origin) == {"human"}
    assert result.final_clean.metrics == clean.final.metrics
    assert len(result.final.validation) == round(0.2 * len(result.labeled))
    assert any("drawn again after merging" in text for text in notes.warned)


def test_a_truth_of_the_test_set_is_used_for_measuring_only(job_folder: Path) -> None:
    data = read_job_data(job_folder)
    without = run_stages(data, config_for(job_folder))
    truth = simple_patches(30, 3, side=SIDE)[1]
    np.save(job_folder / "Ytest1.npy", truth)
    result = run_stages(read_job_data(job_folder), config_for(job_folder))
    assert np.array_equal(result.test_probability, without.test_probability)
    assert measure(result.test_scored).accuracy == pytest.approx(
        (result.test_predicted == truth).mean()
    )


def test_repeated_rows_and_recognised_ranges_are_reported(job_folder: Path) -> None:
    test = np.load(job_folder / "Xtest1.npy")
    test[:3] = np.load(job_folder / "Xtrain1.npy")[:3]
    np.save(job_folder / "Xtest1.npy", test / 255)
    notes = Notes()
    config = config_for(job_folder, initial_epochs=1, final_epochs=1)
    run_stages(read_job_data(job_folder), config, progress=notes)
    assert "3 patches occur in labeled and test, byte for byte." in notes.warned
    assert any("float64 pixels 0..1, brought to 8 bits" in text for text in notes.said)
    assert (
        "the arrays were read as of different pixel ranges: labeled as 0..255, extra as 0..255, "
        "test as 0..1. The range of a dark array may be misjudged: see the notes above."
    ) in notes.warned


def test_a_pool_of_no_patch_is_reported_as_none(job_folder: Path) -> None:
    np.save(job_folder / "Xtrain1_extra.npy", np.zeros((0, SIDE**2)))
    notes = Notes()
    config = config_for(job_folder, method="supervised", initial_epochs=1, final_epochs=1)
    run_stages(read_job_data(job_folder), config, progress=notes)
    assert "extra         0 patches of 28 x 28: none" in notes.said
    assert not any("pixel ranges" in text for text in notes.warned)


def test_sizes_must_agree(job_folder: Path) -> None:
    np.save(job_folder / "Xtest1.npy", simple_patches(5, 0, side=48)[0])
    with pytest.raises(DataError, match="found patches of 48 x 48 pixels, expected 28 x 28"):
        read_job_data(job_folder)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder, expected a data set"):
        read_job_data(tmp_path / "none")


def test_other_sizes_and_npz_work(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "DATA", side=36)
    np.savez_compressed(folder / "Xtest1.npz", np.load(folder / "Xtest1.npy"))
    (folder / "Xtest1.npy").unlink()
    config = config_for(folder, initial_epochs=2, final_epochs=1)
    result = run_stages(read_job_data(folder), config)
    assert result.final.network.side == 36
    assert len(result.test_predicted) == 30


def test_supervised_compact_measures_without_validation_and_refits_on_everything(
    job_folder: Path,
) -> None:
    config = config_for(
        job_folder, method="supervised", network="compact", start="random", symmetry="up-down",
        epochs=6,
    )  # fmt: skip
    data = read_job_data(job_folder)
    result = run_stages(data, config)
    assert [stage.name for stage in result.stages] == ["supervised"]
    assert result.initial is result.final
    assert result.final_clean is None
    assert result.n_pseudo == 0
    assert result.network is not result.final.network
    assert result.network.symmetry == ("identity", "up-down")
    assert result.temperature != 1
    logits = stages.predict_logits(result.network, data.test.images) / result.temperature
    assert np.array_equal(result.test_probability, stages.sigmoid(logits))
    assert np.array_equal(result.test_predicted, logits >= 0)
    labels = result.final.validation.labels
    assert result.temperature == fit_temperature(labels, result.final.scored.logits)
    calibrated = stages.sigmoid(result.final.scored.logits / result.temperature)
    assert np.array_equal(result.final.scored.probability, calibrated)
    assert result.final.metrics == measure(Scored(labels=labels, probability=calibrated))
    assert report_unlabeled.draw_pool(result) is None
    assert "pool_probability" not in vars(result)  # the pool, which nothing reads, is not predicted
    again = run_stages(data, config)
    assert np.array_equal(result.test_probability, again.test_probability)
    assert result.final.metrics == again.final.metrics


def test_members_are_different_networks_whose_logits_are_averaged(job_folder: Path) -> None:
    config = config_for(job_folder, method="supervised", network="compact", members=2, epochs=3)
    data = read_job_data(job_folder)
    network = run_stages(data, config).network
    first, second = (stages.predict_logits(member, data.test.images) for member in network.members)
    assert np.abs(first - second).max() > 1e-3
    joined = stages.predict_logits(network, data.test.images)
    assert np.abs(joined - (first + second) / 2).max() < 1e-5


def test_the_original_recipe_is_not_refitted(job_folder: Path) -> None:
    config = config_for(job_folder, method="supervised")
    result = run_stages(read_job_data(job_folder), config)
    assert result.network is result.final.network


def test_epochs_are_planned(job_folder: Path) -> None:
    planned: list[int] = []

    class Planner(Notes):
        def plan(self, epochs: int) -> None:
            planned.append(epochs)

    for protocol in ("clean", "original"):
        config = config_for(
            job_folder, protocol=protocol, initial_epochs=2, final_epochs=1, members=2
        )
        run_stages(read_job_data(job_folder), config, progress=Planner())
    assert planned == [4, 6, 4, 8]  # the first trainings, then all


def test_a_one_sided_network_is_reported(tmp_path: Path) -> None:
    notes, folder = Notes(), write_job(tmp_path / "DATA")
    config = config_for(folder, initial_epochs=1, final_epochs=1, initial_lr=1e-6)
    run_stages(read_job_data(folder), config, progress=notes)
    assert any("the validation patches; it has learned" in w for w in notes.warned)
    assert any("helps only where the images show what the labels say" in w for w in notes.warned)
    assert not any("at a limit" in w for w in notes.warned)


@pytest.mark.parametrize(("temperature", "is_warned"), [(0.05, True), (20.0, True), (1.7, False)])
def test_a_temperature_at_a_limit_is_reported(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, temperature: float, is_warned: bool
) -> None:
    monkeypatch.setattr(job, "fit_temperature", lambda *_: temperature)
    notes = Notes()
    config = config_for(
        job_folder, method="supervised", network="compact", start="random", symmetry="none",
        epochs=1,
    )  # fmt: skip
    run_stages(read_job_data(job_folder), config, progress=notes)
    found = [w for w in notes.warned if "at a limit" in w]
    assert len(found) == is_warned
    assert all(w.startswith(f"the fitted temperature {temperature:.3g} is at") for w in found)
