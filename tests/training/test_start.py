"""Trainings that start from the pretrained model."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from craters.core import torch_threads
from craters.data import SYMMETRIES, compose, make_patch_set, transform
from craters.settings import JobSettings
from craters.synthetic import PRESETS, Uniform, sample_scenes
from craters.training import Trainer, TrainingRun, human_only, load_start, predict_logits, recipes
from craters.training import start as starts
from craters.training.loop import predict_pooled

VIEWS = ("identity", "up-down")
LEFT = dataclasses.replace(PRESETS["mixed"], azimuth=Uniform(265, 275))


@functools.cache
def patches() -> tuple[np.ndarray, np.ndarray]:
    sample = sample_scenes(range(12), seed=3, size=32, look=LEFT)
    return sample.images, sample.labels


@pytest.mark.parametrize(("first", "second"), [*itertools.product(SYMMETRIES, SYMMETRIES)])
def test_composed_symmetries_equal_one_after_another(first: str, second: str) -> None:
    images = patches()[0][:2]
    one_by_one = transform(transform(images, first), second)
    assert np.array_equal(transform(images, compose(first, second)), one_by_one)


def test_start_predicts_as_the_shipped_model() -> None:
    from craters.models import load_model

    images, _ = patches()
    network = load_start().build(32, VIEWS)
    shipped = load_model("pretrained", threads=1)
    wanted = shipped.logits(images, azimuth=270)
    assert predict_logits(network, images) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("turn", ["rotate-90", "transpose", "left-right"])
def test_views_undo_a_turn_of_the_images(turn: str) -> None:
    images, _ = patches()
    back = next(name for name in SYMMETRIES if compose(turn, name) == "identity")
    views = tuple(compose(back, name) for name in VIEWS)
    turned = np.ascontiguousarray(transform(images, turn))
    wanted = predict_logits(load_start().build(32, VIEWS), images)
    assert predict_logits(load_start().build(32, views), turned) == pytest.approx(wanted, abs=1e-5)


def test_last_layer_from_zero_is_a_logistic_regression() -> None:
    images, labels = patches()
    start = load_start()
    zero = {name: torch.zeros_like(start.weights[name]) for name in ("last.weight", "last.bias")}
    start = dataclasses.replace(start, weights=start.weights | zero)
    features = predict_pooled(start.build(32, VIEWS), images).mean(1).astype(np.float64)
    scale = features.std(axis=0) + starts._LEAST_FEATURE
    columns = np.column_stack([features / scale, np.ones(len(features))])
    oracle = LogisticRegression(
        C=1 / (2 * starts._PRIOR), fit_intercept=False, tol=1e-10, max_iter=10_000
    ).fit(columns, labels)
    refitted = starts.FrozenStart(start, VIEWS).refit_last_layer(images, labels)
    weight = refitted.weights["last.weight"][0].numpy() * scale
    assert weight == pytest.approx(oracle.coef_[0, :-1], abs=2e-3)
    assert float(refitted.weights["last.bias"]) == pytest.approx(oracle.coef_[0, -1], abs=2e-3)


@pytest.mark.parametrize("turn", ["rotate-90", "transpose", "left-right"])
def test_last_layer_is_the_same_for_turned_images(turn: str) -> None:
    images, labels = patches()
    back = next(name for name in SYMMETRIES if compose(turn, name) == "identity")
    views = tuple(compose(back, name) for name in VIEWS)
    turned = np.ascontiguousarray(transform(images, turn))
    ours, theirs = (
        starts.FrozenStart(load_start(), symmetry)
        .refit_last_layer(part, labels)
        .weights["last.weight"]
        for part, symmetry in ((turned, views), (images, VIEWS))
    )
    assert ours.numpy() == pytest.approx(theirs.numpy(), abs=1e-3)


def test_last_layer_follows_labels_that_contradict_the_start() -> None:
    images, labels = patches()
    start = load_start()
    before = predict_logits(start.build(32, VIEWS), images) > 0
    assert (before == labels).mean() > 0.8
    refitted = starts.FrozenStart(start, VIEWS).refit_last_layer(images, 1 - labels)
    after = predict_logits(refitted.build(32, VIEWS), images) > 0
    assert (after == 1 - labels).mean() > 0.8
    kept = {name for name, tensor in start.weights.items() if not name.startswith("last.")}
    assert all(refitted.weights[name] is start.weights[name] for name in kept)


@pytest.mark.parametrize("network", ["compact", "dense"])
def test_trained_networks_are_equal_for_any_number_of_workers(network: str) -> None:
    sample = sample_scenes(range(8), seed=4, size=40, look=LEFT)
    labeled = human_only(make_patch_set(sample.images, sample.labels))
    runs = [TrainingRun(name, labeled, None, number) for number, name in enumerate("ab", 1)]
    settings = JobSettings(network=network, start="pretrained", epochs=2)
    logits = []
    for threads in (1, 2):
        trainer = Trainer(
            settings=dataclasses.replace(settings, threads=threads).training,
            symmetry=VIEWS,
            pool=sample.images[:10],
        )
        with torch_threads(1):
            logits.append([predict_logits(net, sample.images) for net, _ in trainer.train(*runs)])
    assert np.array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0][0], logits[0][1])  # seeds differ


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_blend_is_the_mean_of_weights(share: float) -> None:
    start = load_start()
    other = start.build(32, VIEWS)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1)
    blended = starts.blend(start, other, share)
    assert blended.symmetry == VIEWS
    for name, weight in blended.named_parameters():
        assert weight.detach().numpy() == pytest.approx(
            start.weights[name].numpy() + share, abs=1e-5
        )
    assert torch.equal(blended.body[0][1].running_mean, start.weights["body.0.1.running_mean"])


def test_trained_network_lies_between_its_fitted_start_and_the_trained_weights() -> None:
    images, labels = patches()
    labeled = human_only(make_patch_set(images, labels))
    settings = JobSettings(epochs=2, threads=1)
    trainer = Trainer(settings.training, VIEWS, images[:0])
    run = TrainingRun("refit", labeled, None, 1)
    ((network, state),) = trainer.train(run)
    fitted = starts.FrozenStart(load_start(), VIEWS).refit_last_layer(images, labels)
    kept, half, full = trainer.blends(run, state, [starts.KEPT, starts.HALFWAY, starts.FINE_TUNED])
    for name, weight in network.named_parameters():
        ends = fitted.weights[name], state.best_weights[name]
        expected = torch.lerp(*ends, starts.FINE_TUNED)
        assert torch.allclose(weight, expected, atol=1e-6)
        assert torch.equal(weight, full.get_parameter(name))
        assert torch.allclose(
            half.get_parameter(name), torch.lerp(*ends, starts.HALFWAY), atol=1e-6
        )
        assert torch.equal(kept.get_parameter(name), load_start().weights[name])


def test_training_keeps_the_averages_of_the_start() -> None:
    images, labels = patches()
    labeled = human_only(make_patch_set(images, labels))
    trainer = Trainer(JobSettings(epochs=2, threads=1).training, VIEWS, images[:0])
    _, state = trainer.train(TrainingRun("refit", labeled, None, 1))[0]
    names = [name for name in state.best_weights if "running" in name]
    assert names
    assert all(torch.equal(state.best_weights[n], load_start().weights[n]) for n in names)


@pytest.mark.parametrize(("n", "steps"), [(33, 82), (50, 100), (200, 201), (1216, 380)])
def test_recipe_of_pretrained_weights_takes_fewer_steps(n: int, steps: int) -> None:
    plain = recipes.modern_recipe(n, 48)
    recipe = recipes.from_pretrained(plain, n, 0)
    assert recipe.epochs * max(1, n // recipe.batch_size) == steps
    assert recipe.learning_rate == plain.learning_rate
    assert recipe.keep_statistics
    assert recipes.from_pretrained(plain, n, 80) == recipe


@pytest.mark.parametrize(
    ("mistakes", "epochs", "rate"),
    [(79, 20, 4e-3), (120, 30, 6e-3), (160, 40, 8e-3), (400, 40, 8e-3)],
)
def test_many_mistakes_of_the_start_take_longer_training(
    mistakes: int, epochs: int, rate: float
) -> None:
    plain = recipes.modern_recipe(1000, 48)
    recipe = recipes.from_pretrained(plain, 1000, mistakes)
    assert (recipe.epochs, recipe.learning_rate) == (epochs, pytest.approx(rate))
    same = {"epochs": 20, "learning_rate": 4e-3}
    fewer = recipes.from_pretrained(plain, 1000, 0)
    assert dataclasses.replace(recipe, **same) == fewer


@pytest.mark.parametrize("turn", ["identity", "rotate-90"])
def test_mistakes_are_counted_of_the_start_as_it_is(turn: str) -> None:
    images, labels = patches()
    back = next(name for name in SYMMETRIES if compose(turn, name) == "identity")
    views = tuple(compose(back, name) for name in VIEWS)
    wrong = (predict_logits(load_start().build(32, VIEWS), images) > 0) != labels
    turned = np.ascontiguousarray(transform(images, turn))
    frozen = starts.FrozenStart(load_start(), views)
    assert frozen.count_mistakes(turned, labels) == wrong.sum()
    flipped = frozen.count_mistakes(turned, 1 - labels)
    assert flipped == len(labels) - wrong.sum()


def test_features_of_a_patch_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = patches()
    counts = []

    def counting(network: object, images: np.ndarray) -> np.ndarray:
        counts.append(len(images))
        return predict_pooled(network, images)  # type: ignore[arg-type]

    monkeypatch.setattr(starts, "predict_pooled", counting)
    frozen = starts.FrozenStart(load_start(), VIEWS)
    expected = predict_logits(load_start().build(32, VIEWS), images)
    assert frozen.logits(images[:30]) == pytest.approx(expected[:30], abs=1e-5)
    assert frozen.logits(images[20:50][::-1]) == pytest.approx(expected[20:50][::-1], abs=1e-5)
    first = frozen.refit_last_layer(images[:50], labels[:50])
    assert counts == [30, 20]
    assert frozen.refit_last_layer(images[:50], labels[:50]) is first
    other = frozen.refit_last_layer(images[:50], 1 - labels[:50])
    assert not torch.equal(other.weights["last.weight"], first.weights["last.weight"])
    assert frozen.logits(images[:0]).shape == (0,)


def test_two_epochs_from_the_start_keep_what_it_knows() -> None:
    train, test = (sample_scenes(range(k, k + 20), seed=5, size=32, look=LEFT) for k in (0, 20))
    turned = [np.ascontiguousarray(transform(part.images, "rotate-90")) for part in (train, test)]
    labeled = human_only(make_patch_set(turned[0], train.labels))
    right = {}
    for start in ("pretrained", "random"):
        settings = JobSettings(start=start, epochs=2, threads=1)
        trainer = Trainer(settings.training, ("identity", "left-right"), turned[0][:0],
                          turn="rotate-270")  # fmt: skip
        ((network, _),) = trainer.train(TrainingRun("refit", labeled, None, 1))
        right[start] = float(((predict_logits(network, turned[1]) > 0) == test.labels).mean())
    assert right["pretrained"] > max(0.85, right["random"] + 0.1)
