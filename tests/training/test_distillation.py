"""Distillation: what teacher and student see, what is learned, and that it can be resumed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from craters.core import torch_threads
from craters.data import normalize
from craters.models import EnsembleNet, Network
from craters.training import Examples, TrainState, build_network, fit, predict_logits
from craters.training.distillation import Distillation, build_teacher, vary
from craters.training.recipes import distillation_recipe
from tests.conftest import simple_patches

SYMMETRY = ("identity", "up-down")


class Watcher(Network):
    """Answers with the mean brightness, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.detach().clone())
        return self.scale * (images.mean((1, 2)) - 0.5)


def small_recipe(**changes):
    recipe = distillation_recipe(60, 48, symmetry=SYMMETRY)
    return dataclasses.replace(recipe, batch_size=16, epochs=3, **changes)


def test_the_recipe_takes_about_1500_steps_whatever_the_number_of_labels() -> None:
    for n in (2, 50, 972, 20_000):
        recipe = distillation_recipe(n, 48)
        steps = recipe.epochs * (n // recipe.batch_size)
        assert 1500 <= steps < 1500 + n // recipe.batch_size
        assert (recipe.shift, recipe.label_smoothing, recipe.keep) == (8, 0.0, "last")


def test_teacher_and_student_see_the_same_and_the_loss_is_their_cross_entropy() -> None:
    images, labels = simple_patches(16, 0)
    pool = np.full((5, 48, 48), 200, np.uint8)
    teacher, student = Watcher(), Watcher()
    student.scale.data.fill_(-2.0)
    objective = Distillation(teacher, pool, small_recipe(mixed_precision=False))
    loss, agree = objective(student, images, labels, np.random.default_rng(3))
    (shown,), (learned) = teacher.seen, student.seen[0]
    assert torch.equal(shown, learned)
    assert shown.shape == (32, 48, 48)
    expected = functional.binary_cross_entropy_with_logits(
        student(shown), torch.sigmoid(teacher(shown))
    )
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    assert agree == int(((student(shown) > 0) == (teacher(shown) > 0))[:16].sum())
    loss.backward()
    assert student.scale.grad is not None
    assert teacher.scale.grad is None


def test_labels_do_not_enter_and_an_empty_pool_is_left_out() -> None:
    images, labels = simple_patches(16, 0)
    objective = Distillation(Watcher(), images[:0], small_recipe())
    losses = [
        float(objective(Watcher(), images, given, np.random.default_rng(3))[0].detach())
        for given in (labels, 1 - labels)
    ]
    assert losses[0] == losses[1]
    objective(student := Watcher(), images, labels, np.random.default_rng(3))
    assert len(student.seen[0]) == 16


def test_pool_patches_are_shifted_and_flipped_pool_patches() -> None:
    pool = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    config = small_recipe(shift=2)
    drawn = Distillation(Watcher(), pool, config)._draw(40, np.random.default_rng(1))
    padded = np.pad(pool, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    possible = {
        crop.tobytes()
        for image in padded
        for down in range(5)
        for right in range(5)
        for crop in (image[down : down + 48, right : right + 48],
                     np.ascontiguousarray(image[down : down + 48, right : right + 48][::-1]))
    }  # fmt: skip
    assert {image.tobytes() for image in drawn} <= possible
    assert len({image.tobytes() for image in drawn}) > 20


def test_variation_keeps_half_unmixed_and_its_mean_brightness_nearly() -> None:
    images = normalize(simple_patches(400, 1)[0])
    varied = vary(images, np.random.default_rng(0))
    assert varied.dtype == np.float32
    flat = images.reshape(400, -1)
    alike = [np.corrcoef(a, b.ravel())[0, 1] for a, b in zip(flat, varied, strict=True)]
    unmixed = np.array(alike) > 0.999999
    assert 0.4 < unmixed.mean() < 0.6
    shift = (varied.mean((1, 2)) - images.mean((1, 2)))[unmixed]
    assert abs(shift.std() * 255 - 8) < 1.5
    contrast = np.log(varied.std((1, 2)) / images.std((1, 2)))[unmixed]
    assert abs(contrast.std() - 0.15) < 0.02
    assert np.array_equal(varied, vary(images, np.random.default_rng(0)))


def test_a_student_learns_the_teachers_and_goes_on_where_it_stopped() -> None:
    """Bit for bit: the objective draws everything from the epoch's generator."""
    images, labels = simple_patches(64, 5)
    train = Examples(images, labels)
    build = build_network("dense", 48, SYMMETRY)
    teacher = EnsembleNet([build_network("compact", 48, SYMMETRY)(1)]).eval()
    recipe = small_recipe()
    objective = Distillation(teacher, images[:20], recipe)
    states = []

    def keep(found: TrainState) -> None:
        states.append(dataclasses.replace(found, history=[*found.history]))

    with torch_threads(1):
        whole, state = fit(build, train, None, recipe, objective=objective, on_epoch=keep)
        resumed, again = fit(build, train, None, recipe, objective=objective, state=states[0])
    assert np.array_equal(predict_logits(whole, images), predict_logits(resumed, images))
    assert again.history == state.history
    assert state.history[-1]["loss"] < state.history[0]["loss"] + 0.05


def test_a_teacher_is_the_mean_of_its_networks_for_the_picture_as_it_is() -> None:
    images = simple_patches(6, 4)[0]
    mirrored = [
        build_network("compact", images.shape[1], ("identity", "up-down"))(n) for n in (1, 2)
    ]
    plain = [build_network("compact", images.shape[1])(seed) for seed in (1, 2)]
    teacher = build_teacher(
        [network.state_dict() for network in mirrored], build_network("compact", images.shape[1])
    )
    assert not teacher.training
    found = predict_logits(teacher, images)
    assert np.array_equal(found, predict_logits(EnsembleNet(plain), images))
    assert not np.allclose(found, predict_logits(EnsembleNet(mirrored), images), atol=1e-6)
