"""Trainings on a simulated GPU: tensors are on their device, and weights are those of the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from craters.data import make_patch_set
from craters.models import CirclePatchNet, CircleSizes, initialize
from craters.settings import JobSettings
from craters.training import (
    CircleStart,
    Examples,
    NoStore,
    TrainConfig,
    Trainer,
    TrainingRun,
    TrainState,
    Unlabeled,
    build_network,
    fit,
    human_only,
    make_targets,
    to_device,
)
from craters.training.circles import TRUTH_DTYPE
from craters.training.recipes import modern_recipe
from tests.conftest import simple_patches
from tests.simulated_gpu import simulated_gpu

PARTS = ("weights", "optimizer", "average", "best_weights")
IMAGES, LABELS = simple_patches(24, 2, side=40)  # the least that the network dense takes


class Keeper(NoStore):
    """Keeps the last state of each training."""

    def __init__(self) -> None:
        self.states: dict[str, TrainState] = {}

    def save(self, stage: str, state: TrainState) -> None:
        self.states[stage] = state


class OneCrater:
    """Rehearses scenes of noise with one crater."""

    def draw(self, count: int, random: np.random.Generator):
        truth = np.array([(100, 80, 20, True)], TRUTH_DTYPE)
        scenes = random.standard_normal((count, 256, 256), np.float32)
        return scenes, make_targets([truth] * count, 256)


def assert_same(found: TrainState, expected: TrainState) -> None:
    assert found.history == expected.history
    for part in PARTS:
        tensors = getattr(found, part)
        assert tensors.keys() == getattr(expected, part).keys()
        for name, tensor in tensors.items():
            assert type(tensor) is torch.Tensor  # a plain one, on the CPU
            assert torch.equal(tensor, getattr(expected, part)[name]), (part, name)
            assert tensor.stride() == getattr(expected, part)[name].stride()


def test_the_simulation_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("compact", 24)(0)
    here = torch.zeros(2, 24, 24)
    with simulated_gpu(monkeypatch):
        network.to("cuda")
        there = to_device(here.numpy(), network)
        assert there.device == torch.device("cuda:0")
        with pytest.raises(RuntimeError, match="tensors on the devices cuda:0 and cpu"):
            network(here)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert network.eval()(there).detach().cpu().numpy().shape == (2,)


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "original": lambda: TrainConfig(2, 3e-3, 8, seed=1),
    "compact": lambda: dataclasses.replace(
        modern_recipe(24, 40, seed=1, symmetry=("identity", "up-down")), epochs=2
    ),
}


@pytest.mark.usefixtures("float32_on_cpu")
@pytest.mark.parametrize("network", RECIPES)
def test_a_seed_means_the_same_on_both_devices(
    monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Weights, batches, augmentations and dropout; also of a training that was interrupted."""
    config, train = RECIPES[network](), Examples(IMAGES, LABELS)
    build = build_network(network, 40, config.symmetry)
    kept, expected = fit(build, train, train, config)
    first: list[TrainState] = []

    def interrupt(state: TrainState) -> None:
        first.append(state)
        raise KeyboardInterrupt

    with simulated_gpu(monkeypatch) as casts:
        on_gpu = dataclasses.replace(config, device="cuda")
        with pytest.raises(KeyboardInterrupt):
            fit(build, train, train, on_gpu, on_epoch=interrupt)
        found, state = fit(build, train, train, on_gpu, state=first[0])
        assert not torch.backends.cudnn.allow_tf32  # float32 keeps its digits
    assert_same(state, expected)
    for name, weight in kept.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight)
    assert set(casts) == {("cuda", torch.bfloat16, config.mixed_precision)}


def train_job(device: str, **choice) -> dict[str, TrainState]:
    unlabeled = choice.pop("unlabeled", None)
    circles = choice.pop("circles", None)
    settings = JobSettings(epochs=1, threads=1, device=device, **choice)
    keeper = Keeper()
    made = Trainer(
        settings.training, ("identity", "up-down"), IMAGES[12:], store=keeper, circles=circles
    )
    train = human_only(make_patch_set(IMAGES, LABELS))
    made.train(TrainingRun("refit", train, train, 4, unlabeled=unlabeled))
    return keeper.states


def circle_start() -> CircleStart:
    start = CirclePatchNet(40, CircleSizes(10, 40))
    initialize(start, 1)
    weights = {name: each.numpy() for name, each in start.detector.state_dict().items()}
    return CircleStart(weights, CircleSizes(10, 40), OneCrater())


JOBS = {
    "fixmatch": {"start": "random", "unlabeled": Unlabeled("fixmatch", IMAGES[12:])},
    "distillation": {"start": "random", "network": "dense"},
    "from pretrained weights": {"members": 2},
    "circles": {"network": "circles"},
}


@pytest.mark.usefixtures("float32_on_cpu")
@pytest.mark.parametrize("name", JOBS)
def test_every_method_computes_on_the_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    choice = JOBS[name] | ({"circles": circle_start()} if name == "circles" else {})
    expected = train_job("cpu", **choice)
    with simulated_gpu(monkeypatch) as casts:
        found = train_job("cuda", **choice)
    assert set(casts) == {("cuda", torch.bfloat16, True)}
    assert found.keys() == expected.keys()
    for key, state in found.items():
        assert_same(state, expected[key])


def test_trainings_on_a_gpu_run_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: workers do not know of the simulation."""
    running: list[str] = []

    class Order(Keeper):
        def save(self, stage: str, state: TrainState) -> None:  # noqa: ARG002
            running.append(stage)

    settings = JobSettings(epochs=2, threads=8, device="cuda", start="random")
    made = Trainer(settings.training, ("identity",), IMAGES[:0], store=Order())
    monkeypatch.setattr("craters.training.trainer._SEND_INTERVAL", 0.0)
    train = human_only(make_patch_set(IMAGES, LABELS))
    with simulated_gpu(monkeypatch):
        made.train(*(TrainingRun(name, train, None, 4) for name in ("one", "two")))
    assert running == ["one"] * 3 + ["two"] * 3
