"""The stream and the recipe of the circle detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from craters.core import NullProgress
from craters.errors import ConfigError
from craters.models import CircleDetector, standardize
from craters.pretraining import CircleRecipe, SceneStream, pretrain, run
from craters.pretraining.circles import SIDE, prepare_scenes
from craters.settings import PretrainConfig
from craters.synthetic import PRESETS, make_scenes
from craters.training import TrainState
from tests.simulated_gpu import simulated_gpu

LOOK = PRESETS["mixed"]
SCALE = 0.008  # 8 scenes, 2 steps a round


def test_scenes_are_turned_to_their_light() -> None:
    numbers = range(10, 18)
    prepared = prepare_scenes(numbers, 3, LOOK)
    turns = set()
    for place, scene in enumerate(make_scenes(numbers, seed=3, side=SIDE, look=LOOK)):
        brightness, craters = prepared.brightness[place], prepared.craters[place]
        plain = standardize(scene.image, scene.image == 0)
        fits = [
            turn
            for turn in range(4)
            if np.allclose(np.rot90(plain, turn), brightness.astype(float), atol=2e-2)
        ]
        assert len(fits) == 1
        off = (scene.azimuth - 90 * fits[0] - 270 + 180) % 360 - 180
        assert abs(off) <= 60
        turns.add(fits[0])
        assert (
            craters["counted"].sum()
            == (
                (scene.craters["diameter"] >= 7)
                & (scene.craters["diameter"] <= 26)
                & (scene.craters["contrast"] >= 0.7)
            ).sum()
        )
        for crater in craters:
            same = np.isclose(scene.craters["diameter"], crater["diameter"])
            row, col = (float(scene.craters[name][same][0]) for name in ("row", "col"))
            for _ in range(fits[0]):
                row, col = SIDE - 1 - col, row
            assert (crater["row"], crater["col"]) == pytest.approx((row, col), abs=1e-3)
    assert len(turns) > 1


def test_rounds_do_not_depend_on_the_number_of_workers() -> None:
    stream = SceneStream(seed=1, look=LOOK, scale=SCALE)
    one, two = (list(stream.rounds(0, 2, workers)) for workers in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.brightness, second.brightness)
    assert not np.array_equal(one[0].brightness, one[1].brightness)


def test_a_resumed_pretraining_gives_the_same_weights(tmp_path: Path) -> None:
    recipe, progress = CircleRecipe(), NullProgress()
    weights = []
    for name, steps in (("whole", [2]), ("parts", [1, 2])):
        path = tmp_path / f"{name}.safetensors"
        for _ in steps:
            config = PretrainConfig(tmp_path, network="circles", rounds=2, scale=SCALE, threads=1)
            if len(steps) == 2 and not path.exists():
                stop_after_first(config, recipe, path)
            else:
                state = run.train(config, LOOK, recipe, path, progress)
        weights.append(state.best_weights)
    for name, weight in weights[0].items():
        assert (weight == weights[1][name]).all(), name


def stop_after_first(config: PretrainConfig, recipe: CircleRecipe, path: Path) -> None:
    class Stop(NullProgress):
        def say(self, text: str) -> None:
            raise KeyboardInterrupt(text)

    with pytest.raises(KeyboardInterrupt, match="Round 1 of 2: loss .* in 8 scenes"):
        run.train(config, LOOK, recipe, path, Stop())


@pytest.mark.usefixtures("float32_on_cpu")
def test_a_simulated_gpu_gives_the_weights_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(device: str) -> TrainState:
        config = PretrainConfig(
            tmp_path, network="circles", rounds=1, scale=SCALE, threads=1, device=device
        )
        path = tmp_path / f"{device}.safetensors"
        return run.train(config, LOOK, CircleRecipe(), path, NullProgress())

    expected = trained("cpu")
    with simulated_gpu(monkeypatch) as casts:
        found = trained("cuda")
    assert set(casts) == {("cuda", torch.bfloat16, True)}
    assert found.history == expected.history
    for name, tensor in expected.best_weights.items():
        assert torch.equal(found.best_weights[name], tensor), name


def test_pretraining_writes_a_detector(tmp_path: Path) -> None:
    config = PretrainConfig(tmp_path / "model", network="circles", rounds=1, scale=SCALE, threads=1)
    written = pretrain(config)
    detector = CircleDetector.load(written.folder, threads=1)
    assert detector.description.training["images"] == "8 synthetic scenes of 256 x 256 px"
    assert len(written.history) == 1


def test_the_label_rule_of_patches_is_refused() -> None:
    with pytest.raises(ConfigError, match="of the label rule of patches"):
        PretrainConfig(Path("model"), network="circles", least_diameter=10)
