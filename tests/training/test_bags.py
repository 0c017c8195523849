"""Training of the circle network on labeled patches: known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from craters.models import CirclePatchNet, CircleSizes, patch_levels, places_of
from craters.training import BagObjective, CircleStart, bag_loss, make_targets
from craters.training.bags import bag_recipe, cut_out, fit_line, lay_out
from craters.training.circles import TRUTH_DTYPE
from tests.conftest import simple_patches
from tests.models.test_patches import hand_made

SIZES = CircleSizes(10, 48)


class NoCraters:
    """Rehearses flat scenes without a crater."""

    def draw(self, count: int, random: np.random.Generator):  # noqa: ARG002
        flat = np.zeros((count, 256, 256), np.float32)
        return flat, make_targets([np.zeros(0, TRUTH_DTYPE)] * count, 256)


def gradients(label: int, *circles: tuple[int, int, int, float, float]) -> list[np.ndarray]:
    """Return the gradient of the loss of one patch at each place of its maps."""
    maps = [each.requires_grad_() for each in hand_made(*circles)]
    bag_loss(places_of(maps, 48), np.array([label]), SIZES).backward()
    return [each.grad[0].numpy() for each in maps]


def test_a_patch_with_crater_teaches_its_best_circle_alone() -> None:
    inside, edge = (0, 5, 6, 15.0, 0.5), (0, 0, 0, 20.0, 3.0)
    full, half = gradients(1, inside, edge, (1, 3, 3, 30.0, 0.2))
    expected = np.zeros((5, 12, 12), bool)
    expected[0, 5, 6] = True
    np.testing.assert_array_equal(full != 0, expected)
    assert full[0, 5, 6] < 0  # descent makes it likelier
    assert not half.any()


def test_a_patch_without_crater_teaches_circles_of_the_sizes() -> None:
    taught, smaller, doubtful, larger = (0, 2, 2, 15.0, 0.5), (0, 4, 4, 8.0, 0.5), \
        (0, 6, 6, 11.0, 0.5), (1, 3, 3, 49.0, 0.5)  # fmt: skip
    full, half = gradients(0, taught, smaller, doubtful, larger)
    assert full[0, 2, 2] > 0.1
    assert full[0, 4, 4] == full[0, 6, 6] == half[0, 3, 3] == 0
    assert not full[1:].any()  # no centre and no diameter moves
    assert full[0, 0, 0] > 0  # also where half of the disc is outside: it touches the patch


def test_a_patch_whose_crater_is_nowhere_teaches_nothing() -> None:
    maps = hand_made()
    for each in maps:
        each[:, 3] = -2.0  # all circles are too small
    assert bag_loss(places_of(maps, 48), np.array([1]), SIZES).item() == 0
    assert places_of(maps, 48).largest(SIZES).item() == -10


@pytest.mark.parametrize("side", [24, 48, 50, 100, 256])
def test_patches_are_laid_out_and_cut_out(side: int) -> None:
    images = np.random.default_rng(1).integers(0, 255, (7, side, side)).astype(np.uint8)
    for level in patch_levels(images):
        canvases = torch.from_numpy(lay_out(level))
        assert float((canvases != 0).sum()) == pytest.approx((level != 0).sum())
        maps = canvases.reshape(-1, 64, 4, 64, 4).mean((2, 4))[:, None].expand(-1, 5, -1, -1)
        places = level.shape[1] // 4
        expected = level.reshape(7, places, 4, places, 4).mean((2, 4))
        found = cut_out(maps, 7, level.shape[1])
        np.testing.assert_allclose(found[:, 3], expected, atol=1e-6)


def test_the_recipe_has_as_many_patches_as_fit() -> None:
    recipe = bag_recipe(1000, 48)
    assert (recipe.batch_size, recipe.epochs) == (2 * 25, 10)
    assert bag_recipe(50, 48).batch_size == 50
    assert bag_recipe(1000, 200).batch_size == 2


def test_the_line_separates_the_classes() -> None:
    images, labels = simple_patches(40, 5)
    network = CirclePatchNet(48, SIZES).eval()
    with torch.no_grad():
        network.detector.last.weight.zero_()
        network.detector.last.bias.copy_(torch.tensor([-3.0, 0, 0, 0, 0]))
    fit_line(network, images, labels)  # all patches alike
    share = torch.sigmoid(network(torch.from_numpy(images / np.float32(255))))
    assert share[0].item() == pytest.approx(labels.mean(), abs=0.02)


def test_training_makes_labels_likelier_and_blends() -> None:
    images, labels = simple_patches(16, 6)
    torch.manual_seed(1)
    start = CirclePatchNet(48, SIZES)
    weights = {name: each.numpy() for name, each in start.detector.state_dict().items()}
    circles = CircleStart(weights, SIZES, NoCraters())
    network = circles.build(48, ("identity",)).train()
    objective = BagObjective(SIZES, circles.rehearsal, bag_recipe(16, 48))
    optimizer = torch.optim.Adam(network.detector.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        loss, correct = objective(network, images, labels, np.random.default_rng(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert 0 <= correct <= 16
    assert losses[-1] < 0.8 * losses[0]
    half = circles.blend(network, 0.5).detector.last.bias
    both = (weights["last.bias"] + network.detector.last.bias.detach().numpy()) / 2
    np.testing.assert_allclose(half.detach(), both, atol=1e-6)
    kept = circles.blend(network, 0.0).detector.state_dict()
    np.testing.assert_array_equal(kept["last.weight"], weights["last.weight"])
