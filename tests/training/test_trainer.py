"""Trainings of a job: seeds, teachers, ensembles, and equal results side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from craters.core import NullProgress
from craters.data import make_patch_set
from craters.models import EnsembleNet
from craters.settings import JobSettings
from craters.training import (
    NoStore,
    Trainer,
    TrainingRun,
    TrainState,
    Unlabeled,
    human_only,
    predict_logits,
    recipes,
)
from craters.training.distillation import TEACHERS
from tests.conftest import simple_patches

SYMMETRY = ("identity", "up-down")
SIDE = 40  # the least that the network dense takes


class Keeper(NoStore):
    def __init__(self) -> None:
        self.states: dict[str, TrainState] = {}
        self.asked: list[str] = []

    def load(self, stage: str) -> TrainState | None:
        self.asked.append(stage)
        return None

    def save(self, stage: str, state: TrainState) -> None:
        self.states[stage] = dataclasses.replace(state, history=[*state.history])


class Counter(NullProgress):
    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def epoch(self, stage: str, state: TrainState) -> None:
        self.epochs[stage] = state.epoch


def runs() -> tuple[TrainingRun, TrainingRun]:
    images, labels = simple_patches(60, 2, side=SIDE)
    everything = human_only(make_patch_set(images, labels))
    few = human_only(make_patch_set(images[:40], labels[:40]))
    rest = human_only(make_patch_set(images[40:], labels[40:]))
    return TrainingRun("supervised", few, rest, 1, is_early=True), TrainingRun(
        "refit", everything, None, 4
    )


def trainer(network: str, threads: int, members: int = 1, epochs: int = 2, **more) -> Trainer:
    settings = JobSettings(
        network=network, start="random", members=members, threads=threads, epochs=epochs
    )
    return Trainer(settings.training, SYMMETRY, simple_patches(30, 3, side=SIDE)[0], **more)


@pytest.mark.parametrize(("network", "members"), [("compact", 1), ("compact", 2), ("dense", 1)])
def test_side_by_side_equals_one_after_another_bit_for_bit(network: str, members: int) -> None:
    images = simple_patches(8, 9, side=SIDE)[0]
    found = {}
    for threads in (1, 2):
        keeper, counter = Keeper(), Counter()
        made = trainer(network, threads, members, store=keeper, progress=counter)
        pairs = made.train(*runs())
        planned = made.planned_epochs(*runs())
        found[threads] = [predict_logits(network, images) for network, _ in pairs], keeper
        assert sum(counter.epochs.values()) == planned
    for one, two in zip(found[1][0], found[2][0], strict=True):
        assert np.array_equal(one, two)
    assert found[1][1].asked == found[2][1].asked
    for key, state in found[1][1].states.items():
        other = found[2][1].states[key]
        assert state.history == other.history
        assert all(torch.equal(state.weights[name], other.weights[name]) for name in state.weights)


@pytest.mark.parametrize("network", ["compact", "dense"])
def test_labels_and_agreement_are_learned_in_smaller_and_more_steps(network: str) -> None:
    plain = runs()[1]  # of 60 labels
    agreeing = dataclasses.replace(plain, unlabeled=Unlabeled("fixmatch", plain.train.images))
    epochs = [trainer(network, 1, epochs=0).planned_epochs(run) for run in (plain, agreeing)]
    if network == "compact":  # one step an epoch
        assert epochs == [400, 700]
    else:  # its three teachers learn so; it learns their answers by one recipe
        assert epochs[1] - epochs[0] == TEACHERS * (700 - 400)


def test_the_recipe_of_agreement_takes_700_steps_or_more() -> None:
    for n, steps in ((20, 700), (50, 700), (100, 702), (250, 700), (3000, 40 * 93)):
        recipe, plain = recipes.agreement_recipe(n, 48), recipes.modern_recipe(n, 48)
        assert recipe.batch_size == min(32, n)
        assert recipe.epochs * (n // recipe.batch_size) == steps
        alike = {"batch_size": plain.batch_size, "epochs": plain.epochs}
        assert dataclasses.replace(recipe, **alike) == plain


def test_a_dense_network_has_teachers_of_its_own_labels() -> None:
    keeper = Keeper()
    trainer("dense", 1, store=keeper).train(*runs())
    expected = [
        f"{name}-teacher{suffix}"
        for suffix in ("", "-2", "-3")[:TEACHERS]
        for name in ("supervised", "refit")
    ]
    assert keeper.asked == [*expected, "supervised", "refit"]
    first = [keeper.states[name].weights["last.weight"] for name in expected]
    assert len({tuple(tensor.ravel().tolist()) for tensor in first}) == len(expected)


def test_members_differ_and_are_averaged() -> None:
    keeper = Keeper()
    run = runs()[1]
    ((network, state),) = trainer("compact", 1, members=2, store=keeper).train(run)
    assert isinstance(network, EnsembleNet)
    assert keeper.asked == ["refit", "refit-2"]
    images = run.train.images[:5]
    logits = [predict_logits(member, images) for member in network.members]
    assert not np.array_equal(*logits)
    assert np.allclose(predict_logits(network, images), np.mean(logits, 0), atol=1e-6)
    assert state.history == keeper.states["refit"].history


@pytest.mark.parametrize("network", ["compact", "dense"])
def test_epochs_can_be_asked_for(network: str) -> None:
    keeper = Keeper()
    made = trainer(network, 1, epochs=3, store=keeper)
    made.train(*runs())
    assert {state.epoch for state in keeper.states.values()} == {3}
    assert made.planned_epochs(*runs()) == 3 * len(keeper.states)
