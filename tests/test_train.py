from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from craters import train
from craters.checkpoint import load_state, save_state
from craters.errors import ConfigError, DataError, DeadNetworkError
from craters.networks import Network, OriginalNet, initialize
from craters.train import (
    CONSTANT_SPREAD,
    MOST_RESTARTS,
    PATIENCE_WITH_CONSTANT,
    Examples,
    TrainConfig,
    TrainState,
    build_original,
    derive_seed,
    fit,
    predict_logits,
    sigmoid,
)

from .conftest import simple_patches

CONFIG = TrainConfig(epochs=4, learning_rate=3e-3, seed=5)


def examples(n: int, seed: int) -> Examples:
    return Examples(*simple_patches(n, seed))


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


@pytest.fixture(autouse=True)
def _one_thread():
    with train.torch_threads(1):
        yield


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    parts = examples(96, 0), examples(40, 1)
    first, state = fit(build_original(48), *parts, CONFIG)
    torch.manual_seed(99)  # nothing outside may matter
    second, again = fit(build_original(48), *parts, CONFIG)
    other, _ = fit(build_original(48), *parts, dataclasses.replace(CONFIG, seed=6))
    assert_same(weights_of(first), weights_of(second))
    assert state.history == again.history
    assert not np.array_equal(weights_of(first)["conv1.weight"], weights_of(other)["conv1.weight"])


def test_the_epoch_of_lowest_validation_loss_is_kept() -> None:
    kept = {}

    def keep(state: TrainState) -> None:
        kept[state.epoch] = copy.deepcopy(state.weights)

    config = dataclasses.replace(CONFIG, epochs=8, learning_rate=2e-2)
    validation = examples(40, 1)
    network, state = fit(build_original(48), examples(96, 0), validation, config, on_epoch=keep)
    losses = [row["val_loss"] for row in state.history]
    assert state.best_epoch == int(np.argmin(losses)) + 1
    assert_same(
        weights_of(network), {name: t.numpy() for name, t in kept[state.best_epoch].items()}
    )
    logits = predict_logits(network, validation.images)
    p = np.clip(sigmoid(logits).astype(np.float64), 1e-12, 1 - 1e-12)
    expected = -np.mean(np.where(validation.labels == 1, np.log(p), np.log(1 - p)))
    assert min(losses) == pytest.approx(expected, abs=1e-5)


def test_it_learns_what_is_easy() -> None:
    config = TrainConfig(epochs=15, learning_rate=3e-3, seed=0)
    validation = examples(80, 11)
    network, _ = fit(build_original(48), examples(300, 10), validation, config)
    right = (predict_logits(network, validation.images) > 0) == (validation.labels == 1)
    assert right.mean() > 0.9


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_taking_up_a_stopped_training_changes_nothing(stop: int, tmp_path) -> None:
    parts = examples(96, 0), examples(40, 1)
    whole, expected = fit(build_original(48), *parts, CONFIG)

    def interrupt(state: TrainState) -> None:
        save_state(tmp_path / "state.safetensors", state)
        if state.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build_original(48), *parts, CONFIG, on_epoch=interrupt)
    taken_up = load_state(tmp_path / "state.safetensors")
    assert taken_up.epoch == stop
    resumed, state = fit(build_original(48), *parts, CONFIG, state=taken_up)
    assert_same(weights_of(whole), weights_of(resumed))
    assert state.history == expected.history
    assert state.best_epoch == expected.best_epoch


def test_a_finished_state_is_not_trained_again() -> None:
    parts = examples(96, 0), examples(40, 1)
    whole, state = fit(build_original(48), *parts, CONFIG)
    called = []
    again, _ = fit(build_original(48), *parts, CONFIG, state=state, on_epoch=called.append)
    assert called == []
    assert_same(weights_of(whole), weights_of(again))


def planted(dead_attempts: set[int], seed: int):
    """Make networks of which those of the given attempts have only dead units."""
    seeds = {derive_seed(seed, attempt, 0): attempt for attempt in range(MOST_RESTARTS + 1)}

    def build(network_seed: int) -> Network:
        network = OriginalNet(48)
        initialize(network, network_seed)
        if seeds.get(network_seed) in dead_attempts:
            with torch.no_grad():
                network.dense1.bias.fill_(-1e3)
        return network

    return build


def test_a_planted_dead_network_is_restarted_and_told() -> None:
    config = dataclasses.replace(CONFIG, epochs=PATIENCE_WITH_CONSTANT + 2)
    network, state = fit(planted({0, 1}, 5), examples(96, 0), examples(40, 1), config)
    assert state.attempt == 2
    assert len(state.restarts) == 2
    assert "network 1 was dead: constant output in each of its first 10" in state.restarts[0]
    assert state.epoch == config.epochs
    assert np.ptp(sigmoid(predict_logits(network, examples(40, 1).images))) > CONSTANT_SPREAD


def test_a_short_training_that_ends_dead_is_restarted_too() -> None:
    _, state = fit(planted({0}, 5), examples(96, 0), examples(40, 1), CONFIG)
    assert state.attempt == 1
    assert "constant output in its best epoch" in state.restarts[0]


def test_when_all_networks_die_the_error_is_clear() -> None:
    everyone = set(range(MOST_RESTARTS + 1))
    config = dataclasses.replace(CONFIG, epochs=1)
    with pytest.raises(DeadNetworkError, match="all 6 networks died: .* Try another --seed"):
        fit(planted(everyone, 5), examples(48, 0), examples(20, 1), config)


def test_a_restart_survives_a_stop(tmp_path) -> None:
    config = dataclasses.replace(CONFIG, epochs=3)
    parts = examples(96, 0), examples(40, 1)
    whole, _ = fit(planted({0}, 5), *parts, config)

    def interrupt(state: TrainState) -> None:
        save_state(tmp_path / "state.safetensors", state)
        if state.restarts:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(planted({0}, 5), *parts, config, on_epoch=interrupt)
    state = load_state(tmp_path / "state.safetensors")
    assert (state.attempt, state.epoch) == (1, 0)
    resumed, _ = fit(planted({0}, 5), *parts, config, state=state)
    assert_same(weights_of(whole), weights_of(resumed))


def test_damaged_checkpoints_are_refused(tmp_path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, TrainState())
    assert load_state(path) == TrainState()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_state(path)


def test_predictions_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_original(48)(3)
    images = examples(65, 4).images
    at_once = predict_logits(network, images)
    monkeypatch.setattr(train, "_PREDICT_BATCH", 7)
    in_parts = predict_logits(network, images)
    assert np.abs(at_once - in_parts).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_limits_are_checked(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_derived_seeds_are_apart() -> None:
    seeds = {derive_seed(seed, a, b) for seed in range(5) for a in range(5) for b in range(5)}
    assert len(seeds) == 125
