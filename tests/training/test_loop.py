from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from craters.core import torch_threads
from craters.errors import ConfigError, DataError, DeadNetworkError
from craters.models import Network, OriginalNet, initialize
from craters.training import (
    Examples,
    TrainState,
    build_network,
    derive_seed,
    fit,
    loop,
    predict_logits,
    sigmoid,
)
from craters.training.checkpoint import load_state, save_state
from craters.training.loop import CONSTANT_SPREAD, MOST_RESTARTS, PATIENCE_WITH_CONSTANT
from craters.training.recipes import TrainConfig, modern_recipe, one_cycle
from tests.conftest import simple_patches

SIDE = 28
CONFIG = TrainConfig(epochs=4, learning_rate=3e-3, seed=5)


def examples(n: int, seed: int) -> Examples:
    return Examples(*simple_patches(n, seed, side=SIDE))


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


@pytest.fixture(autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    parts = examples(96, 0), examples(40, 1)
    first, state = fit(build_network("original", SIDE), *parts, CONFIG)
    torch.manual_seed(99)  # nothing outside may matter
    second, again = fit(build_network("original", SIDE), *parts, CONFIG)
    other, _ = fit(build_network("original", SIDE), *parts, dataclasses.replace(CONFIG, seed=6))
    assert_same(weights_of(first), weights_of(second))
    assert state.history == again.history
    assert not np.array_equal(weights_of(first)["conv1.weight"], weights_of(other)["conv1.weight"])


def test_the_epoch_of_lowest_validation_loss_is_kept() -> None:
    kept = {}

    def keep(state: TrainState) -> None:
        kept[state.epoch] = copy.deepcopy(state.weights)

    config = dataclasses.replace(CONFIG, epochs=8, learning_rate=2e-2)
    validation = examples(40, 1)
    network, state = fit(
        build_network("original", SIDE), examples(96, 0), validation, config, on_epoch=keep
    )
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
    network, _ = fit(build_network("original", SIDE), examples(300, 10), validation, config)
    right = (predict_logits(network, validation.images) > 0) == (validation.labels == 1)
    assert right.mean() > 0.9


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_taking_up_a_stopped_training_changes_nothing(stop: int, tmp_path) -> None:
    parts = examples(96, 0), examples(40, 1)
    whole, expected = fit(build_network("original", SIDE), *parts, CONFIG)

    def interrupt(state: TrainState) -> None:
        save_state(tmp_path / "state.safetensors", state)
        if state.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build_network("original", SIDE), *parts, CONFIG, on_epoch=interrupt)
    taken_up = load_state(tmp_path / "state.safetensors")
    assert taken_up.epoch == stop
    resumed, state = fit(build_network("original", SIDE), *parts, CONFIG, state=taken_up)
    assert_same(weights_of(whole), weights_of(resumed))
    assert state.history == expected.history
    assert state.best_epoch == expected.best_epoch


def test_a_finished_state_is_not_trained_again() -> None:
    parts = examples(96, 0), examples(40, 1)
    whole, state = fit(build_network("original", SIDE), *parts, CONFIG)
    called = []
    again, _ = fit(
        build_network("original", SIDE), *parts, CONFIG, state=state, on_epoch=called.append
    )
    assert called == []
    assert_same(weights_of(whole), weights_of(again))


def planted(dead_attempts: set[int], seed: int):
    """Make networks of which those of the given attempts have only dead units."""
    seeds = {derive_seed(seed, attempt, 0): attempt for attempt in range(MOST_RESTARTS + 1)}

    def build(network_seed: int) -> Network:
        network = OriginalNet(SIDE)
        initialize(network, network_seed)
        if seeds.get(network_seed) in dead_attempts:
            with torch.no_grad():
                network.dense1.bias.fill_(-1e3)
        return network

    return build


def test_a_planted_dead_network_is_restarted_and_reported() -> None:
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
    with pytest.raises(
        DeadNetworkError, match="all 6 networks died: .* Look at the images and labels first"
    ):
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


