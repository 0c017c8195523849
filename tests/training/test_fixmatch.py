"""FixMatch: alignment, weights, what is learned from, and that changes keep the light."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from craters.data import normalize
from craters.training.fixmatch import FixMatch, align, change_strongly
from craters.training.loop import Supervised
from craters.training.recipes import modern_recipe
from tests.conftest import simple_patches


class Brightness(torch.nn.Module):
    """Answers with the mean brightness, and remembers what it was shown."""

    def __init__(self, scale: float = 40.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.detach().clone())
        return self.scale * (images.mean((1, 2)) - 0.5)


def recipe():
    return dataclasses.replace(modern_recipe(60, 48), mixed_precision=False)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=40), st.floats(0.02, 0.98))
def test_alignment_keeps_order_and_moves_the_odds_alike(values: list[float], share: float) -> None:
    probability = torch.tensor(values, dtype=torch.float64)
    aligned = align(probability, share)
    in_order = aligned[torch.argsort(probability)]
    assert (in_order.diff() >= -1e-12).all()  # as good as equal ones may change places
    moved = torch.logit(aligned) - torch.logit(probability)
    expected = np.log(share / (1 - share)) - float(torch.logit(probability.mean()))
    assert torch.allclose(moved, torch.full_like(moved, expected), atol=1e-6)
    same = align(probability, float(probability.mean()))
    assert torch.allclose(same, probability, atol=1e-9)


def test_the_loss_is_that_of_the_paper_with_the_labels_class_weights() -> None:
    images, labels = simple_patches(8, 0)
    pool = np.concatenate([np.full((6, 48, 48), 250), np.full((18, 48, 48), 20)]).astype(np.uint8)
    objective = FixMatch(pool, recipe(), pool_share=0.25, labeled_share=0.5)
    network = Brightness()
    loss, correct = objective(network, images, labels, np.random.default_rng(1))
    weak, seen = network.seen
    assert (weak.shape, seen.shape) == ((24, 48, 48), (8 + 24, 48, 48))
    theirs = network.scale * (weak.mean((1, 2)) - 0.5)
    ours, changed = (network.scale * (seen.mean((1, 2)) - 0.5)).split([8, 24])
    smooth = torch.from_numpy(labels.astype(np.float32)) * 0.9 + 0.05
    expected = functional.binary_cross_entropy_with_logits(ours, smooth)
    aligned = align(torch.sigmoid(theirs), 0.25)
    sure = (aligned >= 0.95) | (aligned <= 0.05)
    assert sure.all()
    goals = (theirs > 0).float()
    weights = torch.where(goals == 1, 0.5 / 0.25, 0.5 / 0.75)
    each = functional.binary_cross_entropy_with_logits(changed, goals, reduction="none")
    expected = expected + (weights * each).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert correct == int(((ours > 0) == (torch.from_numpy(labels) == 1)).sum())


def test_unsure_answers_are_not_learned_from() -> None:
    images, labels = simple_patches(8, 0)
    objective = FixMatch(images, recipe(), pool_share=0.5, labeled_share=0.5)
    seed = 5
    alone = Supervised(0.1)(Brightness(0.1), images, labels, np.random.default_rng(seed))[0]
    both = objective(Brightness(0.1), images, labels, np.random.default_rng(seed))[0]
    assert float(both.detach()) == pytest.approx(float(alone.detach()), rel=1e-6)


def test_the_answer_on_the_weak_view_gets_no_gradient() -> None:
    images, labels = simple_patches(4, 0)
    pool = np.full((5, 48, 48), 250, np.uint8)
    objective = FixMatch(pool, recipe(), pool_share=0.5, labeled_share=0.5)
    goals, weights = objective._pseudo_targets(torch.full((3,), 0.97))
    assert goals.tolist() == [0, 0, 0]  # aligned to a half: no answer stands out
    assert weights.tolist() == [0, 0, 0]
    network = Brightness()
    objective(network, images, labels, np.random.default_rng(0))[0].backward()
    assert torch.isfinite(network.scale.grad)


def test_strong_changes_are_seeded_and_keep_where_the_light_comes_from() -> None:
    images = normalize(simple_patches(200, 1)[0])
    changed = change_strongly(images, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert np.array_equal(changed, change_strongly(images, np.random.default_rng(0)))
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, changed, strict=True)]
    assert np.median(alike) > 0.5
    flipped = [
        np.corrcoef(a[:, ::-1].ravel(), b.ravel())[0, 1]
        for a, b in zip(images, changed, strict=True)
    ]
    assert np.mean(np.array(alike) > np.array(flipped)) > 0.9


def test_a_hidden_rectangle_has_the_patchs_mean_brightness() -> None:
    images = np.full((50, 48, 48), 0.25, np.float32)
    images[:, ::2] = 0.75
    changed = change_strongly(images, np.random.default_rng(2))
    hidden = np.isclose(changed, 0.5, atol=1e-6)
    assert hidden.any((1, 2)).mean() > 0.8
    assert hidden.mean() < 1 / 9
