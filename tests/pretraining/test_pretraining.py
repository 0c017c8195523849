"""Pretraining: the frame of light, rounds, equal bytes, resume, and the model folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from craters.core import NullProgress
from craters.errors import DataError, ExistsError
from craters.models import load_model, read_weights
from craters.pretraining import PatchRecipe, batches, pretrain, run
from craters.pretraining.rounds import Stream
from craters.settings import PretrainConfig
from craters.synthetic import PRESETS, LabeledPatches, LabelRule, sample_scenes
from craters.training import TrainState
from tests.simulated_gpu import simulated_gpu

SIDE = 24
SCALE = 0.004  # a few scenes and steps a round
LOOK = PRESETS["mixed"]


def marked(azimuth: np.ndarray) -> LabeledPatches:
    """Return patches with crater that are brightest at the edge where the light comes from."""
    axis = np.linspace(-1, 1, SIDE)
    angle = np.radians(azimuth)[:, None, None]
    toward = np.sin(angle) * axis[None, None, :] - np.cos(angle) * axis[None, :, None]
    return LabeledPatches(
        images=np.rint(128 + 60 * toward).astype(np.uint8),
        labels=np.ones(len(azimuth), np.int8),
        azimuth=azimuth.astype(np.float32),
        crater=np.zeros((len(azimuth), 3), np.float32),
    )


def measured_light(images: np.ndarray) -> np.ndarray:
    """Return unit vectors to the bright edge: rightwards and downwards."""
    images = images.astype(float)
    right = images[:, :, -1].mean(1) - images[:, :, 0].mean(1)
    down = images[:, -1].mean(1) - images[:, 0].mean(1)
    vectors = np.stack([right, down], 1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_patches_are_turned_so_that_light_comes_from_the_left() -> None:
    azimuth = np.random.default_rng(0).uniform(0, 360, 400)
    batch = batches.turn(marked(azimuth), np.arange(400), np.random.default_rng(1), free=0.0)
    np.testing.assert_allclose(batch.light, measured_light(batch.images), atol=0.03)
    off = np.degrees(np.arccos(np.clip(-batch.light[:, 0], -1, 1)))
    assert off.max() <= batches.WIDEST + 1e-3
    assert off.max() > 50  # some are taken into the neighboring frame
    assert (batch.labels == 1).all()
    assert (batch.weights == 1).all()
    assert 0.4 < (batch.light[:, 1] > 0).mean() < 0.6


def test_craters_lit_from_the_wrong_side_count_as_hills() -> None:
    azimuth = np.random.default_rng(2).uniform(0, 360, 800)
    batch = batches.turn(marked(azimuth), np.arange(800), np.random.default_rng(3), free=1.0)
    np.testing.assert_allclose(batch.light, measured_light(batch.images), atol=0.03)
    off = np.degrees(np.arccos(np.clip(-batch.light[:, 0], -1, 1)))
    near, wrong = off < batches.UNCERTAIN[0], off > batches.UNCERTAIN[1]
    assert (batch.labels[near] == 1).all()
    assert (batch.labels[wrong] == 0).all()
    assert (batch.weights == (near | wrong)).all()
    assert {near.mean() > 0.3, wrong.mean() > 0.15} == {True}


def test_without_a_frame_patches_keep_their_labels_in_every_light() -> None:
    azimuth = np.random.default_rng(4).uniform(0, 360, 300)
    batch = batches.turn(
        marked(azimuth), np.arange(300), np.random.default_rng(5), free=1.0, in_frame=False
    )
    np.testing.assert_allclose(batch.light, measured_light(batch.images), atol=0.03)
    assert (batch.labels == 1).all()
    assert (batch.weights == 1).all()
    assert np.abs(batch.light.mean(0)).max() < 0.15


def test_a_round_is_the_scenes_of_its_number() -> None:
    stream = Stream(seed=3, look=LOOK, rule=LabelRule(), scale=SCALE)
    (second,) = stream.rounds(1, 2, workers=1)
    for side, part in second.items():
        count = max(1, round(SCALE * 900)) if side in (28, 48) else None
        if count is None:
            continue
        alone = sample_scenes(range(count, 2 * count), seed=3, size=side, look=LOOK)
        for field in dataclasses.fields(LabeledPatches):
            np.testing.assert_array_equal(getattr(part, field.name), getattr(alone, field.name))


def trained(folder: Path, *, rounds: int = 2, threads: int = 1, device: str = "cpu") -> TrainState:
    folder.mkdir(exist_ok=True)
    config = PretrainConfig(folder, rounds=rounds, scale=SCALE, threads=threads, device=device)
    return run.train(config, LOOK, PatchRecipe(), folder / "state.safetensors", NullProgress())


def test_number_of_workers_and_interruptions_do_not_change_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")
    monkeypatch.setattr(run.checkpoint, "save_state", _stop_after(1, run.checkpoint.save_state))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", threads=2)
    monkeypatch.undo()
    resumed = trained(tmp_path / "parts", threads=2)
    assert whole.history == resumed.history
    for name, tensor in whole.best_weights.items():
        assert bool((tensor == resumed.best_weights[name]).all()), name


@pytest.mark.usefixtures("float32_on_cpu")
def test_a_simulated_gpu_gives_the_weights_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(tmp_path / "cpu", rounds=1)
    with simulated_gpu(monkeypatch) as casts:
        found = trained(tmp_path / "gpu", rounds=1, device="cuda")
    assert set(casts) == {("cuda", torch.bfloat16, True)}
    assert found.history == expected.history
    for name, tensor in expected.best_weights.items():
        assert torch.equal(found.best_weights[name], tensor), name


def _stop_after(rounds: int, save):
    def save_and_stop(path, state):
        save(path, state)
        if state.epoch == rounds:
            raise KeyboardInterrupt

    return save_and_stop


def test_pretraining_writes_a_model_that_other_settings_may_not_resume(tmp_path: Path) -> None:
    config = PretrainConfig(tmp_path / "model", rounds=1, scale=SCALE, threads=1, seed=4)
    made = pretrain(config)
    with pytest.raises(ExistsError, match="exists already"):
        pretrain(config)
    model = load_model(made.folder)
    facts = model.description.pretraining
    assert facts is not None
    assert facts["patches"] == made.history[0]["patches"]
    assert "9 px" in facts["label_rule"]
    weights = read_weights(made.folder)
    network = PatchRecipe().build(4)
    assert set(weights) == set(network.state_dict())
    patches = sample_scenes(range(4), seed=1, size=32)
    probability = model.predict_proba(patches.images)
    assert probability.shape == (len(patches.labels),)
    with pytest.raises(DataError, match="24 to 96"):
        model.predict_proba(np.zeros((2, 20, 20), np.uint8))


def test_unfinished_pretraining_of_other_settings_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainConfig(tmp_path / "model", rounds=2, scale=SCALE, threads=1)
    monkeypatch.setattr(run.checkpoint, "save_state", _stop_after(1, run.checkpoint.save_state))
    with pytest.raises(KeyboardInterrupt):
        pretrain(config)
    with pytest.raises(ExistsError, match="seed was 0 and is 1"):
        pretrain(dataclasses.replace(config, seed=1), resume=True)
