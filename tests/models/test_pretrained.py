"""The model that ships in the package."""

from __future__ import annotations

import numpy as np
import pytest

from craters.data import SYMMETRIES, transform
from craters.models import (
    Classifier,
    find_model,
    load_model,
    read_description,
    read_weights,
    restore_network,
)
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "src" / "craters" / "models" / "pretrained"
ANSWERS = REPOSITORY / "tests" / "golden" / "pretrained_answers.npz"  # made by the script beside it
SIDES = (28, 48, 64)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the pretrained weights are not here")


@pytest.fixture(scope="module")
def model() -> Classifier:
    return load_model("pretrained", threads=1)


def test_it_is_small_and_holds_each_weight_once() -> None:
    assert find_model("pretrained") == FOLDER
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4_000_000
    assert not (FOLDER / "model.safetensors").exists()
    weights = read_weights("pretrained")
    network = restore_network(read_description("pretrained"), weights)
    stored = 4 * sum(array.size for array in weights.values())
    assert (FOLDER / "model.onnx").stat().st_size < stored + 100_000
    assert network.has_light


def test_its_card_says_what_a_user_must_know(model: Classifier) -> None:
    description = model.description
    assert (description.sides, description.stride) == ((24, 96), None)
    assert description.light is not None
    assert description.pretraining is not None
    assert description.metrics
    card = (FOLDER / "MODEL_CARD.md").read_text()
    assert 'license: "mit"' in card
    for text in (*description.pretraining["limits"], *description.metrics):
        assert text in card


@pytest.mark.parametrize("side", SIDES)
def test_its_answers_hold(model: Classifier, side: int) -> None:
    with np.load(ANSWERS) as answers:
        images, expected = answers[f"images_{side}"], answers[f"probability_{side}"]
    probability = model.predict_proba(images)
    assert np.abs(probability - expected).max() < 0.02
    assert 0.2 < probability.mean() < 0.8
    for name in SYMMETRIES:
        assert np.array_equal(model.predict_proba(transform(images, name)), probability)