def test_predictions_do_not_depend_on_the_batch() -> None:
    network = build_network("original", 16)(3)
    images = simple_patches(loop._PREDICT_BATCH + 9, 4, side=16)[0]
    parts = [predict_logits(network, images[start : start + 70])
             for start in range(0, len(images), 70)]  # fmt: skip
    assert np.abs(predict_logits(network, images) - np.concatenate(parts)).max() < 1e-6


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


def modern(**changes) -> TrainConfig:
    return dataclasses.replace(modern_recipe(96, SIDE, seed=3), epochs=4, **changes)


@pytest.mark.parametrize("stop", [1, 3])
def test_the_modern_recipe_is_taken_up_exactly_too(stop: int, tmp_path) -> None:
    config = modern(symmetry=("identity", "up-down"))
    build = build_network("compact", SIDE, config.symmetry)
    whole, expected = fit(build, examples(96, 0), None, config)

    def interrupt(state: TrainState) -> None:
        save_state(tmp_path / "state.safetensors", state)
        if state.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build, examples(96, 0), None, config, on_epoch=interrupt)
    taken_up = load_state(tmp_path / "state.safetensors")
    resumed, state = fit(build, examples(96, 0), None, config, state=taken_up)
    assert_same(weights_of(whole), weights_of(resumed))
    assert state.history == expected.history
    assert state.best_epoch == 4


def test_the_modern_recipe_learns_what_is_easy() -> None:
    config = dataclasses.replace(modern_recipe(200, SIDE, seed=0), epochs=12)
    network, _ = fit(build_network("compact", SIDE), examples(200, 10), None, config)
    validation = examples(80, 11)
    right = (predict_logits(network, validation.images) > 0) == (validation.labels == 1)
    assert right.mean() > 0.95


def test_the_average_follows_the_weights() -> None:
    """With a decay of 0.99 and its slow start, the average of n equal weights is that weight."""
    states = []
    fit(build_network("compact", SIDE), examples(96, 0), None, modern(), on_epoch=states.append)
    last = states[-1]
    name = "last.weight"
    assert not torch.equal(last.average[name], last.weights[name])
    assert torch.allclose(last.average[name], last.weights[name], atol=0.1)
    assert torch.equal(last.best_weights[name], last.average[name])


def test_one_cycle_is_torchs() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, total_steps=50, pct_start=0.2, final_div_factor=1e4
    )
    for step in range(50):
        group = optimizer.param_groups[0]
        rate, beta = one_cycle(step, 50, 0.2)
        assert rate * 4e-3 == pytest.approx(group["lr"], rel=1e-6), step
        assert beta == pytest.approx(group["betas"][0], rel=1e-6)
        optimizer.step()
        if step < 49:
            schedule.step()


def test_balanced_batches_draw_both_classes_equally() -> None:
    labels = np.repeat([0, 1], [20, 80]).astype(np.int8)
    config = dataclasses.replace(CONFIG, balanced=True)
    order = loop._draw_order(labels, config, np.random.default_rng(0))
    assert labels[order].mean() == 0.5
    assert set(order[labels[order] == 0]) == set(range(20))
    plain = loop._draw_order(labels, CONFIG, np.random.default_rng(0))
    assert sorted(plain) == list(range(100))


def test_patience_stops_when_validation_no_longer_falls() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=2e-2, patience=2)
    noise = Examples(examples(40, 1).images, np.arange(40) % 2)
    _, state = fit(build_network("original", SIDE), examples(96, 0), noise, config)
    losses = [row["val_loss"] for row in state.history]
    assert state.epoch < 40
    assert int(np.argmin(losses)) == len(losses) - 3


def test_without_validation_there_is_no_best_epoch() -> None:
    with pytest.raises(ConfigError, match="without validation patches the last epoch"):
        fit(build_network("original", SIDE), examples(96, 0), None, CONFIG)
