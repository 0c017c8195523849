"""Trainings of a job: seeds, teachers, ensembles, and equal results side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from craters.core import NullProgress
from craters.data import PatchSet, make_patch_set
from craters.models import EnsembleNet
from craters.semi_supervised.cross_fit import CrossFitContext
from craters.semi_supervised.folds import draw_folds
from craters.settings import JobSettings
from craters.synthetic import sample_scenes
from craters.training import (
    NoStore,
    Trainer,
    TrainingRun,
    TrainState,
    Unlabeled,
    human_only,
    load_start,
    predict_logits,
    recipes,
)
from craters.training import trainer as training
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


@pytest.fixture
def short_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan 8 epochs from random weights; 4 mistakes of the pretrained model are many."""
    monkeypatch.setattr(recipes, "_MANY_MISTAKES", 4)
    for name in ("modern_recipe", "distillation_recipe"):
        recipe = recipes.TrainConfig(epochs=8, learning_rate=1e-3, keep="last")
        monkeypatch.setattr(training, name, lambda *_, recipe=recipe, **__: recipe)


def contradicted(*rows: int) -> PatchSet:
    """Return 50 patches with the pretrained model's own answers as labels, but for some rows."""
    images = sample_scenes(range(8), seed=4, size=SIDE).images
    labels = predict_logits(load_start().build(SIDE, SYMMETRY), images) > 0
    labels[list(rows)] ^= True
    return make_patch_set(images, labels.astype(int))


def from_start(network: str, **more) -> Trainer:
    settings = JobSettings(network=network, threads=1)
    return Trainer(settings.training, SYMMETRY, simple_patches(10, 3, side=SIDE)[0], **more)


@pytest.mark.parametrize(
    ("network", "wanted"),
    [("compact", [2, 3, 4]), ("dense", [8 + TEACHERS * epochs for epochs in (2, 3, 4)])],
)
def test_epochs_grow_with_the_mistakes_of_the_start_as_planned(
    network: str, wanted: list[int], short_recipes: None
) -> None:
    planned, trained = [], []
    for mistakes in (4, 6, 9):
        counter = Counter()
        made = from_start(network, progress=counter)
        run = TrainingRun("refit", human_only(contradicted(*range(mistakes))), None, 1)
        planned.append(made.planned_epochs(run))
        made.train(run)
        trained.append(sum(counter.epochs.values()))
    assert planned == trained == wanted


@pytest.mark.parametrize(
    ("network", "members", "half"),  # the work of 40 patches, and 20 of validation; of all
    [("compact", 2, 50 / 110), ("dense", 1, (3 * 50 + 170) / (3 * 110 + 410))],
)
def test_the_share_of_the_work_grows_to_the_whole(
    network: str, members: int, half: float, short_recipes: None
) -> None:
    heard: list[tuple[int, int, float]] = []

    class Listener(NullProgress):
        def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:
            assert unit == "epochs"
            assert share is not None
            heard.append((done, total, share))

    first, later = runs()
    made = trainer(network, 1, members=members, progress=Listener())
    made.plan(first, later)
    made.train(first)
    made.train(later)
    assert heard == sorted(heard)
    assert {total for _, total, _ in heard} == {made.planned_epochs(first, later)}
    assert heard[-1] == (heard[0][1], heard[0][1], 1.0)
    middle = [share for done, _, share in heard if done == heard[-1][0] // 2]
    assert middle[-1] == pytest.approx(half)


def test_mistakes_on_held_out_and_pseudo_labels_do_not_count(short_recipes: None) -> None:
    made, folds = from_start("compact"), draw_folds(contradicted(), contradicted(), 0)
    labeled = contradicted(*folds.folds[0].held_out[:8])
    context = CrossFitContext(labeled, labeled, folds, np.arange(0), made)
    runs = [context.training_run("supervised", number) for number in context.numbers]
    assert [made.planned_epochs(run) for run in runs] == [2, 4, 4]
    pseudo = dataclasses.replace(runs[1].train, origin=np.full(len(runs[1].train), "pseudo"))
    assert made.planned_epochs(dataclasses.replace(runs[1], train=pseudo)) == 2
